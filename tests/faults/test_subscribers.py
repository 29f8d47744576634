"""Subscribers that stop reading, read slowly, or are left by the server.

Proves case 12 of research/webhooks.md §6 and rows L and "SIGTERM under load" of
research/reliability.md: nobody's memory grows, nobody else waits, every close says where to go on.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from sqlalchemy import update
from sqlmodel import col, select

import execution.fanout
from clients import Client
from core.ids import new_id
from db import BUSINESS, Transaction, command, param, query
from events.log import head_of
from factories import a_card, a_card_template, an_award_goal, stamps
from houses import House, database, deployment, house, open_house
from models import Card, EventRow, LogHead, encode_cursor

__all__ = ["database", "deployment", "house", "open_house"]

EVENTS = """subscription($after: String) { events(after: $after) {
    sequence cursor payload(vocabulary: ID) data(vocabulary: EN) } }"""
LITTLE = "subscription($after: String) { events(after: $after) { sequence cursor } }"
BEGINNING = "ZXZ0OjA"
_LOG = query(select(EventRow).where(col(EventRow.business_id) == BUSINESS))
_SET_HEAD = command(
    update(LogHead).where(col(LogHead.business_id) == BUSINESS).values(sequence=param("sequence"))
)


@pytest.fixture
async def card(house: House) -> Card:
    """A card of fifty stamps."""
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    return await a_card(house.database, house.actor, template.id)


@asynccontextmanager
async def a_reader(client: Client, document: str, buffer: int = 4_096) -> AsyncIterator[Any]:
    """A socket of which the test itself reads every byte, with a small buffer."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.connect((client.server.settings.host, client.server.settings.port))
    raw.setblocking(False)
    async with websockets.connect(
        client.server.socket,
        sock=raw,
        subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
        compression=None,
        max_queue=1,
        ping_interval=None,
        close_timeout=0.1,
    ) as wire:
        payload = {"Authorization": f"Bearer {client.key}"}
        await wire.send(json.dumps({"type": "connection_init", "payload": payload}))
        await wire.recv()
        for connection in client.server.connections:
            # The kernel would take megabytes for whoever does not read.
            served = connection.transport.get_extra_info("socket")
            served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        told = {"query": document, "variables": {"after": BEGINNING}}
        await wire.send(json.dumps({"id": "1", "type": "subscribe", "payload": told}))
        yield wire


async def write_many(house: House, card: Card, count: int) -> None:
    """So many stamps, some at a time."""
    for start in range(0, count, 50):
        batch = range(start, min(start + 50, count))
        await asyncio.gather(*(stamps(house.database, house.actor, card, 1) for _ in batch))


@pytest.mark.on("sqlite")
@pytest.mark.alone
async def test_a_socket_that_blocks_is_cut_off_within_five_seconds(
    house: House, card: Card, figure: Callable[[str], None]
) -> None:
    """The kernel's buffers fill first; from then on it has five seconds."""
    async with a_reader(house.owner, EVENTS), house.owner.socket() as kept:
        alive = await kept.subscribe(LITTLE)
        assert await alive.is_silent(0.5)
        slowest, seen, began = 0.0, 1, None
        while house.subscribers == 2:
            wrote = time.perf_counter()
            await write_many(house, card, 50)
            while seen < await _head(house):
                seen = (await alive.next())["events"]["sequence"]
            slowest = max(slowest, time.perf_counter() - wrote)
            if began is None and not all(one.is_writable for one in house.owner.server.connections):
                began = time.perf_counter()
        took = time.perf_counter() - (began or 0)

    figure(f"cut off {took:.1f} s after it blocked; others waited {slowest * 1_000:.0f} ms")
    assert began is not None
    assert took < 6


async def test_whoever_falls_too_far_behind_is_closed_with_4008_and_a_cursor(
    house: House, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads, but always more slowly than is written."""
    monkeypatch.setattr(execution.fanout, "FALLEN_TOO_FAR", 100)
    read = 0
    async with a_reader(house.owner, EVENTS) as wire:
        first = json.loads(await wire.recv())["payload"]["data"]["events"]["sequence"]

        async def write() -> None:
            while wire.close_code is None:
                await write_many(house, card, 100)
                await asyncio.sleep(0.05)

        writing = asyncio.create_task(write())
        with contextlib.suppress(websockets.ConnectionClosedError):
            async for message in wire:
                read = json.loads(message)["payload"]["data"]["events"]["sequence"]
                await asyncio.sleep(0.02)
        writing.cancel()
        code, reason = wire.close_code, wire.close_reason

    assert first == 1
    assert code == 4008
    assert reason == f"cursor={encode_cursor(read)}"


async def test_the_server_going_away_closes_with_1012_and_a_cursor(
    house: House, card: Card
) -> None:
    server = house.owner.server
    await write_many(house, card, 7)
    async with house.owner.socket() as wire:
        behind = await wire.subscribe(LITTLE, {"after": BEGINNING})
        await wire.subscribe(LITTLE)
        last = (await behind.take(8))[-1]["events"]
        for connection in [*server.connections]:
            connection.shutdown()
        code = await wire.close_code()
        reason = wire.wire.close_reason
    async with house.owner.socket() as again:
        await write_many(house, card, 1)
        assert reason is not None
        told = await again.subscribe(LITTLE, {"after": reason.removeprefix("cursor=")})
        event = (await told.next())["events"]

    assert (code, reason) == (1012, f"cursor={last['cursor']}")
    assert event["sequence"] == last["sequence"] + 1


@pytest.mark.on("sqlite")
@pytest.mark.calm
async def test_a_stream_over_http_ends_at_once_when_the_server_goes_away(
    house: House, card: Card
) -> None:
    headers = {**house.owner.headers, "Accept": "text/event-stream"}
    async with house.owner.session.post(
        house.owner.server.graphql, json={"query": LITTLE}, headers=headers
    ) as stream:
        await asyncio.sleep(0.2)
        await write_many(house, card, 1)
        async with asyncio.timeout(5):
            while b"sequence" not in await stream.content.readline():
                continue
        began = time.perf_counter()
        for connection in [*house.owner.server.connections]:
            connection.shutdown()
        async with asyncio.timeout(5):
            rest = await stream.content.read()
        took = time.perf_counter() - began

    assert took < 1
    assert b"\n: the server goes away; go on from the cursor of the last event\n\n" in rest


@pytest.mark.on("sqlite")
@pytest.mark.parametrize(
    "events", [5_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)])]
)
@pytest.mark.alone
async def test_a_subscriber_far_behind_catches_up_in_pages(
    house: House, card: Card, events: int, figure: Callable[[str], None]
) -> None:
    """Memory stays as it was, and another socket is told at once meanwhile."""
    await _lengthen(house, events)
    longest = 0.0
    async with house.owner.socket() as behind, house.owner.socket() as kept:
        alive = await kept.subscribe(LITTLE)
        assert await alive.is_silent()
        told = await behind.subscribe(LITTLE, {"after": BEGINNING})
        await told.take(1_000)
        before, seen = _resident(), 1_000
        while seen < events:
            if seen % 1_000 == 0:
                began = time.perf_counter()
                await stamps(house.database, house.actor, card, 1)
                await alive.next()
                longest = max(longest, time.perf_counter() - began)
            seen += 1
            assert (await told.next())["events"]["sequence"] == seen
        grown = _resident() - before

    figure(f"{grown / 1e6:.0f} MB; others told within {longest * 1e3:.0f} ms")
    assert grown < 50e6
    assert longest < 1


@pytest.mark.soak
@pytest.mark.alone
async def test_fifty_stalled_sockets_during_a_hundred_thousand_events_cost_no_memory(
    house: House, card: Card, figure: Callable[[str], None]
) -> None:
    async with asyncio.TaskGroup() as group, house.owner.socket() as kept:
        alive = await kept.subscribe(LITTLE)
        assert await alive.is_silent()
        stop = asyncio.Event()

        async def stall() -> None:
            while not stop.is_set():
                async with a_reader(house.owner, EVENTS):
                    await asyncio.wait([asyncio.create_task(stop.wait())], timeout=6)

        stalled = [group.create_task(stall()) for _ in range(50)]
        await asyncio.sleep(3)
        before, seen = _resident(), 1
        for _ in range(1_000):
            await write_many(house, card, 100)
            head = await _head(house)
            while seen < head:
                seen = (await alive.next(10))["events"]["sequence"]
        grown = _resident() - before
        stop.set()
        for one in stalled:
            one.cancel()
        figure(f"resident memory grew by {grown / 1e6:.0f} MB")
        assert grown < 50e6


async def _lengthen(house: House, events: int) -> None:
    """Make a long log of the one event there is."""

    async def work(tx: Transaction) -> None:
        [first] = await tx.many(_LOG)
        head = first.sequence
        rows = [
            first.with_values(id=new_id("evt"), sequence=sequence)
            for sequence in range(head + 1, events + 1)
        ]
        for start in range(0, len(rows), 1_000):
            await tx.add(*rows[start : start + 1_000])
        await tx.run(_SET_HEAD, sequence=events)

    await house.database.write(house.actor.business_id, work)


async def _head(house: House) -> int:
    head = await house.database.read(house.actor.business_id, head_of)
    return head.sequence


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096
