"""The test clock: how far it moves, what happens on the way, and what a cut-off call leaves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.errors import Forbidden, Invalid
from core.ids import Id
from db import Database, query
from factories import (
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_staff,
    a_voucher,
    a_voucher_template,
)
from models import Actor, Business, EventRow, Mode, Role
from services import clock as test_clock
from services.card_templates import BirthdayRuleInput
from services.clock import AdvanceTestClockInput, ClockAdvanced, advance_test_clock, move_clock
from services.due import run_due
from services.vouchers import ValidityInput

_EVENTS = query(select(EventRow).order_by(EventRow.sequence))


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    """A TEST business."""
    return await a_business(database, now=clock.now(), mode=Mode.TEST)


async def a_lively_year(database: Database, actor: Actor, now: datetime, guests: int) -> None:
    """Birthdays on the first of each month, silent cards, and vouchers of every length."""
    gift = await a_voucher_template(database, actor, now, validity=ValidityInput(months=1))
    rule = BirthdayRuleInput(days_before=3, voucher_template_id=Id(gift.id))
    template = await a_card_template(database, actor, now=now, birthday=rule)
    for guest in range(guests):
        customer = {"email": f"{guest}@b.example", "birthday": f"--{guest % 12 + 1:02}-01"}
        card = await a_card(database, actor, template.id, now, **customer)
        short = await a_voucher_template(
            database, actor, now, validity=ValidityInput(days=20 * guest + 1)
        )
        await a_voucher(database, actor, short.id, card, now)


async def fresh(database: Database, actor: Actor) -> Actor:
    """The actor as the next call sees it."""
    found = await database.read(actor.business_id, lambda tx: tx.get(Business, actor.business_id))
    assert found
    return Actor(found, actor.staff)


async def decide(database: Database, clock: ManualClock, actor: Actor, **far: Any) -> ClockAdvanced:
    actor = await fresh(database, actor)
    now = actor.business.time(clock.now())
    told = AdvanceTestClockInput(**far)
    return await database.write(
        actor.business_id, lambda tx: advance_test_clock(tx, actor, told, now)
    )


async def advance(
    database: Database, clock: ManualClock, actor: Actor, **far: Any
) -> ClockAdvanced:
    decided = await decide(database, clock, actor, **far)
    return await move_clock(database, clock, actor.business_id, decided)


async def test_a_year_passes_in_one_call_and_everything_happens_in_the_order_of_time(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    now = clock.now()
    await a_lively_year(database, cafe.owner, now, guests=24)

    moved = await advance(database, clock, cafe.owner, days=366)

    rows = await database.read(None, lambda tx: tx.many(_EVENTS))
    caused = [row for row in rows if row.actor_id is None]
    moments = [row.occurred_at for row in caused]
    kinds = [row.type for row in caused]
    assert moments == sorted(moments)
    assert now < moments[0]
    assert moments[-1] <= now + timedelta(days=366)
    assert kinds.count("birthday_reached") == 24
    assert kinds.count("inactivity_trigger") == 24
    own = sum(20 * guest + 2 <= 366 for guest in range(24))
    assert kinds.count("voucher_expired") >= own + 20
    assert moved.event_count == len(caused)
    assert moved.events == caused[:100]
    assert moved.business
    assert moved.business.time(clock.now()) == now + timedelta(days=366)
    assert (moved.moved_from, moved.moved_to) == (now, now + timedelta(days=366))


async def test_nothing_happens_before_its_time_and_the_worker_finds_nothing_left(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    await a_lively_year(database, cafe.owner, clock.now(), guests=3)

    first = await advance(database, clock, cafe.owner, hours=12)
    second = await advance(database, clock, cafe.owner, days=30, hours=1, minutes=30)
    rows = await database.read(None, lambda tx: tx.many(_EVENTS))
    await run_due(database, cafe.business.id, clock)

    assert first.event_count == 0
    assert second.event_count
    assert second.moved_from == clock.now() + timedelta(hours=12)
    assert await database.read(None, lambda tx: tx.many(_EVENTS)) == rows


class CutOff(Exception):
    """The call ends here."""


async def test_a_call_that_was_cut_off_goes_on_where_it_had_come(
    database: Database, cafe: Cafe, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    await a_lively_year(database, cafe.owner, now, guests=6)
    decided = await decide(database, clock, cafe.owner, days=200)
    find, left = test_clock.first_due, 5

    async def cut_off(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise CutOff
        return await find(*args)

    monkeypatch.setattr(test_clock, "first_due", cut_off)
    with pytest.raises(CutOff):
        await move_clock(database, clock, cafe.business.id, decided)
    monkeypatch.setattr(test_clock, "first_due", find)

    halfway = (await fresh(database, cafe.owner)).business.time(clock.now())
    rows = await database.read(None, lambda tx: tx.many(_EVENTS))
    moved = await move_clock(database, clock, cafe.business.id, decided)
    again = await move_clock(database, clock, cafe.business.id, decided)

    assert halfway == max(row.occurred_at for row in rows if row.actor_id is None)
    assert moved.business
    assert moved.business.time(clock.now()) == now + timedelta(days=200)
    assert again == moved
    moments = [row.occurred_at for row in moved.events]
    assert moments == sorted(moments)
    assert moved.event_count == len(moved.events)


async def test_two_calls_and_a_worker_at_once_do_each_thing_once(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    await a_lively_year(database, cafe.owner, clock.now(), guests=6)
    decided = [await decide(database, clock, cafe.owner, days=366) for _ in range(2)]

    moved, other, _ = await asyncio.gather(
        *(move_clock(database, clock, cafe.business.id, each) for each in decided),
        run_due(database, cafe.business.id, clock),
    )

    assert moved.events == other.events
    kinds = [row.type for row in moved.events]
    assert kinds.count("birthday_reached") == 6
    assert kinds.count("inactivity_trigger") == 6


@pytest.mark.parametrize(
    ("far", "field"),
    [
        ({}, ["input"]),
        ({"days": 1, "to": datetime(2026, 4, 1, tzinfo=UTC)}, ["input"]),
        ({"days": 0}, ["input"]),
        ({"days": -1, "hours": 48}, ["input"]),
        ({"days": 367}, ["input"]),
        ({"days": 366, "minutes": 1}, ["input"]),
        ({"days": 2**31 - 1}, ["input"]),
        ({"to": datetime(2026, 3, 2, 12, 0, tzinfo=UTC)}, ["input", "to"]),
        ({"to": datetime(2026, 3, 1, tzinfo=UTC)}, ["input", "to"]),
        ({"to": datetime(2027, 3, 4, tzinfo=UTC)}, ["input", "to"]),
        ({"to": datetime(9999, 12, 31, tzinfo=UTC)}, ["input", "to"]),
    ],
)
async def test_the_clock_moves_forward_and_at_most_366_days_at_once(
    database: Database, cafe: Cafe, clock: ManualClock, far: dict[str, Any], field: list[str]
) -> None:
    with pytest.raises(Invalid) as refusal:
        await advance(database, clock, cafe.owner, **far)

    assert refusal.value.field == field
    assert (await fresh(database, cafe.owner)).business == cafe.business


async def test_the_clock_of_a_live_business_stands_firm(
    database: Database, clock: ManualClock
) -> None:
    cafe = await a_business(database)

    with pytest.raises(Invalid):
        await advance(database, clock, cafe.owner, days=1)

    assert (await fresh(database, cafe.owner)).business == cafe.business


async def test_a_test_clock_is_at_most_fifty_years_ahead(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    for _ in range(50):
        await advance(database, clock, cafe.owner, days=366)

    with pytest.raises(Invalid):
        await advance(database, clock, cafe.owner, minutes=1)


@pytest.mark.parametrize("role", [Role.MANAGER, Role.SCANNER])
async def test_managers_move_the_clock_and_scanners_do_not(
    database: Database, cafe: Cafe, clock: ManualClock, role: Role
) -> None:
    actor = await a_staff(database, cafe.owner, role)

    if role is Role.SCANNER:
        with pytest.raises(Forbidden):
            await advance(database, clock, actor, days=1)
    else:
        moved = await advance(database, clock, actor, days=1)
        assert moved.event_count == 0
