"""What only SQLite's way of writing has to promise."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from core.errors import Invalid, Overloaded
from core.settings import Settings
from db import Database, Transaction
from db.sqlite import SqliteDatabase
from factories import a_business
from patience import PATIENCE, until

pytestmark = pytest.mark.on("sqlite")


async def test_work_that_waits_for_something_else_is_refused(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        await asyncio.sleep(0)

    for do in (database.write, database.rehearse, database.read):
        with pytest.raises(RuntimeError, match="waited for something other than the database"):
            await do(None, work)

    await a_business(database)  # and the next unit is served


async def test_every_commit_is_synced_to_a_wal(database: Database, settings: Settings) -> None:
    async def work(tx: Transaction) -> tuple[str, int, int]:
        run = tx._connection.execute  # type: ignore[attr-defined]
        return tuple(  # type: ignore[return-value]
            run(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        )

    assert await database.write(None, work) == ("wal", 2, 1)
    assert await database.read(None, work) == ("wal", 2, 1)


async def test_the_reader_cannot_write(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        tx._connection.execute("DELETE FROM business")  # type: ignore[attr-defined]

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(None, work)


async def test_too_many_waiting_units_are_turned_away(tmp_path: Path) -> None:
    database = SqliteDatabase(str(tmp_path / "full.db"))  # not open: nobody takes from its queue

    async def work(tx: Transaction) -> None: ...

    waiting = [asyncio.ensure_future(database.write(None, work)) for _ in range(2_000)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await database.write(None, work)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_write_by_another_process_is_seen(database: Database, settings: Settings) -> None:
    cafe = await a_business(database)
    path = settings.database.removeprefix("sqlite:///")

    other = sqlite3.connect(path)
    other.execute("UPDATE log_head SET sequence = 7")
    other.commit()
    other.close()

    async def work(tx: Transaction) -> int:
        row = tx._connection.execute("SELECT sequence FROM log_head").fetchone()  # type: ignore[attr-defined]
        return int(row[0])

    assert await database.read(cafe.business.id, work) == 7


async def test_whoever_stops_waiting_for_the_forgetting_stops_no_writer(
    database: Database, settings: Settings
) -> None:
    """A call over a socket is cancelled when its client completes it."""
    await a_business(database)
    reads = sqlite3.connect(settings.database.removeprefix("sqlite:///"))
    reads.execute("BEGIN")
    reads.execute("SELECT * FROM business").fetchall()  # the forgetting now has to wait
    await a_business(database)

    forgetting = asyncio.create_task(database.forget())
    await asyncio.sleep(0.05)
    forgetting.cancel()
    await asyncio.gather(forgetting, return_exceptions=True)
    reads.close()

    async with asyncio.timeout(10):
        await a_business(database)


async def test_work_that_ends_its_own_transaction_stops_no_writer(database: Database) -> None:
    """SQLite rolls back by itself on a full disk; whatever else then goes wrong is told."""

    async def breaks(tx: Transaction) -> None:
        tx._connection.execute("ROLLBACK")  # type: ignore[attr-defined]
        raise KeyError("something of ours")

    with pytest.raises(KeyError):
        await database.write(None, breaks)

    async with asyncio.timeout(5):
        await a_business(database)


async def test_a_refusal_of_a_group_that_was_lost_is_not_told(database: Database) -> None:
    """What it was refused for may be gone with the others."""
    holding, begun = threading.Event(), threading.Event()

    async def holds(tx: Transaction) -> None:
        holding.set()
        begun.wait(PATIENCE)

    async def refuses(tx: Transaction) -> None:
        raise Invalid("Somebody was quicker.")

    async def breaks(tx: Transaction) -> None:
        tx._connection.execute("ROLLBACK")  # type: ignore[attr-defined]
        raise sqlite3.OperationalError("disk I/O error")

    first = asyncio.create_task(database.write(None, holds))
    await until(holding.is_set)
    group = [asyncio.create_task(database.write(None, work)) for work in (refuses, breaks)]
    await until(lambda: database.load.waiting == 2)
    begun.set()
    await first
    told = await asyncio.gather(*group, return_exceptions=True)

    assert [type(error) for error in told] == [sqlite3.OperationalError] * 2
