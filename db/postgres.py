"""PostgreSQL: asyncpg, with a lean pool of our own.

asyncpg's pool resets a connection on every release, a round trip that was measured to cost as
much as a statement. Ours keeps connections as they are and remembers in whose name each speaks:
the role and the business are set when a lease changes them, and row-level security does the rest.

A server that is gone, frozen or cut off makes nobody wait for long, and no pile: what a call waits
for is bounded at each step, and each bound ends in Unavailable or Overloaded. Where nothing can
have been stored, the call is tried once more on a fresh connection first.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from core.errors import BadUserInput, Locked, Overloaded, Unavailable
from core.ids import is_id
from db.statements import POSTGRESQL, Compiled
from db.transaction import Database, Load, Taken, Transaction, Work

T = TypeVar("T")
_WAITING = 2_000
_PATIENCE = 10.0
_STILL = 2.0
"""How long a call waits while no connection comes back at all."""
_ANSWER = 2.0
"""Within this a server that lives has connected, or begun a transaction."""
_LONGEST = 20.0
"""More than the server itself allows a statement: after this it is not there any more."""
_IDLE = 5.0
"""A connection unused for longer is asked for a sign of life first."""
_TRIES = 5
_APART = 0.1
_SETTINGS = {
    "application_name": "stampwire",
    "statement_timeout": "15000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "30000",
}
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, Locked)
_GONE = (
    OSError,  # a timeout is one, too
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # its answer to a farewell that came while nothing was asked
)
_UNABLE = (
    asyncpg.InsufficientResourcesError,  # a full disk, no connection left
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
)


class _Gone(Unavailable):
    """The connection is dead, and nothing was stored over it."""


class PostgresDatabase(Database):
    """A PostgreSQL server; every connection acts as `stampwire_app` or `stampwire_system`."""

    def __init__(self, url: str, size: int = 10) -> None:
        self._url = url
        self._size = size
        self._free: deque[_Connection] = deque()
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()
        self._mending: set[asyncio.Task[None]] = set()
        self._made = 0
        self._moved = 0.0
        self._roles = True

    async def open(self) -> None:
        connection = await self._new_connection()
        self._roles = await connection.wire.fetchval(
            "SELECT count(*) = 2 FROM pg_roles "
            "WHERE rolname IN ('stampwire_app', 'stampwire_system') "
            "AND pg_has_role(oid, 'MEMBER')"
        )
        self._made = 1
        self._free.append(connection)

    async def close(self) -> None:
        self._size = 0
        await asyncio.gather(*self._mending)
        while self._free:
            await self._free.pop().wire.close(timeout=5)

    async def write(self, business: str | None, work: Work[T]) -> T:
        return await self._transact(business, work, keeps=True)

    async def rehearse(self, business: str | None, work: Work[T]) -> T:
        return await self._transact(business, work, keeps=False)

    async def read(self, business: str | None, work: Work[T]) -> T:
        with suppress(_Gone):
            return await self._read_once(business, work)
        return await self._read_once(business, work)

    async def _read_once(self, business: str | None, work: Work[T]) -> T:
        async with self._lease(business) as connection:
            await connection.speak_for(business, roles=self._roles)
            return await work(PostgresTransaction(business, connection.wire))

    async def snapshot(self, business: str | None, work: Work[T]) -> T:
        async with self._lease(business) as connection:
            wire = connection.wire
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
            await connection.speak_for(business, roles=self._roles, then=begin)
            try:
                return await work(PostgresTransaction(business, wire))
            finally:
                await _roll_back(wire)

    async def forget(self) -> None:
        """Nothing: dead rows are the server's own to sweep out (docs/running.md)."""

    @property
    def load(self) -> Load:
        waiting = sum(not waiter.done() for waiter in self._waiting)
        return Load(waiting, busy=self._made - len(self._free), connections=self._made)

    async def _transact(self, business: str | None, work: Work[T], *, keeps: bool) -> T:
        is_second = False
        for left in reversed(range(_TRIES)):
            try:
                return await self._transact_once(business, work, keeps=keeps)
            except _Gone:
                if is_second:
                    raise
                is_second = True
            except _AGAIN:
                if not left:
                    raise Overloaded from None
                # Those who stood in each other's way do not meet at the same moment again.
                await asyncio.sleep(random.uniform(0, _APART))  # noqa: S311 -- no secret
            except Taken:
                # Somebody was quicker between our look and our insert: the next look finds it.
                if not left:
                    raise
        raise AssertionError

    async def _transact_once(self, business: str | None, work: Work[T], *, keeps: bool) -> T:
        async with self._lease(business) as connection:
            wire = connection.wire
            await connection.speak_for(business, roles=self._roles, then="BEGIN")
            tx = PostgresTransaction(business, wire)
            is_told = False
            try:
                result = await work(tx)
                if keeps:
                    await tx.close()
                is_told = keeps
                ended = await wire.execute("COMMIT" if keeps else "ROLLBACK")
                if keeps:
                    _check_kept(ended)
            except BaseException as error:
                if _is_gone(error, wire):
                    wire.terminate()
                    if is_told:
                        raise Unavailable(_UNSURE) from error
                else:
                    await _roll_back(wire)
                raise
        if keeps:
            self._committed(tx.heads)
        return result

    @asynccontextmanager
    async def _lease(self, business: str | None) -> "AsyncIterator[_Connection]":
        connection, is_left = await self._acquire(business), False
        try:
            yield connection
        except asyncio.CancelledError:
            is_left = True
            mending = asyncio.create_task(self._mend(connection))
            self._mending.add(mending)
            mending.add_done_callback(self._mending.discard)
            raise
        except BaseException as error:
            wire, is_gone = connection.wire, _is_gone(error, connection.wire)
            is_known = isinstance(error, Exception) and not is_gone
            if not wire.is_closed() and (not is_known or wire.is_in_transaction()):
                wire.terminate()
            if is_gone:
                self._hang_up_on_the_idle()
                raise _Gone from error
            if isinstance(error, _UNABLE):
                raise Unavailable(_TAKES_NOTHING) from error
            if isinstance(error, asyncpg.QueryCanceledError):
                raise Overloaded(_TOO_LONG) from error
            raise
        finally:
            if not is_left:
                self._release(connection)

    async def _mend(self, connection: "_Connection") -> None:
        """Whoever used it left in the middle of an answer: the server is told to stop.

        Until it has, nobody knows whether what it was told last has come to pass.
        """
        try:
            async with asyncio.timeout(_ANSWER):
                await connection.wire.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 -- whatever it is, the connection is not trusted any more
            connection.wire.terminate()
        finally:
            self._release(connection)

    async def _acquire(self, business: str | None) -> "_Connection":
        self._drop_dead()
        for place, connection in enumerate(self._free):
            if connection.business == business:
                del self._free[place]
                return connection
        if self._free:
            return self._free.popleft()
        if self._made < self._size:
            self._made += 1
            try:
                return await self._new_connection()
            except BaseException:
                self._made -= 1
                self._hand_on(None)
                raise
        return await self._wait() or await self._acquire(business)

    async def _wait(self) -> "_Connection | None":
        """Wait for a connection, or for the room to make one."""
        if len(self._waiting) >= _WAITING:
            raise Overloaded
        waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await self._patiently(waiter)
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                # It came in the very turn in which patience ended: it is the next one's.
                given = waiter.result()
                if given is None:
                    self._hand_on(None)
                else:
                    self._release(given)
            else:
                waiter.cancel()
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise Overloaded from None
            raise

    async def _patiently(
        self, waiter: "asyncio.Future[_Connection | None]"
    ) -> "_Connection | None":
        """Wait as long as connections come back, but not for ever."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            until = min(began + _PATIENCE, max(began, self._moved) + _STILL)
            if now >= until:
                raise TimeoutError
            await asyncio.wait((waiter,), timeout=until - now)
            if waiter.done():
                return waiter.result()

    def _drop_dead(self) -> None:
        """Forget the free connections that ended meanwhile: the server was restarted, say."""
        alive = [connection for connection in self._free if not connection.wire.is_closed()]
        self._made -= len(self._free) - len(alive)
        self._free = deque(alive)

    def _hang_up_on_the_idle(self) -> None:
        """One connection was dead: those that were not used since it was asked may be, too."""
        proven = time.monotonic() - _ANSWER
        for connection in self._free:
            if connection.used_at < proven:
                connection.wire.terminate()
        self._drop_dead()

    def _release(self, connection: "_Connection") -> None:
        connection.used_at = self._moved = time.monotonic()
        if connection.wire.is_closed():
            self._made -= 1
            self._hand_on(None)
        elif not self._hand_on(connection):
            if self._size:
                self._free.append(connection)
            else:
                connection.wire.terminate()

    def _hand_on(self, connection: "_Connection | None") -> bool:
        """Give a connection (or the room to make one) to whoever waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    async def _new_connection(self) -> "_Connection":
        try:
            wire = await asyncpg.connect(
                self._url,
                statement_cache_size=512,
                server_settings=_SETTINGS,
                timeout=_ANSWER,
                command_timeout=_LONGEST,
            )
        except _GONE as error:
            raise Unavailable from error
        except _UNABLE as error:
            raise Unavailable(_TAKES_NOTHING) from error
        return _Connection(wire)


class _Connection:
    """A connection, and in whose name it speaks."""

    def __init__(self, wire: "asyncpg.Connection[Any]") -> None:
        self.wire = wire
        self.business: str | None = None
        self.used_at = time.monotonic()
        self._speaks = False

    async def speak_for(self, business: str | None, *, roles: bool, then: str = "") -> None:
        """Make it speak for this business (None: the system); does nothing where it does."""
        if self._speaks and self.business == business:
            if not then and time.monotonic() - self.used_at > _IDLE:
                then = "SELECT 1"
            if then:
                await self.wire.execute(then, timeout=_ANSWER)
            return
        if business is not None and not is_id(business):
            raise ValueError(business)
        role = "stampwire_system" if business is None else "stampwire_app"
        set_role = f"SET ROLE {role}; " if roles else ""
        # In a transaction of its own, or the rollback of the work would undo it. Until that is
        # answered, nobody knows for whom it speaks.
        self._speaks, self.business = False, business
        await self.wire.execute(
            f"BEGIN; {set_role}SET stampwire.business = '{business or ''}'; COMMIT; {then}",
            timeout=_ANSWER,
        )
        self._speaks = True


_UNSURE = "The database did not answer in time; repeat the call under the same idempotency key."
_TAKES_NOTHING = "The database takes nothing at present; try again shortly."
_TOO_LONG = "This took the database too long."


def _is_gone(error: BaseException, wire: "asyncpg.Connection[Any]") -> bool:
    """Whether an error says that nobody is at the other end any more."""
    return isinstance(error, _GONE) or (
        isinstance(error, asyncpg.InterfaceError) and wire.is_closed()
    )


async def _roll_back(wire: "asyncpg.Connection[Any]") -> None:
    """Take a transaction back; whoever does not do so in time is hung up on."""
    if wire.is_closed():
        return
    try:
        await wire.execute("ROLLBACK", timeout=_ANSWER)
    except (*_GONE, asyncpg.InterfaceError):
        wire.terminate()


def _check_kept(ended: str) -> None:
    """What failed and was passed over makes the server roll back, politely."""
    if ended != "COMMIT":
        message = "A statement of the transaction had failed; nothing was stored."
        raise RuntimeError(message)


class PostgresTransaction(Transaction):
    """A transaction on a leased connection."""

    dialect = POSTGRESQL

    def __init__(self, business: str | None, wire: "asyncpg.Connection[Any]") -> None:
        super().__init__(business)
        self._wire = wire

    async def _fetch(self, compiled: Compiled, values: list[Any]) -> list[Any]:
        try:
            rows: list[Any] = await self._wire.fetch(compiled.sql, *values)
        except asyncpg.LockNotAvailableError:
            raise Locked from None
        except asyncpg.UniqueViolationError as error:
            raise Taken from error
        except asyncpg.CharacterNotInRepertoireError:
            raise BadUserInput("A text has a character that cannot be stored.") from None
        return rows

    async def _run(self, compiled: Compiled, values: list[Any]) -> int:
        try:
            status = await self._wire.execute(compiled.sql, *values)
        except asyncpg.LockNotAvailableError:
            raise Locked from None
        except asyncpg.UniqueViolationError as error:
            raise Taken from error
        except asyncpg.CharacterNotInRepertoireError:
            raise BadUserInput("A text has a character that cannot be stored.") from None
        return int(status.rpartition(" ")[2])
