"""Relations as statements: what many parents need, fetched at once."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import select

from db.statements import BUSINESS, Query, among, param, query
from db.transaction import Transaction
from models import Row
from models.relations import ToMany, ToOne

R = TypeVar("R", bound=Row)


async def load_one(tx: Transaction, relation: ToOne[R], keys: Sequence[str]) -> dict[str, R]:
    """The related row of each key that has one."""
    rows = await tx.many(_one_statement(relation), keys=sorted(set(keys)))
    return {getattr(row, relation.key): row for row in rows}


async def load_many(
    tx: Transaction, relation: ToMany[R], keys: Sequence[str], limit: int
) -> dict[str, list[R]]:
    """The first rows of each key, in the relation's order."""
    rows = await tx.many(_many_statement(relation), keys=sorted(set(keys)), most=limit)
    found: dict[str, list[R]] = defaultdict(list)
    for row in rows:
        found[getattr(row, relation.key)].append(row)
    return found


@cache
def _one_statement(relation: ToOne[R]) -> Query[R]:
    table: Any = relation.target.__table__.c  # type: ignore[attr-defined]
    return query(
        select(relation.target).where(
            table.business_id == BUSINESS, among(table[relation.key], "keys")
        )
    )


@cache
def _many_statement(relation: ToMany[R]) -> Query[R]:
    table: Any = relation.target.__table__  # type: ignore[attr-defined]
    place = func.row_number().over(partition_by=table.c[relation.key], order_by=relation.order)
    ranked = (
        select(table, place.label("place"))
        .where(table.c.business_id == BUSINESS, among(table.c[relation.key], "keys"))
        .subquery()
    )
    first = aliased(relation.target, ranked)
    return query(
        select(first)
        .where(ranked.c.place <= param("most"))
        .order_by(ranked.c[relation.key], ranked.c.place)
    )
