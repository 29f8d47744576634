"""Housekeeping: what was promised to be kept for a while is thrown away after it."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Delete, delete, tuple_
from sqlmodel import col, select

from db import Database, Transaction, command, param
from models import Attempt, IdempotencyRecord, Session
from models.base import UtcTimestamp
from services.uploads import empty_old_files

IDEMPOTENCY_KEPT = timedelta(days=7)
ATTEMPTS_KEPT = timedelta(days=30)
SESSIONS_KEPT = timedelta(days=30)
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
_KEPT = (
    (_IDEMPOTENCY, IDEMPOTENCY_KEPT),
    (_ATTEMPTS, ATTEMPTS_KEPT),
    (_SESSIONS, SESSIONS_KEPT),
)


async def keep_house(database: Database, now: datetime) -> int:
    """Throw away what is older than was promised; says how many rows. `now` is real time.

    Each step is short and stands alone: whoever breaks off leaves the rest to the next time.
    """
    thrown_away = 0
    for statement, kept in _KEPT:
        before = now - kept
        while True:

            async def sweep(
                tx: Transaction, statement: Any = statement, before: datetime = before
            ) -> int:
                return await tx.run(statement, before=before)

            swept = await database.write(None, sweep)
            thrown_away += swept
            if swept < _AT_ONCE:
                break
    return thrown_away + await empty_old_files(database, now)
