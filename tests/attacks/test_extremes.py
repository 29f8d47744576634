"""The smallest, largest and deepest value of every kind, in every place of the API that takes it.

Row 9 of the threat table. The places are taken from the schema: a new one is tried without
anybody adding it here.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLSchema, get_named_type, is_input_object_type

from attacks.test_canaries import DESTRUCTIVE, schema
from samples import arguments, document, things_of

__all__ = ["schema"]


def nested(levels: int) -> dict[str, Any]:
    """An object in an object, and so on."""
    told: dict[str, Any] = {}
    for _ in range(levels):
        told = {"a": told}
    return told


EXTREMES: dict[str, list[Any]] = {
    "Int": [-(2**31), -1, 0, 2**31 - 1],
    "Float": [-1e308, 0, 5e-324, 1e308],
    "Decimal": ["-1e30", "0.0001", "9223372036854775808", "9" * 30, "1e-30"],
    "Date": ["0001-01-01", "9999-12-31"],
    "DateTime": [
        "0001-01-01T00:00:00Z",
        "0001-01-01T23:00:00+14:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T00:00:00-12:00",
    ],
    "JSON": [nested(28), nested(400), [[]] * 10_000, {"__proto__": {"a": None}}, 1e308],
}


def leaves(kind: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """The way to each value beneath an input type, and of what kind it is."""
    kind = get_named_type(kind)
    if is_input_object_type(kind):
        for name, inner in kind.fields.items():
            for path, leaf in leaves(inner.type):
                yield (name, *path), leaf
    else:
        yield (), kind.name


def calls(schema: GraphQLSchema, things: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every query and mutation, with each extreme in each place for its kind."""
    for root in (schema.query_type, schema.mutation_type):
        fields: Any = root and root.fields
        for name in sorted(fields, key=lambda name: (name.startswith(DESTRUCTIVE), name)):
            place, field = f"{root}.{name}", fields[name]
            for argument, told in field.args.items():
                for path, kind in leaves(told.type):
                    for value in EXTREMES.get(kind, ()):
                        yield place, arguments(field, things, place, (argument, *path), value)


async def test_no_extreme_is_a_fault_of_ours(house: Any, schema: GraphQLSchema) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    faults, tried = {}, 0
    for place, given in calls(schema, things):
        answer = await house.owner.call(document(schema, place, 0), given)
        tried += 1
        assert "RATE_LIMITED" not in answer.codes, place  # it would prove nothing
        if answer.status >= 500 or "INTERNAL_SERVER_ERROR" in answer.codes:
            faults[place, str(given)[:200]] = answer.body

    assert faults == {}
    assert tried > 300


@pytest.mark.on("sqlite")
async def test_json_is_as_deep_as_it_can_be_followed_and_no_deeper(house: Any) -> None:
    ask = (
        "mutation($document: JSON!) { importCardTemplate(input: {document: $document}) "
        "{ userErrors { code } } }"
    )
    told = {}
    for levels in (28, 29):
        answer = await house.owner.call(ask, {"document": nested(levels)})
        told[levels] = answer.codes

    assert told == {28: [], 29: ["BAD_USER_INPUT"]}
