"""No crowd makes a process hold more than it has room for, and others are served meanwhile.

Rows 6, 10, 17 and 23 of the threat table, for many callers at once: bodies and messages that are
half sent, and more connections than there may be.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from clients import Client
from core.settings import Settings
from execution.gate import Gate, Proxies
from houses import House

pytestmark = pytest.mark.on("sqlite")

ROOM = 2_000_000
CROWD = 60
"""Bodies of 90 kB: more than twice what there is room for."""
VIEWER = "{ viewer { actor { id } } }"
HALF = (
    b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: 99000\r\n\r\n" + b" " * 90_000
)
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    b"sec-websocket-protocol: graphql-transport-ws\r\n\r\n"
)
HALF_MESSAGE = b"\x81\xfe" + struct.pack("!H", 65_000) + b"\0\0\0\0" + b" " * 64_000


@pytest.fixture
def limits() -> dict[str, Any]:
    """What a test's server has room for."""
    return {"receiving_bytes": ROOM}


@pytest.fixture
def settings(settings: Settings, limits: dict[str, Any]) -> Settings:
    """A server with little room."""
    return settings.model_copy(update=limits)


@pytest.fixture
async def wires() -> AsyncIterator[AsyncExitStack]:
    """Connections that are cut at the end."""
    async with AsyncExitStack() as stack:
        yield stack


async def wired(
    house: House, stack: AsyncExitStack, first: bytes = b"", then: bytes = b""
) -> asyncio.StreamReader:
    """A connection of bytes, on which something was sent, and more after it was answered."""
    address = urlsplit(house.owner.server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    stack.callback(_cut, writer)
    writer.write(first)
    if then:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    return reader


def _cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something of which nobody tells."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)


async def told(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes], Any]:
    """The status, headers and body of an answer after which the connection ends."""
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    return status.split(b" ")[1], headers, json.loads(body)


def gate_of(house: House) -> Gate:
    """The gate of the running server."""
    found: Gate = house.owner.server.protocol.gate
    return found


async def test_of_bodies_that_are_half_sent_the_oldest_make_room(
    house: House, wires: AsyncExitStack
) -> None:
    gate = gate_of(house)
    readers = []
    for _ in range(CROWD):
        readers.append(await wired(house, wires, HALF))
        assert (await house.owner.call(VIEWER)).status == 200
    await until(lambda: gate.given_up >= CROWD - ROOM // 90_000)

    status, headers, body = await told(readers[0])

    assert (status, headers[b"retry-after"]) == (b"503", b"1")
    assert body["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert gate.bytes_most <= ROOM
    assert (await house.owner.call(VIEWER)).status == 200
    await wires.aclose()
    await until(lambda: gate.bytes_held == 0)


async def test_so_do_sockets_whose_messages_are_half_sent(
    house: House, wires: AsyncExitStack
) -> None:
    gate = gate_of(house)
    readers = [await wired(house, wires, HANDSHAKE, HALF_MESSAGE) for _ in range(CROWD)]
    await until(lambda: gate.given_up >= CROWD - ROOM // 64_000)

    async with asyncio.timeout(20):
        said = await readers[0].read()

    assert said.endswith(struct.pack("!H", 1013) + b"Try again later")
    assert gate.bytes_most <= ROOM
    async with house.owner.socket() as socket:
        answer = await (await socket.subscribe(VIEWER)).message()
    assert answer["type"] == "next"


class TestConnections:
    """A process has so many connections, and no more."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        """Few."""
        return {"connections": 12, "connections_per_address": 100}

    async def test_one_too_many_is_told_to_come_again(
        self, house: House, wires: AsyncExitStack
    ) -> None:
        gate = gate_of(house)
        assert (await house.owner.call(VIEWER)).status == 200  # and its connection stays open
        while gate.connections < 12:
            await wired(house, wires)
            await asyncio.sleep(0)

        status, headers, body = await told(await wired(house, wires))

        assert (status, headers[b"retry-after"]) == (b"503", b"1")
        assert body["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        await wires.aclose()
        await until(lambda: gate.connections < 12)
        async with house.owner.socket():
            assert gate.connections < 12
        assert (await house.owner.call(VIEWER)).status == 200


class TestAddresses:
    """So has an address."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        """Few."""
        return {"connections_per_address": 5}

    async def test_one_too_many_of_an_address_is_told_to_come_again(
        self, house: House, wires: AsyncExitStack
    ) -> None:
        gate = gate_of(house)
        while gate.connections < 5:
            await wired(house, wires)
            await asyncio.sleep(0)

        status, headers, _ = await told(await wired(house, wires))

        assert (status, headers[b"retry-after"]) == (b"429", b"1")


class TestBehindAProxy:
    """Behind a trusted proxy it is the forwarded address that counts."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        """Few."""
        return {"connections_per_address": 3, "trusted_proxies": ("127.0.0.1",)}

    async def test_one_too_many_of_a_forwarded_address_is_told_to_come_again(
        self, house: House, session: aiohttp.ClientSession
    ) -> None:
        crowd = {"X-Forwarded-For": "203.0.113.7"}
        owner = house.owner
        async with AsyncExitStack() as stack:
            for _ in range(3):
                wire = await stack.enter_async_context(
                    session.ws_connect(
                        owner.server.socket, protocols=["graphql-transport-ws"], headers=crowd
                    )
                )
                await wire.send_json({"type": "ping"})
                await wire.receive_json()
            refused = await self._asked(owner, session, crowd)
            with pytest.raises(aiohttp.WSServerHandshakeError) as handshake:
                await session.ws_connect(owner.server.socket, headers=crowd)
            others = [await self._asked(owner, session, {"X-Forwarded-For": f"203.0.113.{n}"})
                      for n in range(8, 14)]  # fmt: skip

        assert refused == (429, "1")
        assert handshake.value.status == 429
        assert others == [(200, None)] * 6

    @staticmethod
    async def _asked(
        owner: Client, session: aiohttp.ClientSession, headers: dict[str, str]
    ) -> tuple[int, str | None]:
        async with session.post(
            owner.server.graphql, json={"query": VIEWER}, headers={**owner.headers, **headers}
        ) as answer:
            return answer.status, answer.headers.get("retry-after")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of HTTP."""
    async with aiohttp.ClientSession() as opened:
        yield opened


def test_a_newcomer_is_refused_only_where_nobody_keeps_it_waiting() -> None:
    class Holder:
        def __init__(self) -> None:
            self.has_given_up = False

        def give_up(self) -> None:
            self.has_given_up = True

    settings = Settings.model_construct(receiving_bytes=100, requests_at_once=2)
    gate, first, second, third = Gate(settings), Holder(), Holder(), Holder()

    assert gate.begin(first)
    assert gate.hold(first, 60)
    gate.finish(first)
    assert gate.begin(second)
    assert gate.hold(second, 40)
    assert not gate.hold(second, 1)
    gate.release(second)
    assert gate.begin(second)
    assert gate.begin(third)
    assert (first.has_given_up, second.has_given_up) == (False, True)
    gate.finish(third)
    assert not gate.begin(second)
    gate.release(first)
    gate.release(third)
    assert gate.bytes_held == 0


def test_a_proxy_is_known_by_its_name_its_address_or_its_network() -> None:
    named = Proxies(("127.0.0.1", "10.0.0.0/8", "fd00::/8"))

    assert "127.0.0.1" in named
    assert "10.1.2.3" in named
    assert "fd00::7" in named
    assert "11.1.2.3" not in named
    assert "nobody" not in named
    assert "8.8.8.8" in Proxies(("*",))
    assert "127.0.0.1" not in Proxies(())
