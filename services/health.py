"""Health: whether a process can serve, what is amiss, and what metrics ask of the database."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from time import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func
from sqlmodel import col, select

from core.metrics import LAST_PASS
from db import Database, Query, Transaction, query
from db.revision import latest, suffices
from models import LogHead, Notice, Replay, ReplayStatus, WebhookEndpoint
from webhooks.lag import Lag, lagging

ANSWERS_WITHIN = 3.0
LAGS_TOLD = 100
COUNTED = 1_000
"""Notices counted at most."""
UNSERVED = 60.0
"""Seconds after which somebody should have served an endpoint, or looked for work."""
SKEW = 2.0
"""Seconds by which our clock and the database's may differ."""
FULL, SCARCE = 16 * 2**20, 512 * 2**20
"""Free bytes below which nothing can be stored, and below which somebody should know."""

# How it stands in all businesses together: these run in the name of the system.
_REVISION = query(
    sa.select(sa.column("version_num", sa.String)).select_from(sa.table("alembic_version"))
)
_NOW: Query[datetime] = query(sa.select(sa.func.now(type_=sa.DateTime(timezone=True))))
_ENDPOINTS: Query[Any] = query(
    select(WebhookEndpoint.status, func.count())
    .where(col(WebhookEndpoint.deleted_at).is_(None))
    .group_by(col(WebhookEndpoint.status))
)
_REPLAYS = query(
    select(func.count()).select_from(Replay).where(col(Replay.status) == ReplayStatus.RUNNING)
)
_NOTICES = query(
    select(func.count()).select_from(
        select(Notice.id).where(col(Notice.mailed_at).is_(None)).limit(COUNTED).subquery()
    )
)
_HEADS: Query[Any] = query(
    select(
        func.count(),
        func.coalesce(func.sum(LogHead.sequence), 0),
        func.coalesce(func.sum(LogHead.pruned_sequence), 0),
    )
)


class Grade(StrEnum):
    """How bad it is.

    OK: nothing is amiss.
    WARNING: it serves, but somebody should look.
    DOWN: it cannot serve.
    """

    OK = "ok"
    WARNING = "warning"
    DOWN = "down"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; the words are ours, and name nothing of any business."""

    grade: Grade = Grade.OK
    says: str = "ok"


@dataclass(frozen=True)
class Measures:
    """What the database tells of all businesses together."""

    lags: list[Lag]
    endpoints: Mapping[str, int]
    replays: int
    notices: int
    businesses: int
    events: int
    pruned: int


@dataclass
class _Answer:
    """What the database says when it is asked how it is."""

    revision: str | None = None
    lags: list[Lag] = field(default_factory=list)
    skew: float = 0.0


async def check_database(database: Database) -> dict[str, Check]:
    """Whether the database answers and is as this release needs it, its clock, and waiting work."""

    async def work(tx: Transaction) -> _Answer:
        revision = await tx.maybe(_REVISION)
        if not suffices(revision):
            return _Answer(revision)
        theirs = await tx.one(_NOW)
        ours = datetime.now(UTC)
        skew = (ours - theirs.replace(tzinfo=theirs.tzinfo or UTC)).total_seconds()
        return _Answer(revision, await lagging(tx, ours, 1), skew)

    try:
        async with asyncio.timeout(ANSWERS_WITHIN):
            answer = await database.read(None, work)
    except Exception:  # noqa: BLE001 -- whatever it is, it does not answer
        unknown = Check(Grade.WARNING, "unknown: the database does not answer")
        return {"database": Check(Grade.DOWN, "unreachable"), "migrations": unknown}
    return {
        "database": Check(),
        "migrations": _check_revision(answer.revision),
        "clock": _check_clock(answer.skew),
        "backlog": _check_backlog(answer.lags),
    }


def check_disk(folder: Path, *, holds_database: bool) -> Check:
    """Whether there is room to store. A full disk stops only what stores on it."""
    try:
        free = shutil.disk_usage(folder if folder.exists() else folder.absolute().parent).free
    except OSError:
        return Check(Grade.WARNING, "unknown: the data dir cannot be read")
    if free < FULL and holds_database:
        return Check(Grade.DOWN, "full: nothing can be stored")
    if free < SCARCE:
        return Check(Grade.WARNING, f"{free // 2**20} MiB left")
    return Check()


def check_workers(*, expected: bool) -> Check:
    """Whether the workers inside this process still look for work."""
    if not expected:
        return Check(says="ok: elsewhere")
    silent = [
        f"{hand} for {time() - at:.0f} s"
        for (hand,), at in LAST_PASS.values.items()
        if time() - at > UNSERVED
    ]
    if silent:
        return Check(Grade.WARNING, f"silent: {', '.join(silent)}")
    return Check()


async def measure(database: Database, now: datetime) -> Measures:
    """What the metrics ask of the database. `now` is real time."""

    async def work(tx: Transaction) -> Measures:
        businesses, events, pruned = await tx.one(_HEADS)
        return Measures(
            lags=await lagging(tx, now, LAGS_TOLD),
            endpoints=dict(await tx.many(_ENDPOINTS)),
            replays=await tx.one(_REPLAYS),
            notices=await tx.one(_NOTICES),
            businesses=businesses,
            events=int(events),
            pruned=int(pruned),
        )

    async with asyncio.timeout(ANSWERS_WITHIN):
        return await database.read(None, work)


def _check_revision(revision: str | None) -> Check:
    if not suffices(revision):
        return Check(Grade.DOWN, f"at revision {revision}, this release needs {latest()}")
    if revision != latest():
        return Check(says=f"ok: at revision {revision} of a later release")
    return Check()


def _check_clock(skew: float) -> Check:
    if abs(skew) <= SKEW:
        return Check()
    where = "ahead of" if skew > 0 else "behind"
    return Check(Grade.WARNING, f"{abs(skew):.1f} s {where} the database's")


def _check_backlog(lags: list[Lag]) -> Check:
    waiting = max((lag.unserved_seconds for lag in lags), default=0.0)
    if waiting > UNSERVED:
        return Check(Grade.WARNING, f"webhooks have waited for a worker for {waiting:.0f} s")
    return Check()
