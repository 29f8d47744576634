"""The sender, against receivers that mean harm: bounded in time, size and reach."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from core.clock import ManualClock
from models import AttemptKind
from webhooks.parcels import Address, Parcel, check_headers
from webhooks.sender import Sender

ID = "evt_01jwsample0000000000000000"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Start a server that speaks bytes; hands back its URL."""
    servers: list[asyncio.Server] = []

    async def start(handler: Handler, **options: Any) -> str:
        async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(quietly, "127.0.0.1", 0, **options)
        servers.append(server)
        scheme = "https" if options.get("ssl") else "http"
        return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    yield start
    for server in servers:
        server.close()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender with half a second's patience."""
    made = Sender(ManualClock(datetime.now(UTC)), allow_insecure=True, deadline=0.5)
    await made.open()
    yield made
    await made.close()


def parcel(url: str, **values: Any) -> Parcel:
    return Parcel(Address("we_1", url, (b"key",), {}), ID, b'{"a":1}', **values)


def always(answer: bytes) -> Handler:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return handle


async def test_a_plain_answer_is_told_in_full(serve: Any, sender: Sender) -> None:
    said = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nWebhook-Delivery: Disable\r\n"
    url = await serve(always(said + b"Content-Length: 4\r\n\r\nwait"))

    answer = await sender.send(parcel(url))

    assert (answer.status, answer.head, answer.error) == (429, "wait", None)
    assert (answer.retry_after, answer.control) == (7, "disable")
    assert answer.remote_address == "127.0.0.1"
    assert 0 <= answer.duration_ms < 500


async def test_headers_that_never_come_end_with_the_deadline(serve: Any, sender: Sender) -> None:
    async def silent(_: Any, __: Any) -> None:
        await asyncio.sleep(5)

    answer = await sender.send(parcel(await serve(silent)))

    assert (answer.status, answer.error) == (None, "timeout")
    assert 500 <= answer.duration_ms < 900


async def test_a_body_that_drips_ends_with_the_deadline(serve: Any, sender: Sender) -> None:
    async def drip(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    answer = await sender.send(parcel(await serve(drip)))

    assert (answer.status, answer.error, answer.is_taken) == (200, "timeout", False)
    assert answer.duration_ms < 900


async def test_headers_that_never_end_end_with_the_deadline(serve: Any, sender: Sender) -> None:
    async def flood(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Flood: " + b"a" * 1000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    answer = await sender.send(parcel(await serve(flood)))

    assert answer.error in ("protocol", "timeout", "disconnected")
    assert answer.is_taken is False
    assert answer.duration_ms < 900


async def test_of_an_endless_body_4_kib_are_read(serve: Any, sender: Sender) -> None:
    sent = 0

    async def endless(_: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"a" * 4096 + b"\r\n")
            await writer.drain()
            sent += 4096

    answer = await sender.send(parcel(await serve(endless)))

    assert (answer.status, answer.error) == (200, None)
    assert answer.head == "a" * 1024
    assert sent < 4 * 2**20


async def test_a_compressed_answer_is_not_unpacked(serve: Any, sender: Sender) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"

    answer = await sender.send(parcel(await serve(always(head.encode() + bomb))))

    assert answer.status == 200
    assert answer.head is not None
    assert "000000" not in answer.head


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
        (b"HTTP/1.1 2000 Ok\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", "protocol"),
    ],
    ids=["nothing", "half a body", "another protocol", "a strange status", "a huge header"],
)
async def test_what_is_no_answer_is_a_failure(
    serve: Any, sender: Sender, said: bytes, error: str
) -> None:
    answer = await sender.send(parcel(await serve(always(said))))

    assert (answer.error, answer.is_taken) == (error, False)


async def test_a_nul_in_an_answer_can_be_stored(serve: Any, sender: Sender) -> None:
    said = b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\na\x00\xffb"

    answer = await sender.send(parcel(await serve(always(said))))

    assert answer.head == "a\ufffd\ufffdb"


async def test_nobody_listening_is_told(sender: Sender, free: int) -> None:
    answer = await sender.send(parcel(f"http://127.0.0.1:{free}/"))

    assert (answer.status, answer.error, answer.remote_address) == (None, "connect", None)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    serve: Any, sender: Sender, certificate: ssl.SSLContext
) -> None:
    url = await serve(always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ssl=certificate)

    answer = await sender.send(parcel(url))

    assert (answer.status, answer.error) == (None, "tls")


async def test_connections_are_kept_alive_and_a_closed_one_is_replaced(
    serve: Any, sender: Sender
) -> None:
    connections = 0

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(7)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(7)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # the third is not answered any more

    url = await serve(twice)

    answers = [await sender.send(parcel(url)) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 200]
    assert connections == 2


async def test_a_receiver_that_hangs_up_on_a_fresh_connection_is_asked_once(
    serve: Any, sender: Sender
) -> None:
    connections = 0

    async def hang_up(_: Any, __: Any) -> None:
        nonlocal connections
        connections += 1

    answer = await sender.send(parcel(await serve(hang_up)))

    assert answer.error == "disconnected"
    assert connections == 1


async def test_no_proxy_of_the_environment_is_used(
    serve: Any, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def proxy(_: Any, __: Any) -> None:
        asked.append("proxy")

    proxy_url = await serve(proxy)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy_url)
    url = await serve(always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))

    answer = await sender.send(parcel(url))

    assert answer.is_taken
    assert asked == []


async def test_the_kind_of_a_request_that_is_no_delivery_is_named() -> None:
    at = datetime.now(UTC)

    delivery = parcel("http://x/", previous_id="evt_0").headers(at)
    sample = parcel("http://x/", previous_id="evt_0", kind=AttemptKind.TEST).headers(at)

    assert delivery["webhook-previous-id"] == "evt_0"
    assert "webhook-attempt-kind" not in delivery
    assert sample["webhook-attempt-kind"] == "test"
    assert "webhook-previous-id" not in sample


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "x"),
        ("Content-Length", "1"),
        ("content-type", "text/plain"),
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Webhook-Id", "evt_1"),
        ("webhook-anything", "x"),
        ("X-Token", "a\r\nX-Evil: 1"),
        ("X-Token", "a\nb"),
        ("X-Token", "caf\u00e9"),
        ("X-Token", ""),
        ("X-Token", " a"),
        ("X Token", "a"),
        ("X-Token:", "a"),
        ("", "a"),
        ("X-Evil\r\nHost", "a"),
    ],
)
def test_a_header_that_could_do_harm_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        check_headers([header])


def test_headers_of_ones_own_are_few_and_each_is_given_once() -> None:
    assert check_headers([("X-Token", "a b"), ("Authorization", "Bearer x")]) == {
        "x-token": "a b",
        "authorization": "Bearer x",
    }
    with pytest.raises(ValueError, match="twice"):
        check_headers([("X-Token", "a"), ("x-token", "b")])
    with pytest.raises(ValueError, match="At most 20"):
        check_headers([(f"X-{number}", "a") for number in range(21)])


@pytest.fixture
def free(unused_tcp_port: int) -> int:
    """A port nobody listens on."""
    return unused_tcp_port


@pytest.fixture
def certificate(tmp_path: Any) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate it made itself."""
    from datetime import timedelta  # noqa: PLC0415
    from ipaddress import ip_address  # noqa: PLC0415

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
