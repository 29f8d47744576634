"""Adding stamps to a card: where it then stands, and which goals are reached in which cycle."""

from datetime import UTC, datetime

import pytest

from models import Card, CardTemplateVersion, Goal, Overflow, Promise, RewardType

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CARRY, DISCARD = Overflow.CARRY_OVER, Overflow.DISCARD


def promise(*stamps: int, overflow: Overflow = CARRY) -> Promise:
    """A version with goals at these counts, the last one the full card."""
    version = CardTemplateVersion(
        id="tpv_1",
        business_id="b_1",
        template_id="tpl_1",
        version=1,
        stamps_required=stamps[-1],
        overflow=overflow,
        created_at=NOW,
    )
    goals = [
        Goal(
            id=f"goal_{count}",
            business_id="b_1",
            version_id="tpv_1",
            position=position,
            stamps=count,
            reward_type=RewardType.AWARD,
            title=f"At {count}",
        )
        for position, count in enumerate(stamps, 1)
    ]
    return Promise(version, goals)


def card(stamps: int, cycle: int = 1) -> Card:
    """A card that stands here."""
    return Card(
        id="card_1",
        business_id="b_1",
        number="100000",
        customer_id="c_1",
        template_id="tpl_1",
        version_id="tpv_1",
        stamps=stamps,
        cycle=cycle,
        token="token",
        wallet_pass_id="wp_1",
        created_at=NOW,
    )


@pytest.mark.parametrize(
    ("stamps", "count", "overflow", "after", "cycle", "reached"),
    [
        (0, 1, CARRY, 1, 1, []),
        (0, 3, CARRY, 3, 1, [(1, 3)]),
        (2, 1, CARRY, 3, 1, [(1, 3)]),
        (3, 1, CARRY, 4, 1, []),
        (0, 5, CARRY, 5, 1, [(1, 3), (1, 5)]),
        (0, 6, CARRY, 6, 1, [(1, 3), (1, 5), (1, 6)]),
        (5, 1, CARRY, 6, 1, [(1, 6)]),
        (6, 1, CARRY, 1, 2, []),
        (6, 3, CARRY, 3, 2, [(2, 3)]),
        (5, 3, CARRY, 2, 2, [(1, 6)]),
        (0, 12, CARRY, 6, 2, [(1, 3), (1, 5), (1, 6), (2, 3), (2, 5), (2, 6)]),
        (4, 15, CARRY, 1, 4, [(1, 5), (1, 6), (2, 3), (2, 5), (2, 6), (3, 3), (3, 5), (3, 6)]),
        (0, 6, DISCARD, 6, 1, [(1, 3), (1, 5), (1, 6)]),
        (5, 3, DISCARD, 6, 1, [(1, 6)]),
        (6, 1, DISCARD, 1, 2, []),
        (6, 50, DISCARD, 6, 2, [(2, 3), (2, 5), (2, 6)]),
        (0, 50, DISCARD, 6, 1, [(1, 3), (1, 5), (1, 6)]),
    ],
)
def test_adding_stamps_moves_a_card_and_reaches_goals(
    stamps: int,
    count: int,
    overflow: Overflow,
    after: int,
    cycle: int,
    reached: list[tuple[int, int]],
) -> None:
    terms = promise(3, 5, 6, overflow=overflow)

    done = card(stamps).add_stamps(count, terms, terms)

    assert (done.count, done.before, done.cycle_before) == (count, stamps, 1)
    assert (done.after, done.cycle_after) == (after, cycle)
    assert [(number, goal.stamps) for number, goal in done.reached] == reached


def test_an_open_cycle_keeps_its_version_and_the_next_goes_by_the_new_one() -> None:
    old, new = promise(2, 6), promise(1, 3)

    done = card(5).add_stamps(3, old, new)

    assert [(cycle, goal.title) for cycle, goal in done.reached] == [(1, "At 6"), (2, "At 1")]
    assert (done.after, done.cycle_after, done.promise) == (2, 2, new)


def test_a_card_that_stays_in_its_cycle_stays_with_its_version() -> None:
    old, new = promise(2, 6), promise(1, 3)

    assert card(4).add_stamps(2, old, new).promise is old


def test_the_cycle_that_overflows_says_what_becomes_of_the_surplus() -> None:
    old, new = promise(6), promise(4, overflow=DISCARD)

    done = card(5).add_stamps(20, old, new)

    assert (done.after, done.cycle_after) == (4, 2)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("count", range(1, 51))
def test_a_card_never_leaves_its_bounds_and_pays_each_goal_once_a_cycle(
    count: int, overflow: Overflow
) -> None:
    terms = promise(3, 5, 6, overflow=overflow)

    for stamps in range(7):
        done = card(stamps, cycle=4).add_stamps(count, terms, terms)

        paid = [(cycle, goal.position) for cycle, goal in done.reached]
        assert 0 < done.after <= 6
        assert done.cycle_after >= 4
        assert paid == sorted(set(paid))
        if overflow is CARRY:
            assert (done.cycle_after - 4) * 6 + done.after == stamps + count
