"""How errors leave: without names that strangers need not learn, in few words, and quickly."""

import time

import pytest
from graphql import GraphQLError

from execution.errors import LONGEST, present


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Unknown field 'a'. Did you mean 'b'?", "Unknown field 'a'."),
        ("No 'a'. Did you mean 'b' or 'c'? Found: 1", "No 'a'. Found: 1"),
        ("No 'a'. Did you mean the enum value 'B', 'C', 'D', 'E', or 'F'?", "No 'a'."),
        ("No 'a'. Did you mean 'b', 'c', or 'd'?, found: 1", "No 'a'., found: 1"),
        ("Did you mean it?", "Did you mean it?"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), "x" * (LONGEST - 1) + "…"),
    ],
)
def test_a_mistake_is_told_without_hints(message: str, told: str) -> None:
    assert present(GraphQLError(message)).message == told


@pytest.mark.parametrize("part", [" Did you mean ", " Did you mean 'a', ", " Did you mean '"])
def test_no_text_takes_long_to_look_through(part: str) -> None:
    """100 000 times the same: it would take minutes where each place of it is tried to the end."""
    began = time.monotonic()
    present(GraphQLError(part * 100_000))

    assert time.monotonic() - began < 10
