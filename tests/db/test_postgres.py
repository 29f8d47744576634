"""What only PostgreSQL's pool has to promise: a connection always speaks for whom it is asked."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from core.settings import Settings
from db import Taken, Transaction
from db.postgres import PostgresDatabase
from factories import a_business
from patience import until

pytestmark = pytest.mark.on("postgres")


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[PostgresDatabase]:
    """A database with one connection: whoever comes next gets the one that was left."""
    opened = PostgresDatabase(settings.database, size=1)
    await opened.open()
    yield opened
    await opened.close()


async def whose(tx: Transaction) -> tuple[str, str, bool]:
    """The role and the business of a connection, and whether it is in a transaction."""
    wire: Any = tx._wire  # type: ignore[attr-defined]
    row = await wire.fetchrow(
        "SELECT current_user::text, current_setting('stampwire.business', true)"
    )
    return (*row, wire.is_in_transaction())


@pytest.mark.parametrize("does", ["read", "write"])
async def test_a_call_that_ends_early_leaves_no_connection_in_its_name(
    database: PostgresDatabase, does: str
) -> None:
    a, b = await a_business(database), await a_business(database)
    do = getattr(database, does)
    for turns in range(1, 12):
        for business in (a.business.id, None, b.business.id):
            call = asyncio.create_task(do(business, whose))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

            assert await database.read(business, whose) == (
                "stampwire_app" if business else "stampwire_system",
                business or "",
                False,
            )


async def test_connections_that_died_while_nobody_used_them_are_made_anew(
    database: PostgresDatabase,
) -> None:
    cafe = await a_business(database)
    database._free[0].wire.terminate()
    await until(database._free[0].wire.is_closed)

    assert (await database.read(cafe.business.id, whose))[1] == cafe.business.id


async def test_a_connection_that_is_handed_on_too_late_is_not_lost(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience ends, or the call is cancelled, in the very turn in which the connection comes."""
    monkeypatch.setattr("db.postgres._PATIENCE", 0.05)
    loop = asyncio.get_running_loop()
    for is_cancelled in (False, True):
        connection = await database._acquire(None)
        waits = asyncio.create_task(database._acquire(None))
        await asyncio.sleep(0)
        loop.call_later(0.04, database._release, connection)
        if is_cancelled:
            loop.call_later(0.041, waits.cancel)
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 -- all of it is due when the loop looks again

        if is_cancelled:
            with pytest.raises(asyncio.CancelledError):
                await waits
        else:
            database._release(await waits)
        assert len(database._free) == 1


async def test_what_the_server_did_not_commit_is_not_told_as_done(
    database: PostgresDatabase,
) -> None:
    """A failed statement that is passed over makes the server answer COMMIT with a rollback."""
    cafe = await a_business(database)

    async def passes_over(tx: Transaction) -> str:
        await tx.change(cafe.business, name="Another")
        with suppress(Taken):
            await tx.add(cafe.business)
        return "done"

    with pytest.raises(RuntimeError, match="nothing was stored"):
        await database.write(None, passes_over)
