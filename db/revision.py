"""Which revision a database is at, told without loading the migration tool."""

import asyncio
import sqlite3
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "migrations"


@cache
def latest() -> str:
    """The revision that this release expects: migrations are numbered in their file names."""
    return max(path.name.split("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def is_current(url: str) -> bool:
    """Whether this release runs on the database. Not to be called from a running event loop."""
    return suffices(revision_of(url))


def suffices(revision: str | None) -> bool:
    """Whether this release runs on that revision: migrations expand before they contract.

    So a later release may have migrated the database while this one still runs.
    """
    return revision is not None and revision >= latest()


def revision_of(url: str) -> str | None:
    """The revision the database is at, None if there is none. Not from a running event loop."""
    if url.startswith("sqlite:///"):
        return _sqlite_revision(url.removeprefix("sqlite:///"))
    return asyncio.run(_postgresql_revision(url))


def _sqlite_revision(path: str) -> str | None:
    if not Path(path).exists():
        return None
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None


async def _postgresql_revision(url: str) -> str | None:
    import asyncpg  # noqa: PLC0415 -- only where PostgreSQL is used

    connection = await asyncpg.connect(url, timeout=10)
    try:
        value = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()
    return None if value is None else str(value)
