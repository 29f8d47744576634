"""The migrations make what the models say, and can be run by several at once."""

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

from backends import Backend
from core.settings import Settings
from db.migrate import upgrade
from db.revision import latest
from processes import Process


def differences(url: str) -> list[Any]:
    """What alembic would have to change to make the database as the models are."""

    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert context.get_current_revision() == latest()
        return list(compare_metadata(context, SQLModel.metadata))

    async def compare_over_asyncpg() -> list[Any]:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
        async with engine.connect() as connection:
            found = await connection.run_sync(compare)
        await engine.dispose()
        return found

    if not url.startswith("sqlite:"):
        return asyncio.run(compare_over_asyncpg())
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare(connection)
    engine.dispose()
    return found


def test_the_migrations_make_what_the_models_say(settings: Settings) -> None:
    assert differences(settings.database) == []


@pytest.mark.slow
def test_several_may_upgrade_at_once(backend: Backend, settings: Settings, tmp_path: Path) -> None:
    """As `honcho start` does: web, worker and release all begin with an upgrade."""
    url = backend.empty(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        for upgraded in [threads.submit(_upgrade_elsewhere, settings, url) for _ in range(4)]:
            upgraded.result()

    assert differences(url) == []
    backend.drop(url)


def test_upgrading_twice_changes_nothing(settings: Settings) -> None:
    upgrade(settings.database)

    assert differences(settings.database) == []


@pytest.mark.on("sqlite")
def test_a_new_file_is_for_nobody_else_to_read(settings: Settings, tmp_path: Path) -> None:
    _upgrade_elsewhere(settings, f"sqlite:///{tmp_path / 'cafe.db'}")

    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("cafe.db*")} == {0o600}


def _upgrade_elsewhere(settings: Settings, url: str) -> None:
    """In a process of its own: alembic keeps its context in globals."""
    elsewhere = Settings(**{**settings.model_dump(), "database_url": url})
    Process(elsewhere).run("db", "upgrade")
