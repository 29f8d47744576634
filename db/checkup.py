"""Checkups: what a database says of itself when `stampwire doctor` asks."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from models import Row

WAL_RESET_FIXED = (3, 51, 3)
"""From 3.7.0 up to this, two connections that write and checkpoint at once can break the file."""
_TENANTS = sorted(
    str(cls.__tablename__) for cls in Row.__subclasses__() if "business_id" in cls.model_fields
)


@dataclass(frozen=True)
class Checkup:
    """What was found."""

    version: str
    skew: float = 0.0
    """Seconds by which our clock is ahead of the database's."""
    may_act: bool = True
    """Whether our login may act as both roles of the second wall."""
    bypasses: bool = False
    """Whether our login goes round the wall whatever the policies say, but for acting as a role."""
    unprotected: list[str] = field(default_factory=list)
    """Tables of tenants' rows without a forced policy."""
    connections: int = 0
    """How many the server takes."""
    has_wal: bool = True
    has_reset_fault: bool = False


def check_up_sqlite(url: str) -> Checkup:
    """Ask a SQLite file; sqlite3.Error if it cannot be read."""
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        [mode] = connection.execute("PRAGMA journal_mode").fetchone()
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return Checkup(
        sqlite3.sqlite_version,
        has_wal=mode == "wal",
        has_reset_fault=sqlite3.sqlite_version_info < WAL_RESET_FIXED,
    )


async def check_up_postgresql(url: str) -> Checkup:
    """Ask a PostgreSQL server; whatever asyncpg raises if it does not answer."""
    wire: asyncpg.Connection[Any] = await asyncpg.connect(
        url, timeout=10, server_settings={"application_name": "stampwire doctor"}
    )
    try:
        before = datetime.now(UTC)
        theirs = await wire.fetchval("SELECT clock_timestamp()")
        ours = before + (datetime.now(UTC) - before) / 2
        return Checkup(
            str(await wire.fetchval("SHOW server_version")),
            skew=(ours - theirs).total_seconds(),
            may_act=await wire.fetchval(
                "SELECT count(*) = 2 FROM pg_roles "
                "WHERE rolname IN ('stampwire_app', 'stampwire_system') "
                "AND pg_has_role(oid, 'MEMBER')"
            ),
            bypasses=await wire.fetchval(
                "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ),
            unprotected=[
                row["relname"]
                for row in await wire.fetch(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' "
                    "AND relnamespace = current_schema::regnamespace AND relname = ANY($1) "
                    "AND NOT (relrowsecurity AND relforcerowsecurity)",
                    _TENANTS,
                )
            ],
            connections=int(await wire.fetchval("SHOW max_connections")),
        )
    finally:
        await wire.close()
