"""What time causes, provoked the way life does: expiry, birthdays, silence; and what is late."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.ids import Id
from db import Database, Transaction, query
from events import read_event
from factories import (
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_customer,
    a_voucher,
    a_voucher_template,
    stamps,
)
from models import (
    Card,
    EventRow,
    Reward,
    Source,
    Voucher,
    VoucherStatus,
)
from services.card_templates import BirthdayRuleInput
from services.cards import DeleteCardInput, delete_card
from services.customers import update_customer
from services.due import run_due
from services.undo import VoidVoucherInput, void_voucher
from services.vouchers import (
    RedeemVoucherInput,
    ValidityInput,
    VoucherRef,
    redeem_voucher,
)

NEW_YEAR = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
"""08:00 in Jakarta."""


@pytest.fixture
def clock() -> ManualClock:
    """Begins with the year."""
    return ManualClock(NEW_YEAR)


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    """A café in Jakarta, as old as the year."""
    return await a_business(database, now=clock.now())


@pytest.fixture
def events(database: Database, cafe: Cafe) -> Callable[[], Awaitable[list[EventRow]]]:
    """Everything that time caused so far."""
    everything = query(select(EventRow).order_by(EventRow.sequence))

    async def read() -> list[EventRow]:
        found = await database.read(None, lambda tx: tx.many(everything))
        return [row for row in found if row.actor_id is None]

    return read


@pytest.fixture
def live(database: Database, cafe: Cafe, clock: ManualClock) -> Callable[..., Awaitable[datetime]]:
    """Let time come to a moment, and the worker do what is due by then."""

    async def to(moment: datetime) -> datetime:
        clock.moment = moment
        return await run_due(database, cafe.business.id, clock)

    return to


def jakarta(month: int, day: int, hour: int = 0, minute: int = 0, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC) - timedelta(hours=7)


async def a_birthday_template(
    database: Database, cafe: Cafe, days_before: int = 0, now: datetime = NEW_YEAR, **values: Any
) -> Any:
    gift = await a_voucher_template(
        database, cafe.owner, now, title="A birthday cake", validity=ValidityInput(days=7)
    )
    rule = BirthdayRuleInput(days_before=days_before, voucher_template_id=Id(gift.id))
    return await a_card_template(
        database, cafe.owner, now=now, birthday=rule, inactivity_days=None, **values
    )


# -- Expiry ---------------------------------------------------------------------------------------


async def test_a_voucher_expires_at_the_end_of_its_last_day(
    database: Database, cafe: Cafe, live: Any, events: Any, row: Any
) -> None:
    template = await a_voucher_template(
        database, cafe.owner, NEW_YEAR, redeem_code="CAKE", validity=ValidityInput(days=1)
    )
    card = await a_card(database, cafe.owner, now=NEW_YEAR)
    voucher = await a_voucher(database, cafe.owner, template.id, card, now=NEW_YEAR)
    ends = jakarta(1, 3)

    again_at = await live(ends - timedelta(minutes=1))
    before = await events()
    await live(ends + timedelta(seconds=3))

    assert again_at == ends
    assert before == []
    [event] = await events()
    assert (event.type, event.occurred_at, event.location_id) == ("voucher_expired", ends, None)
    assert (event.card_id, event.customer_id) == (card.id, card.customer_id)
    assert (await row(cafe.owner, Voucher, voucher.id)).status is VoucherStatus.EXPIRED
    told = read_event(event).voucher  # type: ignore[attr-defined]
    assert (told.id, told.status, told.expires_at) == (
        voucher.id,
        VoucherStatus.EXPIRED,
        "2026-01-02T17:00:00Z",
    )


@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=10), timedelta(days=400)])
async def test_a_voucher_expires_once_however_late(
    database: Database, cafe: Cafe, live: Any, events: Any, late: timedelta
) -> None:
    template = await a_voucher_template(
        database, cafe.owner, NEW_YEAR, validity=ValidityInput(months=1)
    )
    await a_voucher(database, cafe.owner, template.id, now=NEW_YEAR)
    ends = jakarta(2, 2)

    for _ in range(3):
        await live(ends + late)

    assert [(event.type, event.occurred_at) for event in await events()] == [
        ("voucher_expired", ends)
    ]


async def test_a_spent_or_voided_voucher_does_not_expire(
    database: Database, cafe: Cafe, live: Any, events: Any, row: Any, perform: Any
) -> None:
    template = await a_voucher_template(
        database, cafe.owner, NEW_YEAR, validity=ValidityInput(days=1)
    )
    spent, voided = [
        await a_voucher(database, cafe.owner, template.id, now=NEW_YEAR) for _ in range(2)
    ]
    ref = VoucherRef(id=Id(spent.id))
    await perform(redeem_voucher, cafe.owner, RedeemVoucherInput(voucher=ref))
    await perform(void_voucher, cafe.owner, VoidVoucherInput(id=Id(voided.id)))

    await live(jakarta(2, 1))

    assert await events() == []
    assert (await row(cafe.owner, Voucher, spent.id)).status is VoucherStatus.REDEEMED
    assert (await row(cafe.owner, Voucher, voided.id)).status is VoucherStatus.VOIDED


# -- Birthdays ------------------------------------------------------------------------------------


async def test_a_birthday_brings_its_gift_at_nine(
    database: Database, cafe: Cafe, live: Any, events: Any, row: Any
) -> None:
    template = await a_birthday_template(database, cafe)
    card = await a_card(
        database, cafe.owner, template.id, NEW_YEAR, email="a@b.example", birthday="1990-05-11"
    )
    nine = jakarta(5, 11, 9)

    await live(nine - timedelta(seconds=1))
    before = await events()
    await live(nine + timedelta(seconds=1))

    assert before == []
    reached, reward, voucher = await events()
    assert [event.type for event in (reached, reward, voucher)] == [
        "birthday_reached",
        "reward_issued",
        "voucher_issued",
    ]
    assert {event.occurred_at for event in (reached, reward, voucher)} == {nine}
    assert {event.card_id for event in (reached, reward, voucher)} == {card.id}
    assert reward.sequence == reached.sequence + 1
    told = orjson.loads(reached.body)["birthday"]
    gift = await row(cafe.owner, Voucher, told["voucher_id"])
    assert told == {"days_before": 0, "year": 2026, "voucher_id": gift.id}
    assert (gift.source, gift.card_id, gift.title) == (
        Source.BIRTHDAY,
        card.id,
        "A birthday cake",
    )
    assert gift.expires_at == jakarta(5, 19)
    handed = orjson.loads(reward.body)["reward"]
    assert (handed["source"], handed["voucher_id"]) == ("birthday", gift.id)
    assert (await row(cafe.owner, Reward, handed["id"])).voucher_id == gift.id


@pytest.mark.parametrize(
    ("birthday", "days_before", "moments"),
    [
        ("2000-02-29", 0, ["2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"]),
        ("2000-02-28", 0, ["2026-02-28", "2027-02-28", "2028-02-28", "2029-02-28"]),
        ("--02-29", 1, ["2026-02-27", "2027-02-27", "2028-02-28", "2029-02-27"]),
        ("--03-01", 1, ["2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"]),
        ("--01-03", 7, ["2026-12-27", "2027-12-27", "2028-12-27"]),
        ("--12-31", 30, ["2026-12-01", "2027-12-01", "2028-12-01"]),
    ],
)
async def test_a_birthday_is_kept_every_year(
    database: Database,
    cafe: Cafe,
    live: Any,
    events: Any,
    birthday: str,
    days_before: int,
    moments: list[str],
) -> None:
    template = await a_birthday_template(database, cafe, days_before)
    await a_card(
        database, cafe.owner, template.id, NEW_YEAR, email="a@b.example", birthday=birthday
    )

    for week in range(52 * 3 + 10):  # a worker that looks once a week keeps every birthday
        await live(NEW_YEAR + timedelta(days=7 * week))

    kept = [event for event in await events() if event.type == "birthday_reached"]
    days = [datetime.fromisoformat(text) + timedelta(hours=2) for text in moments]
    assert [event.occurred_at for event in kept] == [day.replace(tzinfo=UTC) for day in days]


async def test_a_birthday_more_than_a_week_late_is_left_out_for_the_year(
    database: Database, cafe: Cafe, live: Any, events: Any
) -> None:
    template = await a_birthday_template(database, cafe)
    for place, day in enumerate(("03-01", "03-03", "03-04", "03-11")):
        customer = {"email": f"{place}@b.example", "birthday": f"--{day}"}
        await a_card(database, cafe.owner, template.id, NEW_YEAR, **customer)

    await live(jakarta(2, 20, 12))
    await live(jakarta(3, 10, 12))  # after 18 days of silence
    first = [(event.type, event.occurred_at) for event in await events()]
    await live(jakarta(3, 11, 9))

    assert first[0] == ("birthday_reached", jakarta(3, 4, 9))
    assert [kind for kind, _ in first] == ["birthday_reached", "reward_issued", "voucher_issued"]
    assert [event.occurred_at for event in (await events())[3:]] == [jakarta(3, 11, 9)] * 3


async def test_a_customer_has_one_birthday_a_year_whatever_is_edited(
    database: Database, cafe: Cafe, live: Any, events: Any, clock: ManualClock, perform: Any
) -> None:
    template = await a_birthday_template(database, cafe)
    card = await a_card(
        database, cafe.owner, template.id, NEW_YEAR, email="a@b.example", birthday="--01-05"
    )
    await live(jakarta(1, 5, 12))

    for _ in range(10):  # always two days ahead
        soon = (clock.now() + timedelta(days=2)).strftime("--%m-%d")
        await perform(update_customer, cafe.owner, {"id": card.customer_id, "birthday": soon})
        await live(clock.now() + timedelta(days=32))

    kept = [event for event in await events() if event.type == "birthday_reached"]
    assert [event.occurred_at for event in kept] == [jakarta(1, 5, 9)]


@pytest.mark.parametrize(("days", "is_kept"), [(29, False), (30, True)])
async def test_a_changed_birthday_counts_after_thirty_days(
    database: Database,
    cafe: Cafe,
    live: Any,
    events: Any,
    perform: Any,
    clock: ManualClock,
    days: int,
    is_kept: bool,
) -> None:
    template = await a_birthday_template(database, cafe)
    card = await a_card(database, cafe.owner, template.id, NEW_YEAR, email="a@b.example")
    nine = jakarta(5, 11, 9)
    clock.moment = nine - timedelta(days=days)
    await perform(update_customer, cafe.owner, {"id": card.customer_id, "birthday": "--05-11"})

    await live(nine)

    assert bool(await events()) is is_kept


async def test_only_who_holds_the_card_by_then_is_meant(
    database: Database, cafe: Cafe, live: Any, events: Any, perform: Any, clock: ManualClock
) -> None:
    template = await a_birthday_template(database, cafe)
    other = await a_birthday_template(database, cafe, name="Tea card")
    nine = jakarta(5, 11, 9)
    day = {"birthday": "--05-11"}
    await a_customer(database, cafe.owner, NEW_YEAR, email="none@b.example", **day)
    gone = await a_card(database, cafe.owner, template.id, NEW_YEAR, email="gone@b.example", **day)
    clock.moment = nine
    await perform(delete_card, cafe.owner, DeleteCardInput(id=Id(gone.id)))
    later = nine + timedelta(minutes=1)
    await a_card(database, cafe.owner, template.id, later, email="late@b.example", **day)
    both = {"email": "both@b.example", **day}
    cards = [
        await a_card(database, cafe.owner, each.id, NEW_YEAR, **both) for each in (template, other)
    ]

    await live(nine + timedelta(hours=1))

    kept = [event for event in await events() if event.type == "birthday_reached"]
    assert {event.card_id for event in kept} == {card.id for card in cards}


async def test_a_rule_made_today_keeps_no_birthday_of_yesterday(
    database: Database, cafe: Cafe, live: Any, events: Any
) -> None:
    noon = jakarta(5, 12, 12)
    template = await a_birthday_template(database, cafe, now=noon)
    day = {"birthday": "--05-11", "email": "a@b.example"}
    await a_card(database, cafe.owner, template.id, noon, **day)

    await live(noon + timedelta(hours=1))

    assert await events() == []


# -- Silence --------------------------------------------------------------------------------------


async def test_a_silent_card_is_told_of_once_until_something_happens(
    database: Database, cafe: Cafe, live: Any, events: Any, row: Any
) -> None:
    template = await a_card_template(database, cafe.owner, 10, now=NEW_YEAR, inactivity_days=30)
    card = await a_card(database, cafe.owner, template.id, NEW_YEAR)
    first, second = jakarta(1, 31, 10), jakarta(5, 1, 10)

    await live(first - timedelta(seconds=1))
    before = await events()
    await live(first)
    await live(first + timedelta(days=60))
    once = await events()
    await stamps(database, cafe.owner, card, now=jakarta(4, 1, 9))
    await live(second - timedelta(seconds=1))
    still = await events()
    await live(second)
    twice = await events()

    assert before == []
    assert [(event.type, event.occurred_at) for event in once] == [("inactivity_trigger", first)]
    assert still == once
    assert [event.occurred_at for event in twice] == [first, second]
    assert twice[0].card_id == card.id
    body = orjson.loads(twice[1].body)
    assert body["inactivity"] == {
        "days": 30,
        "last_activity_at": "2026-04-01T02:00:00Z",
        "voucher_id": None,
    }
    assert (await row(cafe.owner, Card, card.id)).quiet_told_at == jakarta(4, 1, 9)


async def test_redeeming_a_voucher_is_activity(
    database: Database, cafe: Cafe, live: Any, events: Any, perform: Any, clock: ManualClock
) -> None:
    template = await a_card_template(database, cafe.owner, 10, now=NEW_YEAR, inactivity_days=30)
    card = await a_card(database, cafe.owner, template.id, NEW_YEAR)
    voucher = await a_voucher(database, cafe.owner, card=card, now=NEW_YEAR)
    clock.moment = jakarta(1, 20, 9)
    ref = VoucherRef(id=Id(voucher.id))
    await perform(redeem_voucher, cafe.owner, RedeemVoucherInput(voucher=ref))

    await live(jakarta(2, 19, 9, 59))
    before = await events()
    await live(jakarta(2, 19, 10))

    assert before == []
    assert [event.occurred_at for event in await events()] == [jakarta(2, 19, 10)]


async def test_a_deleted_card_and_a_template_without_the_rule_are_left_in_peace(
    database: Database, cafe: Cafe, live: Any, events: Any, perform: Any, clock: ManualClock
) -> None:
    never = await a_card_template(database, cafe.owner, now=NEW_YEAR, inactivity_days=None)
    ruled = await a_card_template(database, cafe.owner, now=NEW_YEAR, inactivity_days=30)
    await a_card(database, cafe.owner, never.id, NEW_YEAR)
    gone = await a_card(database, cafe.owner, ruled.id, NEW_YEAR)
    await perform(delete_card, cafe.owner, DeleteCardInput(id=Id(gone.id)))

    await live(jakarta(12, 1))

    assert await events() == []


# -- Together -------------------------------------------------------------------------------------


async def test_after_ten_days_of_silence_all_is_caught_up_in_the_order_of_time(
    database: Database, cafe: Cafe, live: Any, events: Any
) -> None:
    cake = await a_birthday_template(database, cafe)
    quiet = await a_card_template(database, cafe.owner, 10, now=NEW_YEAR, inactivity_days=30)
    short = await a_voucher_template(
        database, cafe.owner, NEW_YEAR, validity=ValidityInput(days=32)
    )
    for place, day in enumerate(("01-29", "02-03", "02-05")):
        customer = {"email": f"{place}@b.example", "birthday": f"--{day}"}
        await a_card(database, cafe.owner, cake.id, NEW_YEAR, **customer)
    for day in range(3):
        now = NEW_YEAR + timedelta(days=day)
        card = await a_card(database, cafe.owner, quiet.id, now)
        await a_voucher(database, cafe.owner, short.id, card, now)

    await live(jakarta(1, 28, 12))
    before = await events()
    await live(jakarta(2, 7, 12))
    caught_up = await events()
    await live(jakarta(2, 7, 12))

    assert before == []
    gift = ["birthday_reached", "reward_issued", "voucher_issued"]
    expected = [
        (jakarta(1, 31, 10), "inactivity_trigger"),
        (jakarta(2, 1, 10), "inactivity_trigger"),
        (jakarta(2, 2, 10), "inactivity_trigger"),
        *((jakarta(2, 3, 9), kind) for kind in gift),
        (jakarta(2, 3), "voucher_expired"),
        (jakarta(2, 4), "voucher_expired"),
        (jakarta(2, 5), "voucher_expired"),
        *((jakarta(2, 5, 9), kind) for kind in gift),
    ]  # the birthday of 29 January is nine days late
    assert sorted((event.occurred_at, event.type) for event in caught_up) == sorted(expected)
    moments = [event.occurred_at for event in caught_up]
    assert moments == sorted(moments)
    assert await events() == caught_up


async def test_a_job_that_fails_does_not_hold_up_the_others(
    database: Database, cafe: Cafe, clock: ManualClock, events: Any
) -> None:
    from services.agenda import Due  # noqa: PLC0415
    from services.due import JOBS  # noqa: PLC0415

    template = await a_voucher_template(
        database, cafe.owner, NEW_YEAR, validity=ValidityInput(days=1)
    )
    await a_voucher(database, cafe.owner, template.id, now=NEW_YEAR)

    async def broken(tx: Transaction, business: Any, span: Any) -> Due:
        async def fail(tx: Transaction, actor: Any) -> None:
            raise ValueError("broken")

        return Due(NEW_YEAR, fail)

    clock.moment = jakarta(1, 5)

    again_at = await run_due(database, cafe.business.id, clock, jobs=(broken, *JOBS))

    assert [event.type for event in await events()] == ["voucher_expired"]
    assert again_at == clock.moment + timedelta(minutes=1)
