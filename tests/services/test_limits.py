"""Limits of a template, and how fast staff give stamps: when it is too much, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.errors import BadUserInput, Forbidden, LimitReached
from core.ids import Id
from db import Database
from factories import NOW, Cafe, a_business, a_card, a_card_template, a_staff, stamps
from models import Actor, Card, Role
from services.card_templates import LimitsInput
from services.cards import StampsAdded
from services.undo import VoidOperationInput, void_operation
from services.velocity import StaffVelocity, staff_velocity


async def a_limited_card(database: Database, owner: Actor, **limits: int) -> Card:
    """A card of a template with these limits."""
    template = await a_card_template(database, owner, 50, limits=LimitsInput(**limits))
    return await a_card(database, owner, template.id)


async def retry_at(work: Any) -> datetime | None:
    """Until when it is refused."""
    with pytest.raises(LimitReached) as refused:
        await work
    return refused.value.retry_at


async def undo(database: Database, actor: Actor, done: StampsAdded, now: datetime) -> None:
    """Undo stamps."""
    assert done.operation is not None
    told = VoidOperationInput(id=Id(done.operation.id))
    await database.write(actor.business_id, lambda tx: void_operation(tx, actor, told, now))


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café in Jakarta, seven hours ahead of UTC."""
    return await a_business(database)


async def test_more_than_an_operation_may_hold_never_ends(database: Database, cafe: Cafe) -> None:
    card = await a_limited_card(database, cafe.owner, max_stamps_per_operation=3)

    assert await retry_at(stamps(database, cafe.owner, card, 4)) is None
    assert await retry_at(stamps(database, cafe.owner, card, 51)) is None
    assert (await stamps(database, cafe.owner, card, 3)).operation is not None


async def test_a_day_ends_at_the_businesss_midnight(database: Database, cafe: Cafe) -> None:
    card = await a_limited_card(database, cafe.owner, max_stamps_per_day=3)
    midnight = datetime(2026, 3, 2, 17, tzinfo=UTC)
    last = midnight - timedelta(microseconds=1)
    await stamps(database, cafe.owner, card, 2)

    assert await retry_at(stamps(database, cafe.owner, card, 2)) == midnight
    assert await retry_at(stamps(database, cafe.owner, card, 2, last)) == midnight
    await stamps(database, cafe.owner, card, 1, last)
    await stamps(database, cafe.owner, card, 3, midnight)

    assert await retry_at(stamps(database, cafe.owner, card, 1, midnight)) == (
        midnight + timedelta(days=1)
    )
    assert await retry_at(stamps(database, cafe.owner, card, 4)) is None  # never, on any day


@pytest.mark.parametrize(
    ("zone", "now", "until"),
    [
        # In Havana the clocks go forward at midnight: the day begins at one.
        (
            "America/Havana",
            datetime(2026, 3, 7, 20, tzinfo=UTC),
            datetime(2026, 3, 8, 5, tzinfo=UTC),
        ),
        (
            "America/Havana",
            datetime(2026, 3, 8, 5, tzinfo=UTC),
            datetime(2026, 3, 9, 4, tzinfo=UTC),
        ),
        # A day of 25 hours.
        (
            "Europe/Prague",
            datetime(2026, 10, 25, 1, tzinfo=UTC),
            datetime(2026, 10, 25, 23, tzinfo=UTC),
        ),
    ],
)
async def test_a_day_is_as_long_as_its_clocks_say(
    database: Database, zone: str, now: datetime, until: datetime
) -> None:
    cafe = await a_business(database, timezone=zone)
    card = await a_limited_card(database, cafe.owner, max_stamps_per_day=1)
    await stamps(database, cafe.owner, card, 1, now)

    assert await retry_at(stamps(database, cafe.owner, card, 1, now)) == until
    await stamps(database, cafe.owner, card, 1, until)


async def test_seconds_between_count_from_the_last_stamp(database: Database, cafe: Cafe) -> None:
    card = await a_limited_card(database, cafe.owner, min_seconds_between=60)
    again = NOW + timedelta(seconds=60)
    await stamps(database, cafe.owner, card)

    assert await retry_at(stamps(database, cafe.owner, card, 1, NOW)) == again
    assert (
        await retry_at(stamps(database, cafe.owner, card, 1, again - timedelta(microseconds=1)))
        == again
    )
    await stamps(database, cafe.owner, card, 1, again)


async def test_of_two_limits_the_one_that_ends_last_is_told(database: Database, cafe: Cafe) -> None:
    card = await a_limited_card(database, cafe.owner, min_seconds_between=60, max_stamps_per_day=1)
    midnight = datetime(2026, 3, 2, 17, tzinfo=UTC)
    late = midnight - timedelta(seconds=10)
    await stamps(database, cafe.owner, card)
    assert await retry_at(stamps(database, cafe.owner, card)) == midnight

    other = await a_card(database, cafe.owner, card.template_id)
    await stamps(database, cafe.owner, other, 1, late)

    assert await retry_at(stamps(database, cafe.owner, other, 1, late)) == late + timedelta(
        seconds=60
    )


async def test_undone_stamps_count_for_no_limit(database: Database, cafe: Cafe) -> None:
    card = await a_limited_card(
        database, cafe.owner, min_seconds_between=3_600, max_stamps_per_day=2
    )
    hours = [NOW + timedelta(hours=number) for number in range(3)]
    first = await stamps(database, cafe.owner, card, 1, hours[0])
    second = await stamps(database, cafe.owner, card, 1, hours[1])
    assert await retry_at(stamps(database, cafe.owner, card, 1, hours[1])) is not None

    await undo(database, cafe.owner, second, hours[1])
    await stamps(database, cafe.owner, card, 1, hours[1])  # an hour after the first
    await undo(database, cafe.owner, first, hours[1])

    assert await retry_at(stamps(database, cafe.owner, card, 1, hours[1])) == hours[2]
    await stamps(database, cafe.owner, card, 1, hours[2])


async def test_the_owner_sees_who_gives_stamps_fast_and_to_whom(
    database: Database, cafe: Cafe
) -> None:
    fast, slow = [await a_staff(database, cafe.owner) for _ in range(2)]
    card, other = await a_card(database, cafe.owner), await a_card(database, cafe.owner)
    await stamps(database, fast, card, 7, NOW - timedelta(minutes=61))
    await stamps(database, fast, card, 6)
    await stamps(database, fast, card, 3)
    await stamps(database, fast, other, 3)
    wrong = await stamps(database, slow, other, 40)
    await undo(database, slow, wrong, NOW)
    await stamps(database, slow, other, 1)

    found = await database.read(
        cafe.business.id, lambda tx: staff_velocity(tx, cafe.owner, 60, NOW)
    )

    assert found == [
        StaffVelocity(
            staff_id=fast.id,
            operations=3,
            voided=0,
            stamps=12,
            cards=2,
            busiest_card_id=card.id,
            busiest_share=0.75,
        ),
        StaffVelocity(
            staff_id=slow.id,
            operations=1,
            voided=1,
            stamps=1,
            cards=1,
            busiest_card_id=other.id,
            busiest_share=1.0,
        ),
    ]
    elsewhere = await a_business(database)
    assert (
        await database.read(
            elsewhere.business.id, lambda tx: staff_velocity(tx, elsewhere.owner, 60, NOW)
        )
        == []
    )


async def test_velocity_is_for_managers_and_looks_back_a_day_at_most(
    database: Database, cafe: Cafe
) -> None:
    scanner = await a_staff(database, cafe.owner)
    manager = await a_staff(database, cafe.owner, Role.MANAGER)

    def look(actor: Actor, minutes: int) -> Any:
        return database.read(cafe.business.id, lambda tx: staff_velocity(tx, actor, minutes, NOW))

    with pytest.raises(Forbidden):
        await look(scanner, 60)
    for minutes in (0, -1, 1_441):
        with pytest.raises(BadUserInput):
            await look(manager, minutes)
    assert await look(manager, 1_440) == []
