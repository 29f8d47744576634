"""Lists: pages by keyset, in one order, with the conditions that filters add."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import func
from sqlmodel import select

from core.errors import BadUserInput
from core.ids import prefix_of
from db import BUSINESS, PartialQuery, Query, Transaction, param, query
from models import EventRow, Row, decode_cursor

R = TypeVar("R", bound=Row)
MOST = 100
DEFAULT = 20


@dataclass(frozen=True)
class PageArgs:
    """Which page is asked for: `first` after a cursor, or `last` before one."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def size(self) -> int:
        """How many rows. BadUserInput outside of 1–100, or with both ends asked for."""
        if self.first is not None and self.last is not None:
            raise BadUserInput("Give first or last, not both.")
        size = self.last if self.last is not None else self.first
        size = DEFAULT if size is None else size
        if not 1 <= size <= MOST:
            raise BadUserInput(f"A page has between 1 and {MOST} items.")
        return size


@dataclass(frozen=True)
class Page(Generic[R]):
    """A part of a list, and what lies beyond it."""

    rows: list[R]
    has_next: bool
    has_previous: bool
    count: Callable[[Transaction], Any]

    def cursors(self) -> list[str]:
        """The cursor of each row."""
        return [cursor_of(row) for row in self.rows]


class Listing(Generic[R]):
    """How a noun is listed: newest or oldest first, and what filters may ask.

    A condition is a clause with parameters, or one without that is switched on by True.
    """

    def __init__(
        self, row: type[R], *, newest_first: bool, conditions: Mapping[str, Any] | None = None
    ) -> None:
        self._row = row
        self._newest_first = newest_first
        self._conditions = conditions or {}
        table: Any = row.__table__.c  # type: ignore[attr-defined]
        self._business = table.business_id
        self._key = table.sequence if row is EventRow else table.id
        self.key: str = self._key.name
        """The column that cursors are made of."""
        self._statement = lru_cache(256)(self._make_statement)
        self._counting = lru_cache(256)(self._make_counting)

    async def page(
        self,
        tx: Transaction,
        args: PageArgs,
        *,
        only: frozenset[str] | None = None,
        **filters: Any,
    ) -> Page[R]:
        """One page; filters that are None are left out. `only` are the columns that are wanted."""
        given = {name: value for name, value in filters.items() if value is not None}
        size, backwards = args.size(), args.last is not None
        bounds = {
            name: self._decode(cursor)
            for name, cursor in (("after", args.after), ("before", args.before))
            if cursor is not None
        }
        statement = self._statement(tuple(sorted(given)), tuple(sorted(bounds)), backwards, only)
        rows = await tx.many(statement, most=size + 1, **_values(given), **bounds)
        more, rows = len(rows) > size, rows[:size]
        if backwards:
            rows.reverse()
        return Page(
            rows,
            has_next="before" in bounds if backwards else more,
            has_previous=more if backwards else "after" in bounds,
            count=lambda tx: self.count(tx, **given),
        )

    async def count(self, tx: Transaction, **filters: Any) -> int:
        """How many rows the filters leave."""
        given = {name: value for name, value in filters.items() if value is not None}
        return await tx.one(self._counting(tuple(sorted(given))), **_values(given))

    def _make_statement(
        self,
        names: tuple[str, ...],
        bounds: tuple[str, ...],
        backwards: bool,
        only: frozenset[str] | None,
    ) -> Query[R]:
        where = [self._business == BUSINESS, *(self._conditions[name] for name in names)]
        for bound in bounds:
            down = (bound == "after") == self._newest_first
            edge = param(bound, self._key.type)
            where.append(self._key < edge if down else self._key > edge)
        down = self._newest_first != backwards
        order = self._key.desc() if down else self._key.asc()
        if only is None:
            return query(select(self._row).where(*where).order_by(order).limit(param("most")))
        wanted = [self._row.__table__.c[name] for name in sorted(only)]  # type: ignore[attr-defined]
        clause = select(*wanted).where(*where).order_by(order).limit(param("most"))
        return PartialQuery(self._row, clause)

    def _make_counting(self, names: tuple[str, ...]) -> Query[int]:
        where = [self._business == BUSINESS, *(self._conditions[name] for name in names)]
        return query(select(func.count()).select_from(self._row).where(*where))

    def _decode(self, cursor: str) -> Any:
        if self._row is EventRow:
            return decode_cursor(cursor)
        try:
            kind, id = (
                base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":")
            )
        except ValueError:
            kind = id = ""
        if kind != self._row.prefix or prefix_of(id) != kind:
            raise BadUserInput("This is not a cursor of this list.")
        return id


def cursor_of(row: Row) -> str:
    """The place of a row in its list, as an opaque text."""
    if isinstance(row, EventRow):
        return row.cursor
    text = f"{row.prefix}:{row.__dict__['id']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _values(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not True}
