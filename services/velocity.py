"""Velocity: how fast each staff login gives stamps away, for the owner to look at."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlmodel import col

from core.errors import BadUserInput
from db import BUSINESS, Query, Transaction, param, query
from models import Actor, Operation, OperationKind
from models.base import UtcTimestamp
from services.operation import MANAGERS, allow

MOST_MINUTES = 24 * 60

_BY_CARD: Query[tuple[str, str, int, int, int]] = query(
    select(
        col(Operation.staff_id),
        col(Operation.card_id),
        func.count(),
        func.count(col(Operation.voided_by_id)),
        func.coalesce(
            func.sum(col(Operation.count)).filter(col(Operation.voided_by_id).is_(None)), 0
        ),
    )
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.kind) == OperationKind.STAMPS,
        col(Operation.staff_id).is_not(None),
        col(Operation.created_at) >= param("since", UtcTimestamp()),
    )
    .group_by(col(Operation.staff_id), col(Operation.card_id))
)


@dataclass(frozen=True)
class StaffVelocity:
    """What one staff login gave in the window. Stamps that were undone count in `voided` alone."""

    staff_id: str
    operations: int
    voided: int
    stamps: int
    cards: int
    busiest_card_id: str | None
    busiest_share: float


async def staff_velocity(
    tx: Transaction, actor: Actor, minutes: int, now: datetime
) -> list[StaffVelocity]:
    """What each staff login gave in the last so many minutes, the most stamps first."""
    allow(actor, MANAGERS)
    if not 1 <= minutes <= MOST_MINUTES:
        raise BadUserInput(f"Between 1 and {MOST_MINUTES} minutes.")
    by_staff: dict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
    for staff_id, *given in await tx.many(_BY_CARD, since=now - timedelta(minutes=minutes)):
        by_staff[staff_id].append(given)  # type: ignore[arg-type]
    found = [_of(staff_id, cards) for staff_id, cards in by_staff.items()]
    return sorted(found, key=lambda item: (-item.stamps, item.staff_id))


def _of(staff_id: str, cards: list[tuple[str, int, int, int]]) -> StaffVelocity:
    in_force = [card for card in cards if card[3]]
    stamps = sum(given for *_, given in cards)
    busiest = max(in_force, key=lambda card: (card[3], card[0]), default=None)
    return StaffVelocity(
        staff_id=staff_id,
        operations=sum(lines - voided for _, lines, voided, _ in cards),
        voided=sum(voided for _, _, voided, _ in cards),
        stamps=stamps,
        cards=len(in_force),
        busiest_card_id=busiest and busiest[0],
        busiest_share=busiest[3] / stamps if busiest else 0.0,
    )
