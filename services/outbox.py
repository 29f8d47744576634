"""The outbox: messages stored with what caused them, handed to channels, and what became of each.

A message is handed over at most once. That it is being handed over is stored first; whoever dies
between that and the answer leaves a message of which nobody knows whether it arrived. Such a one
is not sent again: it is recorded as failed, with an unknown outcome. Nothing that advertises may
come twice, and a link can be asked for again.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, Invalid, Refused
from core.ids import new_id
from db import BUSINESS, Query, Transaction, among, command, param, query
from events import CampaignSent, record
from events.catalogue import CampaignPart
from integrations.channels.seam import Accepted, Answer, Delivered, Rejected, RetryAfter
from models import (
    Actor,
    Campaign,
    CampaignRecipient,
    CampaignStatus,
    Card,
    Channel,
    Customer,
    Message,
    MessageStatus,
    one_line,
)
from models.base import UtcTimestamp
from models.campaigns import OPEN
from services.contacts import connections_of
from services.figures import count
from services.routes import ways_of
from services.vouchers import card_part, customer_part

LEASE = timedelta(seconds=60)
"""How long a message may be in somebody's hands; much longer than any hand-over takes."""
MOST_TRIES = 5
MOST_WAIT = timedelta(hours=1)
CANCELLED = "cancelled"
NO_CONSENT = "no consent"
_SKIPPED = {CANCELLED, NO_CONSENT}
_LINK = {
    "en": (
        "Your card at {business}",
        "Hello{name},\n\nhere is your card at {business}. Show it whenever you come.",
    ),
    "id": (
        "Kartu Anda di {business}",
        "Halo{name},\n\nini kartu Anda di {business}. Tunjukkan setiap kali Anda datang.",
    ),
}

# -- Across all businesses: these run in the name of the system. ----------------------------------

_NOW = param("now", UtcTimestamp())
_WAITING = select(Message.id).where(
    col(Message.status) == MessageStatus.QUEUED, col(Message.not_before) <= _NOW
)
_ANY_WAITING: Query[str] = query(_WAITING.limit(1))
# What somebody asked for goes before what nobody did.
_NEXT = (
    _WAITING.order_by(
        col(Message.campaign_id).is_not(None), col(Message.not_before), col(Message.id)
    )
    .limit(param("most"))
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[Message] = query(
    update(Message)
    .where(col(Message.id).in_(select(_NEXT.c.id)))
    .values(
        status=MessageStatus.SENDING,
        tries=col(Message.tries) + 1,
        not_before=param("until", UtcTimestamp()),
    )
    .returning(Message)
)
_LOST = query(
    select(Message)
    .where(col(Message.status) == MessageStatus.SENDING, col(Message.not_before) <= _NOW)
    .order_by(col(Message.id))
    .limit(param("most"))
)
_TAKE_OVER = command(
    update(Message).where(col(Message.status) == MessageStatus.SENDING).values(not_before=_NOW)
)

# -- Within one business. -------------------------------------------------------------------------

_CLAIM_OF: Query[Message] = query(
    update(Message)
    .where(
        col(Message.business_id) == BUSINESS,
        col(Message.campaign_id) == param("campaign"),
        col(Message.status) == MessageStatus.QUEUED,
    )
    .values(
        status=MessageStatus.SENDING,
        tries=col(Message.tries) + 1,
        not_before=param("until", UtcTimestamp()),
    )
    .returning(Message)
)
_RECORD: Query[str] = query(
    update(Message)
    .where(
        col(Message.business_id) == BUSINESS,
        among(col(Message.id), "messages"),
        col(Message.status) == MessageStatus.SENDING,
        col(Message.tries) == param("number"),
    )
    .values(
        status=param("new_status"),
        error=param("new_error"),
        not_before=param("new_not_before", UtcTimestamp()),
        sent_at=param("new_sent_at", UtcTimestamp()),
        held_back=col(Message.held_back) + param("new_held_back"),
        reference=param("new_reference"),
    )
    .returning(col(Message.id))
)
_REPORTED = (
    col(Message.reference) == param("of"),
    col(Message.delivered_at).is_(None),
)
_DELIVERED = command(
    update(Message)
    .where(col(Message.business_id) == BUSINESS, *_REPORTED)
    .values(delivered_at=param("at", UtcTimestamp()), undelivered=None)
)
_UNDELIVERED = command(
    update(Message)
    .where(col(Message.business_id) == BUSINESS, *_REPORTED)
    .values(undelivered=param("problem"))
)
# A campaign is locked before its recipients, and these before their messages: nobody waits in a
# ring. Whoever cancels it waits for those who are recording, and they see that it was cancelled.
_CAMPAIGN = query(
    select(Campaign)
    .where(col(Campaign.business_id) == BUSINESS, col(Campaign.id) == param("id"))
    .with_for_update(read=True)
)
_RECIPIENTS: Query[CampaignRecipient] = query(
    select(CampaignRecipient)
    .where(
        col(CampaignRecipient.business_id) == BUSINESS,
        col(CampaignRecipient.campaign_id) == param("campaign_id"),
        among(col(CampaignRecipient.card_id), "cards"),
    )
    .order_by(col(CampaignRecipient.card_id))
    .with_for_update()
)
_DONE = command(
    update(CampaignRecipient)
    .where(
        col(CampaignRecipient.business_id) == BUSINESS,
        col(CampaignRecipient.campaign_id) == param("campaign"),
        among(col(CampaignRecipient.card_id), "cards"),
    )
    .values(done_at=param("now", UtcTimestamp()))
)
_TOLD: Query[Message] = query(
    select(Message).where(
        col(Message.business_id) == BUSINESS,
        col(Message.campaign_id) == param("campaign_id"),
        among(col(Message.card_id), "cards"),
    )
)
_HOLDERS: Query[tuple[Card, Customer]] = query(
    select(Card, Customer)
    .join(Customer, col(Customer.id) == col(Card.customer_id))
    .where(col(Card.business_id) == BUSINESS, among(col(Card.id), "cards"))
)


async def send_link(
    tx: Transaction, actor: Actor, channel: Channel, card: Card, customer: Customer, now: datetime
) -> None:
    """Send the customer the address of the card. It was asked for: no consent is needed."""
    path = ("input", "sendLink")
    if channel is Channel.PUSH:
        raise Invalid("A link is sent by e-mail or messenger.", *path)
    if channel is Channel.MESSENGERS and not await connections_of(tx):
        raise Refused(Code.CHANNEL_NOT_CONNECTED, "No messenger is connected.", *path)
    address = (await ways_of(tx, [(card, customer)], [channel])).address(channel, customer, card)
    if address is None:
        where = "e-mail address" if channel is Channel.EMAIL else "messenger"
        raise Invalid(f"The customer has no {where}.", *path)
    subject, text = _LINK["id" if customer.language.split("-")[0] == "id" else "en"]
    name = f" {one_line(customer.name)}" if customer.name else ""
    values = {"business": one_line(actor.business.name), "name": name}
    await tx.add(
        Message(
            id=new_id("msg"),
            business_id=actor.business_id,
            customer_id=customer.id,
            card_id=card.id,
            channel=channel,
            address=address,
            subject=subject.format_map(values),
            text=text.format_map(values),
            url=path_of(card),
            not_before=actor.business.real_time(now),
            created_at=now,
        )
    )


def path_of(card: Card) -> str:
    """Where the customer's own page of a card is, on our address."""
    return f"/c/{card.token}"


async def anything_waits(tx: Transaction, now: datetime) -> bool:
    """Whether a message waits to be handed over; in the name of the system."""
    return await tx.maybe(_ANY_WAITING, now=now) is not None


async def claim(tx: Transaction, now: datetime, most: int) -> list[Message]:
    """Take messages that wait, to hand them over now; in the name of the system."""
    claimed = await tx.many(_CLAIM, now=now, until=now + LEASE, most=most)
    return sorted(claimed, key=lambda message: message.id)


async def claim_of(tx: Transaction, campaign_id: str, now: datetime) -> list[Message]:
    """Take the messages of one campaign that wait; whoever does so has a channel of its own."""
    claimed = await tx.many(_CLAIM_OF, campaign=campaign_id, until=now + LEASE)
    return sorted(claimed, key=lambda message: message.id)


async def lost(tx: Transaction, now: datetime, most: int) -> list[Message]:
    """Messages that somebody took and never told of; in the name of the system."""
    return await tx.many(_LOST, now=now, most=most)


async def take_over(tx: Transaction, now: datetime) -> None:
    """Whoever had messages in hand is dead: for the only worker there is, as the system."""
    await tx.run(_TAKE_OVER, now=now)


async def record_answers(
    tx: Transaction,
    actor: Actor,
    answers: Iterable[tuple[Message, Answer]],
    now: datetime,
    clock_now: datetime,
) -> None:
    """Store what channels said of messages; a repeat changes nothing.

    `now` is the programme's time, `clock_now` the world's.
    """
    by_campaign: dict[str | None, list[tuple[Message, Answer]]] = defaultdict(list)
    for message, answer in answers:
        by_campaign[message.campaign_id].append((message, answer))
    for campaign_id in sorted(by_campaign, key=str):
        told = by_campaign[campaign_id]
        if campaign_id is None:
            await _store(tx, told, now, clock_now)
            continue
        campaign = await tx.one(_CAMPAIGN, id=campaign_id)
        cards = sorted({message.card_id for message, _ in told if message.card_id})
        recipients = await tx.many(_RECIPIENTS, campaign_id=campaign_id, cards=cards)
        if campaign.status is CampaignStatus.CANCELLED:
            told = [(message, _not_again(answer)) for message, answer in told]
        accepted = await _store(tx, told, now, clock_now)
        # This is where a marketing notification counts as used: the channel has it.
        count(tx, actor, now, campaign.template_id, works=False, notifications=accepted)
        await _settle(tx, actor, campaign, recipients, now)


async def record_reports(tx: Transaction, reports: Iterable[Delivered], now: datetime) -> None:
    """Keep what a provider reports later of messages that it took, in whatever order it comes.

    What reached its reader did so, whatever else is said. A report of no message of the business
    changes nothing.
    """
    for report in reports:
        if report.problem is None:
            await tx.run(_DELIVERED, of=report.reference, at=now)
        else:
            await tx.run(_UNDELIVERED, of=report.reference, problem=report.problem)


async def settle(
    tx: Transaction, actor: Actor, campaign: Campaign, cards: Sequence[str], now: datetime
) -> None:
    """See whether every channel is through with these cards; who was reached has `campaign_sent`.

    Whoever calls holds the campaign's row.
    """
    recipients = await tx.many(_RECIPIENTS, campaign_id=campaign.id, cards=sorted(cards))
    await _settle(tx, actor, campaign, recipients, now)


async def _store(
    tx: Transaction,
    told: Iterable[tuple[Message, Answer]],
    now: datetime,
    clock_now: datetime,
) -> int:
    """Store the answers; says how many messages were accepted by them."""
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for message, answer in told:
        reference = answer.reference if isinstance(answer, Accepted) else None
        held_back = int(isinstance(answer, RetryAfter) and not answer.is_tried)
        outcome = _outcome(message, answer, clock_now)
        alike[message.tries, reference, held_back, *outcome].append(message.id)
    accepted = 0
    for (number, reference, held_back, status, error, not_before), messages in alike.items():
        is_accepted = status is MessageStatus.ACCEPTED
        stored = await tx.many(
            _RECORD,
            messages=sorted(messages),
            number=number,
            new_status=status,
            new_error=error,
            new_not_before=not_before,
            new_sent_at=now if is_accepted else None,
            new_held_back=held_back,
            new_reference=reference,
        )
        accepted += len(stored) if is_accepted else 0
    return accepted


def _outcome(
    message: Message, answer: Answer, clock_now: datetime
) -> tuple[MessageStatus, str | None, datetime]:
    if isinstance(answer, Accepted):
        return MessageStatus.ACCEPTED, None, clock_now
    if isinstance(answer, RetryAfter):
        # Where nobody was asked, it is no try: a campaign may be long, and its provider slow.
        if answer.is_tried and message.tries - message.held_back >= MOST_TRIES:
            return MessageStatus.FAILED, "asked to wait too often", clock_now
        wait = min(timedelta(seconds=max(1.0, answer.seconds)), MOST_WAIT)
        return MessageStatus.QUEUED, "asked to wait", clock_now + wait
    if answer.reason in _SKIPPED:
        return MessageStatus.SKIPPED, answer.reason, clock_now
    return MessageStatus.FAILED, answer.reason[:200], clock_now


def _not_again(answer: Answer) -> Answer:
    """An answer about a message of a campaign that was cancelled meanwhile."""
    return Rejected(CANCELLED) if isinstance(answer, RetryAfter) else answer


async def _settle(
    tx: Transaction,
    actor: Actor,
    campaign: Campaign,
    recipients: Sequence[CampaignRecipient],
    now: datetime,
) -> None:
    undone = {row.card_id: row for row in recipients if row.done_at is None}
    if not undone:
        return
    messages: dict[str, list[Message]] = defaultdict(list)
    for message in await tx.many(_TOLD, campaign_id=campaign.id, cards=sorted(undone)):
        messages[message.card_id or ""].append(message)
    reached: dict[str, list[Channel]] = {}
    for id in undone:
        if any(message.status in OPEN for message in messages[id]):
            continue
        reached[id] = [
            message.channel for message in messages[id] if message.status is MessageStatus.ACCEPTED
        ]
    if reached:
        await tx.run(_DONE, campaign=campaign.id, cards=sorted(reached), now=now)
    told = sorted((id for id in reached if reached[id]), key=lambda id: undone[id].position)
    holders = {card.id: (card, customer) for card, customer in await tx.many(_HOLDERS, cards=told)}
    for id in told:
        card, customer = holders[id]
        part = CampaignPart(
            id=campaign.id,
            name=campaign.name,
            channels=[Channel(word) for word in campaign.channels if word in reached[id]],
            voucher_id=undone[id].voucher_id,
        )
        event = CampaignSent(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=card_part(card),
            campaign=part,
        )
        record(tx, actor, event, now)
