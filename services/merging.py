"""Merging: two records of one person become one; the old id leads to the one that was kept.

Both ledgers stay as they are, on their own cards, and all cards belong to the kept customer. Of
two cards of one template the kept one goes on: a line of its ledger (MERGE) adds the stamps of the
other's open cycle, by the arithmetic of every stamp. Of the goals it reaches so, those that the
other card's open cycle has paid are answered by those gifts, which move over; the rest are paid
now. So one card has what one person would have had on it. A full card's cycle is over: it adds
nothing. No event tells of a join, for none of them fits; the ledger does.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import delete, update
from sqlmodel import col, select

from core.errors import Invalid, NotFound
from core.ids import Id, new_id
from core.luck import UNGUESSABLE, Luck
from db import BUSINESS, Taken, Transaction, among, command, param, query
from events import GoalReached, LotteryPlayed, RewardIssued, VoucherIssued
from models import (
    Actor,
    BirthdayGift,
    CampaignRecipient,
    Card,
    CardPlatform,
    Consent,
    Contact,
    Customer,
    LotteryTicket,
    Message,
    Operation,
    OperationKind,
    PushSubscription,
    Reward,
    Source,
    TicketStatus,
    Voucher,
)
from services.cards import StampsAdded, following, pay_goal, promise_of
from services.customers import customer_of
from services.figures import count_deletion
from services.operation import MANAGERS, Input, Outcome, operation
from services.pass_marks import move_passes

_CUSTOMERS = query(
    select(Customer)
    .where(col(Customer.business_id) == BUSINESS, among(col(Customer.id), "ids"))
    .order_by(col(Customer.id))
    .with_for_update()
)
_CARDS = query(
    select(Card)
    .where(col(Card.business_id) == BUSINESS, among(col(Card.customer_id), "ids"))
    .order_by(col(Card.id).desc())
    .with_for_update()
)
_PLATFORMS = query(
    select(CardPlatform).where(
        col(CardPlatform.business_id) == BUSINESS, col(CardPlatform.card_id) == param("card_id")
    )
)
_CONSENTS = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS, col(Consent.customer_id) == param("customer_id")
    )
)
_FORGET_CONSENTS = command(
    delete(Consent).where(
        col(Consent.business_id) == BUSINESS, col(Consent.customer_id) == param("customer_id")
    )
)
_BIRTHDAYS = query(
    select(BirthdayGift).where(
        col(BirthdayGift.business_id) == BUSINESS,
        col(BirthdayGift.customer_id) == param("customer_id"),
    )
)
_PAID = query(
    select(Reward.goal_position).where(
        col(Reward.business_id) == BUSINESS,
        col(Reward.card_id) == param("card_id"),
        col(Reward.cycle) == param("cycle"),
        col(Reward.source) == Source.GOAL,
        col(Reward.voided_at).is_(None),
    )
)
_PROMISED = query(
    select(LotteryTicket.goal_position).where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.card_id) == param("card_id"),
        col(LotteryTicket.cycle) == param("cycle"),
        col(LotteryTicket.status) != TicketStatus.VOIDED,
    )
)
_MOVE_GIFTS = [
    command(
        update(table)
        .where(
            col(table.business_id) == BUSINESS,
            col(table.card_id) == param("from_id"),
            col(table.cycle) == param("from_cycle"),
            col(table.goal_position) == param("position"),
            alive,
        )
        .values(card_id=param("to_id"), cycle=param("to_cycle"))
    )
    for table, alive in (
        (Reward, col(Reward.voided_at).is_(None)),
        (LotteryTicket, col(LotteryTicket.status) != TicketStatus.VOIDED),
        (Voucher, col(Voucher.voided_at).is_(None)),
    )
]
_MOVE_VOUCHERS = command(
    update(Voucher)
    .where(col(Voucher.business_id) == BUSINESS, col(Voucher.card_id) == param("from_id"))
    .values(card_id=param("to_id"))
)
_FORGET_PLATFORMS = command(
    delete(CardPlatform).where(
        col(CardPlatform.business_id) == BUSINESS, col(CardPlatform.card_id) == param("card_id")
    )
)
_LEAD_CUSTOMERS_ON, _LEAD_CARDS_ON = (
    command(
        update(table)
        .where(col(table.business_id) == BUSINESS, col(table.merged_into) == param("from_id"))
        .values(merged_into=param("to_id"))
    )
    for table in (Customer, Card)
)
_MOVE_MESSAGES = [
    command(
        update(table)
        .where(col(table.business_id) == BUSINESS, col(table.customer_id) == param("from_id"))
        .values(customer_id=param("to_id"))
    )
    for table in (Message, CampaignRecipient, Contact)
]
# A browser that both allowed is kept once.
_FORGET_BROWSERS = command(
    delete(PushSubscription).where(
        col(PushSubscription.business_id) == BUSINESS,
        col(PushSubscription.customer_id) == param("from_id"),
        col(PushSubscription.endpoint_digest).in_(
            select(PushSubscription.endpoint_digest).where(
                col(PushSubscription.business_id) == BUSINESS,
                col(PushSubscription.customer_id) == param("to_id"),
            )
        ),
    )
)
_MOVE_BROWSERS = command(
    update(PushSubscription)
    .where(
        col(PushSubscription.business_id) == BUSINESS,
        col(PushSubscription.customer_id) == param("from_id"),
    )
    .values(customer_id=param("to_id"))
)


@dataclass(kw_only=True)
class MergeCustomersInput(Input):
    """Two records of one person."""

    keep_id: Annotated[Id, Doc("The customer that is kept.")]
    merge_id: Annotated[Id, Doc("The customer that is merged into it.")]
    dry_run: Annotated[bool, Doc("Only show what would come of it; nothing is written.")] = False


@dataclass(kw_only=True)
class CustomersMerged(Outcome):
    """The kept customer, and what it then has."""

    customer: Annotated[Customer | None, Doc("The kept customer.")] = None
    cards: Annotated[list[Card], Doc("Its cards in use, newest first.")] = field(
        default_factory=list
    )
    rewards: Annotated[list[Reward], Doc("The rewards of goals that the join reached.")] = field(
        default_factory=list
    )
    lottery_tickets: Annotated[
        list[LotteryTicket], Doc("The lottery tickets of goals that the join reached.")
    ] = field(default_factory=list)


@operation(*MANAGERS, fires=(GoalReached, LotteryPlayed, RewardIssued, VoucherIssued))
async def merge_customers(
    tx: Transaction,
    actor: Actor,
    input: MergeCustomersInput,
    now: datetime,
    *,
    luck: Luck = UNGUESSABLE,
) -> CustomersMerged:
    """Merge two records of one person; the old id, card numbers and tokens lead to the kept one.

    What the kept one says of itself wins; its empty fields are filled. Of two cards of one
    template the kept one's goes on, with the stamps of both. The newest consent counts.
    """
    keep, merged = await _both(tx, input)
    both = {keep.id, merged.id}
    # Cards first, as whoever stamps does it. Once the customers are held, too, nobody can issue
    # them another card: what is read then stays so.
    await tx.many(_CARDS, ids=list(both))
    await tx.many(_CUSTOMERS, ids=list(both))
    keep, merged = await _both(tx, input)
    if {keep.id, merged.id} != both:
        raise Taken  # one of them was merged meanwhile: look again
    cards = await tx.many(_CARDS, ids=list(both))
    outcome = CustomersMerged()
    keep = await _fill(tx, actor, keep, merged, now)
    await _move_consents(tx, keep, merged)
    await _move_birthdays(tx, keep, merged)
    for statement in (*_MOVE_MESSAGES, _FORGET_BROWSERS, _MOVE_BROWSERS):
        await tx.run(statement, from_id=merged.id, to_id=keep.id)
    own = {card.template_id: card for card in cards if _is_held_by(card, keep)}
    for card in cards:
        if card.customer_id == merged.id:
            mine = own.get(card.template_id)
            if mine is None or card.deleted_at is not None:
                moved = await tx.change(card, customer_id=keep.id)
                if moved.deleted_at is None:
                    own[card.template_id] = moved
            else:
                own[card.template_id] = await _join(
                    tx, actor, mine, card, keep, now, outcome, plays=not input.dry_run, luck=luck
                )
    outcome.customer = keep
    outcome.cards = sorted(own.values(), key=lambda card: card.id, reverse=True)
    return outcome


async def _both(tx: Transaction, input: MergeCustomersInput) -> tuple[Customer, Customer]:
    keep = await customer_of(tx, input.keep_id)
    if keep is None or keep.erased_at is not None:
        raise NotFound("customer", "input", "keepId")
    merged = await customer_of(tx, input.merge_id)
    if merged is None or merged.erased_at is not None:
        raise NotFound("customer", "input", "mergeId")
    if keep.id == merged.id:
        raise Invalid("These are one customer already.", "input", "mergeId")
    return keep, merged


def _is_held_by(card: Card, customer: Customer) -> bool:
    return card.customer_id == customer.id and card.deleted_at is None


async def _fill(
    tx: Transaction, actor: Actor, keep: Customer, merged: Customer, now: datetime
) -> Customer:
    """Fill what the kept one does not say of itself; the other then holds nothing personal."""
    await tx.change(
        merged,
        name=None,
        email=None,
        phone=None,
        birth_year=None,
        birth_month=None,
        birth_day=None,
        merged_into=keep.id,
        merged_at=now,
        merged_by_id=actor.staff_id,
    )
    await tx.run(_LEAD_CUSTOMERS_ON, from_id=merged.id, to_id=keep.id)
    values: dict[str, Any] = {
        name: getattr(keep, name) or getattr(merged, name) for name in ("name", "email", "phone")
    }
    if keep.birth_month is None:
        for name in ("birth_year", "birth_month", "birth_day", "birthday_changed_at"):
            values[name] = getattr(merged, name)
    values["created_at"] = min(keep.created_at, merged.created_at)
    values["last_activity_at"] = _latest(keep.last_activity_at, merged.last_activity_at)
    return await tx.change(keep, **values)


async def _move_consents(tx: Transaction, keep: Customer, merged: Customer) -> None:
    """What was said last counts; of two words at one moment, the no."""
    said = {consent.channel: consent for consent in await tx.many(_CONSENTS, customer_id=keep.id)}
    for consent in await tx.many(_CONSENTS, customer_id=merged.id):
        mine = said.get(consent.channel)
        if mine is None:
            await tx.change(consent, customer_id=keep.id)
        elif (consent.at, not consent.granted) > (mine.at, not mine.granted):
            await tx.change(mine, granted=consent.granted, at=consent.at, staff_id=consent.staff_id)
    await tx.run(_FORGET_CONSENTS, customer_id=merged.id)


async def _move_birthdays(tx: Transaction, keep: Customer, merged: Customer) -> None:
    """A birthday that was kept with either of them is not kept again."""
    for gift in await tx.many(_BIRTHDAYS, customer_id=merged.id):
        await tx.add_if_new(gift.with_values(customer_id=keep.id))


async def _join(
    tx: Transaction,
    actor: Actor,
    mine: Card,
    other: Card,
    customer: Customer,
    now: datetime,
    outcome: CustomersMerged,
    *,
    plays: bool,
    luck: Luck,
) -> Card:
    """Join another card of the same template to the kept one."""
    promise = await promise_of(tx, mine.version_id)
    is_full = other.stamps >= (await promise_of(tx, other.version_id)).required
    count = 0 if is_full else other.stamps
    stamping = mine.add_stamps(count, promise, await following(tx, mine, promise, count))
    line = Operation(
        id=new_id("op"),
        business_id=actor.business_id,
        kind=OperationKind.MERGE,
        card_id=mine.id,
        line=mine.lines + 1,
        version_before_id=mine.version_id,
        version_id=stamping.promise.version.id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        count=count,
        before=stamping.before,
        after=stamping.after,
        cycle_before=stamping.cycle_before,
        cycle_after=stamping.cycle_after,
        external_ref=other.id,
        occurred_at=now,
        created_at=now,
    )
    await tx.add(line)
    joined = await tx.change(
        mine,
        stamps=stamping.after,
        cycle=stamping.cycle_after,
        lines=mine.lines + 1,
        version_id=stamping.promise.version.id,
        **{
            name: _latest(getattr(mine, name), getattr(other, name))
            for name in ("last_stamp_at", "last_opened_at", "last_activity_at", "quiet_told_at")
        },
    )
    answered: set[int | None] = set()
    if not is_full:
        answered = {
            position
            for statement in (_PAID, _PROMISED)
            for position in await tx.many(statement, card_id=other.id, cycle=other.cycle)
        }
    paid = StampsAdded(operation=line, card=joined)
    for cycle, goal in stamping.reached:
        if goal.position in answered:
            answered.remove(goal.position)
            for statement in _MOVE_GIFTS:
                await tx.run(
                    statement,
                    from_id=other.id,
                    from_cycle=other.cycle,
                    position=goal.position,
                    to_id=joined.id,
                    to_cycle=cycle,
                )
        else:
            await pay_goal(
                tx, actor, joined, customer, line, cycle, goal, now, paid, plays=plays, luck=luck
            )
    outcome.rewards += paid.rewards
    outcome.lottery_tickets += paid.lottery_tickets
    await tx.run(_MOVE_VOUCHERS, from_id=other.id, to_id=joined.id)
    await _move_platforms(tx, joined, other)
    await tx.change(
        other,
        customer_id=customer.id,
        merged_into=joined.id,
        deleted_at=now,
        deleted_by_id=actor.staff_id,
    )
    await tx.run(_LEAD_CARDS_ON, from_id=other.id, to_id=joined.id)
    await move_passes(tx, actor, other.id, joined.id, now)
    count_deletion(tx, actor, other, now)
    return joined


async def _move_platforms(tx: Transaction, joined: Card, other: Card) -> None:
    for saved in await tx.many(_PLATFORMS, card_id=other.id):
        await tx.add_if_new(saved.with_values(card_id=joined.id))
    await tx.run(_FORGET_PLATFORMS, card_id=other.id)


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
