"""What an unguessable token opens by itself, without a login: a voucher's codes, a card's page."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from core.secrets import is_crockford
from db import BUSINESS, Query, Transaction, param, query
from models import (
    Business,
    Card,
    CardTemplate,
    ClaimCode,
    Consent,
    Customer,
    Goal,
    Promise,
    Voucher,
    VoucherStatus,
)
from models.base import UtcTimestamp
from services.cards import promise_of

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,64}")
_MOST_VOUCHERS = 20

# A token is looked up before a business is known: these run in the name of the system.
_VOUCHER = query(select(Voucher).where(col(Voucher.token) == param("token")))
_CARD: Query[tuple[Card, Business]] = query(
    select(Card, Business)
    .join(Business, col(Business.id) == col(Card.business_id))
    .where(col(Card.token) == param("token"), col(Card.deleted_at).is_(None))
)
_MERGED = aliased(Card)
_JOINED: Query[tuple[Card, Business]] = query(
    select(Card, Business)
    .join(Business, col(Business.id) == col(Card.business_id))
    .join(_MERGED, col(_MERGED.merged_into) == col(Card.id))
    .where(col(_MERGED.token) == param("token"), col(Card.deleted_at).is_(None))
)
_CLAIM_CODE: Query[tuple[ClaimCode, Business, CardTemplate]] = query(
    select(ClaimCode, Business, CardTemplate)
    .join(Business, col(Business.id) == col(ClaimCode.business_id))
    .join(CardTemplate, col(CardTemplate.id) == col(ClaimCode.template_id))
    .where(col(ClaimCode.code) == param("code"))
)

_OPEN_VOUCHERS = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.card_id) == param("card_id"),
        col(Voucher.status).in_([VoucherStatus.ISSUED, VoucherStatus.ACTIVE]),
        or_(
            col(Voucher.expires_at).is_(None),
            col(Voucher.expires_at) > param("now", UtcTimestamp()),
        ),
    )
    .order_by(col(Voucher.id).desc())
    .limit(_MOST_VOUCHERS)
)

_CONSENTS = query(
    select(Consent)
    .where(col(Consent.business_id) == BUSINESS, col(Consent.customer_id) == param("customer_id"))
    .order_by(col(Consent.channel))
)


@dataclass(frozen=True, kw_only=True)
class CardFace:
    """What a card shows its holder."""

    business: Business
    card: Card
    template: CardTemplate
    customer: Customer
    promise: Promise
    vouchers: list[Voucher]
    consents: list[Consent]

    @property
    def next_goal(self) -> Goal | None:
        """The goal the next stamps lead to, None on a full card."""
        ahead = (goal for goal in self.promise.goals if goal.stamps > self.card.stamps)
        return next(ahead, None)


async def voucher_by_token(tx: Transaction, token: str) -> Voucher | None:
    """The voucher with this token, in any business. Runs in the name of the system."""
    return await tx.maybe(_VOUCHER, token=token) if _TOKEN.fullmatch(token) else None


async def card_by_token(tx: Transaction, token: str) -> tuple[Card, Business] | None:
    """The live card with this token, and whose it is. Runs in the name of the system.

    The token of a card that was joined to another leads there.
    """
    if not _TOKEN.fullmatch(token):
        return None
    return await tx.maybe(_CARD, token=token) or await tx.maybe(_JOINED, token=token)


async def claim_code_by_code(
    tx: Transaction, code: str
) -> tuple[ClaimCode, Business, CardTemplate] | None:
    """A claim code, whose it is and for which card. Runs in the name of the system."""
    return await tx.maybe(_CLAIM_CODE, code=code) if is_crockford(code) else None


async def face_of(tx: Transaction, business: Business, card: Card, now: datetime) -> CardFace:
    """What a card shows its holder now: the customer's vouchers that can still be redeemed."""
    template = await tx.get(CardTemplate, card.template_id)
    customer = await tx.get(Customer, card.customer_id)
    if template is None or customer is None:
        raise LookupError(card.id)
    return CardFace(
        business=business,
        card=card,
        template=template,
        customer=customer,
        promise=await promise_of(tx, card.version_id),
        vouchers=await tx.many(_OPEN_VOUCHERS, card_id=card.id, now=now),
        consents=await tx.many(_CONSENTS, customer_id=customer.id),
    )
