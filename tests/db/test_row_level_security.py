"""The second wall, on PostgreSQL: a statement that forgot its business still sees only its own."""

from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest
from sqlmodel import SQLModel

from core.settings import Settings
from db import Database, Transaction
from factories import NOW, a_business, a_location
from services.locations import new_location

pytestmark = pytest.mark.on("postgres")

TENANT_TABLES = sorted(
    table.name for table in SQLModel.metadata.tables.values() if "business_id" in table.columns
)


def sql(text: str, *values: Any) -> Callable[[Transaction], Coroutine[Any, Any, list[Any]]]:
    """Work that runs a statement as it stands; the house has no way to write such a thing."""

    async def work(tx: Transaction) -> list[Any]:
        return await tx._wire.fetch(text, *values)  # type: ignore[attr-defined]

    return work


async def test_the_tests_log_in_without_special_powers(database: Database) -> None:
    (row,) = await database.read(
        None,
        sql("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = session_user"),
    )

    assert tuple(row) == (False, False)


async def test_every_unit_acts_as_a_role_that_owns_nothing(database: Database) -> None:
    cafe = await a_business(database)

    ours = await database.read(cafe.business.id, sql("SELECT current_user"))
    systems = await database.read(None, sql("SELECT current_user"))
    owned = await database.read(
        None,
        sql("SELECT tablename FROM pg_tables WHERE tableowner LIKE 'stampwire\\_%'"),
    )

    assert (ours[0][0], systems[0][0]) == ("stampwire_app", "stampwire_system")
    assert owned == []


async def test_every_tenant_table_stands_behind_the_wall(database: Database) -> None:
    rows = await database.read(
        None,
        sql("""
            SELECT relname, relrowsecurity AND relforcerowsecurity,
                   array_agg(polname::text ORDER BY polname)
            FROM pg_class LEFT JOIN pg_policy ON polrelid = pg_class.oid
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
            GROUP BY pg_class.oid ORDER BY relname
        """),
    )

    found = {name: (forced, policies) for name, forced, policies in rows}
    assert set(found) == {*SQLModel.metadata.tables, "alembic_version"}
    assert {name: found[name] for name in [*TENANT_TABLES, "business"]} == dict.fromkeys(
        [*TENANT_TABLES, "business"], (True, ["system", "tenant"])
    )


async def test_a_statement_without_a_business_sees_only_its_own(database: Database) -> None:
    ours, theirs = await a_business(database), await a_business(database)
    await a_location(database, theirs.owner, name="Theirs")

    for table in TENANT_TABLES:
        rows = await database.read(ours.business.id, sql(f"SELECT business_id FROM {table}"))
        assert {row[0] for row in rows} <= {ours.business.id}
    businesses = await database.read(ours.business.id, sql("SELECT id FROM business"))
    everything = await database.read(None, sql("SELECT id FROM business"))

    assert [row[0] for row in businesses] == [ours.business.id]
    assert {row[0] for row in everything} == {ours.business.id, theirs.business.id}


async def test_a_statement_without_a_business_changes_only_its_own(database: Database) -> None:
    ours, theirs = await a_business(database), await a_business(database)
    location = await a_location(database, theirs.owner, name="Theirs")

    await database.write(ours.business.id, sql("UPDATE location SET name = 'Ours'"))
    await database.write(ours.business.id, sql("DELETE FROM api_key"))

    there = await database.read(None, sql("SELECT name FROM location WHERE id = $1", location.id))
    keys = await database.read(None, sql("SELECT business_id FROM api_key"))
    assert [row[0] for row in there] == ["Theirs"]
    assert [row[0] for row in keys] == [theirs.business.id]


async def test_a_row_cannot_be_put_into_another_business(database: Database) -> None:
    ours, theirs = await a_business(database), await a_business(database)
    location = new_location(theirs.business.id, NOW, name="Planted")
    move = sql("UPDATE location SET business_id = $1", theirs.business.id)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await database.write(ours.business.id, lambda tx: tx.add(location))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await database.write(ours.business.id, move)


async def test_a_connection_is_handed_on_without_its_business(settings: Settings) -> None:
    from db.postgres import PostgresDatabase  # noqa: PLC0415 -- only on this backend

    database = PostgresDatabase(settings.database, size=1)
    await database.open()
    a, b = await a_business(database), await a_business(database)
    count = sql("SELECT id FROM business")

    seen = [await database.read(cafe.business.id, count) for cafe in (a, b, a)]

    assert [rows[0][0] for rows in seen] == [a.business.id, b.business.id, a.business.id]
    await database.close()


async def test_without_a_business_the_app_sees_nothing(
    database: Database, settings: Settings
) -> None:
    await a_business(database)
    wire = await asyncpg.connect(settings.database)

    await wire.execute("SET ROLE stampwire_app")
    rows = [await wire.fetch(f"SELECT * FROM {table}") for table in [*TENANT_TABLES, "business"]]
    await wire.close()

    assert [row for found in rows for row in found] == []


async def test_what_is_no_business_s_is_the_systems_alone(database: Database) -> None:
    """Counts of failed sign-ins: whoever acts for a business does not even read them."""
    cafe = await a_business(database)
    everything = sql("SELECT * FROM throttle")

    assert await database.read(None, everything) == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await database.read(cafe.business.id, everything)
