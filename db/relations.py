"""Relations as statements: what many parents need, fetched at once."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Dialect, Integer, column, func
from sqlalchemy.sql.util import ClauseAdapter
from sqlmodel import select

from db.statements import (
    BUSINESS,
    Compiled,
    PartialQuery,
    Query,
    TextList,
    among,
    param,
    query,
    unindexed,
)
from db.transaction import Transaction
from models import Row
from models.relations import ToMany, ToOne

R = TypeVar("R", bound=Row)


Columns = frozenset[str] | None
"""The columns that are wanted of rows; None for all of them."""


async def load_one(
    tx: Transaction, relation: ToOne[R], keys: Collection[str], only: Columns = None
) -> dict[str, R]:
    """The related row of each key that has one."""
    rows = await tx.many(_one_statement(relation, only), keys=sorted(set(keys)))
    return {row.__dict__[relation.key]: row for row in rows}


async def load_many(
    tx: Transaction,
    relation: ToMany[R],
    keys: Collection[str],
    limit: int,
    only: Columns = None,
) -> dict[str, list[R]]:
    """The first rows of each key, in the relation's order."""
    rows = await tx.many(_many_statement(relation, only), keys=sorted(set(keys)), most=limit)
    found: dict[str, list[R]] = defaultdict(list)
    for row in rows:
        found[row.__dict__[relation.key]].append(row)
    return found


@lru_cache(1_024)
def _one_statement(relation: ToOne[R], only: Columns) -> Query[R]:
    table: Any = relation.target.__table__.c  # type: ignore[attr-defined]
    business = unindexed(table.business_id) if relation.key == "id" else table.business_id
    where = (business == BUSINESS, among(table[relation.key], "keys"))
    if only is None:
        return query(select(relation.target).where(*where))
    wanted: Any = select(*(table[name] for name in sorted(only | {relation.key})))
    return PartialQuery(relation.target, wanted.where(*where))


@lru_cache(1_024)
def _many_statement(relation: ToMany[R], only: Columns) -> Query[R]:
    return _Firsts(relation, only)


class _Firsts(Query[R]):
    """The first rows of each key, in the words that each database does best with.

    SQLite follows the index of a key as far as it must, once for each (measured at half of what
    its window functions take); it has no LATERAL, and PostgreSQL would do this for each pair.
    """

    def __init__(self, relation: ToMany[R], only: Columns) -> None:
        self._relation, self._only = relation, only
        super().__init__(select(relation.target))

    def compiled_for(self, dialect: Dialect) -> Compiled:
        table: Any = self._relation.target.__table__  # type: ignore[attr-defined]
        names = [column.name for column in table.columns]
        if self._only is not None:
            names = sorted(self._only | {self._relation.key})
        make = _by_key if dialect.name == "sqlite" else _by_place
        clause = make(table, self._relation, names)
        return Compiled(clause, dialect, part_of=self._relation.target)


def _by_key(table: Any, relation: ToMany[Any], names: Sequence[str]) -> Any:
    wanted = func.json_each(param("keys", TextList())).table_valued("key", "value", name="wanted")
    inner = table.alias("inner")
    adapted = ClauseAdapter(inner)
    order: list[Any] = [adapted.traverse(one.expression) for one in relation.order]
    first: Any = (
        select(column("rowid", _selectable=inner))
        .where(inner.c.business_id == BUSINESS, inner.c[relation.key] == wanted.c.value)
        .order_by(*order)
        .limit(param("most", Integer()))
        .correlate(wanted)
    )
    return (
        select(*(table.c[name] for name in names))
        .join_from(wanted, table, column("rowid", _selectable=table).in_(first))
        .order_by(wanted.c.key, *relation.order)
    )


def _by_place(table: Any, relation: ToMany[Any], names: Sequence[str]) -> Any:
    place = func.row_number().over(partition_by=table.c[relation.key], order_by=relation.order)
    columns: list[Any] = [*(table.c[name] for name in names), place.label("place")]
    ranked = (
        select(*columns)
        .where(table.c.business_id == BUSINESS, among(table.c[relation.key], "keys"))
        .subquery()
    )
    return (
        select(*(ranked.c[name] for name in names))
        .where(ranked.c.place <= param("most"))
        .order_by(ranked.c[relation.key], ranked.c.place)
    )
