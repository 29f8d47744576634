"""Expiry: a voucher whose time has passed unused."""

from datetime import datetime

from sqlalchemy import update
from sqlmodel import col, select

from core.clock import wire_time
from db import BUSINESS, Transaction, param, query
from events import VoucherExpired, record
from events.catalogue import ExpiredVoucherPart
from models import Actor, Business, Card, Customer, Voucher, VoucherStatus
from services.agenda import Due, Span
from services.figures import count
from services.vouchers import card_part, customer_part

_FIRST = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.status) == VoucherStatus.ACTIVE,
        col(Voucher.expires_at) <= param("upto"),
    )
    .order_by(col(Voucher.expires_at))
    .limit(1)
)
_EXPIRE = query(
    update(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.id) == param("id"),
        col(Voucher.status) == VoucherStatus.ACTIVE,
        col(Voucher.expires_at) <= param("at"),
    )
    .values(status=VoucherStatus.EXPIRED)
    .returning(Voucher)
)


async def next_expiry(
    tx: Transaction,
    business: Business,  # noqa: ARG001 -- expiry was frozen when the voucher was issued
    span: Span,
) -> Due | None:
    """The voucher that expires next.

    However late: it expires, and at the moment it was due.
    """
    voucher = await tx.maybe(_FIRST, upto=span.upto)
    if voucher is None or voucher.expires_at is None:
        return None
    at = voucher.expires_at
    return Due(at, lambda tx, actor: expire(tx, actor, voucher, at))


async def expire(tx: Transaction, actor: Actor, voucher: Voucher, at: datetime) -> None:
    """Let a voucher expire, unless somebody redeemed or voided it first."""
    expired = await tx.maybe(_EXPIRE, id=voucher.id, at=at)
    if expired is None:
        return
    card = await tx.get(Card, expired.card_id)
    customer = await tx.get(Customer, card.customer_id) if card else None
    count(tx, actor, at, card.template_id if card else None, vouchers_expired=1)
    record(
        tx,
        actor,
        VoucherExpired(
            customer=customer_part(customer, card),
            card=card_part(card, expired.goal_position),
            voucher=ExpiredVoucherPart(
                id=expired.id,
                type=expired.type,
                redeem_code=expired.redeem_code,
                redeem_code_formats=expired.redeem_code_formats,
                status=expired.status,
                expires_at=wire_time(at),
            ),
        ),
        at,
    )
