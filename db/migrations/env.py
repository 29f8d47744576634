"""How alembic reaches the database, and how our column types are written in a migration."""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import models  # noqa: F401 -- its tables are the target
from models.base import Json, UtcTimestamp


def render_item(kind: str, item: Any, _: Any) -> Any:
    """Write our own types as the plain ones they stand for."""
    if kind != "type":
        return False
    if isinstance(item, UtcTimestamp):
        return "TIMESTAMP"
    if isinstance(item, Json):
        return "sa.Text()"
    if type(item).__name__.endswith("Word"):
        return "sa.String(40)"
    if type(item).__name__ == "AutoString":
        return "sa.String()"
    return False


def migrate(connection: Connection) -> None:
    """Bring the database on this connection up to date."""
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_item=render_item,
        transaction_per_migration=True,
        transactional_ddl=True,  # SQLite can, though alembic does not rely on it
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_postgresql(url: str) -> None:
    """The same over asyncpg, the one PostgreSQL driver of this house."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        # Until the connection ends: of several processes that start at once, one migrates.
        await connection.execute(text("SELECT pg_advisory_lock(7461109)"))
        await connection.commit()
        await connection.run_sync(migrate)
    await engine.dispose()


url: str = context.config.attributes["url"]
if url.startswith("sqlite:"):
    engine = create_engine(url)
    # As it comes, Python's driver commits each change of a table by itself: whoever was killed in
    # the middle would leave half a migration.
    event.listen(engine, "connect", lambda driver, _: setattr(driver, "isolation_level", None))
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()
else:
    asyncio.run(migrate_postgresql(url))
