"""Lag: how old the oldest event is that an endpoint still has to be sent; for all businesses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_
from sqlmodel import col, select

from core.ids import moment_of
from db import Query, Transaction, param, query
from models import EndpointStatus, EventRow, LogHead, WebhookEndpoint

# Of whichever business they are, these run in the name of the system. Ids of events sort by the
# time of their recording: the first of them are the oldest. What retention took has no row.
_LAGGING: Query[Any] = query(
    select(WebhookEndpoint, LogHead.sequence, EventRow.id)
    .join(LogHead, col(LogHead.business_id) == col(WebhookEndpoint.business_id))
    .join(
        EventRow,
        (col(EventRow.business_id) == col(WebhookEndpoint.business_id))
        & (col(EventRow.sequence) == col(WebhookEndpoint.cursor_sequence) + 1),
        isouter=True,
    )
    .where(
        col(WebhookEndpoint.status) == EndpointStatus.ACTIVE,
        col(WebhookEndpoint.deleted_at).is_(None),
        or_(
            col(WebhookEndpoint.cursor_sequence) < col(LogHead.sequence),
            col(WebhookEndpoint.failing_since).is_not(None),
        ),
    )
    .order_by(func.coalesce(col(EventRow.id), "z"), col(WebhookEndpoint.failing_since))
    .limit(param("most"))
)


@dataclass(frozen=True)
class Lag:
    """How far behind the log an endpoint is."""

    endpoint_id: str
    seconds: float
    """The age of the first event beyond its cursor; 0 where there is none."""
    events: int
    failing_seconds: float
    """For how long every try has failed; 0 where the last one did not."""
    unserved_seconds: float
    """For how long nobody has served it although its turn had come."""


async def lagging(tx: Transaction, now: datetime, most: int) -> list[Lag]:
    """The endpoints behind the log or failing, the longest lag first."""
    return [
        _lag(endpoint, head, event_id, now)
        for endpoint, head, event_id in await tx.many(_LAGGING, most=most)
    ]


def _lag(endpoint: WebhookEndpoint, head: int, event_id: str | None, now: datetime) -> Lag:
    seconds = max(0.0, now.timestamp() - moment_of(event_id)) if event_id else 0.0
    failing, free = endpoint.failing_since, max(endpoint.lease_until, endpoint.next_attempt_at)
    return Lag(
        endpoint.id,
        seconds,
        max(0, head - endpoint.cursor_sequence),
        (now - failing).total_seconds() if failing else 0.0,
        min(seconds, max(0.0, (now - free).total_seconds())),
    )
