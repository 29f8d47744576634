"""Receivers that mean harm: each costs at most its fifteen seconds, and nothing else.

Proves cases 33 to 37, 42 to 44, 47 and 48 of research/webhooks.md §6. The deadline is half a
second here.
"""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cafes import Cafe, a_known_card, an_opening, findings, found_cafe
from core.clock import ManualClock
from core.guard import check_url
from core.secrets import Secrets
from db import Database
from events.stream import Stream
from fakes.raw import Serve, always, certified, parcel, speaking
from models import DeliveryState, EndpointStatus
from webhooks.parcels import check_headers
from webhooks.pusher import Pusher
from webhooks.sender import Sender

DEADLINE = 0.5
LONG = 10_000
"""Milliseconds that a sender takes only if it waits for more than its deadline."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the present until it is moved."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that speaks bytes; hands back its URL."""
    async with speaking() as start:
        yield start


@pytest.fixture
async def sender(clock: ManualClock) -> AsyncIterator[Sender]:
    """A sender with half a second's patience."""
    made = Sender(clock, allow_insecure=True, deadline=DEADLINE)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def cafe(database: Database, secrets: Secrets, clock: ManualClock) -> AsyncIterator[Cafe]:
    """A business with an empty log; the auditor finds nothing in the end."""
    yield await found_cafe(database, secrets, clock)
    assert await findings(database) == []


@pytest.fixture
async def pusher(cafe: Cafe, sender: Sender, clock: ManualClock) -> AsyncIterator[Pusher]:
    """A pusher without jitter."""
    stream = Stream(cafe.database, "memory://")
    await stream.open()
    yield Pusher(cafe.database, stream, sender, cafe.secrets, clock, chance=lambda: 0.5)
    await stream.close()


async def test_headers_that_never_come_end_with_the_deadline(serve: Any, sender: Sender) -> None:
    async def silent(_: Any, __: Any) -> None:
        await asyncio.sleep(60)

    answer = await sender.send(parcel(await serve(silent)))

    assert (answer.status, answer.error) == (None, "timeout")
    assert 500 <= answer.duration_ms < LONG


async def test_a_body_that_drips_ends_with_the_deadline(serve: Any, sender: Sender) -> None:
    async def drip(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    answer = await sender.send(parcel(await serve(drip)))

    assert (answer.status, answer.error, answer.is_taken) == (200, "timeout", False)
    assert answer.duration_ms < LONG


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
    assert answer.duration_ms < LONG


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


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    serve: Any, sender: Sender, tmp_path: Path
) -> None:
    url = await serve(
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ssl=certified(tmp_path)[0]
    )

    answer = await sender.send(parcel(url))

    assert (answer.status, answer.error) == (None, "tls")


async def test_a_connection_that_is_reset_after_its_200_is_a_failure(
    serve: Serve, sender: Sender
) -> None:
    """Case 37: the answer was not whole, so nobody knows whether it was meant."""

    async def reset(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.05)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    answer = await sender.send(parcel(await serve(reset)))

    assert answer.is_taken is False
    assert answer.error in ("disconnected", "protocol")


async def test_interim_answers_without_end_are_cut_short(serve: Serve, sender: Sender) -> None:
    """Case 42: long before the deadline, and before they cost much."""
    sent = 0

    async def flood(_: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            sent += 27
            await asyncio.sleep(0)

    answer = await sender.send(parcel(await serve(flood)))

    assert (answer.is_taken, answer.error) == (False, "protocol")
    assert answer.duration_ms < 500
    assert sent < 2**20


async def test_one_interim_answer_is_no_harm(serve: Serve, sender: Sender) -> None:
    answer = await sender.send(parcel(await serve(always(b"HTTP/1.1 103 Early\r\n\r\n" + OK))))

    assert answer.is_taken


@pytest.mark.parametrize("name_length", [40, 4_000])
async def test_of_headers_8_kib_are_read(serve: Serve, sender: Sender, name_length: int) -> None:
    """Case 42: each line is allowed, all of them are too much."""
    line = b"X-Flood: " + b"a" * name_length + b"\r\n"
    flood = line * (9_000 // len(line) + 1)
    said = b"HTTP/1.1 200 OK\r\n" + flood + b"Content-Length: 0\r\n\r\n"

    answer = await sender.send(parcel(await serve(always(said))))

    assert (answer.is_taken, answer.error) == (False, "protocol")


@pytest.mark.parametrize(
    ("address", "ended"), [("127.0.0.1", True), ("127.0.0.2", False)], ids=["expired", "wrong host"]
)
async def test_a_certificate_that_is_not_good_for_this_host_now_is_refused(
    serve: Serve, clock: ManualClock, tmp_path: Path, address: str, ended: bool
) -> None:
    """Case 43: by a client that trusts whoever signed it."""
    theirs, ours = certified(tmp_path, address, ended=ended)
    sender = Sender(clock, allow_insecure=True, deadline=DEADLINE, tls=ours)
    await sender.open()

    answer = await sender.send(parcel(await serve(always(OK), ssl=theirs)))
    await sender.close()

    assert (answer.status, answer.error) == (None, "tls")


async def test_a_good_certificate_is_accepted(
    serve: Serve, clock: ManualClock, tmp_path: Path
) -> None:
    theirs, ours = certified(tmp_path)
    sender = Sender(clock, allow_insecure=True, deadline=DEADLINE, tls=ours)
    await sender.open()

    answer = await sender.send(parcel(await serve(always(OK), ssl=theirs)))
    await sender.close()

    assert answer.is_taken


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


@pytest.mark.parametrize("evil", ["\r\nX-Evil: 1", "\n", "\r", "\t", "\x00", " "])
def test_a_url_that_could_smuggle_a_header_is_refused(evil: str) -> None:
    """Case 44."""
    with pytest.raises(ValueError, match="URL"):
        check_url(f"https://partner.example/{evil}", allow_insecure=False)


# -- What they mean, in the end -------------------------------------------------------------------


async def test_a_retry_has_the_same_id_and_bytes_and_a_time_of_its_own(
    cafe: Cafe, pusher: Pusher, serve: Serve, clock: ManualClock
) -> None:
    """Case 47."""
    got: list[bytes] = []

    async def fail_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10_000))
        status = b"500 No" if len(got) == 1 else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    endpoint = await cafe.endpoint(await serve(fail_once), types=["card_opened"])
    [event] = await cafe.happens(an_opening(await a_known_card(cafe)))

    await pusher.sweep()
    clock.advance(timedelta(seconds=5))
    await pusher.sweep()

    assert got == [event.body.encode()] * 2
    first, second = await cafe.attempts()
    assert first.event_id == second.event_id == event.id
    assert second.started_at - first.started_at == timedelta(seconds=5)
    assert (await cafe.now_of(endpoint)).failures == 0


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [
        ("429 Slow", "7200", 7_200),
        ("429 Slow", "date", 7_200),
        ("429 Slow", "1", 5),
        ("429 Slow", "0", 5),
        ("429 Slow", "-7200", 5),
        ("429 Slow", "past", 5),
        ("429 Slow", "1e9", 5),
        ("429 Slow", "99999999999999999999", 86_400),
        ("429 Slow", "far", 86_400),
        ("429 Slow", "soon", 5),
        ("429 Slow", "7200; 1", 5),
        ("429 Slow", "", 5),
        ("503 Busy", "7200", 7_200),
        ("503 Busy", "date", 7_200),
        ("503 Busy", "soon", 5),
    ],
)
async def test_a_pause_is_as_long_as_it_asks_within_reason(
    cafe: Cafe, pusher: Pusher, serve: Serve, clock: ManualClock,
    status: str, asked: str, seconds: int,
) -> None:  # fmt: skip
    """Case 48: both forms of Retry-After, and what is neither."""
    spans = {"date": timedelta(hours=2), "past": -timedelta(hours=2), "far": timedelta(days=900)}
    if asked in spans:
        asked = (clock.now() + spans[asked]).strftime("%a, %d %b %Y %H:%M:%S GMT")
    said = f"HTTP/1.1 {status}\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n"
    endpoint = await cafe.endpoint(await serve(always(said.encode())), types=["card_opened"])
    await cafe.happens(an_opening(await a_known_card(cafe)))

    await pusher.sweep()

    rest = (await cafe.now_of(endpoint)).next_attempt_at - clock.now()
    assert rest.total_seconds() == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize(
    ("said", "status", "state"),
    [
        (b"410 Gone\r\n", EndpointStatus.DISABLED, DeliveryState.RETRY),
        (b"200 OK\r\nWebhook-Delivery: disable\r\n", EndpointStatus.DISABLED, None),
        (b"400 No\r\nWEBHOOK-DELIVERY:  Abort-Message \r\n", None, DeliveryState.DEAD),
        (b"200 OK\r\nWebhook-Delivery: abort-message\r\n", None, None),
        (b"500 No\r\nWebhook-Delivery: whatever\r\n", None, DeliveryState.RETRY),
    ],
)
async def test_a_receiver_may_stop_an_event_or_everything(
    cafe: Cafe, pusher: Pusher, serve: Serve, said: bytes,
    status: EndpointStatus | None, state: DeliveryState | None,
) -> None:  # fmt: skip
    """Case 48: 410, and the header by which a receiver says stop."""
    answer = b"HTTP/1.1 " + said + b"Content-Length: 0\r\n\r\n"
    endpoint = await cafe.endpoint(await serve(always(answer)), types=["card_opened"])
    await cafe.happens(an_opening(await a_known_card(cafe)))

    await pusher.sweep()

    assert (await cafe.now_of(endpoint)).status is (status or EndpointStatus.ACTIVE)
    assert [row.state for row in await cafe.exceptions()] == ([state] if state else [])
