"""Many workers at once: each due thing happens once, whoever runs, races, or loses a lease."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.errors import VoucherHasExpired
from core.ids import Id
from core.settings import Settings
from db import Database, database_of, query
from factories import (
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_voucher,
    a_voucher_template,
)
from models import Agenda, EventRow, Voucher, VoucherStatus
from patience import PATIENCE, until
from services import agenda
from services.card_templates import BirthdayRuleInput
from services.due import run_due
from services.timekeeper import Timekeeper
from services.vouchers import RedeemVoucherInput, ValidityInput, VoucherRef, redeem_voucher

_AGENDAS = query(select(Agenda))
_EVENTS = query(select(EventRow).order_by(EventRow.sequence))
_VOUCHERS = query(select(Voucher))


@pytest.fixture
async def databases(settings: Settings, database: Database) -> AsyncIterator[list[Database]]:
    """The database three times, as three processes have it."""
    others = [database_of(settings) for _ in range(2)]
    for other in others:
        await other.open()
    yield [database, *others]
    for other in others:
        await other.close()


async def caused(database: Database) -> list[EventRow]:
    found = await database.read(None, lambda tx: tx.many(_EVENTS))
    return [row for row in found if row.actor_id is None]


async def a_full_house(
    database: Database, zone: str, born: datetime, birthdays: list[str], **values: Any
) -> Cafe:
    """Customers with these birthdays, each with a silent card and a voucher of one day."""
    cafe = await a_business(database, now=born, timezone=zone, **values)
    gift = await a_voucher_template(database, cafe.owner, born)
    rule = BirthdayRuleInput(days_before=0, voucher_template_id=Id(gift.id))
    template = await a_card_template(database, cafe.owner, now=born, birthday=rule)
    short = await a_voucher_template(database, cafe.owner, born, validity=ValidityInput(days=1))
    for place, birthday in enumerate(birthdays):
        customer = {"email": f"{place}@b.example", "birthday": birthday}
        card = await a_card(database, cafe.owner, template.id, born, **customer)
        await a_voucher(database, cafe.owner, short.id, card, born)
    return cafe


@pytest.mark.parametrize(
    ("zone", "midnight", "birthdays", "kept"),
    [
        ("Asia/Jakarta", "2026-02-28", ["2000-02-29", "2000-02-28", "2000-03-01"], 2),
        ("Asia/Jakarta", "2028-02-28", ["2000-02-29", "2000-02-28", "2000-03-01"], 1),
        ("Asia/Jakarta", "2028-02-29", ["2000-02-29", "2000-02-28", "2000-03-01"], 1),
        ("Europe/Berlin", "2026-03-29", ["--03-28", "--03-29", "--03-29"], 2),
        ("Europe/Berlin", "2026-10-25", ["--10-25", "--10-25", "--10-26"], 2),
    ],
)
async def test_three_workers_in_a_night_of_trouble_do_each_due_thing_once(
    databases: list[Database],
    clock: ManualClock,
    zone: str,
    midnight: str,
    birthdays: list[str],
    kept: int,
) -> None:
    day = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    born = day - timedelta(days=1, hours=-12)  # noon of the day before
    houses = [await a_full_house(databases[0], zone, born, birthdays) for _ in range(2)]
    workers = [Timekeeper(each, clock) for each in databases]

    for hour in range(-13, 37):  # until noon of the day after
        clock.moment = day + timedelta(hours=hour)
        await asyncio.gather(*(worker.sweep() for worker in workers))
        # And without any lease, as if every one of them had lost it:
        house = houses[hour % 2].business.id
        await asyncio.gather(*(run_due(each, house, clock) for each in databases))
    for house in houses:
        await run_due(databases[0], house.business.id, clock)

    for house in houses:
        rows = [row for row in await caused(databases[0]) if row.business_id == house.business.id]
        zone_info = house.business.zone
        times = Counter(
            (row.type, row.occurred_at.astimezone(zone_info).strftime("%m-%d %H:%M"))
            for row in rows
        )
        nine = day.strftime("%m-%d 09:00")
        assert times.pop(("birthday_reached", nine)) == kept
        assert times.pop(("reward_issued", nine)) == kept
        assert times.pop(("voucher_issued", nine)) == kept
        expired = (day + timedelta(days=1)).strftime("%m-%d 00:00")
        assert times.pop(("voucher_expired", expired)) == 3
        late = {when for (kind, when) in times if kind == "birthday_reached"}
        assert late <= {(day + timedelta(days=1)).strftime("%m-%d 09:00")}
        moments = [row.occurred_at for row in rows]
        assert moments == sorted(moments)
        sequences = [row.sequence for row in rows]
        assert sequences == list(range(sequences[0], sequences[0] + len(rows)))


async def test_three_workers_share_a_heap_of_due_things(
    databases: list[Database], clock: ManualClock
) -> None:
    now = clock.now()
    cafe = await a_full_house(databases[0], "Asia/Jakarta", now, ["--04-01"] * 12)
    clock.advance(timedelta(days=32))

    await asyncio.gather(*(run_due(each, cafe.business.id, clock) for each in databases))

    kinds = Counter(row.type for row in await caused(databases[0]))
    assert kinds == {
        "voucher_expired": 12,
        "inactivity_trigger": 12,
        "birthday_reached": 12,
        "reward_issued": 12,
        "voucher_issued": 12,
    }
    moments = [row.occurred_at for row in await caused(databases[0])]
    assert moments == sorted(moments)


async def test_expiry_and_redemption_at_the_same_instant(
    databases: list[Database], clock: ManualClock
) -> None:
    cafe = await a_business(databases[0])
    actor = cafe.owner
    template = await a_voucher_template(
        databases[0], actor, clock.now(), validity=ValidityInput(days=1)
    )
    vouchers = [await a_voucher(databases[0], actor, template.id) for _ in range(200)]
    ends = vouchers[0].expires_at
    assert ends is not None
    clock.moment = ends
    last_instant = ends - timedelta(microseconds=1)

    async def redeem(voucher: Voucher) -> bool:
        told = RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher.id)))
        try:
            await databases[1].write(
                actor.business_id, lambda tx: redeem_voucher(tx, actor, told, last_instant)
            )
        except VoucherHasExpired:
            return False
        return True

    async def redeem_all() -> list[bool]:
        backwards = [await redeem(voucher) for voucher in reversed(vouchers[100:])]
        return backwards + [await redeem(voucher) for voucher in vouchers[:100]]

    redeemed, *_ = await asyncio.gather(
        redeem_all(),
        run_due(databases[0], actor.business_id, clock),
        run_due(databases[2], actor.business_id, clock),
    )

    statuses = Counter(
        row.status for row in await databases[0].read(None, lambda tx: tx.many(_VOUCHERS))
    )
    events = await databases[0].read(None, lambda tx: tx.many(_EVENTS))
    told = Counter(row.type for row in events if row.type != "voucher_issued")
    assert statuses[VoucherStatus.REDEEMED] + statuses[VoucherStatus.EXPIRED] == 200
    assert statuses[VoucherStatus.REDEEMED] == sum(redeemed) == told["voucher_redeemed"]
    assert statuses[VoucherStatus.EXPIRED] == told["voucher_expired"]
    assert 0 < statuses[VoucherStatus.EXPIRED] < 200  # it was a race


# -- Leases ---------------------------------------------------------------------------------------


async def the_agenda(database: Database) -> Agenda:
    [found] = await database.read(None, lambda tx: tx.many(_AGENDAS))
    return found


async def test_a_business_is_looked_at_at_once_and_then_within_a_quarter_of_an_hour(
    database: Database, clock: ManualClock
) -> None:
    await a_business(database)
    worker = Timekeeper(database, clock)

    first, second = await worker.sweep(), await worker.sweep()
    looked_at = await the_agenda(database)
    clock.advance(timedelta(minutes=15))

    assert (first, second) == (1, 0)
    assert looked_at.next_at == clock.now()
    assert looked_at.lease_owner is None
    assert await worker.sweep() == 1


async def test_the_next_look_is_when_something_is_due(
    database: Database, clock: ManualClock
) -> None:
    clock.moment = datetime(2026, 3, 2, 16, 50, tzinfo=UTC)  # ten minutes to midnight there
    cafe = await a_business(database, now=clock.now())
    worker = Timekeeper(database, clock)
    await worker.sweep()
    today = clock.now().astimezone(cafe.business.zone).date()
    template = await a_voucher_template(
        database, cafe.owner, clock.now(), validity=ValidityInput(date=today)
    )

    voucher = await a_voucher(database, cafe.owner, template.id, now=clock.now())

    assert (await the_agenda(database)).next_at == voucher.expires_at
    clock.advance(timedelta(minutes=10))
    assert await worker.sweep() == 1
    assert [row.type for row in await caused(database)] == ["voucher_expired"]


async def test_a_lease_that_was_lost_runs_out(database: Database, clock: ManualClock) -> None:
    await a_business(database)
    now = clock.now()
    [dead] = await database.write(None, lambda tx: agenda.claim(tx, "dead", now, 8))
    worker = Timekeeper(database, clock)

    while_leased = await worker.sweep()
    clock.advance(agenda.LEASE)
    afterwards = await worker.sweep()
    held = await the_agenda(database)
    await database.write(
        dead.business_id, lambda tx: agenda.let_go(tx, dead, clock.now(), clock.now())
    )

    assert (while_leased, afterwards) == (0, 1)
    assert await the_agenda(database) == held  # the dead one lets nothing go


async def test_what_is_pulled_while_a_lease_is_held_is_not_forgotten(
    database: Database, clock: ManualClock
) -> None:
    cafe = await a_business(database)
    now = clock.now()
    [held] = await database.write(None, lambda tx: agenda.claim(tx, "me", now, 8))
    soon = now + timedelta(seconds=5)

    await database.write(
        held.business_id, lambda tx: agenda.pull_agenda(tx, cafe.business, soon, now)
    )
    await database.write(
        held.business_id, lambda tx: agenda.let_go(tx, held, now, now + agenda.HORIZON)
    )

    assert (await the_agenda(database)).next_at == soon


async def test_whoever_starts_alone_takes_over_the_leases_of_the_dead(
    database: Database, clock: ManualClock
) -> None:
    await a_business(database)
    now = clock.now()
    await database.write(None, lambda tx: agenda.claim(tx, "dead", now, 8))
    worker = Timekeeper(database, clock)

    await worker.take_over()

    assert await worker.sweep() == 1


async def test_a_worker_stops_when_told(database: Database, clock: ManualClock) -> None:
    await a_business(database)
    worker = Timekeeper(database, clock)
    task = asyncio.create_task(worker.run())
    await until(lambda: bool(worker._stop._waiters))  # type: ignore[attr-defined]

    worker.stop()

    async with asyncio.timeout(PATIENCE):
        await task
