"""How webhook endpoints fare: the share of requests that succeed, and how far they are behind."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from db import BUSINESS, Query, Transaction, among, param, query
from models import Attempt, AttemptStatus, Delivery, DeliveryState, EventRow, WebhookEndpoint
from webhooks.parcels import due_types

_MOST_LAG = 10_000
_HEALTH_OF = 100
_RECENT = query(
    select(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.status) != AttemptStatus.PENDING,
    )
    .order_by(col(Attempt.id).desc())
    .limit(param("most"))
)
_AHEAD: Query[tuple[int, datetime | None]] = query(
    select(func.count(), func.min(EventRow.occurred_at)).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        col(EventRow.sequence) <= param("reach"),
        among(col(EventRow.type), "types"),
    )
)
_HELD: Query[tuple[int, datetime | None]] = query(
    select(func.count(), func.min(EventRow.occurred_at))
    .select_from(Delivery)
    .join(
        EventRow,
        (col(EventRow.business_id) == col(Delivery.business_id))
        & (col(EventRow.sequence) == col(Delivery.sequence)),
    )
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) != DeliveryState.DEAD,
    )
)


@dataclass(frozen=True)
class Health:
    """How an endpoint fares: the share of its last hundred requests that succeeded."""

    success_rate: float | None
    last_success_at: datetime | None
    failing_since: datetime | None


@dataclass(frozen=True)
class Lag:
    """How far an endpoint is behind: events not delivered yet, and the age of the oldest."""

    events: int
    seconds: int


async def health_of(tx: Transaction, endpoint: WebhookEndpoint) -> Health:
    """How an endpoint fares."""
    recent = await tx.many(_RECENT, endpoint_id=endpoint.id, most=_HEALTH_OF)
    good = sum(attempt.status is AttemptStatus.SUCCEEDED for attempt in recent)
    return Health(
        good / len(recent) if recent else None, endpoint.last_success_at, endpoint.failing_since
    )


async def lag_of(tx: Transaction, endpoint: WebhookEndpoint, now: datetime) -> Lag:
    """How far an endpoint is behind, within the next 10 000 events of the log.

    `now` is the programme's time, as that of the events is.
    """
    cursor = endpoint.cursor_sequence
    count, oldest = await tx.one(
        _AHEAD, cursor=cursor, reach=cursor + _MOST_LAG, types=due_types(endpoint)
    )
    held, oldest_held = await tx.one(_HELD, endpoint_id=endpoint.id)
    moments = [moment for moment in (oldest, oldest_held) if moment is not None]
    age = (now - min(moments)).total_seconds() if moments else 0
    return Lag(count + held, max(0, int(age)))
