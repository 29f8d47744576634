"""Lotteries: tickets handed out with a hidden seed, and played once."""

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, NotFound, Refused, TicketAlreadyPlayed
from core.ids import Id, new_id
from core.luck import UNGUESSABLE, Luck
from db import BUSINESS, Transaction, among, param, query
from events import LotteryPlayed, RewardIssued, VoucherIssued, record
from events.catalogue import LotteryPart, RewardPart
from models import (
    Actor,
    Card,
    Customer,
    Draw,
    Goal,
    LotteryTicket,
    LotteryVariant,
    Operation,
    Reward,
    RewardType,
    Source,
    TicketStatus,
    Variant,
    VariantType,
    Voucher,
    VoucherTemplate,
    commitment_of,
    draw,
)
from services.card_refs import CardRef, find_card
from services.figures import count, count_reward
from services.operation import EVERYBODY, Input, Outcome, operation
from services.vouchers import (
    VoucherPlan,
    add_voucher,
    card_part,
    customer_part,
    voucher_issued,
)

_VARIANTS = query(
    select(LotteryVariant)
    .where(
        col(LotteryVariant.business_id) == BUSINESS, col(LotteryVariant.goal_id) == param("goal_id")
    )
    .order_by(col(LotteryVariant.position))
)
_SOLD_OUT = query(
    select(LotteryVariant.id).where(
        col(LotteryVariant.business_id) == BUSINESS,
        among(col(LotteryVariant.id), "ids"),
        col(LotteryVariant.stock) <= 0,
    )
)
_TAKE = query(
    update(LotteryVariant)
    .where(
        col(LotteryVariant.business_id) == BUSINESS,
        col(LotteryVariant.id) == param("id"),
        col(LotteryVariant.stock) > 0,
    )
    .values(stock=col(LotteryVariant.stock) - 1)
    .returning(LotteryVariant)
)
_PLAY = query(
    update(LotteryTicket)
    .where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.id) == param("id"),
        col(LotteryTicket.status) == TicketStatus.PENDING,
    )
    .values(status=TicketStatus.PLAYED, played_at=param("now"))
    .returning(LotteryTicket)
)
_PRIZES = {VariantType.AWARD: RewardType.AWARD, VariantType.VOUCHER: RewardType.VOUCHER}


@dataclass(kw_only=True)
class PlayLotteryInput(Input):
    """The ticket to play."""

    ticket_id: Annotated[Id, Doc("The lottery ticket.")]


@dataclass(kw_only=True)
class LotteryOutcome(Outcome):
    """How the draw came out."""

    ticket: Annotated[LotteryTicket | None, Doc("The ticket, with its result and its seed.")] = None
    next_ticket: Annotated[
        LotteryTicket | None, Doc("Another ticket, where the outcome was TRY_AGAIN.")
    ] = None
    rewards: Annotated[list[Reward], Doc("What it won; empty where it won nothing.")] = field(
        default_factory=list
    )


@operation(*EVERYBODY, fires=(LotteryPlayed, RewardIssued, VoucherIssued))
async def play_lottery(
    tx: Transaction,
    actor: Actor,
    input: PlayLotteryInput,
    now: datetime,
    *,
    luck: Luck = UNGUESSABLE,
) -> LotteryOutcome:
    """Play a lottery ticket: its hidden seed draws the outcome, and what it won is handed out.

    A ticket plays once. TRY_AGAIN gives another ticket; the third in a row leaves it out.
    """
    ticket = await tx.get(LotteryTicket, input.ticket_id)
    if ticket is None:
        raise NotFound("lottery ticket", "input", "ticketId")
    ref = CardRef(id=Id(ticket.card_id))
    card, customer = await find_card(tx, ref, "input", "ticketId", lock=True)
    if card.deleted_at is not None:
        raise Refused(Code.CARD_DELETED, "This card was deleted.", "input", "ticketId")
    card = await tx.change(card, last_activity_at=now)
    customer = await tx.change(customer, last_activity_at=now)
    return await play(tx, actor, ticket, card, customer, now, luck=luck)


async def play(
    tx: Transaction,
    actor: Actor,
    ticket: LotteryTicket,
    card: Card,
    customer: Customer,
    now: datetime,
    *,
    luck: Luck,
) -> LotteryOutcome:
    """Play a ticket of this card, which the transaction holds; refused if it was played before."""
    played = await tx.maybe(_PLAY, id=ticket.id, now=now)
    if played is None:
        await _refuse(tx, ticket)
    count(tx, actor, now, card.template_id, lottery_plays=1)
    drawn, left_out = await _draw(tx, ticket)
    won = drawn.outcome
    told = {
        "variant_id": won.id,
        "roll": drawn.roll,
        "odds": drawn.odds,
        "left_out": sorted(left_out),
    }
    ticket = await tx.change(played or ticket, result=told)
    voucher = await _voucher(tx, actor, ticket, won, card, now)
    parts: dict[str, Any] = {
        "location_id": actor.location_id,
        "customer": customer_part(customer, card),
        "card": card_part(card, ticket.goal_position),
    }
    part = LotteryPart(
        ticket_id=ticket.id,
        variant_id=won.id,
        variant_type=won.type,
        name=won.name,
        greeting=won.greeting,
        voucher_id=voucher.id if voucher else None,
    )
    record(tx, actor, LotteryPlayed(**parts, lottery=part), now)
    outcome = LotteryOutcome(ticket=ticket)
    if won.type in _PRIZES:
        reward = await _reward(tx, actor, ticket, won, voucher, now)
        count_reward(tx, actor, reward, card.template_id)
        outcome.rewards.append(reward)
        prize = RewardPart(
            id=reward.id,
            type=reward.type,
            title=reward.title,
            source=reward.source,
            voucher_id=reward.voucher_id,
        )
        record(tx, actor, RewardIssued(**parts, reward=prize), now)
    if voucher is not None:
        record(tx, actor, voucher_issued(actor, voucher, card, customer), now)
    if won.type is VariantType.TRY_AGAIN:
        outcome.next_ticket = await _another(tx, ticket, now, luck)
    return outcome


async def issue_ticket(
    tx: Transaction,
    actor: Actor,
    card: Card,
    operation_: Operation,
    cycle: int,
    goal: Goal,
    now: datetime,
    *,
    luck: Luck,
) -> LotteryTicket:
    """A ticket for a goal's lottery: odds frozen, seed hidden, commitment published."""
    seed = luck.seed()
    ticket = LotteryTicket(
        id=new_id("lt"),
        business_id=actor.business_id,
        card_id=card.id,
        operation_id=operation_.id,
        goal_id=goal.id,
        goal_position=goal.position,
        cycle=cycle,
        variants=[_frozen(item) for item in await tx.many(_VARIANTS, goal_id=goal.id)],
        seed=seed,
        commitment=commitment_of(seed),
        created_at=now,
    )
    await tx.add(ticket)
    return ticket


def _frozen(variant: LotteryVariant) -> dict[str, Any]:
    return dataclasses.asdict(
        Variant(
            id=variant.id,
            type=variant.type,
            probability=variant.probability,
            name=variant.name,
            greeting=variant.greeting,
            limited=variant.stock is not None,
            voucher_template_id=variant.voucher_template_id,
        )
    )


async def _another(
    tx: Transaction, ticket: LotteryTicket, now: datetime, luck: Luck
) -> LotteryTicket:
    """The ticket that TRY_AGAIN gives: the same promise with a seed of its own."""
    seed = luck.seed()
    following = ticket.with_values(
        id=new_id("lt"),
        chain=ticket.chain + 1,
        status=TicketStatus.PENDING,
        seed=seed,
        commitment=commitment_of(seed),
        result=None,
        created_at=now,
        played_at=None,
    )
    await tx.add(following)
    return following


async def _refuse(tx: Transaction, ticket: LotteryTicket) -> None:
    as_it_is = await tx.get(LotteryTicket, ticket.id) or ticket
    if as_it_is.played_at is not None:
        raise TicketAlreadyPlayed(as_it_is.id, as_it_is.played_at)
    raise Refused(
        Code.TICKET_VOIDED,
        "What gave this ticket was undone.",
        "input",
        "ticketId",
    )


async def _draw(tx: Transaction, ticket: LotteryTicket) -> tuple[Draw, set[str]]:
    """What the ticket's seed draws, with its stock taken; and what could not be drawn.

    Whoever loses the race for the last one finds it sold out, and draws by the same seed again.
    """
    outcomes, left_out = ticket.outcomes, set(ticket.never_again)
    limited = [item.id for item in outcomes if item.limited]
    if limited:
        left_out |= set(await tx.many(_SOLD_OUT, ids=limited))
    while True:
        drawn = draw(ticket.seed, outcomes, left_out)
        won = drawn.outcome
        if not won.limited or await tx.maybe(_TAKE, id=won.id) is not None:
            return drawn, left_out
        left_out.add(won.id)


async def _voucher(
    tx: Transaction,
    actor: Actor,
    ticket: LotteryTicket,
    won: Variant,
    card: Card,
    now: datetime,
) -> Voucher | None:
    template = await tx.get(VoucherTemplate, won.voucher_template_id)
    if template is None:
        return None
    return await add_voucher(
        tx,
        actor,
        VoucherPlan.of(template, actor, now),
        Source.LOTTERY,
        card,
        operation_id=ticket.operation_id,
        goal_position=ticket.goal_position,
        cycle=ticket.cycle,
    )


async def _reward(
    tx: Transaction,
    actor: Actor,
    ticket: LotteryTicket,
    won: Variant,
    voucher: Voucher | None,
    now: datetime,
) -> Reward:
    reward = Reward(
        id=new_id("rw"),
        business_id=actor.business_id,
        card_id=ticket.card_id,
        operation_id=ticket.operation_id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        voucher_id=voucher.id if voucher else None,
        goal_id=ticket.goal_id,
        goal_position=ticket.goal_position,
        cycle=ticket.cycle,
        type=_PRIZES[won.type],
        source=Source.LOTTERY,
        title=won.name,
        snapshot={"description": won.greeting, "image_url": None, "ticket_id": ticket.id},
        issued_at=now,
    )
    await tx.add(reward)
    return reward
