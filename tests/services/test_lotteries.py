"""Lotteries: a ticket plays once, chains end, stock holds, and what is stored can be verified."""

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from core.errors import Code, NotFound, Refused, TicketAlreadyPlayed
from core.ids import Id
from db import Database
from events.log import events_after
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_lottery_goal,
    a_voucher_goal,
    a_voucher_template,
    stamps,
)
from models import (
    Actor,
    Card,
    Customer,
    LotteryTicket,
    LotteryVariant,
    RewardType,
    Source,
    TicketStatus,
    VariantType,
    commitment_of,
    draw,
    roll_of,
)
from services.card_refs import CardRef
from services.card_templates import GoalInput, LotteryVariantInput
from services.cards import (
    DeleteCardInput,
    PreviewStampsInput,
    delete_card,
    preview_stamps,
)
from services.lotteries import LotteryOutcome, PlayLotteryInput, play_lottery

AWARD, VOUCHER = VariantType.AWARD, VariantType.VOUCHER
AGAIN, NOTHING = VariantType.TRY_AGAIN, VariantType.NO_PRIZE


def variant(
    type: VariantType, probability: int, name: str = "", **more: Any
) -> LotteryVariantInput:
    """An outcome, named after its type unless told."""
    return LotteryVariantInput(type=type, probability=probability, name=name or type.value, **more)


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café."""
    return await a_business(database)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Decides what the next tickets will roll."""

    def decide(*rolls: range) -> None:
        found = _seeds(rolls)
        monkeypatch.setattr("core.luck.secrets.token_hex", lambda _: next(found))

    return decide


def _seeds(rolls: tuple[range, ...]) -> Iterator[str]:
    for wanted in rolls:
        yield next(seed for number in count() if roll_of(seed := f"{number:064x}") in wanted)


async def a_ticket(
    database: Database, actor: Actor, *variants: LotteryVariantInput, **template: Any
) -> tuple[Card, LotteryTicket]:
    """A card whose first stamp won a ticket for this lottery."""
    goals = [a_lottery_goal(1, *variants), await a_voucher_goal(database, actor, 6)]
    made = await a_card_template(database, actor, 6, goals, **template)
    card = await a_card(database, actor, made.id)
    [ticket] = (await stamps(database, actor, card)).lottery_tickets
    return card, ticket


async def play(database: Database, actor: Actor, ticket: LotteryTicket) -> LotteryOutcome:
    """Play a ticket."""
    told = PlayLotteryInput(ticket_id=Id(ticket.id))
    return await database.write(actor.business_id, lambda tx: play_lottery(tx, actor, told, NOW))


async def stored(database: Database, actor: Actor, row: Any) -> Any:
    """A row as it is stored."""
    return await database.read(actor.business_id, lambda tx: tx.get(type(row), row.id))


async def told(database: Database, actor: Actor, last: int) -> list[dict[str, Any]]:
    """The last bodies of the log."""
    rows = await database.read(actor.business_id, lambda tx: events_after(tx, 0, 500))
    return [json.loads(row.body) for row in rows[-last:]]


async def test_an_award_is_told_as_played_and_then_as_a_reward(
    database: Database, cafe: Cafe
) -> None:
    muffin = variant(AWARD, 10_000, "Muffin", greeting="Lucky you!")
    card, ticket = await a_ticket(database, cafe.owner, muffin)

    done = await play(database, cafe.owner, ticket)

    [reward] = done.rewards
    assert done.ticket is not None
    assert done.ticket.status is TicketStatus.PLAYED
    assert done.ticket.played_at == NOW
    assert (reward.type, reward.source, reward.title) == (
        RewardType.AWARD,
        Source.LOTTERY,
        "Muffin",
    )
    assert (reward.goal_position, reward.cycle) == (1, 1)
    played, issued = await told(database, cafe.owner, 2)
    assert played["lottery"] == {
        "ticket_id": ticket.id,
        "variant_id": ticket.variants[0]["id"],
        "variant_type": "award",
        "name": "Muffin",
        "greeting": "Lucky you!",
        "voucher_id": None,
    }
    assert issued["reward"] == {
        "id": reward.id,
        "type": "award",
        "title": "Muffin",
        "source": "lottery",
        "voucher_id": None,
    }
    assert [played["event"], issued["event"]] == ["lottery_played", "reward_issued"]
    assert played["card"] == issued["card"] == {"id": card.id, "goal_index": 1}


async def test_a_voucher_is_told_as_played_as_a_reward_and_as_issued(
    database: Database, cafe: Cafe
) -> None:
    template = await a_voucher_template(database, cafe.owner, title="Free cake")
    prize = variant(VOUCHER, 10_000, "Cake!", voucher_template_id=Id(template.id))
    card, ticket = await a_ticket(database, cafe.owner, prize)

    done = await play(database, cafe.owner, ticket)

    played, rewarded, issued = await told(database, cafe.owner, 3)
    assert [body["event"] for body in (played, rewarded, issued)] == [
        "lottery_played",
        "reward_issued",
        "voucher_issued",
    ]
    voucher_id = done.rewards[0].voucher_id
    assert played["lottery"]["voucher_id"] == rewarded["reward"]["voucher_id"] == voucher_id
    assert (issued["voucher"]["id"], issued["voucher"]["source"]) == (voucher_id, "lottery")
    assert (rewarded["reward"]["title"], issued["voucher"]["title"]) == ("Cake!", "Free cake")
    assert issued["card"] == {"id": card.id, "goal_index": 1}


async def test_no_prize_is_told_as_played_alone(database: Database, cafe: Cafe) -> None:
    _, ticket = await a_ticket(database, cafe.owner, variant(NOTHING, 10_000, "Next time"))

    done = await play(database, cafe.owner, ticket)

    before, last = await told(database, cafe.owner, 2)
    assert done.rewards == []
    assert done.next_ticket is None
    assert [before["event"], last["event"]] == ["goal_reached", "lottery_played"]
    assert last["lottery"]["variant_type"] == "no_prize"


async def test_a_ticket_hides_its_seed_until_it_is_played_and_then_proves_its_draw(
    database: Database, cafe: Cafe
) -> None:
    odds = [variant(AWARD, 2500), variant(AGAIN, 2500), variant(NOTHING, 5000)]
    _, ticket = await a_ticket(database, cafe.owner, *odds)
    assert (ticket.revealed_seed, ticket.result, ticket.outcome) == (None, None, None)
    assert ticket.commitment == commitment_of(ticket.seed)

    await play(database, cafe.owner, ticket)

    kept = await stored(database, cafe.owner, ticket)
    again = draw(kept.revealed_seed, kept.outcomes, kept.result["left_out"])
    assert commitment_of(kept.revealed_seed) == ticket.commitment
    assert kept.result == {
        "variant_id": again.outcome.id,
        "roll": again.roll,
        "odds": [2500, 2500, 5000],
        "left_out": [],
    }
    assert [item.probability for item in kept.outcomes] == [2500, 2500, 5000]


async def test_a_ticket_plays_once(database: Database, cafe: Cafe) -> None:
    _, ticket = await a_ticket(database, cafe.owner, variant(AWARD, 10_000))
    first = await play(database, cafe.owner, ticket)

    with pytest.raises(TicketAlreadyPlayed) as refused:
        await play(database, cafe.owner, ticket)

    assert (refused.value.code, refused.value.ticket_id) == (Code.TICKET_ALREADY_PLAYED, ticket.id)
    assert refused.value.played_at == NOW
    assert await stored(database, cafe.owner, ticket) == first.ticket


async def test_of_many_who_play_a_ticket_at_once_one_does(database: Database, cafe: Cafe) -> None:
    _, ticket = await a_ticket(
        database, cafe.owner, variant(AWARD, 9_999, stock=50), variant(NOTHING, 1)
    )

    done = await asyncio.gather(
        *(play(database, cafe.owner, ticket) for _ in range(10)), return_exceptions=True
    )

    assert sorted(type(item).__name__ for item in done) == [
        "LotteryOutcome",
        *["TicketAlreadyPlayed"] * 9,
    ]
    assert (await variant_row(database, cafe.owner, ticket)).stock >= 49


async def test_try_again_gives_another_ticket_and_the_third_leaves_it_out(
    database: Database, cafe: Cafe, seeds: Callable[..., None]
) -> None:
    seeds(*[range(9_000)] * 3)
    odds = [variant(AGAIN, 9_000), variant(NOTHING, 1_000)]
    _, first = await a_ticket(database, cafe.owner, *odds)

    second = (await play(database, cafe.owner, first)).next_ticket
    assert second is not None
    third = (await play(database, cafe.owner, second)).next_ticket
    assert third is not None
    last = await play(database, cafe.owner, third)

    assert [ticket.chain for ticket in (first, second, third)] == [0, 1, 2]
    assert last.next_ticket is None
    assert last.ticket is not None
    assert last.ticket.result is not None
    assert last.ticket.outcome is not None
    assert last.ticket.outcome.type is NOTHING
    assert (last.ticket.result["odds"], last.ticket.result["left_out"]) == (
        [0, 10_000],
        [first.variants[0]["id"]],
    )
    assert [body["event"] for body in await told(database, cafe.owner, 3)] == ["lottery_played"] * 3


async def test_what_is_sold_out_gives_its_weight_to_no_prize(
    database: Database, cafe: Cafe, seeds: Callable[..., None]
) -> None:
    seeds(range(100), range(100))
    odds = [variant(AWARD, 2_500, stock=1), variant(AWARD, 2_500, "Tea"), variant(NOTHING, 5_000)]
    card, first = await a_ticket(database, cafe.owner, *odds)
    other = await a_card(database, cafe.owner, card.template_id)
    [second] = (await stamps(database, cafe.owner, other)).lottery_tickets

    won, lost = [await play(database, cafe.owner, ticket) for ticket in (first, second)]

    assert won.rewards[0].title == "award"
    assert lost.ticket is not None
    assert lost.ticket.result is not None
    assert lost.ticket.outcome is not None
    assert lost.ticket.outcome.name == "Tea"  # the roll is below 100, the award's part is gone
    assert lost.ticket.result["odds"] == [0, 2_500, 7_500]
    assert (await variant_row(database, cafe.owner, first)).stock == 0


async def test_stock_never_falls_below_nothing_however_many_play_at_once(
    database: Database, cafe: Cafe
) -> None:
    odds = [variant(AWARD, 9_999, stock=3), variant(NOTHING, 1)]
    card, first = await a_ticket(database, cafe.owner, *odds)
    tickets = [first]
    for _ in range(11):
        other = await a_card(database, cafe.owner, card.template_id)
        tickets += (await stamps(database, cafe.owner, other)).lottery_tickets

    done = await asyncio.gather(*(play(database, cafe.owner, ticket) for ticket in tickets))

    won = [item for item in done if item.rewards]
    left = (await variant_row(database, cafe.owner, first)).stock
    assert left >= 0
    assert len(won) == 3 - left
    assert len(won) == 3
    for item in done:
        assert item.ticket is not None
        assert item.ticket.result is not None
        drawn = draw(item.ticket.seed, item.ticket.outcomes, item.ticket.result["left_out"])
        assert drawn.outcome == item.ticket.outcome
        assert drawn.odds == item.ticket.result["odds"]


async def test_a_template_that_plays_by_itself_plays_at_the_goal(
    database: Database, cafe: Cafe, seeds: Callable[..., None]
) -> None:
    seeds(range(5_000), range(5_000, 10_000))
    odds = [variant(AGAIN, 5_000), variant(AWARD, 5_000, "Muffin")]
    goals = [a_lottery_goal(1, *odds), await a_voucher_goal(database, cafe.owner, 2)]
    template = await a_card_template(database, cafe.owner, 2, goals, auto_play=True)
    card = await a_card(database, cafe.owner, template.id)

    done = await stamps(database, cafe.owner, card, 2)

    assert [(item.chain, item.status) for item in done.lottery_tickets] == [
        (0, TicketStatus.PLAYED),
        (1, TicketStatus.PLAYED),
    ]
    assert [reward.title for reward in done.rewards] == ["Muffin", "A free coffee"]
    assert [body["event"] for body in await told(database, cafe.owner, 8)] == [
        "stamp_added",
        "goal_reached",
        "lottery_played",
        "lottery_played",
        "reward_issued",
        "goal_reached",
        "reward_issued",
        "voucher_issued",
    ]


async def test_a_preview_plays_no_lottery(database: Database, cafe: Cafe) -> None:
    goals = [a_lottery_goal(1, variant(AWARD, 10_000))]
    template = await a_card_template(database, cafe.owner, 1, goals, auto_play=True)
    card = await a_card(database, cafe.owner, template.id)
    asked = PreviewStampsInput(card=CardRef(id=Id(card.id)), count=1)

    done = await database.rehearse(
        cafe.business.id, lambda tx: preview_stamps(tx, cafe.owner, asked, NOW)
    )

    assert done.expected_rewards == []
    assert [event.type for event in done.expected_events] == ["stamp_added", "goal_reached"]


async def test_a_play_is_activity(database: Database, cafe: Cafe) -> None:
    card, ticket = await a_ticket(database, cafe.owner, variant(NOTHING, 10_000))
    later = NOW.replace(hour=23)
    told = PlayLotteryInput(ticket_id=Id(ticket.id))

    await database.write(cafe.business.id, lambda tx: play_lottery(tx, cafe.owner, told, later))

    assert (await stored(database, cafe.owner, card)).last_activity_at == later
    customer = await database.read(cafe.business.id, lambda tx: tx.get(Customer, card.customer_id))
    assert customer is not None
    assert customer.last_activity_at == later


async def test_a_ticket_of_another_business_or_of_a_deleted_card_is_not_played(
    database: Database, cafe: Cafe
) -> None:
    card, ticket = await a_ticket(database, cafe.owner, variant(AWARD, 10_000))
    other = await a_business(database)

    with pytest.raises(NotFound):
        await play(database, other.owner, ticket)
    gone = DeleteCardInput(id=Id(card.id))
    await database.write(cafe.business.id, lambda tx: delete_card(tx, cafe.owner, gone, NOW))
    with pytest.raises(Refused) as refused:
        await play(database, cafe.owner, ticket)

    assert refused.value.code is Code.CARD_DELETED
    assert await stored(database, cafe.owner, ticket) == ticket


@pytest.mark.parametrize(
    "variants",
    [
        [variant(AWARD, 10_000, stock=5)],
        [variant(AWARD, 5_000, stock=5), variant(AGAIN, 5_000)],
        [variant(AWARD, 5_000), variant(NOTHING, 5_000, stock=5)],
    ],
)
async def test_a_lottery_that_could_run_out_is_refused(
    database: Database, cafe: Cafe, variants: list[LotteryVariantInput]
) -> None:
    goals: list[GoalInput] = [a_lottery_goal(1, *variants)]

    with pytest.raises(Refused) as refused:
        await a_card_template(database, cafe.owner, 1, goals)

    assert refused.value.code is Code.INVALID


async def variant_row(database: Database, actor: Actor, ticket: LotteryTicket) -> Any:
    """The first outcome of a ticket, with its stock."""
    id = ticket.variants[0]["id"]
    return await database.read(actor.business_id, lambda tx: tx.get(LotteryVariant, id))
