"""`/readyz`: what is amiss, red only where the process cannot serve."""

import contextlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from core.metrics import LAST_PASS
from core.settings import Settings
from db import Database
from events.stream import Stream
from factories import Cafe, a_card
from fakes.receiver import receiving
from partners import Api
from processes import RunningServer
from services import health

Ready = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]


@pytest.fixture
def ready(http: httpx2.AsyncClient) -> Ready:
    """What `/readyz` says."""

    async def ask() -> tuple[int, dict[str, Any]]:
        answer = await http.get("/readyz")
        return answer.status_code, answer.json()

    return ask


async def test_all_is_well(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "healthy", property(lambda _: True, lambda *_: None), raising=False)

    assert await ready() == (
        200,
        {
            "ready": True,
            "status": "ok",
            "process": "ok",
            "database": "ok",
            "migrations": "ok",
            "clock": "ok",
            "backlog": "ok",
            "doorbell": "ok",
            "disk": "ok",
            "workers": "ok",
        },
    )


async def test_a_silent_doorbell_is_a_warning(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = property(lambda _: False, lambda *_: None)
    monkeypatch.setattr(Stream, "healthy", silent, raising=False)

    code, said = await ready()

    assert (code, said["status"]) == (200, "warning")
    assert said["doorbell"].startswith("silent")


async def test_a_process_that_stops_is_red(ready: Ready, server: RunningServer) -> None:
    server.app.state.is_ready = False

    code, said = await ready()

    assert (code, said["ready"], said["process"]) == (503, False, "starting or stopping")


async def test_a_lost_database_is_red_and_says_no_more_than_that(
    ready: Ready, server: RunningServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise ConnectionError(f"cannot reach {settings.database}")

    monkeypatch.setattr(server.app.state.deployment.database, "read", lost)

    code, said = await ready()

    assert (code, said["database"]) == (503, "unreachable")
    assert settings.database not in json.dumps(said)


@pytest.mark.parametrize(
    ("revision", "code", "says"),
    [
        ("0000", 503, "at revision 0000, this release needs 0007"),
        ("0009", 200, "ok: at revision 0009 of a later release"),
    ],
)
async def test_an_older_schema_is_red_and_a_newer_one_is_not(
    ready: Ready, settings: Settings, revision: str, code: int, says: str
) -> None:
    """A later release may have migrated already: migrations expand before they contract."""
    await _run(settings, f"UPDATE alembic_version SET version_num = '{revision}'")

    got, said = await ready()

    assert (got, said["migrations"]) == (code, says)


@pytest.mark.parametrize(
    ("free", "code", "says"),
    [(2**20, 503, "full: nothing can be stored"), (100 * 2**20, 200, "100 MiB left")],
)
@pytest.mark.on("sqlite")
async def test_a_disk_without_room_is_told_of(
    ready: Ready, monkeypatch: pytest.MonkeyPatch, free: int, code: int, says: str
) -> None:
    class Usage:
        pass

    Usage.free = free
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: Usage)

    got, said = await ready()

    assert (got, said["disk"]) == (code, says)


async def test_a_worker_that_looks_no_more_is_told_of(ready: Ready) -> None:
    LAST_PASS.set(0, "pusher")

    code, said = await ready()

    assert code == 200
    assert said["workers"].startswith("silent: pusher")


async def test_webhooks_that_wait_for_a_worker_are_told_of(
    ready: Ready, server: RunningServer, database: Database, cafe: Cafe
) -> None:
    long_ago = datetime.now(UTC) + timedelta(seconds=90)
    async with Api(server.graphql, cafe.api_key) as api, receiving() as receiver:
        await api.do("CreateWebhookEndpoint", url=receiver.at("/"))
        lags = await database.read(None, lambda tx: health.lagging(tx, long_ago, 1))
        assert lags == []
        receiver.answers.clear()
        await a_card(database, cafe.owner)
        [lag] = await database.read(None, lambda tx: health.lagging(tx, long_ago, 1))
        receiver.answers.set()

    assert 80 < lag.seconds < 100


async def _run(settings: Settings, sql: str) -> None:
    """As the owner of the tables, which no part of the server is."""
    if settings.is_sqlite:
        path = settings.database.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql)
        return
    wire = await asyncpg.connect(settings.database)
    await wire.execute(sql)
    await wire.close()
