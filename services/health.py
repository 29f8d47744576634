"""Health: whether the database answers, and is the one this release expects."""

import asyncio

import sqlalchemy as sa

from db import Database, Transaction, query
from db.revision import latest

# The revision is no business's: this runs in the name of the system.
_REVISION = query(
    sa.select(sa.column("version_num", sa.String)).select_from(sa.table("alembic_version"))
)


async def check_database(database: Database) -> str:
    """`ok`, or what is wrong: `unreachable`, or the revision found."""

    async def work(tx: Transaction) -> str | None:
        return await tx.maybe(_REVISION)

    try:
        async with asyncio.timeout(3):
            revision = await database.read(None, work)
    except Exception:  # noqa: BLE001 -- whatever it is, it does not answer
        return "unreachable"
    return "ok" if revision == latest() else f"at revision {revision}, not {latest()}"
