"""Our own lint rules: statements name their business, drivers stay in db/, floors hold."""

import pytest

from rules import ROOT, TENANT_TABLES, every_problem, problems

HEAD = "import sqlalchemy as sa\nfrom sqlmodel import col, select\nfrom sqlalchemy import update\n"

GOOD = {
    "one table": "X = query(select(Card).where(col(Card.business_id) == BUSINESS))",
    "the other way round": "X = query(select(Card).where(BUSINESS == col(Card.business_id)))",
    "a join": """
X = query(
    select(Card, Goal)
    .join(Goal, col(Goal.id) == col(Card.id))
    .where(col(Goal.business_id) == BUSINESS)
)""",
    "a count": """
X = query(select(func.count()).select_from(Card).where(col(Card.business_id) == BUSINESS))""",
    "the business itself": "X = query(select(Business).where(col(Business.id) == param('id')))",
    "a table by another name": """
def make(row):
    where = [row.business_id == BUSINESS]
    return query(select(row).where(*where))""",
    "the system": """
# Whoever calls is found before a business is known: this runs in the name
# of the system.
X = query(select(Card))
Y = command(update(Card).values(number=None))""",
    "a section of the system's": """
# -- Across all businesses, in the name of the system. --
X = query(select(Card))

Y = command(update(Card).values(number=None))""",
    "a dictionary": "values.update(Card=1)",
}
BAD = {
    "one table": "X = query(select(Card))",
    "a column": "X = query(select(Card.id).where(col(Card.number) == param('number')))",
    "a change": "X = command(update(Card).where(col(Card.id) == param('id')).values(stamps=0))",
    "under the module": "X = command(sa.delete(Card).where(col(Card.id) == param('id')))",
    "a count": "X = query(select(func.count()).select_from(Card))",
    "another's business": "X = query(select(Card).where(col(Card.business_id) == param('b')))",
    "not this business": "X = query(select(Card).where(col(Card.business_id) != BUSINESS))",
    "in a function": """
def make():
    X = query(select(Goal).where(col(Goal.business_id) == BUSINESS))
    return query(select(Card))""",
    "in a condition": """
async def check(tx):
    if await tx.maybe(query(select(Card))):
        return query(select(Goal).where(col(Goal.business_id) == BUSINESS))""",
    "a table by another name": """
def good(row):
    return query(select(row).where(row.business_id == BUSINESS))
def bad(row):
    return query(select(row))""",
    "the section after the system's": """
# -- Across all businesses, in the name of the system. --
# -- Within one business. --
X = query(select(Card))""",
    "a comment too far away": """
# This runs in the name of the system.

X = query(select(Card))""",
}


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD)
def test_a_statement_that_names_its_business_is_fine(source: str) -> None:
    assert list(problems(HEAD + source, "x.py")) == []


@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
def test_a_statement_that_names_no_business_is_found(source: str) -> None:
    (said,) = problems(HEAD + source, "x.py")

    assert said.endswith("a statement without `business_id == BUSINESS`")


@pytest.mark.parametrize(
    "line",
    [
        "import sqlite3",
        "import asyncpg.pool",
        "from asyncpg import connect",
        "from sqlalchemy import create_engine",
        "from sqlalchemy.ext.asyncio import AsyncSession",
        "from sqlmodel import Session",
    ],
)
def test_a_driver_outside_db_is_found(line: str) -> None:
    (said,) = problems(line, "services/x.py")

    assert said.startswith("services/x.py:1: only db/ may import")


@pytest.mark.parametrize("line", ["from sqlalchemy import Engine", "from models import Session"])
def test_a_harmless_import_is_fine(line: str) -> None:
    assert list(problems(line, "x.py")) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("services/cards.py", "from server import create_app"),
        ("endpoints.py", "import schema.base"),
        ("worker.py", "from cli import main"),
        ("webhooks/pusher.py", "from integrations import pos"),
    ],
)
def test_an_arrow_that_does_not_point_down_is_found(name: str, line: str) -> None:
    (said,) = problems(line, name)

    assert "which is not below it" in said


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("server.py", "import endpoints, worker"),
        ("endpoints.py", "from resolvers.context import Deployment"),
        ("services/cards.py", "from services.text import short_text"),
    ],
)
def test_an_arrow_that_points_down_is_fine(name: str, line: str) -> None:
    assert list(problems(line, name)) == []


def test_tenant_tables_are_computed_from_the_models() -> None:
    assert {"Card", "EventRow", "WebhookEndpoint", "LogHead"} <= TENANT_TABLES
    assert "Business" not in TENANT_TABLES


def test_the_whole_tree_keeps_the_rules() -> None:
    assert every_problem(ROOT) == []
