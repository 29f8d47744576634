"""SQLite: reads in the event loop, writes by one thread that commits in groups.

A hop to another thread per statement costs more than the statement, so there is none: a read is
done where it is asked for, and a whole unit of work runs in the writer thread. Units that wait
while a commit is syncing share the next one, each inside its own savepoint. (SQLModel's
async session over aiosqlite was measured at a fortieth of this speed.)

After a failed sync nobody knows what is on the disk, and a second sync would not tell: from then on
nothing is stored, and the process is to end.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from core.errors import Overloaded, Unavailable
from db.statements import SQLITE, Compiled
from db.transaction import Database, Load, Taken, Transaction, Work

T = TypeVar("T")
_GROUP = 64
_WAITING = 2_000
_BUSY_MS = 5_000
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",  # what is deleted is overwritten: personal data does not linger
)
_TAKEN = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_BUSY = "Another process holds the database; try again shortly."
_BROKEN = "The disk failed; what was called for may not be stored."
_UNABLE = {
    sqlite3.SQLITE_FULL: "The disk is full; nothing was stored.",
    sqlite3.SQLITE_READONLY: "The database cannot be written to.",
    sqlite3.SQLITE_CANTOPEN: "The database cannot be opened.",
    sqlite3.SQLITE_NOMEM: "The server is out of memory; try again shortly.",
}
_LOST = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = structlog.get_logger("stampwire.db")


class SqliteDatabase(Database):
    """One file in WAL mode, fully synced at every commit."""

    def __init__(self, path: str, *, checkpoints: bool = True) -> None:
        self._path = path
        self._checkpoints = checkpoints
        self._jobs: queue.Queue[_Job[Any] | _Forgetting | None] = queue.Queue(_WAITING)
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.get_running_loop()
        connection = self._connect()
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only = ON")
        self._writer = threading.Thread(
            target=self._write_all, args=(connection,), name="sqlite-writer", daemon=True
        )
        self._writer.start()

    async def close(self) -> None:
        if self._writer is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def write(self, business: str | None, work: Work[T]) -> T:
        return await self._enqueue(_Job(business, work))

    async def rehearse(self, business: str | None, work: Work[T]) -> T:
        return await self._enqueue(_Job(business, work, keeps=False))

    async def read(self, business: str | None, work: Work[T]) -> T:
        connection = self._reader
        if connection is None:
            message = "The database is not open."
            raise RuntimeError(message)
        try:
            connection.execute("BEGIN")
            try:
                return _drive(work(SqliteTransaction(business, connection)))
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_READONLY:  # a fault of ours: whoever reads wrote
                raise
            raise _told(error) from error

    async def snapshot(self, business: str | None, work: Work[T]) -> T:
        return await self.read(business, work)

    async def forget(self) -> None:
        forgetting = _Forgetting()
        try:
            self._jobs.put_nowait(forgetting)
        except queue.Full:
            raise Overloaded from None
        await asyncio.wrap_future(forgetting.done)

    @property
    def load(self) -> Load:
        waiting = self._jobs.qsize()
        return Load(waiting, busy=int(waiting > 0), connections=2)

    async def _enqueue(self, job: "_Job[T]") -> T:
        if self.is_broken:
            raise Unavailable(_BROKEN)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Overloaded from None
        return await asyncio.wrap_future(job.done)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=_BUSY_MS / 1_000,
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if not self._checkpoints:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _write_all(self, connection: sqlite3.Connection) -> None:
        """The writer thread: take what waits, commit it together, until told to stop."""
        while (job := self._jobs.get()) is not None:
            group = [job]
            stop = False
            while len(group) < _GROUP:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stop = True
                    break
                group.append(following)
            self._commit_group(connection, [job for job in group if isinstance(job, _Job)])
            for forgetting in group:
                if isinstance(forgetting, _Forgetting):
                    forgetting.run(connection)
            if stop:
                break
        connection.close()

    def _commit_group(self, connection: sqlite3.Connection, group: list["_Job[Any]"]) -> None:
        if not group:
            return
        try:
            if connection.in_transaction:  # the last group's rollback failed, too
                connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for job in group:
                job.run(connection)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 -- this thread serves all: it never ends so
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            self._watch_for_loss(error)
            for job in group:
                job.fail(error)
            return
        heads: dict[str, tuple[int, int]] = {}
        for job in group:
            heads.update(job.heads)
            self._watch_for_loss(job.error)
            job.resolve()
        if heads and self._loop is not None:
            self._loop.call_soon_threadsafe(self._committed, heads)

    def _watch_for_loss(self, error: BaseException | None) -> None:
        if self.is_broken or _code(error) not in _LOST:
            return
        self.is_broken = True
        log.critical("the disk failed", error=str(error))
        if self._loop is not None and self.on_broken is not None:
            self._loop.call_soon_threadsafe(self.on_broken)


class SqliteTransaction(Transaction):
    """A transaction on the connection of whoever runs it; no await in it ever suspends."""

    dialect = SQLITE

    def __init__(self, business: str | None, connection: sqlite3.Connection) -> None:
        super().__init__(business)
        self._connection = connection

    async def _fetch(self, compiled: Compiled, values: list[Any]) -> list[Any]:
        return self._execute(compiled, values).fetchall()

    async def _run(self, compiled: Compiled, values: list[Any]) -> int:
        return self._execute(compiled, values).rowcount

    def _execute(self, compiled: Compiled, values: list[Any]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(compiled.sql, values)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _TAKEN:
                raise Taken from error
            raise


@dataclass
class _Job(Generic[T]):
    """One unit of work on its way through the writer thread."""

    business: str | None
    work: Work[T]
    keeps: bool = True
    done: Future[T] = field(default_factory=Future)
    heads: dict[str, tuple[int, int]] = field(default_factory=dict)
    _result: Any = None
    error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work inside a savepoint of its own."""
        connection.execute("SAVEPOINT job")
        tx = SqliteTransaction(self.business, connection)
        try:
            self._result = _drive(self.work(tx))
            if self.keeps:
                _drive(tx.close())
                self.heads = tx.heads
            else:
                connection.execute("ROLLBACK TO job")
        except BaseException as error:
            self.error = error
            self.heads = {}
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def resolve(self) -> None:
        """Tell whoever waits: it is committed, or it was refused."""
        if not self.done.set_running_or_notify_cancel():
            return
        if self.error is not None:
            self.done.set_exception(_told(self.error))
        else:
            self.done.set_result(self._result)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that nothing was stored.

        Nor is a refusal told: what it was refused for may be lost with the group.
        """
        if self.done.set_running_or_notify_cancel():
            self.done.set_exception(_told(error))


@dataclass
class _Forgetting:
    """Somebody who waits until no file holds what was deleted or overwritten before."""

    done: Future[None] = field(default_factory=Future)

    def run(self, connection: sqlite3.Connection) -> None:
        """Move all of the log into the database and cut it off; whoever reads is waited for."""
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self.done.set_exception(_told(error))
            return
        if busy:
            self.done.set_exception(Overloaded("Somebody reads the database; try again shortly."))
        else:
            self.done.set_result(None)


def _code(error: BaseException | None) -> int | None:
    """What SQLite calls an error, without its finer points; None where it was not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _told(error: BaseException) -> BaseException:
    """An error as callers may know it; what is a fault of ours stays as it is."""
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        told: Exception = Overloaded(_BUSY)
    elif code in _LOST:
        told = Unavailable(_BROKEN)
    elif code in _UNABLE:
        told = Unavailable(_UNABLE[code])
    else:
        return error
    told.__cause__ = error
    return told


def _drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    message = "A unit of work on SQLite waited for something other than the database."
    raise RuntimeError(message)
