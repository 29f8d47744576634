"""Callers who leave: what is only read for them is given up; what they want stored is stored whole.

Row 11 of the threat table.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlmodel import select
from structlog.testing import capture_logs

from clients import Client
from core.settings import Settings
from db import BUSINESS, param, postgres, query
from factories import a_card
from houses import House
from models import Card, EventRow, Operation
from patience import PATIENCE, until

CUSTOMERS = "{ customers(first: 1) { nodes { id } } }"
STAMP = """mutation($card: ID!) { addStamps(input: {card: {id: $card}, count: 1}) {
    events { id } userErrors { code } } }"""
_OPERATIONS = query(select(Operation).where(Operation.business_id == BUSINESS))  # type: ignore[arg-type]
_CARD = query(select(Card).where(Card.business_id == BUSINESS, Card.id == param("id")))  # type: ignore[arg-type]
_EVENTS = query(select(EventRow).where(EventRow.type == "stamp_added"))  # type: ignore[arg-type]


@dataclass
class Held:
    """A way to the database that lets nobody through until it is told to."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)

    def before(self, way: Any) -> Any:
        """The same way, behind this."""

        async def held(business: str | None, work: Any) -> Any:
            if business is not None:
                self.began.set()
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    self.given_up.set()
                    raise
            return await way(business, work)

        return held


@contextlib.asynccontextmanager
async def leaving(client: Client, document: str, **variables: Any) -> AsyncIterator[None]:
    """Call, and leave in the middle when the block ends."""
    call = asyncio.create_task(client.call(document, variables))
    try:
        yield
    finally:
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call


async def soon(event: asyncio.Event) -> None:
    """Wait for it, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def test_a_query_whose_caller_leaves_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    monkeypatch.setattr(house.database, "read", held.before(house.database.read))

    async with leaving(house.owner, CUSTOMERS):
        await soon(held.began)
    await soon(held.given_up)

    held.go.set()
    assert (await house.owner.call(CUSTOMERS)).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_mutation_whose_caller_leaves_is_stored_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, card = Held(), await a_card(house.database, house.actor)
    with monkeypatch.context() as patched:
        patched.setattr(house.database, "write", held.before(house.database.write))
        before = len(house.owner.server.connections)
        async with leaving(house.owner, STAMP, card=card.id):
            await soon(held.began)
        await until(lambda: len(house.owner.server.connections) <= before)
        held.go.set()
        await until_stored(house, card, 1)

    assert not held.given_up.is_set()


async def test_so_is_one_over_a_socket_that_closes_or_says_complete(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, card = Held(), await a_card(house.database, house.actor)
    with monkeypatch.context() as patched:
        patched.setattr(house.database, "write", held.before(house.database.write))
        async with house.owner.socket() as socket:
            await socket.subscribe(STAMP, {"card": card.id})
            await soon(held.began)
            await socket.wire.send('{"id": "1", "type": "complete"}')
            held.began.clear()
            await socket.subscribe(STAMP, {"card": card.id})
            await soon(held.began)
        held.go.set()
        await until_stored(house, card, 2)

    assert not held.given_up.is_set()


async def until_stored(house: House, card: Card, count: int) -> None:
    """Wait until so many stamps are stored, each with its operation and event."""

    async def stamps() -> list[int]:
        [now] = await house.all(_CARD, id=card.id)
        events, operations = await house.all(_EVENTS), await house.all(_OPERATIONS)
        return [now.stamps, len(events), len(operations)]

    await until(lambda: _is(stamps, [count] * 3))


async def _is(read: Callable[[], Awaitable[Any]], expected: Any) -> bool:
    return bool(await read() == expected)


class TestOnPostgres:
    """The server is told, too: it would else go on for as long as a statement may take."""

    @pytest.fixture
    def settings(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
        """Statements that would wait for a minute."""
        patient = {**postgres._SETTINGS, "statement_timeout": "60000", "lock_timeout": "60000"}
        monkeypatch.setattr(postgres, "_SETTINGS", patient)
        return settings

    @pytest.mark.on("postgres")
    async def test_the_statement_ends_and_its_connection_serves_on(self, house: House) -> None:
        database: Any = house.database
        other = await asyncpg.connect(house.owner.server.settings.database)
        try:
            await other.execute("BEGIN; LOCK TABLE customer IN ACCESS EXCLUSIVE MODE")
            made = database._made
            async with leaving(house.owner, CUSTOMERS):
                await waits(other, 1)
            await waits(other, 0)
            await other.execute("ROLLBACK")
            connections = {id(connection.wire) for connection in database._free}
            assert (await house.owner.call(CUSTOMERS)).status == 200
        finally:
            await other.close()

        assert len(connections) == database._made == made


async def waits(connection: Any, count: int) -> None:
    """Wait until so many statements of the server wait for a lock."""
    text = """SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stampwire'
        AND wait_event_type = 'Lock' AND datname = current_database()"""
    async with asyncio.timeout(PATIENCE):
        while await connection.fetchval(text) != count:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.02)


HALVES = {
    "a body": b"POST /graphql HTTP/1.1\r\n%sContent-Length: 5000\r\n\r\n{",
    "a body in chunks": b"POST /graphql HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    "a hook": b"POST /hooks HTTP/1.1\r\n%sContent-Length: 5000\r\n\r\n{",
    "a file": b"POST /uploads HTTP/1.1\r\n%sContent-Length: 5000\r\n\r\nname,email\r\n",
    "a picture": b"POST /uploads HTTP/1.1\r\n%sContent-Length: 5000\r\n\r\n\x89PNG\r\n\x1a\n%%20d",
    "an answer": b"POST /graphql HTTP/1.1\r\n%sContent-Length: 46\r\n\r\n"
    b'{"query": "{ __schema { types { name } } }"}  ',
}


@pytest.mark.on("sqlite")
async def test_whoever_leaves_in_the_middle_is_no_fault_of_ours(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(house.owner.server.url)
    told = (
        f"Host: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {house.owner.key}\r\n"
    )
    connections = house.owner.server.connections
    with capture_logs() as logs:
        for half in HALVES.values():
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(half % told.encode())
            await until(lambda: any(connection.cycle for connection in connections))
            tasks = next(connection.tasks for connection in connections)
            writer.transport.abort()
            await until(lambda tasks=tasks: not connections and not tasks)  # type: ignore[misc]

    assert not [line for line in logs if line["log_level"] in ("error", "critical")]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
