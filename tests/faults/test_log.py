"""The log under faults: no event without its commit, none skipped by a cursor, no trust in clocks.

Proves cases 1, 2, 20 and 21 of research/webhooks.md §6; a database that is full or
read-only (19) is the matter of test_disk.py and test_database.py.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from conftest import serving
from core.clock import ManualClock
from core.errors import Invalid
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Transaction, database_of
from events.log import events_after, head_of
from events.stream import Stream
from factories import NOW, Cafe, a_business, a_card, a_card_template, an_award_goal, stamps
from models import Card
from patience import until
from processes import ROOT
from services.audit import Finding, audit
from services.card_refs import CardRef
from services.cards import AddStampsInput, add_stamps

WRITERS = 16


async def test_what_is_taken_back_is_no_event_and_rings_no_bell(
    database: Database, settings: Settings
) -> None:
    """Case 1."""
    cafe = await a_business(database)
    card = await a_card(database, cafe.owner)
    before = await database.read(cafe.business.id, head_of)
    stream = Stream(database, "memory://")
    await stream.open()
    told = AddStampsInput(card=CardRef(id=card.id), count=1)  # type: ignore[arg-type]

    async def fails(tx: Transaction) -> None:
        await add_stamps(tx, cafe.owner, told, NOW)
        raise Invalid("Something else was wrong.")

    async def stamped(tx: Transaction) -> object:
        return await add_stamps(tx, cafe.owner, told, NOW)

    with stream.follow(cafe.business.id) as follower, stream.bell() as bell:
        await until(lambda: stream.healthy)
        await asyncio.sleep(0.05)  # it has had its first look at the log
        bell.clear()
        with pytest.raises(Invalid):
            await database.write(cafe.business.id, fails)
        await database.rehearse(cafe.business.id, stamped)

        assert not await follower.news(before.sequence, 0.2)
        assert not bell.is_set()
        await database.write(cafe.business.id, stamped)
        assert await follower.news(before.sequence, 2)
        assert bell.is_set()
    await stream.close()
    events = await database.read(cafe.business.id, lambda tx: events_after(tx, before.sequence, 10))
    assert [(row.sequence, row.type) for row in events] == [(before.sequence + 1, "stamp_added")]


async def test_a_reader_with_a_cursor_skips_nothing(
    database: Database, figure: Callable[[str], None]
) -> None:
    """Case 2: sixteen writers that commit after random delays, and numbers in commit order."""
    cafe = await a_business(database)
    cards = await _cards(database, cafe)
    start = (await database.read(cafe.business.id, head_of)).sequence
    waits = getattr(database, "_made", None) is not None  # only PostgreSQL writes side by side
    done = asyncio.Event()

    async def write(card: Card) -> None:
        told = AddStampsInput(card=CardRef(id=card.id), count=1)  # type: ignore[arg-type]

        async def work(tx: Transaction) -> None:
            await add_stamps(tx, cafe.owner, told, NOW)
            if waits:
                await asyncio.sleep(random.uniform(0, 0.02))

        for _ in range(12):
            await database.write(cafe.business.id, work)

    async def read() -> list[int]:
        place, seen = start, []
        while True:
            is_last = done.is_set()
            rows = await _after(database, cafe, place)
            seen += [row.sequence for row in rows]
            place = seen[-1] if seen else start
            if is_last and not rows:
                return seen
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(*(write(card) for card in cards))
    done.set()
    head = (await database.read(cafe.business.id, head_of)).sequence
    for seen in await asyncio.gather(*readers):
        assert seen == list(range(start + 1, head + 1))
    assert head - start >= WRITERS * 12
    figure(f"{head - start} events, none skipped")


@pytest.mark.on("postgres")
async def test_a_number_by_the_database_would_skip(
    settings: Settings, figure: Callable[[str], None]
) -> None:
    """The control of case 2: the same reader loses events where a bigserial numbers them."""
    wires = [await asyncpg.connect(settings.database) for _ in range(WRITERS + 1)]
    await wires[0].execute("CREATE TABLE naive (id bigserial PRIMARY KEY)")
    done = asyncio.Event()

    async def write(wire: Any) -> None:
        for _ in range(12):
            async with wire.transaction():
                await wire.execute("INSERT INTO naive DEFAULT VALUES")
                await asyncio.sleep(random.uniform(0, 0.02))

    async def read() -> set[int]:
        place, seen = 0, set()
        while True:
            is_last = done.is_set()
            rows = await wires[0].fetch("SELECT id FROM naive WHERE id > $1 ORDER BY id", place)
            seen |= {row["id"] for row in rows}
            place = max(seen, default=0)
            if is_last and not rows:
                return seen
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(wire) for wire in wires[1:]))
    done.set()
    skipped = WRITERS * 12 - len(await reader)
    for wire in wires:
        await wire.close()
    figure(f"{skipped} of {WRITERS * 12} would have been skipped for ever")
    assert skipped > 0


WRITER = """
import asyncio, itertools, sys
import factories
from core.settings import Settings
from db import database_of
from factories import a_business, a_card, a_card_template, an_award_goal, stamps

factories._number = itertools.count(1000 * int(sys.argv[2]))

async def main():
    database = database_of(Settings(data_dir=sys.argv[1]))
    await database.open()
    cafe = await a_business(database)
    template = await a_card_template(database, cafe.owner, 50, [an_award_goal(50)])
    card = await a_card(database, cafe.owner, template.id)
    print(cafe.business.id, flush=True)
    while True:
        added = await stamps(database, cafe.owner, card)
        print(added.operation.id, flush=True)

asyncio.run(main())
"""


@pytest.mark.on("sqlite")
async def test_a_killed_writer_leaves_a_log_without_a_hole(
    settings: Settings, figure: Callable[[str], None]
) -> None:
    """Case 20: kill -9 with a write-ahead log, again and again, on the same file."""
    acknowledged: dict[str, set[str]] = {}
    for number in (1, 2):
        writer = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", WRITER, str(settings.data_dir), str(number)),
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert writer.stdout
        business = (await writer.stdout.readline()).decode().strip()
        said = [await writer.stdout.readline() for _ in range(random.randint(10, 60))]
        writer.kill()
        said += (await writer.stdout.read()).splitlines(keepends=True)
        await writer.wait()
        whole = (line.decode().strip() for line in said if line.endswith(b"\n"))
        acknowledged[business] = {line for line in whole if line}

    database = database_of(settings)
    await database.open()
    for id, operations in acknowledged.items():
        head = await database.read(id, head_of)
        rows = await database.read(id, lambda tx: events_after(tx, 0, 1_000))
        assert [row.sequence for row in rows] == list(range(1, head.sequence + 1))
        stored = await database.read(id, _operations)
        assert operations <= stored
    assert await _findings(database) == []
    await database.close()
    figure(f"{len(acknowledged)} kills, {sum(map(len, acknowledged.values()))} checked, none lost")


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_jumps_loses_and_doubles_nothing(
    settings: Settings, clock: ManualClock, hours: int
) -> None:
    """Case 21: order is by sequence, so that what is told does not depend on what time it was."""
    async with serving(settings, clock) as server:
        database = server.app.state.deployment.database
        secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
        cafe = await a_business(database, secrets, clock.now())
        card = await a_card(database, cafe.owner, now=clock.now())
        start = (await database.read(cafe.business.id, head_of)).sequence
        stream = server.app.state.deployment.stream
        seen: list[int] = []
        with stream.follow(cafe.business.id) as follower:
            for jump in (0, hours, -hours, 0):
                clock.advance(timedelta(hours=jump))
                await stamps(database, cafe.owner, card, now=clock.now())
                place = seen[-1] if seen else start
                assert await follower.news(place, 2)
                seen += [row.sequence for row in await _after(database, cafe, place)]
        head = (await database.read(cafe.business.id, head_of)).sequence
        assert seen == list(range(start + 1, head + 1))
        assert await _findings(database) == []


async def test_waiting_does_not_depend_on_the_wall_clock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 21: an hour forward or back on the machine's clock makes nobody wait longer."""
    real = time.time
    cafe = await a_business(database)
    stream = Stream(database, "memory://", poll=0.1)
    await stream.open()
    try:
        for hours in (1, -1):
            monkeypatch.setattr(time, "time", lambda jump=hours: real() + 3_600 * jump)
            head = (await database.read(cafe.business.id, head_of)).sequence
            with stream.follow(cafe.business.id) as follower:
                began = time.monotonic()
                assert not await follower.news(head, 0.2)
                await a_card(database, cafe.owner)
                assert await follower.news(head, 2)
                assert time.monotonic() - began < 2
    finally:
        await stream.close()


async def _cards(database: Database, cafe: Cafe) -> list[Card]:
    template = await a_card_template(database, cafe.owner, 50, [an_award_goal(50)])
    return [await a_card(database, cafe.owner, template.id) for _ in range(WRITERS)]


async def _after(database: Database, cafe: Cafe, place: int) -> list[Any]:
    return [*await database.read(cafe.business.id, lambda tx: events_after(tx, place, 500))]


async def _operations(tx: Transaction) -> set[str]:
    connection: Any = tx._connection  # type: ignore[attr-defined]
    rows = connection.execute("SELECT id FROM operation WHERE business_id = ?", (tx.business,))
    return {row[0] for row in rows}


async def _findings(database: Database) -> list[Finding]:
    from services.audit import audited  # noqa: PLC0415

    found: list[Finding] = []
    for business in await audited(database):
        await audit(database, business, found.append)
    return found
