"""Retention: a log that is not kept for ever loses its oldest events, and nobody is told nothing.

Each step is a short transaction, and has two halves. First it is said how far the log goes: under
the lock of its head, so that whoever keeps a place in the log and whoever throws it away come one
after the other. Then what lies behind is deleted, under no lock that anybody waits for.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Delete, delete, func, or_, tuple_
from sqlmodel import col, select

from db import BUSINESS, Database, Query, Transaction, command, param, query
from models import (
    Attempt,
    AttemptStatus,
    Business,
    Delivery,
    DeliveryState,
    EventRow,
    LogHead,
    Rendering,
    Replay,
    ReplayStatus,
    WebhookEndpoint,
)
from models.base import UtcTimestamp
from webhooks.notices import tell_of_missed
from webhooks.parcels import due_types
from webhooks.records import settle

MOST_BEHIND = timedelta(days=90)
"""How much longer than the business says events are kept for an endpoint that has not got them."""
AT_ONCE = 500
REST_SECONDS = 0.01
"""Between two steps, so that others come first."""
_SENDING = timedelta(hours=1)
"""How long a request that has no answer yet may be under way; much longer than any is."""

log = structlog.get_logger("stampwire.retention")

# -- Across all businesses, in the name of the system. --------------------------------------------

_LIMITED: Query[str] = query(
    select(Business.id)
    .join(LogHead, col(LogHead.business_id) == col(Business.id))
    .where(or_(col(Business.event_retention_days).is_not(None), col(LogHead.pruned_sequence) > 0))
    .order_by(col(Business.id))
)

# -- Within one business. -------------------------------------------------------------------------

_BUSINESS = query(select(Business).where(col(Business.id) == BUSINESS))
_HEAD = query(select(LogHead).where(col(LogHead.business_id) == BUSINESS))
_HEAD_LOCKED = query(select(LogHead).where(col(LogHead.business_id) == BUSINESS).with_for_update())
_OLDEST: Query[Any] = query(
    select(EventRow.sequence, EventRow.occurred_at, EventRow.type, EventRow.id)
    .where(col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) > param("after"))
    .order_by(col(EventRow.sequence))
    .limit(AT_ONCE)
)
_LIVING = select(WebhookEndpoint.id).where(
    col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.deleted_at).is_(None)
)
_OWED = (
    col(Delivery.endpoint_id).in_(_LIVING),
    col(Delivery.state) != DeliveryState.DEAD,
)
_IS_RUNNING = (
    col(Replay.endpoint_id).in_(_LIVING),
    col(Replay.status) == ReplayStatus.RUNNING,
    col(Replay.cursor_sequence) < col(Replay.last_sequence),
)
_AWAITED = (
    query(
        select(func.min(WebhookEndpoint.cursor_sequence)).where(
            col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.deleted_at).is_(None)
        )
    ),
    query(
        select(func.min(Delivery.sequence) - 1).where(col(Delivery.business_id) == BUSINESS, *_OWED)
    ),
    query(
        select(func.min(Replay.cursor_sequence)).where(
            col(Replay.business_id) == BUSINESS, *_IS_RUNNING
        )
    ),
)
"""The place in the log behind which nobody asks for anything: the least of these."""
_CROSSED = query(
    select(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS,
        col(WebhookEndpoint.deleted_at).is_(None),
        or_(
            col(WebhookEndpoint.cursor_sequence) < param("upto"),
            col(WebhookEndpoint.id).in_(
                select(Delivery.endpoint_id).where(
                    col(Delivery.business_id) == BUSINESS,
                    *_OWED,
                    col(Delivery.sequence) <= param("upto"),
                )
            ),
        ),
    )
    .order_by(col(WebhookEndpoint.id))
    .with_for_update()
)
_OWED_ROWS = query(
    select(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) != DeliveryState.DEAD,
        col(Delivery.sequence) <= param("upto"),
    )
    .order_by(col(Delivery.sequence))
)
_REPLAYS = query(
    select(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        *_IS_RUNNING,
        col(Replay.cursor_sequence) < param("upto"),
    )
    .order_by(col(Replay.id))
    .with_for_update()
)
_ENDPOINTS = select(WebhookEndpoint.id).where(col(WebhookEndpoint.business_id) == BUSINESS)


def _behind(row: Any, *also: Any) -> Delete:
    """A statement that deletes what endpoints have of events that are gone, so many at once."""
    key = [*row.__table__.primary_key.columns]
    behind = (
        select(*key)
        .where(
            row.business_id == BUSINESS,
            col(row.endpoint_id).in_(_ENDPOINTS),
            col(row.sequence).between(1, param("upto")),
            *also,
        )
        .limit(AT_ONCE)
    )
    return delete(row).where(row.business_id == BUSINESS, tuple_(*key).in_(behind))


_SWEEPS = (
    command(_behind(Delivery)),
    command(_behind(Rendering)),
    # An answer may repeat what it was sent; whose it was is known by the event.
    command(
        _behind(
            Attempt,
            or_(
                col(Attempt.status) != AttemptStatus.PENDING,
                col(Attempt.started_at) < param("before", UtcTimestamp()),
            ),
        )
    ),
    command(
        delete(EventRow).where(
            col(EventRow.business_id) == BUSINESS,
            col(EventRow.sequence).in_(
                select(EventRow.sequence)
                .where(
                    col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) <= param("upto")
                )
                .order_by(col(EventRow.sequence))
                .limit(AT_ONCE)
            ),
        )
    ),
)
"""What goes with the events, and last the events themselves."""


class _Line(NamedTuple):
    """An event, as far as throwing it away goes."""

    sequence: int
    occurred_at: datetime
    type: str
    id: str


async def prune(
    database: Database,
    now: datetime,
    *,
    is_enough: Callable[[], bool] = lambda: False,
    rest: float = REST_SECONDS,
) -> int:
    """Throw away the events that are older than their business keeps them; says how many.

    A step for each business in turn, so that none waits for another's long log. `now` is real
    time, which a TEST business's clock does not move.
    """
    waiting = deque(await database.read(None, lambda tx: tx.many(_LIMITED)))
    thrown_away = 0
    while waiting and not is_enough():
        business_id = waiting.popleft()
        try:
            marked, swept = await _step(database, business_id, now)
        except Exception as error:  # noqa: BLE001 -- the others' logs go on; the next hour may be better
            log.warning("log not pruned", business=business_id, error=type(error).__name__)
            continue
        thrown_away += marked
        if marked or swept:
            waiting.append(business_id)
            await asyncio.sleep(rest)
    return thrown_away


async def _step(database: Database, business_id: str, now: datetime) -> tuple[int, int]:
    swept = await database.write(business_id, lambda tx: _sweep(tx, now))
    if swept:
        return 0, swept
    return await database.write(business_id, lambda tx: _mark(tx, now)), 0


async def _sweep(tx: Transaction, now: datetime) -> int:
    """Delete some of what lies behind the mark; says how many rows."""
    upto = (await tx.one(_HEAD)).pruned_sequence
    for statement in _SWEEPS:
        if upto and (swept := await tx.run(statement, upto=upto, before=now - _SENDING)):
            return swept
    return 0


async def _mark(tx: Transaction, now: datetime) -> int:
    """Say how far the log goes from now on, and tell who loses by it; says how many events."""
    head, business = await tx.one(_HEAD_LOCKED), await tx.one(_BUSINESS)
    if business.event_retention_days is None:
        return 0
    kept_since = now - timedelta(days=business.event_retention_days)
    lines = [_Line(*line) for line in await tx.many(_OLDEST, after=head.pruned_sequence)]
    awaited = [place for asked in _AWAITED if (place := await tx.one(asked)) is not None]
    going = _going(lines, kept_since, min(awaited, default=None))
    if not going:
        return 0
    upto = going[-1].sequence
    for endpoint in await tx.many(_CROSSED, upto=upto):
        await _cross(tx, endpoint, going, now)
    for replay in await tx.many(_REPLAYS, upto=upto):
        await _shorten(tx, replay, going, now)
    latest = max(line.occurred_at for line in going)
    await tx.change(
        head, pruned_sequence=upto, pruned_until=max(latest, head.pruned_until or latest)
    )
    return len(going)


def _going(lines: list[_Line], kept_since: datetime, awaited: int | None) -> list[_Line]:
    """Which of the oldest events go: up to the first that is kept, or that somebody awaits.

    Nobody is waited for longer than MOST_BEHIND.
    """
    return [
        *takewhile(
            lambda line: (
                line.occurred_at < kept_since
                and (
                    awaited is None
                    or line.sequence <= awaited
                    or line.occurred_at < kept_since - MOST_BEHIND
                )
            ),
            lines,
        )
    ]


async def _cross(
    tx: Transaction, endpoint: WebhookEndpoint, going: list[_Line], now: datetime
) -> None:
    """An endpoint loses what it was due of these: counted, and told to the owner.

    Its document may have left some of them out; nobody knows any more. Whoever serves it just now
    is fenced off, and begins anew.
    """
    upto, types = going[-1].sequence, due_types(endpoint)
    lost = [
        line for line in going if line.sequence > endpoint.cursor_sequence and line.type in types
    ]
    owed = await tx.many(_OWED_ROWS, endpoint_id=endpoint.id, upto=upto)
    for row in owed:
        await settle(tx, endpoint.id, row, now)
    missed = endpoint.missed_events + len(lost) + len(owed)
    await tx.change(
        endpoint,
        cursor_sequence=max(upto, endpoint.cursor_sequence),
        # The next request names what was due before it: so the receiver sees the gap, too.
        last_due_id=lost[-1].id if lost else endpoint.last_due_id,
        missed_events=missed,
        lease_epoch=endpoint.lease_epoch + 1,
        lease_until=now,
    )
    if missed > endpoint.missed_events:
        await tell_of_missed(tx, endpoint, missed, now)


async def _shorten(tx: Transaction, replay: Replay, going: list[_Line], now: datetime) -> None:
    """A replay goes on behind these; those it had yet to send have failed."""
    upto, until = min(going[-1].sequence, replay.last_sequence), replay.until
    lost = sum(
        replay.cursor_sequence < line.sequence <= upto
        and line.type in replay.types
        and line.occurred_at >= replay.since
        and (until is None or line.occurred_at < until)
        for line in going
    )
    await tx.change(
        replay,
        cursor_sequence=upto,
        failed=replay.failed + lost,
        lease_epoch=replay.lease_epoch + 1,
        lease_until=now,
    )
