"""Undo: a card stands where its other stamps lead, and what it no longer reaches is taken back."""

import asyncio
import json
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused, VoucherAlreadyRedeemed
from core.ids import Id
from db import BUSINESS, Database, Transaction, param, query
from events.log import events_after
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_lottery_goal,
    a_staff,
    a_voucher,
    a_voucher_goal,
    a_voucher_template,
    an_award_goal,
    stamps,
)
from models import (
    Actor,
    Card,
    LotteryTicket,
    Operation,
    OperationKind,
    Overflow,
    Reward,
    Role,
    Source,
    StampChannel,
    TicketStatus,
    VariantType,
    Voucher,
    VoucherStatus,
    replay,
)
from services.card_refs import CardRef, find_card
from services.card_templates import (
    LotteryVariantInput,
    PublishCardTemplateInput,
    publish_card_template,
    update_card_template,
)
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    StampsAdded,
    delete_card,
    promise_of,
    stamp_card,
)
from services.lotteries import PlayLotteryInput, play_lottery
from services.undo import (
    ReverseRedemptionInput,
    Undone,
    VoidOperationInput,
    VoidVoucherInput,
    reverse_redemption,
    void_operation,
    void_voucher,
)
from services.vouchers import RedeemVoucherInput, ValidityInput, VoucherRef, redeem_voucher

SOON, LATE = NOW + timedelta(minutes=15), NOW + timedelta(minutes=16)

_LINES = query(
    select(Operation)
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.card_id) == param("card_id"),
        col(Operation.line).is_not(None),
    )
    .order_by(col(Operation.line))
)
_REWARDS = query(
    select(Reward).where(
        col(Reward.business_id) == BUSINESS,
        col(Reward.card_id) == param("card_id"),
        col(Reward.source) == Source.GOAL,
        col(Reward.voided_at).is_(None),
    )
)
_TICKETS = query(
    select(LotteryTicket).where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.card_id) == param("card_id"),
        col(LotteryTicket.chain) == 0,
        col(LotteryTicket.status) != TicketStatus.VOIDED,
    )
)
_OF_VOUCHER = query(
    select(Operation)
    .where(col(Operation.business_id) == BUSINESS, col(Operation.voucher_id) == param("voucher_id"))
    .order_by(col(Operation.id))
)


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café."""
    return await a_business(database)


async def undo(
    database: Database, actor: Actor, line: Operation | None, now: datetime = NOW
) -> Undone:
    """Undo a line."""
    assert line is not None
    told = VoidOperationInput(id=Id(line.id), reason="wrong card")
    return await database.write(actor.business_id, lambda tx: void_operation(tx, actor, told, now))


async def redeem(
    database: Database, actor: Actor, voucher_id: str | None, now: datetime = NOW
) -> Voucher:
    """Redeem a voucher."""
    told = RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher_id or "")))
    done = await database.write(actor.business_id, lambda tx: redeem_voucher(tx, actor, told, now))
    assert done.voucher is not None
    return done.voucher


async def reverse(
    database: Database, actor: Actor, voucher_id: str | None, now: datetime = NOW
) -> Voucher:
    """Reverse a redemption."""
    told = ReverseRedemptionInput(voucher=VoucherRef(id=Id(voucher_id or "")))
    done = await database.write(
        actor.business_id, lambda tx: reverse_redemption(tx, actor, told, now)
    )
    assert done.voucher is not None
    return done.voucher


async def stored(database: Database, actor: Actor, row: Any) -> Any:
    """A row as it is stored."""
    return await database.read(actor.business_id, lambda tx: tx.get(type(row), row.id))


async def told(database: Database, actor: Actor, last: int) -> list[dict[str, Any]]:
    """The last bodies of the log."""
    rows = await database.read(actor.business_id, lambda tx: events_after(tx, 0, 1_000))
    return [json.loads(row.body) for row in rows[-last:]]


async def audit(database: Database, actor: Actor, card: Card) -> tuple[int, int]:
    """Where a card stands, once its ledger says the same and every goal was paid once."""

    async def work(tx: Any) -> tuple[int, int]:
        now = await tx.get(Card, card.id)
        lines = await tx.many(_LINES, card_id=card.id)
        named = {line.version_before_id for line in lines} | {line.version_id for line in lines}
        found = replay(lines, {id: await promise_of(tx, id) for id in named})
        assert (found.cycle, found.stamps) == (now.cycle, now.stamps)
        assert found.version_id in (now.version_id, None)
        assert [line.line for line in lines] == list(range(1, now.lines + 1))
        place = (1, 0)
        for line in lines:
            assert (line.cycle_before, line.before) == place
            place = (line.cycle_after, line.after)
        assert place == (now.cycle, now.stamps)
        paid = await tx.many(_REWARDS, card_id=card.id) + await tx.many(_TICKETS, card_id=card.id)
        assert sorted((item.cycle, item.goal_position) for item in paid) == sorted(
            (cycle, goal.position) for cycle, goal in found.reached
        )
        return place

    return await database.read(actor.business_id, work)


async def refusal(work: Any) -> Refused:
    """How it was refused."""
    with pytest.raises(Refused) as refused:
        await work
    return refused.value


async def test_undoing_stamps_takes_back_what_they_gave_and_says_so(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)  # a voucher at 3
    first = await stamps(database, owner, card, 2)
    second = await stamps(database, owner, card, 2)
    [reward] = second.rewards

    done = await undo(database, owner, second.operation, LATE)

    assert await audit(database, owner, card) == (1, 2)
    assert done.card is not None
    assert done.operation is not None
    assert (done.card.stamps, done.card.cycle) == (2, 1)
    assert done.card.last_stamp_at == NOW
    assert [item.id for item in done.rewards] == [reward.id]
    assert [item.id for item in done.vouchers] == [reward.voucher_id]
    assert done.vouchers[0].status is VoucherStatus.VOIDED
    assert (await stored(database, owner, reward)).voided_at == LATE
    void = await database.read(
        owner.business_id, lambda tx: tx.get(Operation, done.operation.voided_by_id)
    )
    assert void is not None
    assert (void.kind, void.voids_id, void.reason) == (
        OperationKind.VOID,
        done.operation.id,
        "wrong card",
    )
    assert (void.before, void.after, void.cycle_before, void.cycle_after) == (1, 2, 2, 1)
    assert (void.count, void.staff_id, void.occurred_at) == (-2, owner.staff_id, LATE)
    [body] = await told(database, owner, 1)
    assert body["event"] == "operation_voided"
    assert body["operation"] == {
        "id": done.operation.id,
        "kind": "stamps",
        "count": 2,
        "before": 1,
        "after": 2,
        "cycle": 1,
        "voucher_id": None,
        "voided_rewards": [reward.id],
        "voided_vouchers": [reward.voucher_id],
        "voided_tickets": [],
    }
    assert body["card"] == {"id": card.id, "goal_index": None}
    assert "wrong card" not in json.dumps(body)
    assert first.card is not None


async def test_a_goal_taken_back_is_paid_again_when_it_is_reached_again(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    done = await stamps(database, owner, card, 3)
    await undo(database, owner, done.operation)

    again = await stamps(database, owner, card, 3)

    assert [reward.goal_position for reward in again.rewards] == [1]
    assert again.rewards[0].id != done.rewards[0].id
    assert await audit(database, owner, card) == (1, 3)


async def test_undoing_in_the_middle_keeps_what_the_others_still_reach(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    goals = [an_award_goal(2), an_award_goal(4), await a_voucher_goal(database, owner, 6)]
    template = await a_card_template(database, owner, 6, goals)
    card = await a_card(database, owner, template.id)
    first = await stamps(database, owner, card, 3)  # goal 1
    middle = await stamps(database, owner, card, 5)  # goals 2 and 3; cycle 2 at 2: goal 1
    last = await stamps(database, owner, card, 3)  # cycle 2 at 5: goal 2

    done = await undo(database, owner, middle.operation)

    assert await audit(database, owner, card) == (1, 6)
    kept = {first.rewards[0].id, *(reward.id for reward in middle.rewards[:2])}
    gone = {middle.rewards[2].id, last.rewards[0].id}
    assert {reward.id for reward in done.rewards} == gone
    for reward in [*first.rewards, *middle.rewards, *last.rewards]:
        assert ((await stored(database, owner, reward)).voided_at is None) == (reward.id in kept)


@pytest.mark.parametrize("overflow", Overflow)
async def test_whatever_is_undone_the_ledger_replayed_is_the_card(
    database: Database, cafe: Cafe, overflow: Overflow
) -> None:
    owner, chance = cafe.owner, random.Random(11)
    goals = [
        an_award_goal(2),
        a_lottery_goal(
            3, LotteryVariantInput(type=VariantType.NO_PRIZE, probability=10_000, name="-")
        ),
        await a_voucher_goal(database, owner, 5),
    ]
    template = await a_card_template(database, owner, 5, goals, overflow=overflow)
    card = await a_card(database, owner, template.id)
    lines: list[Operation] = []

    for step in range(40):
        if step == 15:
            await _publish(database, owner, template.id, 4)
        if lines and chance.random() < 0.4:
            await undo(database, owner, lines.pop(chance.randrange(len(lines))))
        else:
            done = await stamps(database, owner, card, chance.randint(1, 12))
            assert done.operation is not None
            lines.append(done.operation)
        await audit(database, owner, card)
    while lines:
        await undo(database, owner, lines.pop(0))

    assert await audit(database, owner, card) == (1, 0)
    assert (await stored(database, owner, card)).last_stamp_at is None


async def _publish(database: Database, owner: Actor, template_id: str, required: int) -> None:
    given = {
        "id": template_id,
        "stamps_required": required,
        "goals": [an_award_goal(1), an_award_goal(required)],
    }
    publish = PublishCardTemplateInput(id=Id(template_id))
    await database.write(owner.business_id, lambda tx: update_card_template(tx, owner, given, NOW))
    await database.write(
        owner.business_id, lambda tx: publish_card_template(tx, owner, publish, NOW)
    )


async def test_stamps_whose_voucher_was_redeemed_stay(database: Database, cafe: Cafe) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    done = await stamps(database, owner, card, 4)
    voucher_id = done.rewards[0].voucher_id
    await redeem(database, owner, voucher_id)
    before = [await stored(database, owner, row) for row in (card, done.operation, done.rewards[0])]
    [last] = await told(database, owner, 1)

    refused = await refusal(undo(database, owner, done.operation))

    assert (refused.code, refused.field) == (Code.REWARD_SPENT, ["input", "id"])
    after = [await stored(database, owner, row) for row in (card, done.operation, done.rewards[0])]
    assert after == before
    assert await told(database, owner, 1) == [last]
    assert await audit(database, owner, card) == (2, 1)

    await reverse(database, owner, voucher_id)
    await undo(database, owner, done.operation)
    assert await audit(database, owner, card) == (1, 0)


async def test_stamps_whose_ticket_was_played_stay_and_a_voided_ticket_cannot_be_played(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    lottery = LotteryVariantInput(type=VariantType.NO_PRIZE, probability=10_000, name="Next time")
    template = await a_card_template(database, owner, 1, [a_lottery_goal(1, lottery)])
    card = await a_card(database, owner, template.id)
    first, second = [await stamps(database, owner, card) for _ in range(2)]
    ticket, other = first.lottery_tickets[0], second.lottery_tickets[0]
    play = PlayLotteryInput(ticket_id=Id(ticket.id))
    await database.write(owner.business_id, lambda tx: play_lottery(tx, owner, play, NOW))

    done = await undo(database, owner, first.operation)  # the second stamp still reaches its goal

    assert [item.id for item in done.lottery_tickets] == [other.id]
    assert await audit(database, owner, card) == (1, 1)
    refused = await refusal(undo(database, owner, second.operation))
    assert refused.code is Code.REWARD_SPENT
    play = PlayLotteryInput(ticket_id=Id(other.id))
    refused = await refusal(
        database.write(owner.business_id, lambda tx: play_lottery(tx, owner, play, NOW))
    )
    assert refused.code is Code.TICKET_VOIDED
    assert (await stored(database, owner, other)).revealed_seed is None


async def test_a_scanner_undoes_its_own_for_15_minutes(database: Database, cafe: Cafe) -> None:
    mine, theirs = [await a_staff(database, cafe.owner) for _ in range(2)]
    manager = await a_staff(database, cafe.owner, Role.MANAGER)
    card = await a_card(database, cafe.owner)
    lines = [(await stamps(database, mine, card)).operation for _ in range(3)]

    foreign = await refusal(undo(database, theirs, lines[0]))
    late = await refusal(undo(database, mine, lines[0], LATE))
    await undo(database, mine, lines[0], SOON)
    await undo(database, manager, lines[1], NOW + timedelta(days=400))
    await undo(database, cafe.owner, lines[2], NOW + timedelta(days=400))

    assert (foreign.code, late.code) == (Code.UNDO_NOT_ALLOWED, Code.UNDO_NOT_ALLOWED)
    assert await audit(database, cafe.owner, card) == (1, 0)


async def test_a_line_is_undone_once_and_an_undoing_never(database: Database, cafe: Cafe) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    line = (await stamps(database, owner, card)).operation

    done = await asyncio.gather(
        *(undo(database, owner, line) for _ in range(6)), return_exceptions=True
    )

    [won] = [item for item in done if isinstance(item, Undone)]
    assert {item.code for item in done if isinstance(item, Refused)} == {Code.ALREADY_UNDONE}
    assert won.operation is not None
    void = Operation(id=won.operation.voided_by_id)
    with pytest.raises(Invalid):
        await undo(database, owner, void)
    with pytest.raises(NotFound):
        await undo(database, (await a_business(database)).owner, line)
    assert await audit(database, owner, card) == (1, 0)


async def test_stamps_of_a_deleted_card_stay(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    line = (await stamps(database, cafe.owner, card)).operation
    gone = DeleteCardInput(id=Id(card.id))
    await database.write(cafe.business.id, lambda tx: delete_card(tx, cafe.owner, gone, NOW))

    assert (await refusal(undo(database, cafe.owner, line))).code is Code.CARD_DELETED


@pytest.mark.parametrize("way", ["void_operation", "void_voucher"])
async def test_a_voucher_issued_by_hand_is_taken_back(
    database: Database, cafe: Cafe, way: str
) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    voucher = await a_voucher(database, owner, card=card)
    [line] = await _lines_of(database, owner, voucher)

    if way == "void_operation":
        await undo(database, owner, line)
    else:
        await take(database, owner, voucher)

    marked, void = await _lines_of(database, owner, voucher)
    assert (await stored(database, owner, voucher)).status is VoucherStatus.VOIDED
    assert (marked.voided_by_id, void.voids_id) == (void.id, marked.id)
    [body] = await told(database, owner, 1)
    assert (body["event"], body["operation"]["id"], body["operation"]["kind"]) == (
        "operation_voided",
        line.id,
        "voucher_issue",
    )
    assert body["operation"]["voided_vouchers"] == [voucher.id]
    assert (await refusal(undo(database, owner, line))).code is Code.ALREADY_UNDONE
    assert (await refusal(take(database, owner, voucher))).code is Code.VOUCHER_NOT_ACTIVE
    assert (await refusal(redeem(database, owner, voucher.id))).code is Code.VOUCHER_NOT_ACTIVE
    assert await audit(database, owner, card) == (1, 0)


async def test_a_voucher_of_a_goal_is_voided_by_a_line_of_its_own(
    database: Database, cafe: Cafe
) -> None:
    mine, theirs = [await a_staff(database, cafe.owner) for _ in range(2)]
    card = await a_card(database, cafe.owner)
    done = await stamps(database, mine, card, 3)
    voucher = await database.read(
        cafe.business.id, lambda tx: tx.get(Voucher, done.rewards[0].voucher_id)
    )
    assert voucher is not None

    foreign = await refusal(take(database, theirs, voucher))
    late = await refusal(take(database, mine, voucher, LATE))
    await take(database, mine, voucher, SOON)

    assert (foreign.code, late.code) == (Code.UNDO_NOT_ALLOWED, Code.UNDO_NOT_ALLOWED)
    [void] = await _lines_of(database, cafe.owner, voucher)
    [body] = await told(database, cafe.owner, 1)
    assert (void.kind, void.voids_id) == (OperationKind.VOID, None)
    assert (body["operation"]["id"], body["operation"]["kind"]) == (void.id, "void")
    assert await audit(database, cafe.owner, card) == (1, 3)


async def take(
    database: Database, actor: Actor, voucher: Voucher, now: datetime = NOW
) -> Voucher | None:
    """Void a voucher."""
    asked = VoidVoucherInput(id=Id(voucher.id))
    done = await database.write(actor.business_id, lambda tx: void_voucher(tx, actor, asked, now))
    return done.voucher


async def _lines_of(database: Database, actor: Actor, voucher: Voucher) -> list[Operation]:
    return await database.read(
        actor.business_id, lambda tx: tx.many(_OF_VOUCHER, voucher_id=voucher.id)
    )


async def test_a_reversed_redemption_can_be_made_again(database: Database, cafe: Cafe) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    voucher = await a_voucher(database, owner, card=card)
    await redeem(database, owner, voucher.id)

    back = await reverse(database, owner, voucher.id)

    assert (back.status, back.redeemed_at, back.redeemed_via, back.redeemed_by_id) == (
        VoucherStatus.ACTIVE,
        None,
        None,
        None,
    )
    _, redemption, void = await _lines_of(database, owner, voucher)
    assert (redemption.voided_by_id, void.voids_id, void.kind) == (
        void.id,
        redemption.id,
        OperationKind.VOID,
    )
    [body] = await told(database, owner, 1)
    assert body["event"] == "operation_voided"
    assert body["operation"]["kind"] == "voucher_redeem"
    assert body["operation"]["voucher_id"] == voucher.id
    assert body["operation"]["voided_vouchers"] == []
    again = await redeem(database, owner, voucher.id)
    assert again.status is VoucherStatus.REDEEMED
    with pytest.raises(VoucherAlreadyRedeemed):
        await redeem(database, owner, voucher.id)


async def test_a_redemption_is_reversed_by_its_line_too(database: Database, cafe: Cafe) -> None:
    voucher = await a_voucher(database, cafe.owner)
    await redeem(database, cafe.owner, voucher.id)
    _, redemption = await _lines_of(database, cafe.owner, voucher)

    done = await undo(database, cafe.owner, redemption)

    assert done.voucher is not None
    assert done.voucher.status is VoucherStatus.ACTIVE
    assert done.card is None
    assert (await refusal(reverse(database, cafe.owner, voucher.id))).code is (
        Code.VOUCHER_NOT_REDEEMED
    )


async def test_a_redemption_reversed_too_late_leaves_the_voucher_expired(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    template = await a_voucher_template(database, owner, validity=ValidityInput(days=1))
    voucher = await a_voucher(database, owner, template.id)
    await redeem(database, owner, voucher.id)

    back = await reverse(database, owner, voucher.id, NOW + timedelta(days=9))

    assert back.status is VoucherStatus.EXPIRED
    voided, expired = await told(database, owner, 2)
    assert [voided["event"], expired["event"]] == ["operation_voided", "voucher_expired"]
    assert expired["voucher"]["id"] == voucher.id


async def test_a_scanner_reverses_its_own_redemptions_for_15_minutes(
    database: Database, cafe: Cafe
) -> None:
    mine, theirs = [await a_staff(database, cafe.owner) for _ in range(2)]
    voucher = await a_voucher(database, cafe.owner)
    await redeem(database, mine, voucher.id)

    foreign = await refusal(reverse(database, theirs, voucher.id))
    late = await refusal(reverse(database, mine, voucher.id, LATE))
    back = await reverse(database, mine, voucher.id, SOON)

    assert (foreign.code, late.code) == (Code.UNDO_NOT_ALLOWED, Code.UNDO_NOT_ALLOWED)
    assert back.status is VoucherStatus.ACTIVE


async def test_undoing_and_redeeming_at_once_never_both_succeed(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    won = set()
    for turn in range(12):
        card = await a_card(database, owner)
        done = await stamps(database, owner, card, 3)
        voucher_id = done.rewards[0].voucher_id
        race = [redeem(database, owner, voucher_id), undo(database, owner, done.operation)]
        if turn % 2:
            race.reverse()

        ended = await asyncio.gather(*race, return_exceptions=True)

        [winner] = [item for item in ended if not isinstance(item, Refused)]
        [loser] = [item for item in ended if isinstance(item, Refused)]
        won.add(type(winner).__name__)
        voucher = await database.read(
            cafe.business.id, lambda tx, id=voucher_id: tx.get(Voucher, id)
        )
        assert voucher is not None
        if isinstance(winner, Voucher):
            assert (voucher.status, loser.code) == (VoucherStatus.REDEEMED, Code.REWARD_SPENT)
            assert await audit(database, owner, card) == (1, 3)
        else:
            assert (voucher.status, loser.code) == (VoucherStatus.VOIDED, Code.VOUCHER_NOT_ACTIVE)
            assert await audit(database, owner, card) == (1, 0)
    assert won


async def test_undoing_and_stamping_at_once_keep_the_ledger_whole(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)
    lines = [(await stamps(database, owner, card, 2)).operation for _ in range(5)]

    await asyncio.gather(
        *(undo(database, owner, line) for line in lines),
        *(stamps(database, owner, card, 2) for _ in range(5)),
    )

    assert await audit(database, owner, card) == (4, 1)


async def test_a_goal_that_an_import_had_passed_is_paid_where_our_stamps_now_reach_it(
    database: Database, cafe: Cafe
) -> None:
    owner = cafe.owner
    card = await a_card(database, owner)  # a voucher at 3
    first = await stamps(database, owner, card, 1)
    given = AddStampsInput(card=CardRef(id=Id(card.id)), count=2, channel=StampChannel.IMPORT)

    async def bring(tx: Transaction) -> StampsAdded:
        held, customer = await find_card(tx, given.card)
        return await stamp_card(tx, owner, held, customer, given, NOW, is_import=True)

    brought = await database.write(owner.business_id, bring)
    assert brought.rewards == []
    await stamps(database, owner, card, 1)
    assert await audit(database, owner, card) == (2, 1)

    await undo(database, owner, first.operation)

    assert await audit(database, owner, card) == (1, 3)
    assert [body["event"] for body in await told(database, owner, 4)] == [
        "operation_voided",
        "goal_reached",
        "reward_issued",
        "voucher_issued",
    ]
