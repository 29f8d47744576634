"""Subscriptions of the log: what a document asks for, understood once, executed once per event."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    execute,
    get_operation_ast,
    visit,
)
from graphql.execution.values import get_argument_values, get_variable_values
from strawberry.schema.base import BaseSchema
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from core.errors import BadUserInput, Unavailable
from core.limits import DocumentLimits
from execution.documents import check_document
from execution.errors import present
from models import Actor, EventRow
from resolvers.context import Context
from services.access_tokens import filter_within
from services.listings import EventFilter

FIELD = "events"
_AWAY = "RATE_LIMITED"
_OURS = ("INTERNAL_SERVER_ERROR", _AWAY)
_PAUSES = (0.1, 1.0, 3.0)


@dataclass(frozen=True)
class LogSubscription:
    """A document that subscribes to `events` and to nothing else, with its variables."""

    schema: BaseSchema
    text: str
    operation_name: str | None
    document: DocumentNode
    operation: OperationDefinitionNode
    variables: Mapping[str, Any]
    after: str | None
    filter: EventFilter
    cursor_variable: str | None
    """The variable that carries `after` and serves nothing else."""

    @cached_property
    def shape(self) -> tuple[str, str | None, bytes]:
        """What two subscribers have in common whose answers are the same: not where they are."""
        others = {
            name: said for name, said in self.variables.items() if name != self.cursor_variable
        }
        told = orjson.dumps(others, option=orjson.OPT_SORT_KEYS)
        return self.text, self.operation_name, told

    def within(self, actor: Actor) -> "LogSubscription":
        """What an actor may follow of it. Forbidden for access tokens that do not reach it."""
        return replace(self, filter=filter_within(actor, self.filter))

    async def answer(self, context: Context, event: EventRow) -> bytes:
        """The answer for one event, as JSON: the payload of a `next` message.

        What fails through no fault of the document is tried again before it is told. Unavailable
        if the database is away for longer.
        """
        for pause in _PAUSES:
            answer = await self.answer_now(context, event)
            if answer is not None:
                return answer
            await asyncio.sleep(pause)
        errors, answer = await self._answer(context, event)
        if any(error["extensions"]["code"] == _AWAY for error in errors):
            raise Unavailable  # and whoever follows the log comes again
        return answer

    async def answer_now(self, context: Context, event: EventRow) -> bytes | None:
        """The same, tried once; None where it fails through no fault of the document."""
        errors, answer = await self._answer(context, event)
        return None if any(error["extensions"]["code"] in _OURS for error in errors) else answer

    async def _answer(self, context: Context, event: EventRow) -> tuple[list[Any], bytes]:
        result: Any = execute(
            self.schema._schema,  # type: ignore[attr-defined] # noqa: SLF001
            self.document,
            root_value=event,
            context_value=context,
            variable_values=dict(self.variables),
            operation_name=self.operation_name,
        )
        if hasattr(result, "__await__"):
            result = await result
        errors = [present(error).formatted for error in result.errors or ()]
        answer = {"data": result.data, "errors": errors} if errors else {"data": result.data}
        return errors, orjson.dumps(answer)


def log_subscription(
    schema: BaseSchema,
    text: str,
    variables: Mapping[str, Any] | None,
    operation_name: str | None,
    limits: DocumentLimits | None = None,
) -> LogSubscription | None:
    """What a document asks for; None for all that is not plainly a subscription of the log.

    Whatever is wrong with it is then found, and told, by the ordinary way of executing.
    """
    core: Any = schema._schema  # type: ignore[attr-defined] # noqa: SLF001
    checked = check_document(core, text, limits or DocumentLimits())
    operation = checked.document and get_operation_ast(checked.document, operation_name)
    if checked.errors or not operation or operation.operation is not OperationType.SUBSCRIPTION:
        return None
    [*selected] = operation.selection_set.selections
    node = selected[0]
    if len(selected) != 1 or not isinstance(node, FieldNode) or node.name.value != FIELD:
        return None
    if node.directives or operation.directives:
        return None
    given = dict(variables or {})
    values = get_variable_values(core, operation.variable_definitions or (), given)
    if isinstance(values, list):
        return None
    field = core.subscription_type.fields[FIELD]
    try:
        arguments = get_argument_values(field, node, values)
        said = _converted(schema, field, arguments)
        wanted = said.get("filter") or EventFilter()
        wanted.conditions()
    except (GraphQLError, BadUserInput):
        return None
    return LogSubscription(
        schema=schema,
        text=text,
        operation_name=operation_name,
        document=cast("DocumentNode", checked.document),
        operation=operation,
        variables=given,
        after=said.get("after"),
        filter=wanted,
        cursor_variable=_cursor_variable(cast("DocumentNode", checked.document), operation, node),
    )


def _converted(schema: BaseSchema, field: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as resolvers get them."""
    told = cast("StrawberryField", field.extensions["strawberry-definition"])
    converter = schema.schema_converter
    return convert_arguments(arguments, told.arguments, converter.scalar_registry, converter.config)


def _cursor_variable(
    document: DocumentNode, operation: OperationDefinitionNode, node: FieldNode
) -> str | None:
    for argument in node.arguments or ():
        if argument.name.value == "after" and isinstance(argument.value, VariableNode):
            name = argument.value.name.value
            return name if _uses(document, operation)[name] == 1 else None
    return None


def _uses(document: DocumentNode, operation: OperationDefinitionNode) -> dict[str, int]:
    """How often each variable is used, definitions left out."""
    counted: dict[str, int] = {}

    class Count(Visitor):
        def enter_variable_definition(self, *_: Any) -> Any:
            return self.SKIP

        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            counted[node.name.value] = counted.get(node.name.value, 0) + 1

    for definition in document.definitions:
        if definition is operation or isinstance(definition, FragmentDefinitionNode):
            visit(definition, Count())
    return counted
