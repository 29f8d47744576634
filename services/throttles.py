"""Throttles: whoever tries in vain waits longer and longer, but nobody is locked out for good.

They are kept in the database: they hold across processes, and survive a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, update
from sqlmodel import col, select

from core.errors import RateLimited
from core.secrets import Secrets
from db import Database, Query, Transaction, among, command, param, query
from models import Throttle
from models.base import UtcTimestamp

WINDOW = timedelta(minutes=15)
"""So long after the last try, and after the wait for it, everything is forgotten."""
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(minutes=15)

# Who tries is of no business yet: these run in the name of the system.
_NOW = param("now", UtcTimestamp())
_WAITS: Query[Throttle] = query(
    select(Throttle).where(among(col(Throttle.key), "keys"), col(Throttle.until) > _NOW)
)
_LOCKED: Query[Throttle] = query(
    select(Throttle).where(col(Throttle.key) == param("key")).with_for_update()
)
_COUNT = command(
    update(Throttle)
    .where(col(Throttle.key) == param("of"))
    .values(
        failures=param("number"),
        last_at=param("at", UtcTimestamp()),
        until=param("wait_until", UtcTimestamp()),
    )
)
_TAKE_BACK = command(
    update(Throttle)
    .where(col(Throttle.key) == param("of"), col(Throttle.failures) > 0)
    .values(failures=col(Throttle.failures) - 1, until=None)
)
_FORGET = command(delete(Throttle).where(among(col(Throttle.key), "keys")))


@dataclass(frozen=True)
class Tries:
    """What is counted together, and how often it may be tried in vain before one must wait."""

    what: str
    whose: str
    most: int

    def key(self, secrets: Secrets) -> str:
        """How it is stored: nobody reads from it whose it is."""
        return secrets.digest(f"throttle {self.what} {self.whose}")


async def begin(
    database: Database, secrets: Secrets, tries: Sequence[Tries], now: datetime
) -> None:
    """Count a try as failed before it is made, so that many at once gain nothing.

    RateLimited, without counting it, while one must wait: who asks too early waits no longer.
    """
    keys = [one.key(secrets) for one in tries]
    waits = await database.read(None, lambda tx: tx.many(_WAITS, keys=keys, now=now))
    if waits:
        raise _too_many(waits, now)

    async def work(tx: Transaction) -> None:
        for one, key in zip(tries, keys, strict=True):
            await _count(tx, key, one.most, now)

    await database.write(None, work)


async def succeed(
    database: Database, secrets: Secrets, forgiven: Sequence[Tries], taken_back: Sequence[Tries]
) -> None:
    """The try did not fail: some counts are forgotten, of the others this one is taken back."""

    async def work(tx: Transaction) -> None:
        for one in taken_back:
            await tx.run(_TAKE_BACK, of=one.key(secrets))
        if forgiven:
            await tx.run(_FORGET, keys=[one.key(secrets) for one in forgiven])

    await database.write(None, work)


def wait_after(failures: int, most: int) -> timedelta:
    """How long one waits after so many failures: none at first, then twice as long each time."""
    if failures < most:
        return timedelta()
    return min(FIRST_WAIT * (1 << min(failures - most, 10)), LONGEST_WAIT)


async def _count(tx: Transaction, key: str, most: int, now: datetime) -> None:
    await tx.add_if_new(Throttle(key=key, failures=0, last_at=now, until=None))
    known = await tx.one(_LOCKED, key=key)
    if known.until is not None and now < known.until:
        raise _too_many([known], now)
    is_over = now >= max(known.last_at, known.until or known.last_at) + WINDOW
    failures = 1 if is_over else known.failures + 1
    wait = wait_after(failures, most)
    await tx.run(_COUNT, of=key, number=failures, at=now, wait_until=now + wait if wait else None)


def _too_many(waits: Sequence[Throttle], now: datetime) -> RateLimited:
    longest = max(wait.until for wait in waits if wait.until is not None) - now
    left = max(1, round(longest.total_seconds() * 1_000))
    return RateLimited("Too many tries; wait a moment.", retry_after_ms=left)
