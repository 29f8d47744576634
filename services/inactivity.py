"""Inactivity: a card on which nothing happened for as long as its template says."""

from datetime import datetime
from functools import partial

from sqlalchemy import text, update
from sqlmodel import col, select

from core.clock import wire_time
from db import BUSINESS, Transaction, param, query
from events import InactivityTrigger, record
from events.catalogue import InactivityPart
from models import Actor, Business, Card, CardTemplate, CardTemplateVersion, Customer
from models.cards import NOT_TOLD_OF_SILENCE
from services.agenda import Due, Span
from services.vouchers import card_part, customer_part

_RULES = query(
    select(CardTemplateVersion)
    .join(CardTemplate, col(CardTemplate.id) == col(CardTemplateVersion.template_id))
    .where(
        col(CardTemplate.business_id) == BUSINESS,
        col(CardTemplate.published_at).is_not(None),
        col(CardTemplateVersion.version) == col(CardTemplate.version),
        col(CardTemplateVersion.inactivity_days).is_not(None),
    )
)
_QUIETEST = query(
    select(Card)
    .where(
        col(Card.business_id) == BUSINESS,
        col(Card.template_id) == param("template_id"),
        col(Card.last_activity_at).is_not(None),
        text(NOT_TOLD_OF_SILENCE),
    )
    .order_by(col(Card.last_activity_at))
    .limit(1)
)
_TELL = query(
    update(Card)
    .where(
        col(Card.business_id) == BUSINESS,
        col(Card.id) == param("id"),
        col(Card.last_activity_at) == param("since"),
        text(NOT_TOLD_OF_SILENCE),
    )
    .values(quiet_told_at=col(Card.last_activity_at))
    .returning(Card)
)


async def next_silence(tx: Transaction, business: Business, span: Span) -> Due | None:
    """The card whose silence is told next, by the rule of its template's present version.

    However late: it is told once for the silence that lasts, at the moment it was due. The next
    activity arms it again.
    """
    found: Due | None = None
    for rule in await tx.many(_RULES):
        card = await tx.maybe(_QUIETEST, template_id=rule.template_id)
        if card is None or rule.inactivity_days is None:
            continue
        at = card.quiet_at(rule.inactivity_days, rule.created_at, business.zone)
        if at is not None and at <= span.upto and (found is None or at < found.at):
            found = Due(at, partial(_tell, card, rule.inactivity_days, at))
    return found


async def _tell(card: Card, days: int, at: datetime, tx: Transaction, actor: Actor) -> None:
    """Tell that a card was silent for so many days, unless something happened on it meanwhile."""
    told = await tx.maybe(_TELL, id=card.id, since=card.last_activity_at)
    if told is None or told.last_activity_at is None:
        return
    customer = await tx.get(Customer, told.customer_id)
    record(
        tx,
        actor,
        InactivityTrigger(
            customer=customer_part(customer, told),
            card=card_part(told),
            inactivity=InactivityPart(
                days=days, last_activity_at=wire_time(told.last_activity_at), voucher_id=None
            ),
        ),
        at,
    )
