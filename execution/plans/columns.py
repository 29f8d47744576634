"""Columns: which of them an object type needs of its rows, so that no others are read."""

from dis import get_instructions
from functools import cache
from itertools import pairwise
from typing import Any

from graphql import GraphQLObjectType

from models import Row
from schema.base import object_types


@cache
def row_of(kind: GraphQLObjectType) -> type[Row] | None:
    """The rows that a type shows; None where it shows something else."""
    told = kind.extensions.get("strawberry-definition")
    for row, shown in object_types.items():
        if getattr(shown, "__strawberry_definition__", None) is told:
            return row if hasattr(row, "__table__") else None
    return None


@cache
def columns_behind(row: type[Row], attribute: str) -> frozenset[str] | None:
    """The columns that an attribute is made of; None where that cannot be told for sure.

    A property is made of those that its code reads, as long as it does nothing else with `self`.
    """
    if attribute in row.__table__.columns:  # type: ignore[attr-defined]
        return frozenset({attribute})
    code: Any = getattr(getattr(getattr(row, attribute, None), "fget", None), "__code__", None)
    if code is None:
        return None
    itself, found = code.co_varnames[0], set[str]()
    for one, following in pairwise(get_instructions(code)):
        if one.argval != itself and not (isinstance(one.argval, tuple) and itself in one.argval):
            continue
        inner = None
        if one.opname == "LOAD_FAST" and following.opname == "LOAD_ATTR":
            inner = columns_behind(row, following.argval)
        if inner is None:
            return None
        found |= inner
    return frozenset(found)
