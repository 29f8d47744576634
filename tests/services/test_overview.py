"""The overview: known figures of a known week, by local days, filters and roles; few statements."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col

from core.clock import ManualClock
from core.errors import BadUserInput
from core.ids import Id
from db import BUSINESS, Database, Transaction, command
from factories import (
    a_business,
    a_card,
    a_card_template,
    a_location,
    a_staff,
    a_voucher,
    an_award_goal,
    stamps,
)
from models import Actor, Card, Operation, Role, Voucher
from services.cards import DeleteCardInput, delete_card
from services.due import run_due
from services.overview import Asked, Overview, Period, overview, pulse
from services.staff import DisableStaffInput, disable_staff
from services.undo import (
    ReverseRedemptionInput,
    VoidOperationInput,
    reverse_redemption,
    void_operation,
)
from services.vouchers import RedeemVoucherInput, VoucherRef, redeem_voucher

MONDAY = date(2026, 3, 2)
"""The Monday of the week that is scripted; a local day in Jakarta begins at 17:00 UTC."""


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour, minutes=minute)


NOW = at(6, 3)


async def look(database: Database, actor: Actor, now: datetime = NOW, **asked: Any) -> Overview:
    return await database.read(
        actor.business_id, lambda tx: overview(tx, actor, Asked(**asked), now)
    )


async def do(database: Database, actor: Actor, service: Any, input: Any, now: datetime) -> Any:
    return await database.write(actor.business_id, lambda tx: service(tx, actor, input, now))


async def redeem(database: Database, actor: Actor, voucher: Voucher, now: datetime) -> None:
    told = RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher.id)))
    await do(database, actor, redeem_voucher, told, now)


class Week:
    """A week of a café in Jakarta with two locations and two templates."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def live(self) -> "Week":
        database = self.database
        self.owner = (await a_business(database, now=at(-20, 0))).owner
        self.menteng = await a_location(database, self.owner)
        self.bar = await a_staff(database, self.owner, name="Bar", location_id=Id(self.menteng.id))
        self.coffee = await a_card_template(database, self.owner, 3)
        self.tea = await a_card_template(database, self.owner, 4, [an_award_goal(4)])
        self.first = await a_card(database, self.owner, self.coffee.id, at(-5, 5))
        await stamps(database, self.owner, self.first, 1, at(-5, 5))
        # One minute before midnight, and at midnight.
        await stamps(database, self.owner, self.first, 1, at(2, 16, 59))
        self.second = await a_card(database, self.bar, self.coffee.id, at(2, 17))
        full = await stamps(database, self.bar, self.second, 3, at(2, 17))
        [reward] = full.rewards
        self.voucher = await database.read(
            self.owner.business_id, lambda tx: tx.get(Voucher, reward.voucher_id)
        )
        await a_voucher(database, self.owner, card=self.first, now=at(3, 4))
        await redeem(database, self.bar, self.voucher, at(4, 4))
        self.third = await a_card(database, self.owner, self.tea.id, at(5, 2))
        given = await stamps(database, self.owner, self.third, 4, at(5, 2))
        assert given.operation
        self.tea_stamps = given.operation
        return self


@pytest.fixture
async def week(database: Database) -> Week:
    return await Week(database).live()


async def test_the_week_comes_to_what_was_done_in_it(week: Week) -> None:
    told = await look(week.database, week.owner, period=Period.WEEK)

    assert (told.first_day, told.last_day) == (MONDAY, date(2026, 3, 8))
    assert (told.total_cards.value, told.total_cards.previous) == (3, 1)
    assert (told.new_cards.value, told.new_cards.previous) == (2, 1)
    assert (told.stamp_operations.value, told.stamp_operations.previous) == (3, 1)
    assert (told.birthday_gifts.value, told.birthday_gifts.previous) == (0, 0)
    rewards = told.rewards
    assert (rewards.awards_issued, rewards.vouchers_issued, rewards.vouchers_redeemed) == (1, 2, 1)
    assert (rewards.redemption_rate, rewards.cohort_rate) == (0.5, 0.5)
    assert (told.customers.active, told.customers.inactive) == (3, 0)


async def test_days_begin_at_local_midnight(week: Week) -> None:
    told = await look(week.database, week.owner, period=Period.WEEK)

    assert [
        (day.date.day, day.new_cards, day.stamp_operations, day.vouchers_redeemed)
        for day in told.series
    ] == [(2, 0, 1, 0), (3, 1, 1, 0), (4, 0, 0, 1), (5, 1, 1, 0), (6, 0, 0, 0)] + [
        (day, 0, 0, 0) for day in (7, 8)
    ]
    monday = await look(week.database, week.owner, period=Period.DAY, date=MONDAY)
    assert (monday.stamp_operations.value, monday.stamp_operations.previous) == (1, 0)
    assert monday.total_cards.value == 1
    # At 16:59 UTC it is still Thursday in Jakarta, a minute later it is Friday.
    thursday = await look(week.database, week.owner, at(5, 16, 59), period=Period.DAY)
    friday = await look(week.database, week.owner, at(5, 17), period=Period.DAY)
    assert (thursday.first_day.day, thursday.new_cards.value) == (5, 1)
    assert (friday.first_day.day, friday.new_cards.value) == (6, 0)


async def test_the_staff_table_tells_who_did_what(week: Week) -> None:
    told = await look(week.database, week.owner, period=Period.WEEK)

    owner, bar = told.staff
    assert owner.staff.id == week.owner.staff_id
    assert (owner.new_cards, owner.stamp_operations, owner.stamps) == (1, 2, 5)
    assert (owner.vouchers_issued, owner.vouchers_redeemed) == (1, 0)
    assert owner.last_activity_at == at(5, 2)
    assert bar.staff.id == week.bar.staff_id
    assert (bar.new_cards, bar.stamp_operations, bar.stamps) == (1, 1, 3)
    assert (bar.vouchers_issued, bar.vouchers_redeemed) == (1, 1)
    assert bar.last_activity_at == at(4, 4)


async def test_staff_who_are_gone_stay_in_the_table_of_what_they_did(week: Week) -> None:
    told = DisableStaffInput(id=Id(week.bar.staff_id or ""))
    await do(week.database, week.owner, disable_staff, told, NOW)

    then = await look(week.database, week.owner, period=Period.WEEK)
    now = await look(week.database, week.owner, period=Period.DAY)

    assert [line.staff.name for line in then.staff] == ["Ayu", "Bar"]
    assert [line.staff.name for line in now.staff] == ["Ayu"]
    assert (then.usage.staff_seats, now.usage.staff_seats) == (1, 1)


async def test_the_histogram_has_a_bar_for_each_number_of_stamps(week: Week) -> None:
    told = await look(week.database, week.owner)

    coffee, tea = told.stamp_histogram
    assert coffee.template.id == week.coffee.id
    assert [(bar.stamps, bar.customers) for bar in coffee.buckets] == [
        (0, 0), (1, 0), (2, 1), (3, 1),
    ]  # fmt: skip
    assert [bar.customers for bar in tea.buckets] == [0, 0, 0, 0, 1]


async def test_usage_is_that_of_the_calendar_month(week: Week) -> None:
    march = await look(week.database, week.owner, period=Period.DAY)
    february = await look(week.database, week.owner, date=date(2026, 2, 28), period=Period.WEEK)

    # Three times stamps, two vouchers issued, one redeemed.
    assert (march.usage.card_operations, march.usage.staff_seats) == (6, 2)
    assert february.usage.card_operations == 1
    assert march.usage.notifications == 0


async def test_a_location_has_its_own_figures(week: Week) -> None:
    told = await look(week.database, week.owner, period=Period.WEEK, location_id=week.menteng.id)

    assert (told.total_cards.value, told.new_cards.value, told.stamp_operations.value) == (1, 1, 1)
    assert told.new_cards.previous is None
    assert [line.staff.name for line in told.staff] == ["Bar"]
    assert [bar.customers for bar in told.stamp_histogram[0].buckets] == [0, 0, 0, 1]
    assert (told.rewards.vouchers_issued, told.rewards.cohort_rate) == (1, 1.0)
    assert (told.customers.active, told.customers.inactive) == (1, 0)
    assert (told.usage.card_operations, told.usage.staff_seats) == (3, 1)


async def test_a_template_has_its_own_figures(week: Week) -> None:
    told = await look(week.database, week.owner, period=Period.WEEK, template_id=week.tea.id)

    assert (told.total_cards.value, told.new_cards.value, told.stamp_operations.value) == (1, 1, 1)
    assert [bar.template.id for bar in told.stamp_histogram] == [week.tea.id]
    assert (told.rewards.awards_issued, told.rewards.vouchers_issued) == (1, 0)
    assert (told.rewards.redemption_rate, told.rewards.cohort_rate) == (None, None)
    assert (told.customers.active, told.customers.inactive) == (1, 0)


async def test_a_scanner_sees_its_own_location_whatever_it_asks(week: Week) -> None:
    own = await look(week.database, week.bar, period=Period.WEEK)
    asked = await look(
        week.database, week.bar, period=Period.WEEK, location_id=week.owner.location_id
    )

    assert own == asked
    assert own == await look(
        week.database, week.owner, period=Period.WEEK, location_id=week.menteng.id
    )
    homeless = Actor(week.owner.business, week.bar.staff.with_values(location_id=None))
    assert (await look(week.database, homeless)).total_cards.value == 0


async def test_what_is_not_there_has_no_figures(week: Week) -> None:
    for asked in ({"location_id": "loc_x"}, {"template_id": "tpl_x"}, {"date": date(1, 1, 1)}):
        with pytest.raises(BadUserInput):
            await look(week.database, week.owner, **asked)


async def test_before_the_first_day_there_is_nothing_to_compare_with(week: Week) -> None:
    first = await look(week.database, week.owner, date=date(2026, 2, 24), period=Period.WEEK)
    before = await look(week.database, week.owner, date=date(2026, 2, 17), period=Period.WEEK)
    after = await look(week.database, week.owner, date=date(2026, 3, 18), period=Period.WEEK)

    assert (first.new_cards.value, first.new_cards.previous) == (1, None)
    assert (first.total_cards.value, first.total_cards.previous) == (1, None)
    assert (before.total_cards.value, before.stamp_operations.previous) == (0, None)
    # A week without a guest is a zero, not a blank.
    assert (after.new_cards.value, after.new_cards.previous) == (0, 0)
    assert (after.total_cards.value, after.total_cards.previous) == (3, 3)


async def test_a_month_is_set_beside_the_month_before(week: Week) -> None:
    told = await look(week.database, week.owner)

    assert (told.first_day, told.last_day) == (date(2026, 3, 1), date(2026, 3, 31))
    assert (told.new_cards.value, told.new_cards.previous) == (2, 1)
    assert len(told.series) == 31


async def test_what_is_undone_is_taken_back_from_the_day_it_was_done(week: Week) -> None:
    database, owner = week.database, week.owner
    undo = VoidOperationInput(id=Id(week.tea_stamps.id))
    await do(database, owner, void_operation, undo, NOW)
    back = ReverseRedemptionInput(voucher=VoucherRef(id=Id(week.voucher.id)))
    await do(database, owner, reverse_redemption, back, NOW)

    told = await look(database, owner, period=Period.WEEK)

    assert told.stamp_operations.value == 2
    assert [day.stamp_operations for day in told.series] == [1, 1, 0, 0, 0, 0, 0]
    assert (told.rewards.awards_issued, told.rewards.vouchers_redeemed) == (0, 0)
    assert (told.rewards.redemption_rate, told.rewards.cohort_rate) == (0.0, 0.0)
    # The bar redeemed it, and it is taken back from the bar.
    assert [line.vouchers_redeemed for line in told.staff] == [0, 0]
    assert told.usage.card_operations == 4
    assert [bar.customers for bar in told.stamp_histogram[1].buckets] == [1, 0, 0, 0, 0]


async def test_a_deleted_card_is_gone_from_the_day_it_was_deleted(week: Week) -> None:
    gone = DeleteCardInput(id=Id(week.second.id))
    await do(week.database, week.owner, delete_card, gone, at(6, 2))

    friday = await look(week.database, week.owner, period=Period.DAY)
    there = await look(week.database, week.owner, period=Period.DAY, location_id=week.menteng.id)

    assert (friday.total_cards.value, friday.total_cards.previous) == (2, 3)
    assert (there.total_cards.value, there.total_cards.previous) == (0, 1)
    assert (friday.customers.active, friday.customers.inactive) == (2, 0)


async def test_the_cohort_rate_follows_the_day_of_issue(database: Database) -> None:
    owner = (await a_business(database)).owner
    old = [await a_voucher(database, owner, now=at(-5, 3)) for _ in range(4)]
    await a_voucher(database, owner, now=at(3, 3))
    await redeem(database, owner, old[0], at(-4, 3))
    await redeem(database, owner, old[1], at(3, 4))
    await redeem(database, owner, old[2], at(3, 5))

    now = await look(database, owner, period=Period.WEEK)
    then = await look(database, owner, period=Period.WEEK, date=date(2026, 2, 24))

    # More came back this week than were issued in it, yet none of its own.
    assert (now.rewards.redemption_rate, now.rewards.cohort_rate) == (2.0, 0.0)
    assert (then.rewards.redemption_rate, then.rewards.cohort_rate) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("day", "begins", "ends"),
    [
        # 23 hours on the Sunday the clocks go forward, 25 on the one they go back.
        (date(2026, 3, 29), "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (date(2026, 10, 25), "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    ],
)
async def test_a_day_is_as_long_as_the_clocks_make_it(
    database: Database, day: date, begins: str, ends: str
) -> None:
    first, after = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    owner = (await a_business(database, timezone="Europe/Berlin")).owner
    template = await a_card_template(database, owner)
    second = timedelta(seconds=1)
    for moment in (first - second, first, after - second, after):
        await a_card(database, owner, template.id, moment)

    told = await look(database, owner, after, period=Period.DAY, date=day)
    week = await look(database, owner, after, period=Period.WEEK, date=day)

    assert (told.new_cards.value, told.new_cards.previous) == (2, 1)
    assert [point.new_cards for point in week.series] == [0, 0, 0, 0, 0, 1, 2]


async def test_who_is_told_to_be_quiet_is_who_is_counted_inactive(
    database: Database, clock: ManualClock
) -> None:
    owner = (await a_business(database)).owner
    week_long = await a_card_template(database, owner, inactivity_days=7, now=clock.now())
    silent = await a_card_template(database, owner, inactivity_days=None, now=clock.now())
    start = clock.now()
    both = {"email": "both@mail.example"}
    await a_card(database, owner, week_long.id, start, **both)
    other = await a_card(database, owner, silent.id, start, **both)
    lone = await a_card(database, owner, week_long.id, start)

    async def figures(template_id: str | None = None) -> tuple[int, int]:
        told = await look(database, owner, clock.now(), template_id=template_id)
        return told.customers.active, told.customers.inactive

    async def told_of() -> int:
        await run_due(database, owner.business_id, clock)
        cards = [
            await database.read(owner.business_id, lambda tx, id=id: tx.get(Card, id))
            for id in (lone.id, other.id)
        ]
        return sum(card.quiet_told_at is not None for card in cards if card)

    # Seven days later at 19:00 all is silent for long enough; it is told at 10:00 (03:00 UTC).
    clock.moment = start + timedelta(days=8) - timedelta(hours=9, seconds=1)
    assert (await told_of(), await figures(week_long.id)) == (0, (2, 0))
    clock.advance(timedelta(seconds=1))
    assert (await told_of(), await figures(week_long.id)) == (1, (0, 2))
    # One of the two also has a card whose template tells nothing: 30 days count for it.
    assert await figures() == (1, 1)
    clock.advance(timedelta(days=23))
    assert (await told_of(), await figures()) == (1, (0, 2))


async def test_the_pulse_is_that_of_today(week: Week) -> None:
    async def beat(actor: Actor, now: datetime) -> tuple[int, int, int, int]:
        told = await week.database.read(actor.business_id, lambda tx: pulse(tx, actor, now))
        return (
            told.stamp_operations_today,
            told.new_cards_today,
            told.vouchers_redeemed_today,
            told.open_vouchers,
        )

    assert await beat(week.owner, at(5, 3)) == (1, 1, 0, 1)
    assert await beat(week.owner, at(4, 5)) == (0, 0, 1, 1)
    assert await beat(week.bar, at(3, 3)) == (1, 1, 0, 0)
    assert await beat(week.owner, at(5, 17)) == (0, 0, 0, 1)


async def statements(week: Week, **asked: Any) -> list[tuple[str, list[Any]]]:
    """What the overview asks of the database, as the database sees it."""
    seen: list[tuple[str, list[Any]]] = []

    async def work(tx: Transaction) -> None:
        fetch = tx._fetch

        async def spy(compiled: Any, values: list[Any]) -> list[Any]:
            seen.append((compiled.sql, values))
            return await fetch(compiled, values)

        tx._fetch = spy  # type: ignore[method-assign]
        await overview(tx, week.owner, Asked(**asked), NOW)
        await pulse(tx, week.owner, NOW)

    await week.database.read(week.owner.business_id, work)
    return seen


async def test_an_overview_never_reads_the_ledger_or_the_log(week: Week) -> None:
    seen = await statements(week)

    tables = {table for sql, _ in seen for table in re.findall(r"(?:FROM|JOIN) ([a-z_]+)\b", sql)}
    rows = {"daily_figure", "card", "card_template", "card_template_version", "staff", "voucher"}
    assert tables == rows
    assert len(seen) == 7 + 2

    async def forget(tx: Transaction) -> None:
        await tx.run(command(delete(Operation).where(col(Operation.business_id) == BUSINESS)))

    before = await look(week.database, week.owner)
    await week.database.write(week.owner.business_id, forget)
    assert await look(week.database, week.owner) == before


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("at_location", [False, True])
async def test_an_overview_goes_by_indexes(week: Week, at_location: bool) -> None:
    asked = {"location_id": week.menteng.id} if at_location else {}

    for sql, values in await statements(week, **asked):

        async def explain(tx: Any, sql: str = sql, values: list[Any] = values) -> list[str]:
            plan = tx._connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            return [row[3] for row in plan]

        plan = await week.database.read(week.owner.business_id, explain)
        assert not [line for line in plan if line.startswith("SCAN") and "anon" not in line], sql
        if re.search(r"FROM card\b", sql):
            assert any(" INDEX card_" in line for line in plan), plan
            assert not any("TEMP B-TREE" in line for line in plan), plan


async def test_roles_are_those_of_the_dashboard(database: Database) -> None:
    owner = (await a_business(database)).owner
    for role in Role:
        actor = await a_staff(database, owner, role)
        assert (await look(database, actor)).usage.staff_seats >= 1
