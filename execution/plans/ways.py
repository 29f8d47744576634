"""Ways: how the values of a field are had for many objects at once, read off Strawberry's fields.

A field shows an attribute, or calls a resolver for each object; a resolver that says how it would
read for all of them (`resolve.for_all`: relations, and pages under many parents) is called once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from inspect import signature
from operator import attrgetter
from types import CoroutineType
from typing import Any, Literal

import strawberry
from graphql import FieldNode, GraphQLField, VariableNode
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.schema.base import BaseSchema
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from models import Reach
from resolvers.context import Context

Arguments = Callable[[VariableValues | None], dict[str, Any]]
_LATER = frozenset({CoroutineType, asyncio.Future, asyncio.Task})
_UNCHANGING = (str, int, float, bool, type(None), Enum, type(strawberry.UNSET))


class Unplanned(Exception):
    """There is no plan for this; graphql-core executes it."""


@dataclass(slots=True)
class Run:
    """One run of a plan: what resolvers ask of Strawberry's `info`, and no more."""

    context: Context
    variables: VariableValues | None
    narrows: bool
    """Whether rows are read in part; a first run has whole ones, as others have."""
    only: frozenset[str] | None = None
    """The columns that are wanted of the rows of one field; None for all of them."""

    @property
    def reach(self) -> Reach | None:
        """How far the caller's access token reaches; None for callers without one."""
        caller = self.context.caller
        return None if caller is None or caller.token is None else caller.token.reach


@dataclass(frozen=True)
class Way:
    """How the values of a field are had."""

    values: Callable[[list[Any], Run, dict[str, Any]], Any]
    """Those for these objects, in their order; or an awaitable of them."""
    needs: frozenset[str] | None
    """What it reads of the objects; None where that is not known."""
    gives: Literal["values", "rows", "pages"] = "values"
    """Of rows, and pages of rows, it takes from `Run.only` which columns are wanted."""


def definition_of(field: GraphQLField) -> StrawberryField:
    """What Strawberry knows of a field. Unplanned where something would stand around it."""
    found: StrawberryField = field.extensions["strawberry-definition"]
    if found.extensions or found.permission_classes:
        raise Unplanned
    return found


@cache
def way_of(field: StrawberryField) -> Way:
    """How the values of a field are had."""
    resolver = field.base_resolver
    if resolver is None:
        read = attrgetter(field.python_name)
        return Way(
            lambda many, run, arguments: [read(one) for one in many],  # noqa: ARG005
            frozenset({field.python_name}),
        )
    resolve: Any = resolver.wrapped_func
    if getattr(resolve, "is_once", False):
        raise Unplanned
    needs = frozenset(resolve.needs) if hasattr(resolve, "needs") else None
    if hasattr(resolve, "for_all"):
        for_all = resolve.for_all
        return Way(
            lambda many, run, arguments: for_all(many, run, **arguments),
            needs,
            "pages" if getattr(for_all, "gives_pages", False) else "rows",
        )
    info = "info" in signature(resolve).parameters
    source = resolver.self_parameter or resolver.root_parameter or resolver.parent_parameter
    if source is not None and next(iter(signature(resolve).parameters)) != source.name:
        raise Unplanned
    takes_one = source is not None

    def call(many: list[Any], run: Run, arguments: dict[str, Any]) -> Any:
        told = {**arguments, "info": run} if info else arguments
        if takes_one:
            values = [resolve(one, **told) for one in many]
        else:
            values = [resolve(**told) for _ in many]
        return values if _LATER.isdisjoint(map(type, values)) else _awaited(values)

    return Way(call, needs)


async def _awaited(values: list[Any]) -> list[Any]:
    if len(values) == 1:
        return [await values[0]]
    return await asyncio.gather(*values)


def arguments_of(schema: BaseSchema, field: GraphQLField, node: FieldNode) -> Arguments:
    """How a field's arguments are had, as its resolver takes them; worked out once if they can."""
    told = definition_of(field).arguments
    converter: Any = schema.schema_converter

    def read(variables: VariableValues | None) -> dict[str, Any]:
        given = get_argument_values(field, node, variables)
        return convert_arguments(given, told, converter.scalar_registry, converter.config)

    if not field.args:
        return lambda _: {}
    if not any(_has_variable(argument.value) for argument in node.arguments or ()):
        try:
            fixed = read(None)
        except Exception as error:
            raise Unplanned from error
        if all(isinstance(value, _UNCHANGING) for value in fixed.values()):
            return lambda _: fixed
    return read


def _has_variable(value: Any) -> bool:
    if isinstance(value, VariableNode):
        return True
    inner = [*(getattr(value, "values", None) or ()), *(getattr(value, "fields", None) or ())]
    return any(_has_variable(getattr(one, "value", one)) for one in inner)
