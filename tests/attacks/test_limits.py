"""Each limit of a document holds at its edge, over HTTP and over sockets.

Rows 2, 4, 7 and 15 of the threat table: what is just within a limit passes, one more is refused.
"""

from collections.abc import Callable
from typing import Any

import pytest
from graphql import GraphQLSchema, GraphQLSyntaxError, Lexer, Source, TokenKind

from core.limits import DocumentLimits
from core.settings import Settings
from execution.documents import check_document

pytestmark = pytest.mark.on("sqlite")

USUAL = DocumentLimits()
_WAY = (("cards(first: 1)", "Query"), ("nodes", "CardConnection"), ("customer", "Card"))


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


def _steps(levels: int) -> list[tuple[str, str]]:
    """The fields from the root down, each with the type it is on."""
    steps = [_WAY[number % 3] for number in range(levels)]
    return [(name, "Customer" if at and kind == "Query" else kind) for at, (name, kind) in
            enumerate(steps)]  # fmt: skip


def deep(levels: int) -> str:
    """So many levels, in circles from cards to their customers."""
    steps = _steps(levels - 1)
    return " ".join(f"{{ {name}" for name, _ in steps) + " { __typename }" + " }" * len(steps)


def deep_in_line(levels: int) -> str:
    """The same, each level in an inline fragment."""
    steps = _steps(levels - 1)
    inner = " ".join(f"{{ ... on {kind} {{ {name}" for name, kind in steps)
    return inner + " { __typename }" + " } }" * len(steps)


def deep_in_fragments(levels: int) -> str:
    """The same, each level in a fragment of its own."""
    steps = _steps(levels - 1)
    parts = [
        f"fragment F{at} on {kind} {{ {name} {{ {following} }} }}"
        for at, (name, kind) in enumerate(steps)
        for following in [f"...F{at + 1}" if at + 1 < len(steps) else "__typename"]
    ]
    return "{ ...F0 } " + " ".join(parts)


def introspection(levels: int) -> str:
    """Types of types."""
    inner = "ofType { " * (levels - 5)
    return (
        "{ __schema { types { fields { type { "
        + inner
        + "name"
        + " }" * (levels - 5)
        + " } } } } }"
    )


def fragments(count: int) -> str:
    """A chain of fragments."""
    parts = [f"fragment F{n} on Staff {{ ...F{n + 1} }}" for n in range(count - 1)]
    last = f"fragment F{count - 1} on Staff {{ id }}"
    return " ".join(["{ viewer { actor { ...F0 } } }", *parts, last])


def visits(count: int) -> str:
    """Selections, a fragment's counted wherever it is spread; the count is a multiple of 20."""
    nested = count // 20 - 4
    places = " ".join(f"a{n}: viewer {{ actor {{ ...F }} }}" for n in range(20))
    inner = "... { " * nested + "id" + " }" * nested
    return f"{{ {places} }} fragment F on Staff {{ {inner} }}"


def aliased(field: str, count: int) -> str:
    """A field under so many names."""
    return " ".join(f"a{n}: {field}" for n in range(count))


Make = Callable[[int], str]
LIMITS: dict[str, tuple[Make, int, int]] = {
    "levels": (deep, USUAL.depth, USUAL.depth + 1),
    "levels of inline fragments": (deep_in_line, USUAL.depth, USUAL.depth + 1),
    "levels of fragments": (deep_in_fragments, USUAL.depth, USUAL.depth + 1),
    "levels of introspection": (
        introspection,
        USUAL.introspection_depth,
        USUAL.introspection_depth + 1,
    ),
    "aliases": (
        lambda count: f"{{ viewer {{ actor {{ {aliased('id', count)} }} }} }}",
        USUAL.aliases,
        USUAL.aliases + 1,
    ),
    "root fields": (
        lambda count: f"{{ {aliased('__typename', count)} }}",
        USUAL.root_fields,
        USUAL.root_fields + 1,
    ),
    "the same field": (
        lambda count: f"{{ {'viewer { actor { id } } ' * count} }}",
        USUAL.same_field,
        USUAL.same_field + 1,
    ),
    "the same leaf": (
        lambda count: f"{{ viewer {{ actor {{ {'id ' * count} }} }} }}",
        USUAL.same_leaf,
        USUAL.same_leaf + 1,
    ),
    "fragments": (fragments, USUAL.fragments, USUAL.fragments + 1),
    "visits": (visits, USUAL.visits, USUAL.visits + 20),
}  # fmt: skip


@pytest.mark.parametrize("limit", LIMITS)
def test_a_document_at_a_limit_is_good_and_one_beyond_it_is_not(
    schema: GraphQLSchema, limit: str
) -> None:
    make, most, too_many = LIMITS[limit]

    good = check_document(schema, make(most))
    bad = check_document(schema, make(too_many))

    assert good.errors == ()
    assert [error.extensions for error in bad.errors] == [{"code": "QUERY_TOO_COMPLEX"}]


def test_a_document_has_so_many_tokens_and_no_more(schema: GraphQLSchema) -> None:
    def listing(count: int) -> str:
        return f'query($a: [Int] = [{"1 " * count}]) {{ node(id: "x") {{ id }} }}'

    lexer, base = Lexer(Source(listing(0))), 0
    while lexer.advance().kind is not TokenKind.EOF:
        base += 1

    good = check_document(schema, listing(USUAL.tokens - base))
    bad = check_document(schema, listing(USUAL.tokens - base + 1))

    assert not any(isinstance(error, GraphQLSyntaxError) for error in good.errors)
    assert [type(error) for error in bad.errors] == [GraphQLSyntaxError]


async def test_what_is_over_a_limit_is_refused_over_http_and_over_sockets(house: Any) -> None:
    async with house.owner.socket() as socket:
        for name, (make, _, too_many) in LIMITS.items():
            answer = await house.owner.call(make(too_many))
            message = await (await socket.subscribe(make(too_many))).message()

            assert answer.codes == ["QUERY_TOO_COMPLEX"], name
            assert answer.body.get("data") is None, name
            assert message["type"] == "error", name
            assert [error["extensions"]["code"] for error in message["payload"]] == answer.codes


class TestTightened:
    """Each limit is a setting, for HTTP, sockets and documents of endpoints alike."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        """A server that takes flat documents only."""
        return settings.model_copy(update={"document_depth": 3, "document_aliases": 40})

    async def test_a_setting_tightens_a_limit_and_widens_another(self, house: Any) -> None:
        many = f"{{ viewer {{ actor {{ {aliased('id', 40)} }} }} }}"
        endpoint = """mutation($document: String!) { createWebhookEndpoint(
            input: {url: "https://receiver.example/", document: $document}) {
            userErrors { code message } } }"""
        deeper = "subscription { events { card { customer { name } } } }"

        by_http = [await house.owner.call(ask) for ask in (deep(3), deep(4), many)]
        async with house.owner.socket() as socket:
            by_socket = [await (await socket.subscribe(ask)).message() for ask in (deep(4), deeper)]
        saved = await house.owner.do(endpoint, {"document": deeper})

        assert [answer.codes for answer in by_http] == [[], ["QUERY_TOO_COMPLEX"], []]
        assert [message["type"] for message in by_socket] == ["error", "error"]
        [error] = saved["createWebhookEndpoint"]["userErrors"]
        assert "3 levels" in error["message"]


def test_the_limits_are_those_of_the_design() -> None:
    settings = Settings.model_construct()

    assert settings.document_limits == DocumentLimits(2_000, 50, 2_000, 10, 30, 12, 15, 30, 20)
    assert (settings.body_bytes, settings.socket_message_bytes) == (100_000, 65_536)
    assert (settings.head_seconds, settings.body_seconds, settings.init_seconds) == (10, 30, 5)
    assert (settings.send_seconds, settings.operations_per_socket) == (5, 50)
    assert settings.sockets_per_key == 100
