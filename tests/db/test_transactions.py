"""The one door to the database keeps its word, on both databases."""

import asyncio
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Invalid
from core.settings import Settings
from db import BUSINESS, Database, Taken, Transaction, database_of, query
from events import record
from events.catalogue import CardIssued
from events.log import events_after
from factories import NOW, Cafe, a_business, a_location
from models import Actor, Location, LogHead
from services.locations import new_location

_NAMES = query(
    select(Location.name)
    .where(col(Location.business_id) == BUSINESS, col(Location.name) != "Kopi Kenangan")
    .order_by(col(Location.name))
)
_HEAD = query(select(LogHead).where(col(LogHead.business_id) == BUSINESS))


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    return await a_business(database)


async def names(database: Database, business: str) -> list[str]:
    """The names of the locations that were opened in tests."""
    return await database.read(business, lambda tx: tx.many(_NAMES))


def opening(actor: Actor, *names: str, fails: bool = False) -> Any:
    """Work that opens locations, one by one, and may be refused at the end."""

    async def work(tx: Transaction) -> str:
        for name in names:
            await tx.add(new_location(actor.business_id, NOW, name=name))
        if fails:
            raise Invalid("No.")
        return names[-1]

    return work


async def test_a_unit_of_work_is_stored_whole(database: Database, cafe: Cafe) -> None:
    result = await database.write(cafe.business.id, opening(cafe.owner, "A", "B"))

    assert result == "B"
    assert await names(database, cafe.business.id) == ["A", "B"]


async def test_refused_work_leaves_nothing(database: Database, cafe: Cafe) -> None:
    with pytest.raises(Invalid, match=r"No\."):
        await database.write(cafe.business.id, opening(cafe.owner, "A", "B", fails=True))

    assert await names(database, cafe.business.id) == []


async def test_refused_work_records_no_event(database: Database, cafe: Cafe) -> None:
    async def work(tx: Transaction) -> None:
        record(tx, cafe.owner, CardIssued.sample(), NOW)
        raise Invalid("No.")

    with pytest.raises(Invalid):
        await database.write(cafe.business.id, work)

    assert (await database.read(cafe.business.id, lambda tx: tx.one(_HEAD))).sequence == 0


async def test_a_rehearsal_gives_its_result_and_stores_nothing(
    database: Database, cafe: Cafe
) -> None:
    async def work(tx: Transaction) -> list[str]:
        await opening(cafe.owner, "A")(tx)
        return await tx.many(_NAMES)

    assert await database.rehearse(cafe.business.id, work) == ["A"]
    assert await names(database, cafe.business.id) == []


async def test_a_value_that_is_taken_is_told(database: Database, cafe: Cafe) -> None:
    location = await a_location(database, cafe.owner)

    with pytest.raises(Taken):
        await database.write(cafe.business.id, lambda tx: tx.add(location))


async def test_a_changed_row_is_handed_back_and_stored(database: Database, cafe: Cafe) -> None:
    location = await a_location(database, cafe.owner, name="Before")

    changed = await database.write(
        cafe.business.id, lambda tx: tx.change(location, name="After", archived_at=NOW)
    )

    assert (changed.name, changed.archived_at, location.name) == ("After", NOW, "Before")
    assert await database.read(cafe.business.id, lambda tx: tx.get(Location, location.id)) == (
        changed
    )


async def test_changing_a_row_that_is_gone_is_an_error(database: Database, cafe: Cafe) -> None:
    absent = new_location(cafe.business.id, NOW, name="Nowhere")

    with pytest.raises(LookupError):
        await database.write(cafe.business.id, lambda tx: tx.change(absent, name="X"))


async def test_units_that_commit_together_each_get_their_own_result(
    database: Database, cafe: Cafe
) -> None:
    works = [opening(cafe.owner, f"{n:02}", fails=n % 5 == 0) for n in range(40)]

    results = await asyncio.gather(
        *(database.write(cafe.business.id, work) for work in works), return_exceptions=True
    )

    kept = [f"{n:02}" for n in range(40) if n % 5]
    assert [result for result in results if not isinstance(result, Invalid)] == kept
    assert await names(database, cafe.business.id) == kept


async def test_rehearsals_among_writes_store_nothing(database: Database, cafe: Cafe) -> None:
    does = [database.rehearse if n % 2 else database.write for n in range(20)]

    await asyncio.gather(
        *(do(cafe.business.id, opening(cafe.owner, f"{n:02}")) for n, do in enumerate(does))
    )

    assert await names(database, cafe.business.id) == [f"{n:02}" for n in range(0, 20, 2)]


async def test_the_sequence_has_no_gap_under_concurrent_writers(
    database: Database, cafe: Cafe
) -> None:
    other = await a_business(database)

    async def write(number: int) -> list[int]:
        actor = other.owner if number % 4 == 0 else cafe.owner

        async def work(tx: Transaction) -> None:
            for _ in range(1 + number % 3):
                record(tx, actor, CardIssued.sample(), NOW)
            rows.extend(tx.recorded)
            if number % 7 == 6:
                raise Invalid("No.")

        rows: list[Any] = []
        try:
            await database.write(actor.business_id, work)
        except Invalid:
            return []
        return [row.sequence for row in rows]

    told = await asyncio.gather(*(write(number) for number in range(16 * 6)))

    for actor, mine in ((cafe.owner, lambda n: n % 4), (other.owner, lambda n: n % 4 == 0)):
        events = await database.read(actor.business_id, lambda tx: events_after(tx, 0, 1000))
        sequences = [event.sequence for event in events]
        assert sequences == list(range(1, len(sequences) + 1))
        assert sorted(s for n, told_ in enumerate(told) if mine(n) for s in told_) == sequences
        head = await database.read(actor.business_id, lambda tx: tx.one(_HEAD))
        assert head.sequence == len(sequences)


async def test_each_commit_tells_how_far_the_log_reaches(database: Database, cafe: Cafe) -> None:
    heard: list[dict[str, tuple[int, int]]] = []
    told = asyncio.Event()

    def hear(heads: dict[str, tuple[int, int]]) -> None:
        heard.append(heads)
        told.set()

    database.on_commit = hear

    async def work(tx: Transaction) -> None:
        record(tx, cafe.owner, CardIssued.sample(), NOW)
        record(tx, cafe.owner, CardIssued.sample(), NOW)

    await database.rehearse(cafe.business.id, work)
    await database.write(cafe.business.id, opening(cafe.owner, "A"))
    await database.write(cafe.business.id, work)
    async with asyncio.timeout(5):
        await told.wait()

    assert heard == [{cafe.business.id: (2, 0)}]


async def test_another_business_is_not_found(database: Database, cafe: Cafe) -> None:
    location = await a_location(database, cafe.owner)
    other = await a_business(database)

    found = await database.read(other.business.id, lambda tx: tx.get(Location, location.id))
    with pytest.raises(LookupError):
        await database.write(other.business.id, lambda tx: tx.change(location, name="Mine"))

    assert found is None
    assert await names(database, cafe.business.id) == ["Menteng"]


async def test_refused_work_leaves_every_later_unit_in_its_own_name(settings: Settings) -> None:
    """On PostgreSQL a rollback also undoes what it was told of role and business."""
    database = database_of(settings)
    await database.open()
    a, b = await a_business(database), await a_business(database)

    await database.write(a.business.id, opening(a.owner, "A"))
    with pytest.raises(Invalid):
        await database.write(b.business.id, opening(b.owner, "B", fails=True))
    await database.write(b.business.id, opening(b.owner, "B"))
    await database.rehearse(a.business.id, opening(a.owner, "C"))

    assert await names(database, a.business.id) == ["A"]
    assert await names(database, b.business.id) == ["B"]
    await database.close()


async def test_cancelled_calls_leave_the_database_usable(database: Database, cafe: Cafe) -> None:
    calls = [
        asyncio.create_task(database.write(cafe.business.id, opening(cafe.owner, f"{n:02}")))
        for n in range(30)
    ]
    await asyncio.sleep(0.002)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)

    told = [result for result in results if isinstance(result, str)]
    await database.write(cafe.business.id, opening(cafe.owner, "last"))
    stored = await names(database, cafe.business.id)
    assert {*told, "last"} <= set(stored)
    assert {f"{n:02}" for n in range(1, 30, 2)} <= set(told)
