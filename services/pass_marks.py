"""Marks: which passes in wallets are to be looked at, because what they show may have changed.

What an event tells of, the worker marks by itself, after the stamp. This is for what is no event.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, exists, or_, update
from sqlmodel import col, select

from db import BUSINESS, Command, Transaction, command, param
from models import (
    Actor,
    Card,
    CardPlatform,
    EventRow,
    PassDevice,
    Platform,
    WalletPass,
)
from models.base import UtcTimestamp

NOW = param("now", UtcTimestamp())
MARK: dict[str, Any] = {
    "due_at": case(
        (or_(col(WalletPass.due_at).is_(None), col(WalletPass.due_at) < NOW), NOW),
        else_=col(WalletPass.due_at),
    ),
    "marks": col(WalletPass.marks) + 1,
}
"""It is due now; but whoever has it in hand keeps it, and sees the mark when it is through."""


IS_HELD = and_(
    col(WalletPass.business_id) == BUSINESS,
    col(WalletPass.removed_at).is_(None),
    or_(
        exists().where(
            col(PassDevice.business_id) == BUSINESS,
            col(PassDevice.serial) == col(WalletPass.serial),
            col(WalletPass.platform) == Platform.APPLE,
        ),
        exists().where(
            col(CardPlatform.business_id) == BUSINESS,
            col(CardPlatform.card_id) == col(WalletPass.card_id),
            col(CardPlatform.platform) == Platform.GOOGLE,
            col(WalletPass.platform) == Platform.GOOGLE,
        ),
    ),
)
"""Whether somebody has a pass of the business in a wallet, as far as we know."""


def _mark(*which: Any) -> Command:
    return command(
        update(WalletPass).where(col(WalletPass.business_id) == BUSINESS, *which).values(MARK)
    )


def _cards_with(column: Any, name: str) -> Any:
    return col(WalletPass.card_id).in_(
        select(Card.id).where(col(Card.business_id) == BUSINESS, column == param(name))
    )


_ALL = _mark()
_OF_CARD = _mark(col(WalletPass.card_id) == param("card"))
_OF_TEMPLATE = _mark(_cards_with(col(Card.template_id), "template"))
_OF_CUSTOMER = _mark(_cards_with(col(Card.customer_id), "customer"))
_OF_EVENTS = _mark(
    col(WalletPass.card_id).in_(
        select(EventRow.card_id).where(
            col(EventRow.business_id) == BUSINESS,
            col(EventRow.sequence) > param("after"),
            col(EventRow.sequence) <= param("until"),
            col(EventRow.card_id).is_not(None),
        )
    )
)
_MOVE = command(
    update(WalletPass)
    .where(col(WalletPass.business_id) == BUSINESS, col(WalletPass.card_id) == param("card"))
    .values({"card_id": param("to"), **MARK})
)


async def mark_passes(
    tx: Transaction,
    actor: Actor,
    now: datetime,
    *,
    card_id: str | None = None,
    template_id: str | None = None,
    customer_id: str | None = None,
) -> None:
    """Have the passes of a card, a template or a customer looked at; else all of the business."""
    at = actor.business.real_time(now)
    if card_id is not None:
        await tx.run(_OF_CARD, card=card_id, now=at)
    elif template_id is not None:
        await tx.run(_OF_TEMPLATE, template=template_id, now=at)
    elif customer_id is not None:
        await tx.run(_OF_CUSTOMER, customer=customer_id, now=at)
    else:
        await tx.run(_ALL, now=at)


async def move_passes(
    tx: Transaction, actor: Actor, card_id: str, to_id: str, now: datetime
) -> None:
    """Have the passes of a card show the one that it was joined to."""
    await tx.run(_MOVE, card=card_id, to=to_id, now=actor.business.real_time(now))


async def mark_by_events(tx: Transaction, after: int, until: int, real_now: datetime) -> None:
    """Have the passes looked at whose cards the events between two places of the log are about."""
    await tx.run(_OF_EVENTS, after=after, until=until, now=real_now)
