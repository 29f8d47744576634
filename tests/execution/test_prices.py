"""Prices: what an answer did cost, and pages below pages."""

from typing import Any

import pytest
import strawberry
from graphql import OperationDefinitionNode, get_operation_ast, parse, validate

from execution.prices import Price, price_of


@strawberry.type
class PageInfo:
    """Whether there is more."""

    more: bool = False


@strawberry.type
class Leaf:
    """Something small."""

    name: str = ""


@strawberry.type
class LeafEdge:
    """A leaf in its list."""

    node: Leaf


@strawberry.type
class LeafConnection:
    """Leaves."""

    nodes: list[Leaf]
    edges: list[LeafEdge]
    page_info: PageInfo


@strawberry.type
class Branch:
    """Something with leaves."""

    @strawberry.field
    def leaves(
        self,
        first: int | None = None,  # noqa: ARG002 -- it is priced, not asked
        last: int | None = None,  # noqa: ARG002 -- the same
    ) -> LeafConnection:
        """Its leaves."""
        raise AssertionError

    @strawberry.field
    def leaf(self) -> Leaf:
        """One of them."""
        raise AssertionError

    @strawberry.field
    def twigs(self) -> "list[Branch]":
        """A short list."""
        raise AssertionError


@strawberry.type
class BranchConnection:
    """Branches."""

    nodes: list[Branch]
    page_info: PageInfo


@strawberry.type
class Query:
    """A tree."""

    @strawberry.field
    def trunk(self) -> Branch:
        """Where it begins."""
        raise AssertionError

    @strawberry.field
    def branches(
        self,
        first: int | None = None,  # noqa: ARG002 -- it is priced, not asked
    ) -> BranchConnection:
        """What grows from it."""
        raise AssertionError


SCHEMA = strawberry.Schema(query=Query)._schema


def price(text: str) -> Price:
    """The price of a document."""
    document = parse(text)
    assert not validate(SCHEMA, document)
    operation = get_operation_ast(document)
    assert isinstance(operation, OperationDefinitionNode)
    return price_of(SCHEMA, document, operation)


def leaves(count: int, way: str = "nodes") -> dict[str, Any]:
    """So many leaves, as an answer has them."""
    one: dict[str, Any] = {"name": ""} if way == "nodes" else {"node": {"name": ""}}
    return {"leaves": {way: [one] * count}}


NODES = "leaves(first: 4) { nodes { name } }"
FRAGMENT = "fragment F on Branch { leaf { name } }"
EDGES = "leaves(last: 4) { edges { node { name } } }"


@pytest.mark.parametrize(
    ("text", "requested", "data", "actual"),
    [
        # The trunk 1, its connection 2, and 4 leaves or those that are there.
        (f"{{ trunk {{ {NODES} }} }}", 7, {"trunk": leaves(3)}, 6),
        (f"{{ trunk {{ {EDGES} }} }}", 7, {"trunk": leaves(3, "edges")}, 6),
        (f"{{ trunk {{ {NODES} }} }}", 7, {"trunk": None}, 1),
        (f"{{ trunk {{ {NODES} leaf {{ name }} }} }}", 8, {"trunk": leaves(0)}, 4),
        # A short list counts as one object, and the pages below each of its items.
        (f"{{ trunk {{ twigs {{ {NODES} }} }} }}", 8,
         {"trunk": {"twigs": [leaves(1), None, leaves(1)]}}, 8),
        (f"{{ trunk {{ twigs {{ {NODES} }} }} }}", 8, {"trunk": {"twigs": [leaves(1)]}}, 5),
        (f"{{ trunk {{ twigs {{ {NODES} }} }} }}", 8, {"trunk": {"twigs": []}}, 2),
        # Pages below pages: 2, and for each of 3 branches 1 + 2 + its leaves.
        (f"{{ branches(first: 3) {{ nodes {{ {NODES} }} }} }}", 23,
         {"branches": {"nodes": [leaves(4), leaves(2)]}}, 14),
        (f"{{ branches(first: 3) {{ nodes {{ leaf {{ name }} {NODES} }} }} }}", 26,
         {"branches": {"nodes": [leaves(1), leaves(1)]}}, 12),
        (f"{{ branches(first: 3) {{ nodes {{ twigs {{ {NODES} }} }} }} }}", 26,
         {"branches": {"nodes": [{"twigs": [leaves(1)]}]}}, 7),
        ("{ branches(first: 3) { nodes { leaf { name } } } }", 8,
         {"branches": {"nodes": [{}, {}]}}, 6),
        ("{ branches(first: 3) { pageInfo { more } } }", 2, {"branches": {}}, 2),
        ("{ branches(first: 0) { nodes { leaf { name } } } }", 2, {"branches": None}, 2),
        ("{ branches(first: 1) { nodes { __typename } } }", 3, {"branches": {"nodes": []}}, 2),
        ("{ branches(first: 100) { nodes { __typename } } }", 102, {}, 2),
        ("{ branches(first: 101) { nodes { __typename } } }", 102, {}, 2),
        ("{ branches(first: -1) { nodes { __typename } } }", 102, {}, 2),
        ("{ trunk { leaf { name } } }", 2, {"trunk": None}, 2),
        (f"{{ trunk {{ ... on Branch {{ leaf {{ name }} }} ...F }} }} {FRAGMENT}", 2, {}, 2),
        (f"{{ a: trunk {{ {NODES} }} b: trunk {{ {NODES} }} }}", 14,
         {"a": leaves(1), "b": leaves(0)}, 7),
    ],
)  # fmt: skip
def test_what_an_answer_costs(text: str, requested: int, data: Any, actual: int) -> None:
    found = price(text)

    assert found.requested({}) == requested
    assert found.actual(data, requested) == actual


@pytest.mark.parametrize(
    ("given", "cost"), [({}, 5), ({"n": 1}, 4), ({"n": 4}, 7), ({"n": 999}, 103)]
)
def test_a_variable_below_counts_as_it_is_told(given: dict[str, int], cost: int) -> None:
    text = "query($n: Int = 2) { trunk { leaves(first: $n) { edges { node { name } } } } }"

    assert price(text).fixed is None
    assert price(text).requested(given) == cost


def test_a_variable_below_a_page_counts_for_each_item() -> None:
    text = (
        "query($n: Int) { branches(first: 2) { nodes { leaves(first: $n) { nodes { name } } } } }"
    )

    assert price(text).requested({"n": 3}) == 2 + 2 * (1 + 2 + 3)


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("{ __schema { types { name fields { name } } } }", 3),
        ('{ __type(name: "Leaf") { name fields { name type { name } } } }', 3),
    ],
)
def test_introspection_counts_its_objects(text: str, cost: int) -> None:
    assert price(text).requested({}) == cost
