"""Housekeeping: what was promised to be kept for a while is thrown away after it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Delete, delete, exists, or_, tuple_
from sqlmodel import col, select

from db import Database, Transaction, command, param
from models import (
    AccessToken,
    Attempt,
    Delivery,
    IdempotencyRecord,
    JoinRequest,
    KnownPlace,
    PasswordReset,
    RefusedCall,
    Rendering,
    Replay,
    ReplayStatus,
    Session,
    Throttle,
    UsedLink,
    WebhookEndpoint,
)
from models.base import UtcTimestamp
from services.retention import prune
from services.uploads import empty_old_files

IDEMPOTENCY_KEPT = timedelta(days=7)
ATTEMPTS_KEPT = timedelta(days=30)
SESSIONS_KEPT = timedelta(days=30)
REPLAYS_KEPT = timedelta(days=30)
ACCESS_TOKENS_KEPT = timedelta(days=7)
PLACES_KEPT = timedelta(days=90)
RESETS_KEPT = timedelta(days=7)
THROTTLES_KEPT = timedelta(days=1)
REFUSED_KEPT = timedelta(days=90)
_AT_ONCE = 500


# -- Across all businesses, in the name of the system. --------------------------------------------


def _oldest(row: Any, age: Any, *key: Any) -> Delete:
    """A statement that deletes the oldest rows, so many at once that nobody waits for it."""
    before = param("before", UtcTimestamp())
    oldest = select(*(col(part) for part in key)).where(age < before).limit(_AT_ONCE)
    return delete(row).where(tuple_(*(col(part) for part in key)).in_(oldest))


_IDEMPOTENCY = command(
    _oldest(
        IdempotencyRecord,
        col(IdempotencyRecord.created_at),
        IdempotencyRecord.business_id,
        IdempotencyRecord.actor_id,
        IdempotencyRecord.mutation,
        IdempotencyRecord.key,
    )
)
_ATTEMPTS = command(_oldest(Attempt, col(Attempt.started_at), Attempt.id))
_SESSIONS = command(_oldest(Session, col(Session.expires_at), Session.id))
_REPLAYS = command(_oldest(Replay, col(Replay.finished_at), Replay.id))
_PLACES = command(
    _oldest(KnownPlace, col(KnownPlace.seen_at), KnownPlace.staff_id, KnownPlace.digest)
)
_RESETS = command(_oldest(PasswordReset, col(PasswordReset.expires_at), PasswordReset.digest))
_JOIN_REQUESTS = command(_oldest(JoinRequest, col(JoinRequest.expires_at), JoinRequest.id))
_LINKS = command(_oldest(UsedLink, col(UsedLink.expires_at), UsedLink.digest))
_THROTTLES = command(_oldest(Throttle, col(Throttle.last_at), Throttle.key))
_REFUSED = command(_oldest(RefusedCall, col(RefusedCall.last_at), RefusedCall.id))
_ACCESS_TOKENS = command(_oldest(AccessToken, col(AccessToken.expires_at), AccessToken.id))
# What was rendered for an event is kept for its retries: until the cursor has passed it, and it is
# no exception. A replay may need it once more.
_RENDERING = (col(Rendering.endpoint_id), col(Rendering.sequence))
_DONE_WITH = (
    select(*_RENDERING)
    .join(WebhookEndpoint, col(WebhookEndpoint.id) == col(Rendering.endpoint_id))
    .where(
        or_(
            col(WebhookEndpoint.deleted_at).is_not(None),
            col(Rendering.sequence) <= col(WebhookEndpoint.cursor_sequence),
        ),
        ~exists().where(
            col(WebhookEndpoint.deleted_at).is_(None),
            col(Delivery.endpoint_id) == col(Rendering.endpoint_id),
            col(Delivery.sequence) == col(Rendering.sequence),
        ),
        ~exists().where(
            col(Replay.endpoint_id) == col(Rendering.endpoint_id),
            col(Replay.status) == ReplayStatus.RUNNING,
        ),
    )
    .limit(_AT_ONCE)
)
_RENDERINGS = command(delete(Rendering).where(tuple_(*_RENDERING).in_(_DONE_WITH)))
_KEPT = (
    (_IDEMPOTENCY, IDEMPOTENCY_KEPT),
    (_ATTEMPTS, ATTEMPTS_KEPT),
    (_SESSIONS, SESSIONS_KEPT),
    (_REPLAYS, REPLAYS_KEPT),
    (_ACCESS_TOKENS, ACCESS_TOKENS_KEPT),
    (_PLACES, PLACES_KEPT),
    (_RESETS, RESETS_KEPT),
    (_LINKS, timedelta()),
    (_THROTTLES, THROTTLES_KEPT),
    (_REFUSED, REFUSED_KEPT),
    (_JOIN_REQUESTS, timedelta()),
    (_RENDERINGS, timedelta()),
)


async def keep_house(
    database: Database, now: datetime, is_enough: Callable[[], bool] = lambda: False
) -> int:
    """Throw away what is older than was promised; says how many rows. `now` is real time.

    Each step is short and stands alone: whoever breaks off leaves the rest to the next time.
    """
    thrown_away = 0
    for statement, kept in _KEPT:
        before = now - kept
        while not is_enough():

            async def sweep(
                tx: Transaction, statement: Any = statement, before: datetime = before
            ) -> int:
                return await tx.run(statement, before=before)

            swept = await database.write(None, sweep)
            thrown_away += swept
            if swept < _AT_ONCE:
                break
    thrown_away += await empty_old_files(database, now)
    return thrown_away + await prune(database, now, is_enough=is_enough)
