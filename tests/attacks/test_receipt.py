"""Slow, endless, crumbling and flooding callers: each is let go in time, while others are served.

Rows 6, 10, 17, 22 and 23 of the threat table. Deadlines are shortened, and their bounds with them:
10 s for headers and 30 s for bodies are 0.8 s and 1.6 s here.
"""

import asyncio
import json
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientError

from clients import bare_socket
from core.settings import Settings
from execution.protocols import Exchange, Patience

pytestmark = pytest.mark.on("sqlite")
HEAD, BODY = 0.8, 1.6
SLACK = 1.0
"""What a busy machine may add."""
VIEWER = "{ viewer { actor { id } } }"
SLOW_BODY = (
    b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: 5000\r\n\r\n{"
)
HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    "sec-websocket-protocol: graphql-transport-ws\r\n"
)


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Deadlines that a test can wait for, and room for its crowds."""
    monkeypatch.setattr(Exchange, "patience", replace(Patience(), leftover_seconds=0.5))
    hurried = {
        "head_seconds": HEAD,
        "body_seconds": BODY,
        "answer_seconds": 1.0,
        "init_seconds": HEAD,
        "connections_per_address": 5_000,
        "requests_at_once": 5_000,
    }
    return settings.model_copy(update=hurried)


@dataclass
class Wire:
    """A connection of bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def dribble(
        self, first: bytes, then: bytes = b"", every: float = 0.2, until: bytes = b"\0nothing"
    ) -> bytes:
        """Send something, then a little now and again; what is answered until that, or the end."""

        async def drip() -> None:
            while then:
                await asyncio.sleep(every)
                self.writer.write(then)

        self.writer.write(first)
        dripping, said = asyncio.create_task(drip()), b""
        try:
            while until not in said and (piece := await self.reader.read(65_536)):
                said += piece
        except ConnectionError:  # it was cut while something was on its way
            pass
        finally:
            dripping.cancel()
            self.writer.close()
        return said


@asynccontextmanager
async def wired(house: Any) -> AsyncIterator[Callable[[], Awaitable[Wire]]]:
    """Open connections of bytes to the server."""
    address = urlsplit(house.owner.server.url)
    opened: list[Wire] = []

    async def connect() -> Wire:
        wire = Wire(*await asyncio.open_connection(address.hostname, address.port))
        opened.append(wire)
        return wire

    try:
        yield connect
    finally:
        for wire in opened:
            wire.writer.transport.abort()


def _may_open(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


async def _held(house: Any, count: int, first: bytes, then: bytes) -> tuple[float, list[bytes]]:
    """How long each of so many slow connections was held at most, and what each was told."""
    async with wired(house) as connect:

        async def held() -> tuple[float, bytes]:
            wire, began = await connect(), time.monotonic()
            said = await wire.dribble(first, then)
            return time.monotonic() - began, said

        seconds, said = zip(*await asyncio.gather(*(held() for _ in range(count))), strict=True)
        return max(seconds), list(said)


@pytest.mark.alone
async def test_900_slow_heads_and_300_slow_bodies_are_let_go_while_others_are_served(
    house: Any, figure: Callable[[str], None]
) -> None:
    _may_open(4_000)
    for last in (False, True):
        heads = asyncio.create_task(
            _held(house, 900, b"POST /graphql HTTP/1.1\r\nhost: x\r\n", b"x: y\r\n")
        )
        bodies = asyncio.create_task(_held(house, 300, SLOW_BODY, b" "))
        waits, is_lost = [], False
        while not (heads.done() and bodies.done()):
            began = time.monotonic()
            try:
                assert (await house.owner.call(VIEWER)).status == 200
            except ClientError:  # this loop serves 1 200 callers too: it was late, and so were we
                is_lost = True
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
        (head, said), (body, answers) = await heads, await bodies
        slowest = sorted(waits)[int(len(waits) * 0.99)]
        figure(f"heads {head:.1f} s, bodies {body:.1f} s, others' p99 {slowest * 1000:.0f} ms")
        if not is_lost and head <= HEAD + SLACK and body <= BODY + SLACK:
            break
        assert not last, (head, body, is_lost)

    # What was sent at that very moment may have reset the connection, and the answer with it.
    told = Counter(answer[:12] for answer in said + answers)
    assert set(told) <= {b"HTTP/1.1 408", b""}
    assert told[b"HTTP/1.1 408"] > 100
    assert len(waits) >= 3


SLOW: dict[str, tuple[bytes, bytes, bytes]] = {
    "says nothing": (b"", b"", b""),
    "says empty lines": (b"\r\n", b"\r\n", b"HTTP/1.1 408"),
    "never ends its first line": (b"GET /", b"a", b"HTTP/1.1 408"),
    "never ends its handshake": (HANDSHAKE.encode(), b"x: y\r\n", b"HTTP/1.1 408"),
    "sends chunks": (
        SLOW_BODY.replace(b"content-length: 5000", b"transfer-encoding: chunked")[:-1],
        b"1\r\n \r\n",
        b"HTTP/1.1 408",
    ),
    "goes on after its answer": (
        b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n", b"HTTP/1.1 200"
    ),
}  # fmt: skip


async def test_every_way_of_being_slow_ends_in_time(house: Any) -> None:
    async with wired(house) as connect:

        async def held(first: bytes, then: bytes) -> tuple[float, bytes]:
            wire, began = await connect(), time.monotonic()
            async with asyncio.timeout(15):
                said = await wire.dribble(first, then)
            return time.monotonic() - began, said

        results = await asyncio.gather(*(held(first, then) for first, then, _ in SLOW.values()))

    for (name, (_, _, due)), (seconds, said) in zip(SLOW.items(), results, strict=True):
        assert said.startswith(due), (name, said[:80])
        assert seconds < BODY + 3 * SLACK, name


async def test_what_is_too_long_is_refused_with_its_own_status_and_in_json(house: Any) -> None:
    asks = {
        b"431": b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 17_000 + b"\r\n\r\n",
        b"431 ": b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"431  ": b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000,
        b"414": b"GET /" + b"y" * 9_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"400": b"hello\r\n\r\n",
    }
    async with wired(house) as connect:
        for status, ask in asks.items():
            said = await (await connect()).dribble(ask)
            head, _, body = said.partition(b"\r\n\r\n")

            assert head.startswith(b"HTTP/1.1 " + status.strip()), (status, said)
            assert b"application/json" in head
            assert json.loads(body)["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_body_without_end_is_answered_and_then_cut(house: Any) -> None:
    """413 comes while the body is still coming; the rest is thrown away, but not for ever."""
    head = SLOW_BODY.replace(b"content-length: 5000", b"transfer-encoding: chunked")[:-1]
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    async with wired(house) as connect:
        wire, began = await connect(), time.monotonic()
        said = await wire.dribble(head + chunk * 30, chunk, every=0.01)

    assert said.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 0.5 + 2 * SLACK


async def test_a_body_in_crumbs_is_refused(house: Any) -> None:
    """Each crumb is a call of ours: 20 bodies of single bytes once held the loop for 3 s."""
    ask = json.dumps({"query": VIEWER}).encode()
    head = (
        b"POST /graphql HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n"
        b"authorization: Bearer " + house.owner.key.encode() + b"\r\n\r\n"
    )
    crumb, end = b"1\r\n \r\n", b"0\r\n\r\n"
    whole = b"%x\r\n%s\r\n" % (len(ask), ask)
    async with wired(house) as connect:
        few = await (await connect()).dribble(head + crumb * 900 + whole + end)
        many = await (await connect()).dribble(head + crumb * 1_100 + whole + end)
        late = await (await connect()).dribble(
            head.replace(b"/graphql", b"/livez").replace(b"POST", b"GET") + crumb * 40_000
        )

    assert few.startswith(b"HTTP/1.1 200"), few
    assert many.startswith(b"HTTP/1.1 400"), many
    assert late.count(b"HTTP/1.1") == 1, late


BEHIND = {
    "trailers without end": b"a: b\r\n",
    "one trailer without end": b"y" * 1_000,
}
WITHIN = {"an extension without end": b"1;" + b"a" * 1_000, "a size without end": b"0" * 1_000}


@pytest.mark.parametrize("name", [*BEHIND, *WITHIN])
async def test_what_comes_around_a_body_has_an_end_long_before_its_deadline(
    house: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three connections that sent trailers once took two gigabytes, and ten seconds at once."""
    protocol = house.owner.server.protocol
    monkeypatch.setattr(protocol, "patience", replace(protocol.patience, body_seconds=20.0))
    head = SLOW_BODY.replace(b"content-length: 5000", b"transfer-encoding: chunked")[:-1]
    before = b"1\r\n{\r\n0\r\nx: " if name in BEHIND else b"1\r\n{\r\n"
    async with wired(house) as connect, asyncio.timeout(15):
        said = await (await connect()).dribble(
            head + before, (BEHIND | WITHIN)[name] * 30, every=0.01
        )

    # What was sent at that very moment may have reset the connection, and the answer with it.
    assert said[:12] in (b"HTTP/1.1 400", b"")


async def test_so_many_requests_wait_on_a_connection_and_no_more(house: Any) -> None:
    """Each that waits is held: 40 connections of 20 000 each once took 1.9 GB, and 12 s at once."""
    ask = b"GET /hooks/sample/%d HTTP/1.1\r\nhost: x\r\n\r\n"
    async with wired(house) as connect:
        some = b"".join(ask % number for number in range(15))
        few = await (await connect()).dribble(some + b"GET /livez HTTP/1.0\r\nhost: x\r\n\r\n")
        many = await (await connect()).dribble((ask % 1) * 5_000)

    assert few.count(b"HTTP/1.1 401") == 15
    assert few.count(b"HTTP/1.1 200") == 1
    assert many.count(b"HTTP/1.1") <= 16
    assert (await house.owner.call(VIEWER)).status == 200


async def test_an_upload_that_comes_quickly_enough_has_longer(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = house.owner.server.protocol
    slow = replace(protocol.patience, body_seconds=0.4, body_rate=2_000)
    monkeypatch.setattr(protocol, "patience", slow)
    key = house.owner.key.encode()
    head = (
        b"POST /uploads HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"authorization: Bearer " + key + b"\r\ncontent-length: %d\r\n\r\n"
    )
    lines = b"name,email\r\n" + b"Ana,ana@mail.example\r\n" * 200

    async def upload(wire: Wire, every: float) -> bytes:
        wire.writer.write(head % len(lines))
        for start in range(0, len(lines), 500):
            wire.writer.write(lines[start : start + 500])
            await asyncio.sleep(every)
        return await wire.reader.read()

    async with wired(house) as connect:
        quick = await upload(await connect(), 0.1)
        slower = await (await connect()).dribble(head % len(lines) + b"n", b"a", every=0.1)

    assert quick.startswith(b"HTTP/1.1 201"), quick
    assert slower.startswith(b"HTTP/1.1 408"), slower


async def test_who_never_reads_an_answer_is_cut(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, cuts = Exchange.cut, []

    def counted(exchange: Exchange) -> None:
        cuts.append(exchange)
        cut(exchange)

    monkeypatch.setattr(Exchange, "cut", counted)
    ask = json.dumps({"query": "{ __schema { types { name description fields { name description "
                               "args { name description } } } } }"}).encode()  # fmt: skip
    head = (
        b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
    ) % (house.owner.key.encode(), len(ask))
    connections = house.owner.server.connections
    before = set(connections)
    async with wired(house) as connect, asyncio.timeout(15):
        wire = await connect()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not (new := set(connections) - before):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)
        [exchange] = new
        # What the system itself keeps for the reader is kept small.
        ours = exchange.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for _ in range(5):
            wire.writer.write(head + ask)
        while exchange in connections:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)

    assert len(cuts) == 1


def _frame(payload: bytes, opcode: int = 1) -> bytes:
    """A masked frame; the mask is nought."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | min(size, 126)))
    return head + (struct.pack("!H", size) if size > 125 else b"") + b"\0\0\0\0" + payload


PING = _frame(b'{"type":"ping"}')
STORM = _frame(
    b'{"id":"1","type":"subscribe","payload":{"query":"subscription { events { type } }"}}'
) + _frame(b'{"id":"1","type":"complete"}')
FLOODS = {
    "pings": PING * 10_000,
    "pings of the websocket itself": _frame(b"", 9) * 30_000,
    "empty pieces": b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 30_000,
    "subscribe and complete": STORM * 3_000,
}


async def test_a_flood_is_closed_with_4429_and_starves_nobody(
    house: Any, figure: Callable[[str], None]
) -> None:
    host = house.owner.server.url.removeprefix("http://")
    init = json.dumps(
        {"type": "connection_init", "payload": {"Authorization": f"Bearer {house.owner.key}"}}
    ).encode()
    for name, flood in FLOODS.items():
        async with wired(house) as connect:
            wire = await connect()
            wire.writer.write((HANDSHAKE.format(host=host) + "\r\n").encode())
            await wire.reader.readuntil(b"\r\n\r\n")
            wire.writer.write(_frame(init))
            ack = await wire.reader.readuntil(b"}")
            wire.writer.write(flood)
            waits = []
            reading = asyncio.create_task(wire.dribble(b"", until=b"Too many messages"))
            while not reading.done():
                began = time.monotonic()
                await house.owner.call(VIEWER)
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.01)
            said = await reading
        figure(f"{name}: others waited at most {max(waits) * 1000:.0f} ms")

        assert b"connection_ack" in ack
        assert b"\x11\x4dToo many messages" in said, name
        assert max(waits) < SLACK, name


async def test_sockets_that_never_ask_to_be_let_in_are_closed_with_4408(house: Any) -> None:
    """500 sockets: some silent, some sending what means nothing."""
    _may_open(4_000)

    async def held(number: int) -> int | None:
        async with bare_socket(house.owner.server) as wire:
            while wire.close_code is None:
                if number % 2:
                    await wire.ping()
                    await wire.send('{"type": "pong"}')
                try:
                    async with asyncio.timeout(0.3):
                        await wire.wait_closed()
                except TimeoutError:
                    continue
            return wire.close_code

    async def safely(number: int) -> int | None:
        try:
            return await held(number)
        except Exception as error:  # noqa: BLE001 -- closed while it was sending
            return getattr(getattr(error, "rcvd", None), "code", None)

    began = time.monotonic()
    async with asyncio.timeout(30):
        codes = await asyncio.gather(*map(safely, range(500)))

    assert set(codes) == {4408}
    assert time.monotonic() - began < 15
