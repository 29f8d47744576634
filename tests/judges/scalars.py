"""What schemathesis is told of the schema: how values of its scalars are written."""

import json

import schemathesis
from graphql import parse_value
from hypothesis import strategies
from schemathesis.graphql import nodes

DECIMALS = strategies.decimals(allow_nan=False, allow_infinity=False, places=2)
NAMES = strategies.from_regex(r"[A-Za-z]{1,8}", fullmatch=True)
LEAVES = strategies.none() | strategies.booleans() | strategies.integers() | strategies.text()
ZONES = strategies.sampled_from(
    ["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura", "UTC", "Nowhere"]
)


def _written(document: dict[str, object]) -> str:
    """A JSON object as a literal of GraphQL: its names stand without quotes."""
    fields = (f"{name}: {json.dumps(leaf)}" for name, leaf in document.items())
    return f"{{{', '.join(fields)}}}"


schemathesis.graphql.scalar("Decimal", DECIMALS.map(str).map(nodes.String))
schemathesis.graphql.scalar(
    "JSON", strategies.dictionaries(NAMES, LEAVES, max_size=5).map(_written).map(parse_value)
)
schemathesis.graphql.scalar("TimeZone", ZONES.map(nodes.String))
