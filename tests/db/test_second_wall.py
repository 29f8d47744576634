"""The second wall stands alone where statements forget their business; the API is walked so too."""

from collections import Counter
from typing import Any

import pytest
from sqlmodel import col, select, update

from db import BUSINESS, Database, Query, command, query
from db.statements import POSTGRESQL
from factories import a_business, a_location
from models import Card, Customer, Location, Row, Staff

pytestmark = pytest.mark.on("postgres")

_ALL: dict[type[Row], Query[Any]] = {
    table: query(select(table).where(table.business_id == BUSINESS))
    for table in (Card, Customer, Location, Staff)
}
_RENAME = command(
    update(Location).where(col(Location.business_id) == BUSINESS).values(name="Ours now")
)


async def test_statements_are_robbed_and_find_ones_own_all_the_same(
    database: Database, robbed: Counter[str]
) -> None:
    """Behind the wall's back, as the system, they find everybody's rows: the robbery is real."""
    ours, theirs = await a_business(database), await a_business(database)
    for table, statement in _ALL.items():
        ask = statement.on(POSTGRESQL)
        own = await database.read(ours.business.id, lambda tx, ask=statement: tx.many(ask))
        every = await database.read(None, lambda tx, ask=statement: tx.many(ask))

        assert ask.sql.split("WHERE")[1].strip() == "true", table
        assert {row.business_id for row in own} <= {ours.business.id}
        if table in (Location, Staff):
            assert {row.business_id for row in every} == {ours.business.id, theirs.business.id}

    assert robbed


async def test_a_change_of_everything_changes_ones_own(
    database: Database, robbed: Counter[str]
) -> None:
    ours, theirs = await a_business(database), await a_business(database)
    await a_location(database, theirs.owner, name="Theirs")

    changed = await database.write(ours.business.id, lambda tx: tx.run(_RENAME))

    rows = await database.read(None, lambda tx: tx.many(_ALL[Location]))
    assert (changed, len(rows)) == (1, 3)
    assert {row.business_id for row in rows if row.name == "Ours now"} == {ours.business.id}
    assert robbed
