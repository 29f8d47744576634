"""Figures, as they are kept: whoever changes something counts it in the same transaction.

What one transaction counts is gathered and stored when it closes: one statement for each row, in
the order of their keys so that two transactions never wait for each other in a ring, and before
the head of the log is bumped. `times=-1` takes back, from the day and the place it was done.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from db import Transaction
from db.statements import Upsert
from models import Actor, Card, DailyFigure, Operation, Reward, RewardType, Source, Voucher
from models.figures import COUNTERS

_ADD = Upsert(DailyFigure, adds=COUNTERS, latest=("last_at",))
_Key = tuple[date, str, str, str]


class Doer(Protocol):
    """Who did something, and where: an actor, or the row that was written then."""

    @property
    def staff_id(self) -> str | None:
        """The staff login, None for the system."""

    @property
    def location_id(self) -> str | None:
        """The location, None for none."""


@dataclass(frozen=True)
class By:
    """Who did something, and where, said in so many words."""

    staff_id: str | None
    location_id: str | None


@dataclass
class _Sum:
    counts: Counter[str] = field(default_factory=Counter)
    last_at: datetime | None = None


def count_card(tx: Transaction, actor: Actor, card: Card) -> None:
    """A card was issued."""
    count(tx, actor, card.created_at, card.template_id, by=_issuer(card), new_cards=1)


def count_deletion(tx: Transaction, actor: Actor, card: Card, at: datetime) -> None:
    """A card was deleted, or joined with another: one less where it was issued."""
    count(tx, actor, at, card.template_id, by=_issuer(card), works=False, deleted_cards=1)


def count_stamps(
    tx: Transaction, actor: Actor, operation: Operation, template_id: str, *, times: int = 1
) -> None:
    """Stamps were added, or (`times=-1`) an operation that added them was undone."""
    count(
        tx,
        actor,
        operation.occurred_at,
        template_id,
        by=operation,
        works=times > 0,
        stamp_operations=times,
        stamps=times * operation.count,
    )


def count_reward(
    tx: Transaction, actor: Actor, reward: Reward, template_id: str | None, *, times: int = 1
) -> None:
    """A reward was handed out, or (`times=-1`) voided. Its voucher is counted by itself."""
    count(
        tx,
        actor,
        reward.issued_at,
        template_id,
        by=reward,
        works=times > 0,
        awards_issued=times * (reward.type is RewardType.AWARD),
        birthday_gifts=times * (reward.source is Source.BIRTHDAY),
    )


def count_voucher(
    tx: Transaction, actor: Actor, voucher: Voucher, template_id: str | None, *, times: int = 1
) -> None:
    """A voucher was issued, or (`times=-1`) voided; the template is the one of its card."""
    count(
        tx,
        actor,
        voucher.issued_at,
        template_id,
        by=voucher,
        works=times > 0,
        vouchers_issued=times,
    )


def count_redemption(
    tx: Transaction,
    actor: Actor,
    operation: Operation,
    voucher: Voucher,
    template_id: str | None,
    *,
    times: int = 1,
) -> None:
    """A voucher was redeemed, or (`times=-1`) its redemption reversed."""
    at = operation.occurred_at
    count(tx, actor, at, template_id, by=operation, works=times > 0, vouchers_redeemed=times)
    issued = voucher.issued_at
    count(tx, actor, issued, template_id, by=voucher, works=False, cohort_redeemed=times)


def count(
    tx: Transaction,
    actor: Actor,
    at: datetime,
    template_id: str | None,
    *,
    by: Doer | None = None,
    works: bool = True,
    **increments: int,
) -> None:
    """Add to the figures of the local day of a moment, where and by whom it was done.

    `works` says whether it shows that this staff login was at work at that moment.
    """
    doer = by or actor
    day = at.astimezone(actor.business.zone).date()
    key = (day, doer.location_id or "", doer.staff_id or "", template_id or "")
    sums: dict[_Key, _Sum] = tx.collected.setdefault(DailyFigure, {})
    if not sums:
        tx.at_close(lambda: _store(tx, actor.business_id, sums))
    kept = sums.setdefault(key, _Sum())
    kept.counts.update(increments)
    if works and (kept.last_at is None or kept.last_at < at):
        kept.last_at = at


async def _store(tx: Transaction, business_id: str, sums: dict[_Key, _Sum]) -> None:
    for key in sorted(sums):
        day, location_id, staff_id, template_id = key
        kept = sums[key]
        if not any(kept.counts.values()):
            continue
        await tx.run(
            _ADD,
            business_id=business_id,
            day=day,
            location_id=location_id,
            staff_id=staff_id,
            template_id=template_id,
            last_at=kept.last_at,
            **{name: kept.counts[name] for name in COUNTERS},
        )


def _issuer(card: Card) -> By:
    return By(card.issued_by_id, card.location_id)
