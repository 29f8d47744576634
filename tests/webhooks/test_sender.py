"""The sender: what it says of an answer. Those that mean harm are in tests/faults."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.clock import ManualClock
from fakes.raw import Serve, always, parcel, speaking
from models import AttemptKind
from webhooks.parcels import check_headers
from webhooks.sender import Sender


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that speaks bytes; hands back its URL."""
    async with speaking() as start:
        yield start


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender with half a second's patience."""
    made = Sender(ManualClock(datetime.now(UTC)), allow_insecure=True, deadline=0.5)
    await made.open()
    yield made
    await made.close()


async def test_a_plain_answer_is_told_in_full(serve: Any, sender: Sender) -> None:
    said = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nWebhook-Delivery: Disable\r\n"
    url = await serve(always(said + b"Content-Length: 4\r\n\r\nwait"))

    answer = await sender.send(parcel(url))

    assert (answer.status, answer.head, answer.error) == (429, "wait", None)
    assert (answer.retry_after, answer.control) == (7, "disable")
    assert answer.remote_address == "127.0.0.1"
    assert 0 <= answer.duration_ms < 500


async def test_a_nul_in_an_answer_can_be_stored(serve: Any, sender: Sender) -> None:
    said = b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\na\x00\xffb"

    answer = await sender.send(parcel(await serve(always(said))))

    assert answer.head == "a\ufffd\ufffdb"


async def test_nobody_listening_is_told(sender: Sender, free: int) -> None:
    answer = await sender.send(parcel(f"http://127.0.0.1:{free}/"))

    assert (answer.status, answer.error, answer.remote_address) == (None, "connect", None)


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
