"""Undo: what was done by mistake is taken back, and a line of the ledger says so."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Query, Transaction, param, query
from events import (
    GoalReached,
    LotteryPlayed,
    OperationVoided,
    RewardIssued,
    VoucherExpired,
    VoucherIssued,
    record,
)
from events.catalogue import VoidedOperationPart
from models import (
    Actor,
    Card,
    Customer,
    LotteryTicket,
    Operation,
    OperationKind,
    Reward,
    Source,
    TicketStatus,
    Voucher,
    VoucherStatus,
    check_undo,
    replay,
)
from services.agenda import pull_agenda
from services.card_refs import CardRef, find_card
from services.cards import StampsAdded, pay_goal, promise_of
from services.expiry import expire
from services.figures import count_redemption, count_reward, count_stamps, count_voucher
from services.operation import EVERYBODY, Input, Outcome, operation
from services.text import long_text
from services.vouchers import VoucherOutcome, VoucherRef, card_part, customer_part, find_voucher

_MARK: Query[Operation] = query(
    update(Operation)
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.id) == param("id"),
        col(Operation.voided_by_id).is_(None),
    )
    .values(voided_by_id=param("void_id"))
    .returning(Operation)
)
_LINES = query(
    select(Operation)
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.card_id) == param("card_id"),
        col(Operation.line).is_not(None),
    )
    .order_by(col(Operation.line))
)
_ISSUE = query(
    select(Operation).where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.voucher_id) == param("voucher_id"),
        col(Operation.kind) == OperationKind.VOUCHER_ISSUE,
    )
)
_REDEMPTION = query(
    select(Operation).where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.voucher_id) == param("voucher_id"),
        col(Operation.kind) == OperationKind.VOUCHER_REDEEM,
        col(Operation.voided_by_id).is_(None),
    )
)
_REWARDS = query(
    select(Reward)
    .where(
        col(Reward.business_id) == BUSINESS,
        col(Reward.card_id) == param("card_id"),
        col(Reward.source) == Source.GOAL,
        col(Reward.voided_at).is_(None),
    )
    .order_by(col(Reward.id))
)
_TICKETS = query(
    select(LotteryTicket)
    .where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.card_id) == param("card_id"),
        col(LotteryTicket.chain) == 0,
        col(LotteryTicket.status) != TicketStatus.VOIDED,
    )
    .order_by(col(LotteryTicket.id))
)
_VOID_TICKET = query(
    update(LotteryTicket)
    .where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.id) == param("id"),
        col(LotteryTicket.status) == TicketStatus.PENDING,
    )
    .values(status=TicketStatus.VOIDED)
    .returning(LotteryTicket)
)
_VOID_VOUCHER = query(
    update(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.id) == param("id"),
        col(Voucher.status).in_([VoucherStatus.ACTIVE, VoucherStatus.ISSUED]),
    )
    .values(status=VoucherStatus.VOIDED, voided_at=param("now"), voided_by_id=param("staff_id"))
    .returning(Voucher)
)
_REVERSE = query(
    update(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.id) == param("id"),
        col(Voucher.status) == VoucherStatus.REDEEMED,
    )
    .values(
        status=VoucherStatus.ACTIVE,
        redeemed_at=None,
        redeemed_via=None,
        redeemed_by_id=None,
    )
    .returning(Voucher)
)
_REASON = Doc("Why, for the ledger; at most 500 characters.")


@dataclass(kw_only=True)
class VoidOperationInput(Input):
    """The operation to undo."""

    id: Annotated[Id, Doc("The line of the ledger: stamps, a voucher issued, a redemption.")]
    reason: Annotated[str | None, _REASON] = None


@dataclass(kw_only=True)
class ReverseRedemptionInput(Input):
    """The redemption to undo."""

    voucher: Annotated[VoucherRef, Doc("The voucher that was redeemed.")]
    reason: Annotated[str | None, _REASON] = None


@dataclass(kw_only=True)
class VoidVoucherInput(Input):
    """The voucher to void."""

    id: Annotated[Id, Doc("The voucher's id.")]
    reason: Annotated[str | None, _REASON] = None


@dataclass(kw_only=True)
class Undone(Outcome):
    """The operation that was undone, and what went with it."""

    operation: Annotated[Operation | None, Doc("The operation, now voided.")] = None
    card: Annotated[Card | None, Doc("Its card, where the ledger now says it stands.")] = None
    voucher: Annotated[Voucher | None, Doc("The voucher it had issued or redeemed.")] = None
    rewards: Annotated[list[Reward], Doc("The rewards that were voided with it.")] = field(
        default_factory=list
    )
    vouchers: Annotated[list[Voucher], Doc("The vouchers that were voided with it.")] = field(
        default_factory=list
    )
    lottery_tickets: Annotated[
        list[LotteryTicket], Doc("The lottery tickets that were voided with it.")
    ] = field(default_factory=list)


@operation(
    *EVERYBODY,
    fires=(
        OperationVoided,
        VoucherExpired,
        GoalReached,
        LotteryPlayed,
        RewardIssued,
        VoucherIssued,
    ),
)
async def void_operation(
    tx: Transaction, actor: Actor, input: VoidOperationInput, now: datetime
) -> Undone:
    """Undo stamps, a voucher issued by hand, or a redemption.

    The card then stands where its other stamps lead it. Rewards, vouchers and lottery tickets of
    goals it no longer reaches are voided; refused where one of them was redeemed or played. A
    goal that imported stamps had passed unpaid is paid where the others now reach it. A scanner
    undoes its own work, for 15 minutes.
    """
    line = await tx.get(Operation, input.id)
    if line is None:
        raise NotFound("operation", "input", "id")
    if line.kind is OperationKind.VOID:
        raise Invalid("What undid something cannot be undone.", "input", "id")
    if line.kind is OperationKind.MERGE:
        raise Invalid("Cards that were joined cannot be parted.", "input", "id")
    line.check_undoable(actor, now, "input", "id")
    void = _void_of(actor, line, input.reason, now)
    if line.kind is OperationKind.STAMPS:
        return await _undo_stamps(tx, actor, line, void, now)
    if line.kind is OperationKind.VOUCHER_ISSUE:
        return await _undo_issue(tx, actor, line, void, now)
    return await _undo_redemption(tx, actor, line, void, now)


@operation(*EVERYBODY, fires=(OperationVoided, VoucherExpired))
async def reverse_redemption(
    tx: Transaction, actor: Actor, input: ReverseRedemptionInput, now: datetime
) -> VoucherOutcome:
    """Take a redemption back: the voucher can be redeemed again, unless its time has passed.

    A scanner reverses its own redemptions, for 15 minutes.
    """
    path = ("input", "voucher")
    voucher = await find_voucher(tx, input.voucher, now, *path)
    line = await tx.maybe(_REDEMPTION, voucher_id=voucher.id)
    if line is None:
        raise Refused(Code.VOUCHER_NOT_REDEEMED, "This voucher is not redeemed.", *path)
    line.check_undoable(actor, now, *path)
    void = _void_of(actor, line, input.reason, now)
    undone = await _undo_redemption(tx, actor, line, void, now)
    return VoucherOutcome(voucher=undone.voucher)


@operation(*EVERYBODY, fires=(OperationVoided,))
async def void_voucher(
    tx: Transaction, actor: Actor, input: VoidVoucherInput, now: datetime
) -> VoucherOutcome:
    """Void a voucher that was not redeemed, whatever it was issued for.

    A scanner voids what its own work issued, for 15 minutes.
    """
    voucher = await tx.get(Voucher, input.id)
    if voucher is None:
        raise NotFound("voucher", "input", "id")
    line = await tx.maybe(_ISSUE, voucher_id=voucher.id)
    cause = line or await tx.get(Operation, voucher.operation_id)
    check_undo(actor, cause.staff_id if cause else None, voucher.issued_at, now, "input", "id")
    void = _void_of(actor, line, input.reason, now, voucher)
    voided = await tx.maybe(_VOID_VOUCHER, id=voucher.id, now=now, staff_id=actor.staff_id)
    if voided is None:
        raise Refused(
            Code.VOUCHER_NOT_ACTIVE, "Only an unspent voucher can be voided.", "input", "id"
        )
    if line is not None:
        await _mark(tx, line, void)
    await tx.add(void)
    card, customer = await _owner(tx, voided.card_id)
    _tell(tx, actor, line or void, void, card, customer, now, Undone(vouchers=[voided]))
    return VoucherOutcome(voucher=voided)


async def _undo_stamps(
    tx: Transaction, actor: Actor, line: Operation, void: Operation, now: datetime
) -> Undone:
    """Put the card where its ledger leads without this line; take back what lies beyond."""
    ref = CardRef(id=Id(line.card_id or ""))
    card, customer = await find_card(tx, ref, "input", "id", lock=True)
    if card.deleted_at is not None or card.id != line.card_id:
        raise Refused(Code.CARD_DELETED, "This card is no longer in use.", "input", "id")
    undone = Undone(operation=await _mark(tx, line, void))
    lines = await tx.many(_LINES, card_id=card.id)
    named = {item.version_before_id for item in lines} | {item.version_id for item in lines}
    stands = replay(lines, {id: await promise_of(tx, id) for id in named if id})
    unpaid = {(cycle, goal.position): goal for cycle, goal in stands.reached}
    for reward in await tx.many(_REWARDS, card_id=card.id):
        if unpaid.pop((reward.cycle or 0, reward.goal_position or 0), None) is None:
            await _take_back(tx, actor, reward, undone, now)
    for ticket in await tx.many(_TICKETS, card_id=card.id):
        if unpaid.pop((ticket.cycle, ticket.goal_position), None) is None:
            voided = await tx.maybe(_VOID_TICKET, id=ticket.id)
            if voided is None:
                raise _spent("A lottery ticket of it was played.")
            undone.lottery_tickets.append(voided)
    void = void.with_values(
        line=card.lines + 1,
        count=-line.count,
        version_before_id=card.version_id,
        version_id=stands.version_id,
        before=card.stamps,
        after=stands.stamps,
        cycle_before=card.cycle,
        cycle_after=stands.cycle,
    )
    await tx.add(void)
    undone.card = await tx.change(
        card,
        stamps=stands.stamps,
        cycle=stands.cycle,
        lines=card.lines + 1,
        version_id=stands.version_id,
        last_stamp_at=stands.last.occurred_at if stands.last else None,
    )
    _tell(tx, actor, line, void, undone.card, customer, now, undone)
    # Where imported stamps had passed a goal, which was paid elsewhere, ours may now reach it.
    paid = StampsAdded()
    for (cycle, _), goal in unpaid.items():
        await pay_goal(tx, actor, undone.card, customer, void, cycle, goal, now, paid, plays=True)
    return undone


async def _take_back(
    tx: Transaction, actor: Actor, reward: Reward, undone: Undone, now: datetime
) -> None:
    """Void a reward, and its voucher unless its life has ended already."""
    undone.rewards.append(await tx.change(reward, voided_at=now))
    if reward.voucher_id is not None:
        voided = await _void_unspent(tx, actor, reward.voucher_id, now)
        if voided is not None:
            undone.vouchers.append(voided)


async def _undo_issue(
    tx: Transaction, actor: Actor, line: Operation, void: Operation, now: datetime
) -> Undone:
    voided = await _void_unspent(tx, actor, line.voucher_id or "", now)
    undone = Undone(operation=await _mark(tx, line, void))
    undone.voucher = voided or await tx.get(Voucher, line.voucher_id)
    undone.vouchers = [voided] if voided else []
    await tx.add(void)
    undone.card, customer = await _owner(tx, line.card_id)
    _tell(tx, actor, line, void, undone.card, customer, now, undone)
    return undone


async def _undo_redemption(
    tx: Transaction, actor: Actor, line: Operation, void: Operation, now: datetime
) -> Undone:
    voucher = await tx.maybe(_REVERSE, id=line.voucher_id)
    if voucher is None:
        raise _undone_before()
    undone = Undone(operation=await _mark(tx, line, void))
    await tx.add(void)
    undone.card, customer = await _owner(tx, line.card_id)
    template_id = undone.card.template_id if undone.card else None
    count_redemption(tx, actor, line, voucher, template_id, times=-1)
    _tell(tx, actor, line, void, undone.card, customer, now, undone)
    ends = voucher.expires_at
    if ends is not None and ends <= now:
        await expire(tx, Actor(actor.business), voucher, ends)
    elif ends is not None:
        await pull_agenda(tx, actor.business, ends, now)
    undone.voucher = await tx.get(Voucher, voucher.id)
    return undone


async def _void_unspent(tx: Transaction, actor: Actor, id: str, now: datetime) -> Voucher | None:
    """Void a voucher; None where it expired or was voided before, refused where it is redeemed."""
    voided = await tx.maybe(_VOID_VOUCHER, id=id, now=now, staff_id=actor.staff_id)
    if voided is None:
        as_it_is = await tx.get(Voucher, id)
        if as_it_is is not None and as_it_is.status is VoucherStatus.REDEEMED:
            raise _spent("A voucher of it was redeemed; reverse that first.")
    return voided


async def _mark(tx: Transaction, line: Operation, void: Operation) -> Operation:
    """Mark a line as undone; of several who try at one moment, one succeeds."""
    marked = await tx.maybe(_MARK, id=line.id, void_id=void.id)
    if marked is None:
        raise _undone_before()
    return marked


def _void_of(
    actor: Actor,
    line: Operation | None,
    reason: str | None,
    now: datetime,
    voucher: Voucher | None = None,
) -> Operation:
    """The line that undoes a line, or voids a voucher that has none; not yet stored."""
    about: Any = line or voucher
    return Operation(
        id=new_id("op"),
        business_id=actor.business_id,
        kind=OperationKind.VOID,
        card_id=about.card_id,
        voucher_id=line.voucher_id if line else about.id,
        voids_id=line.id if line else None,
        staff_id=actor.staff_id,
        connector_id=actor.connector_id,
        location_id=actor.location_id,
        reason=long_text(reason, "input", "reason", most=500),
        occurred_at=now,
        created_at=now,
    )


def _tell(
    tx: Transaction,
    actor: Actor,
    line: Operation,
    void: Operation,
    card: Card | None,
    customer: Customer | None,
    now: datetime,
    undone: Undone,
) -> None:
    """Record what was undone, and take it back from the figures."""
    template_id = card.template_id if card else None
    if line.kind is OperationKind.STAMPS and card is not None:
        count_stamps(tx, actor, line, card.template_id, times=-1)
    for reward in undone.rewards:
        count_reward(tx, actor, reward, template_id, times=-1)
    for voucher in undone.vouchers:
        count_voucher(tx, actor, voucher, template_id, times=-1)
    told = VoidedOperationPart(
        id=line.id,
        kind=line.kind,
        count=max(line.count, 0),
        before=void.before,
        after=void.after,
        cycle=void.cycle_after,
        voucher_id=line.voucher_id,
        voided_rewards=[item.id for item in undone.rewards],
        voided_vouchers=[item.id for item in undone.vouchers],
        voided_tickets=[item.id for item in undone.lottery_tickets],
    )
    record(
        tx,
        actor,
        OperationVoided(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=card_part(card),
            operation=told,
        ),
        now,
    )


async def _owner(tx: Transaction, card_id: str | None) -> tuple[Card | None, Customer | None]:
    card = await tx.get(Card, card_id)
    return card, await tx.get(Customer, card.customer_id) if card else None


def _spent(message: str) -> Refused:
    return Refused(Code.REWARD_SPENT, message, "input", "id")


def _undone_before() -> Refused:
    return Refused(Code.ALREADY_UNDONE, "This was undone before.", "input")
