"""Documents: remembered by their text, refused with one code each, and hidden from strangers."""

import gc
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import Token

from core.settings import DocumentLimits
from execution import documents
from execution.documents import CheckDocuments, check_document, limits_of


@strawberry.type
class Query:
    """What may be asked here."""

    @strawberry.field
    def double(self, number: int = 1) -> int:
        """Twice a number."""
        return 2 * number


SCHEMA = strawberry.Schema(query=Query, extensions=[CheckDocuments])
LIMITS = DocumentLimits()
KNOWN = SimpleNamespace(
    caller="ana",
    deployment=SimpleNamespace(settings=SimpleNamespace(document_limits=LIMITS)),
)
STRANGER = SimpleNamespace(**{**KNOWN.__dict__, "caller": None})
OPERATOR = SimpleNamespace(**{**STRANGER.__dict__, "is_operator": True})
HUGE = "9" * 5_000


async def ask(text: str, context: Any = KNOWN, name: str | None = None) -> Any:
    """Data, and each error's message and code."""
    told = await SCHEMA.execute(text, context_value=context, operation_name=name)
    errors = [(error.message, (error.extensions or {}).get("code")) for error in told.errors or ()]
    return told.data, errors


def errors_of(text: str, limits: DocumentLimits = LIMITS) -> list[Any]:
    """Messages, codes and places of what is wrong with a document."""
    found = check_document(SCHEMA._schema, text, limits).errors
    places = [[(at.line, at.column) for at in error.locations or ()] for error in found]
    codes = [(error.extensions or {}).get("code") for error in found]
    return list(zip([error.message for error in found], codes, places, strict=True))


async def test_a_good_document_runs() -> None:
    assert await ask("{ double(number: 4) }") == ({"double": 8}, [])


async def test_a_wrong_document_is_refused_with_its_place() -> None:
    told = "Cannot query field 'triple' on type 'Query'."
    code = "GRAPHQL_VALIDATION_FAILED"

    assert errors_of("{ double\n  triple }") == [(told, code, [(2, 3)])]
    assert await ask("{ triple }") == (None, [(told, code)])


def test_a_number_that_python_does_not_read_is_the_callers_error() -> None:
    [(message, code, places)] = errors_of(f"{{ double(number: {HUGE}) }}")

    assert (message, code) == ("This value cannot be read.", "GRAPHQL_VALIDATION_FAILED")
    assert places == [(1, 18)]


def test_at_most_five_errors_are_told() -> None:
    told = errors_of("{ " + " ".join(f"wrong{number}" for number in range(9)) + " }")

    assert len(told) == 6
    assert "Too many validation errors" in told[-1][0]


def test_an_error_hints_at_nothing_that_exists() -> None:
    [(message, _, _)] = errors_of("{ doubles }")

    assert message == "Cannot query field 'doubles' on type 'Query'."


def test_what_does_not_parse_has_no_document() -> None:
    found = check_document(SCHEMA._schema, "{ double", LIMITS)

    assert found.document is None
    assert "Syntax Error" in found.errors[0].message


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("aliases", "{ a: double b: double }", "A document has at most 1 aliases."),
        ("depth", "{ ... { double } }", ""),
        ("root_fields", "{ double a: double }", "An operation has at most 1 root fields."),
        ("same_leaf", "{ double double }", "A field is selected at most 1 times in one place."),
        ("visits", "{ double double }", "A document selects at most 1 fields, spreads counted."),
        ("fragments", "{ ...A ...B } fragment A on Query { double } fragment B on Query { double }",
         "A document has at most 1 fragments."),
        ("introspection_depth", "{ __schema { types { name } } }",
         f"A document is at most {LIMITS.depth} levels deep."),
    ],
)  # fmt: skip
def test_one_more_than_a_limit_is_too_much(name: str, text: str, told: str) -> None:
    strict = replace(LIMITS, **{name: 1})

    errors = errors_of(text, strict)

    expected = [(told, "QUERY_TOO_COMPLEX", [])] if told else []
    assert errors == expected
    assert errors_of(text) == []


async def test_of_several_operations_one_is_named() -> None:
    text = "query a { double } query b { double(number: 2) }"
    told = [("Say which operation: there are several.", "OPERATION_RESOLUTION_FAILURE")]

    assert await ask(text) == (None, told)
    assert await ask(text, name="b") == ({"double": 4}, [])
    assert await ask("query a { double }") == ({"double": 2}, [])


@pytest.mark.parametrize(
    "text", ["{ __schema { queryType { name } } }", '{ __type(name: "Query") { name } }']
)
async def test_the_schema_is_told_to_whoever_has_a_key(text: str) -> None:
    told = [("Introspection needs a valid key.", "UNAUTHENTICATED")]

    assert await ask(text, STRANGER) == (None, told)
    assert await ask(text, None) == (None, told)
    for known in (KNOWN, OPERATOR):
        data, errors = await ask(text, known)
        assert (bool(data), errors) == (True, [])
    assert await ask("{ __typename double }", STRANGER) == (
        {"__typename": "Query", "double": 2}, [],
    )  # fmt: skip


async def test_a_stranger_is_told_first_that_a_document_is_wrong() -> None:
    _, errors = await ask("{ __schema { wrong } }", STRANGER)

    assert [code for _, code in errors] == ["GRAPHQL_VALIDATION_FAILED"]


def test_a_document_is_remembered_by_its_text_unless_it_is_long() -> None:
    short, long = "{ double }", "{ double }".ljust(20_000)
    longer = long + " "

    def is_remembered(text: str) -> bool:
        first, second = (check_document(SCHEMA._schema, text, LIMITS) for _ in range(2))
        assert documents.is_remembered(SCHEMA._schema, text, LIMITS) == (first is second)
        return first is second

    assert [is_remembered(text) for text in (short, long, longer)] == [True, True, False]


def words_in_memory() -> int:
    """Of all documents that this process holds, those of other tests too."""
    gc.collect()
    return sum(isinstance(thing, Token) for thing in gc.get_objects())


def heavy(number: int) -> str:
    """Nearly as many words as a document may have, two characters each."""
    return f"{{ double(number: {number}) {'a ' * 1_900}}}"


def broken(number: int) -> str:
    """The same, but it never ends."""
    return heavy(number)[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("made", [heavy, broken])
def test_what_is_remembered_takes_no_more_than_it_may(made: Callable[[int], str]) -> None:
    """All that strangers send is remembered: of the heaviest there were once 540 MB."""
    words_before = words_in_memory()
    for number in range(30):
        check_document(SCHEMA._schema, made(number), LIMITS)
    words = words_in_memory() - words_before

    assert documents._remembered.taken <= documents.ROOM
    assert words * 500 < 1.5 * documents.ROOM  # of 30 documents there would be 28 MB


def test_the_limits_are_those_of_the_deployment() -> None:
    context: Any = KNOWN

    assert limits_of(context) is LIMITS
    assert limits_of(None) == DocumentLimits()
