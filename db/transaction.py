"""Transaction, the only door to the database."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Dialect, insert, update
from sqlmodel import select

from db.statements import BUSINESS, Command, Compiled, InsertIfNew, Query, command, param, query
from models import EventRow, Row

T = TypeVar("T")
R = TypeVar("R", bound=Row)
Work = Callable[["Transaction"], Coroutine[Any, Any, T]]
"""What is to be done inside one transaction. It may run again where the database asks for it."""


class Taken(Exception):
    """A value that must be unique is another row's already; the transaction cannot go on."""


class Transaction(ABC):
    """One unit of work, in the name of one business (or of the system, where that is None).

    `BUSINESS` in a statement is bound to this business: no caller can name another. `collected`
    is room for what is gathered until the close.
    """

    dialect: Dialect

    def __init__(self, business: str | None) -> None:
        self.business = business
        self.recorded: list[EventRow] = []
        self.heads: dict[str, tuple[int, int]] = {}
        self.collected: dict[Any, Any] = {}
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._very_last: list[Callable[[], Awaitable[None]]] = []

    async def maybe(self, statement: Query[T], **values: Any) -> T | None:
        """The first row, None if there is none."""
        rows = await self.many(statement, **values)
        return rows[0] if rows else None

    async def one(self, statement: Query[T], **values: Any) -> T:
        """The only row. LookupError if there is none."""
        rows = await self.many(statement, **values)
        if not rows:
            message = "The statement gave no row."
            raise LookupError(message)
        return rows[0]

    async def many(self, statement: Query[T], **values: Any) -> list[T]:
        """Every row."""
        compiled = statement.on(self.dialect)
        rows = await self._fetch(compiled, compiled.bind({"business": self.business, **values}))
        return compiled.read(rows)

    async def get(self, cls: type[R], id: str | None) -> R | None:
        """The row of this business with this id, None if there is none."""
        return None if id is None else await self.maybe(_by_id(cls), id=id)

    async def run(self, statement: Command, **values: Any) -> int:
        """Run a statement; says how many rows it touched."""
        compiled = statement.on(self.dialect)
        return await self._run(compiled, compiled.bind({"business": self.business, **values}))

    async def add(self, *rows: Row) -> None:
        """Store new rows."""
        for row in rows:
            compiled = _insertion(type(row)).on(self.dialect)
            await self._run(compiled, compiled.bind(row.__dict__))

    async def add_if_new(self, row: Row) -> bool:
        """Store a new row unless a unique value of it is taken; says whether it was stored.

        Whether a concurrent transaction keeps the value is waited for.
        """
        compiled = _insertion_if_new(type(row)).on(self.dialect)
        return bool(await self._run(compiled, compiled.bind(row.__dict__)))

    async def change(self, row: R, **values: Any) -> R:
        """Store new values of a row; hands back the row as it then is."""
        statement = _change(type(row), tuple(sorted(values)))
        keys = {f"key_{name}": row.__dict__[name] for name in _key(type(row))}
        if await self.run(statement, **keys, **values) != 1:
            message = f"{row!r} is gone."
            raise LookupError(message)
        return row.with_values(**values)

    def at_close(self, callback: Callable[[], Awaitable[None]], *, last: bool = False) -> None:
        """Do this just before the commit; `last` is for locks that everybody waits for."""
        (self._very_last if last else self._closing).append(callback)

    async def close(self) -> None:
        """Do what was left for the end; called once by the database, before the commit."""
        for callback in (*self._closing, *self._very_last):
            await callback()

    @abstractmethod
    async def _fetch(self, compiled: Compiled, values: list[Any]) -> list[Any]: ...

    @abstractmethod
    async def _run(self, compiled: Compiled, values: list[Any]) -> int: ...


@dataclass(frozen=True)
class Load:
    """How busy this process's way to the database is."""

    waiting: int
    """Units of work that wait for their turn."""
    busy: int
    """Connections at work."""
    connections: int
    """Connections there are."""


class Database(ABC):
    """The database of this deployment. Which one it is, only this package knows."""

    on_commit: Callable[[dict[str, tuple[int, int]]], None] | None = None
    """Told after each commit how far the log (and access) of each business now reaches."""
    is_broken = False
    """Whether what was stored last may be lost: nothing more is stored by this process."""
    on_broken: Callable[[], None] | None = None
    """Told, once, when that happens; whoever runs the process ends it."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises if the database cannot be reached."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and disconnect."""

    @abstractmethod
    async def write(self, business: str | None, work: Work[T]) -> T:
        """Do the work in one transaction; all of it is stored, or nothing.

        Overloaded if too much is waiting already. Unavailable if the database does not answer, or
        takes nothing; where it says so, the work may have been stored all the same.
        """

    @abstractmethod
    async def rehearse(self, business: str | None, work: Work[T]) -> T:
        """Do the work, hand back its result, and store nothing."""

    @abstractmethod
    async def read(self, business: str | None, work: Work[T]) -> T:
        """Do work that only reads."""

    @abstractmethod
    async def snapshot(self, business: str | None, work: Work[T]) -> T:
        """Do long work that only reads, all of it as the database stood at one moment."""

    @abstractmethod
    async def forget(self) -> None:
        """See to it that nothing deleted or overwritten so far is left in the database's files.

        What a server does by itself in its time (PostgreSQL: autovacuum and the recycling of its
        write-ahead log) is not waited for.
        """

    @property
    @abstractmethod
    def load(self) -> Load:
        """How busy it is at this moment."""

    def _committed(self, heads: dict[str, tuple[int, int]]) -> None:
        if heads and self.on_commit is not None:
            self.on_commit(heads)


@cache
def _by_id(cls: type[R]) -> Query[R]:
    table: Any = cls.__table__.c  # type: ignore[attr-defined]
    where = [table.id == param("id")]
    where.append(table.id == BUSINESS if cls.prefix == "b" else table.business_id == BUSINESS)
    return query(select(cls).where(*where))


@cache
def _insertion(cls: type[Row]) -> Command:
    return command(insert(cls))


@cache
def _insertion_if_new(cls: type[Row]) -> Command:
    return InsertIfNew(cls)


@cache
def _key(cls: type[Row]) -> list[str]:
    return [column.name for column in cls.__table__.primary_key]  # type: ignore[attr-defined]


@cache
def _change(cls: type[Row], names: tuple[str, ...]) -> Command:
    table: Any = cls.__table__.c  # type: ignore[attr-defined]
    where = [table[key] == param(f"key_{key}", table[key].type) for key in _key(cls)]
    if cls.prefix != "b":
        where.append(table.business_id == BUSINESS)
    values = {name: param(name, table[name].type) for name in names}
    return command(update(cls).where(*where).values(values))
