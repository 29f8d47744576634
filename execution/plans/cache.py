"""The plans of one schema, remembered with their documents; those that fail rest for a while."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from graphql import (
    BooleanValueNode,
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.schema.base import BaseSchema

from core.errors import Denied, Overloaded, Refused
from core.memory import Memory
from execution.documents import Checked, size_of
from execution.plans.compiler import Compiler
from execution.plans.plan import Place
from execution.plans.ways import Run, Unplanned
from resolvers.context import Context

_CHOICES = 8
"""Plans of one operation, by what @skip and @include leave in."""
ROOM = 8_000_000
"""Bytes that plans take, nearly: each about as much as its document, and half of that again."""
_LONGEST_REST = 64
_OF_CALLERS = (Denied, Refused, GraphQLError)
"""What fails by what the caller asked for."""
log = structlog.get_logger("stampwire.plans")


@dataclass
class Plan:
    """An operation that is planned: its first place, and how it fared."""

    root: Place
    definitions: Any
    """The variables it declares."""
    answers: int = 0
    failures: int = 0
    """In a row."""
    _rest: int = 0

    async def answer(self, core: Any, context: Context, told: Mapping[str, Any] | None) -> Any:
        """The data of a complete answer without errors; None where there is none this way.

        Each failure in a row that is not the caller's doubles how often it is not tried.
        """
        if self._rest > 0:
            self._rest -= 1
            return None
        try:
            run = Run(context, self._variables(core, told), narrows=self.answers > 0)
            [data] = await self.root.answers([None], run)
        except Exception as error:  # noqa: BLE001 -- whatever it is, graphql-core tells it
            if isinstance(error, Overloaded) or not isinstance(error, _OF_CALLERS):
                self.failures += 1
                self._rest = min(2**self.failures, _LONGEST_REST)
            return None
        self.answers += 1
        self.failures = 0
        return data

    def _variables(self, core: Any, told: Mapping[str, Any] | None) -> VariableValues | None:
        if not self.definitions:
            return None
        variables = get_variable_values(core, self.definitions, dict(told or {}))
        if not isinstance(variables, VariableValues):
            raise variables[0]
        return variables


@dataclass
class Choices:
    """What @skip and @include of one operation go by."""

    defaults: Mapping[str, bool | None]
    """The variables, with their defaults."""
    planned: set[tuple[bool, ...]] = field(default_factory=set)
    """The choices that were planned so far."""

    @classmethod
    def of(cls, document: DocumentNode, operation: OperationDefinitionNode) -> "Choices":
        """Those of an operation of a document."""
        asked = _deciding(document)
        variables = operation.variable_definitions or ()
        names = {node.variable.name.value: _default(node) for node in variables}
        return cls({name: default for name, default in names.items() if name in asked})

    def made(self, variables: Mapping[str, Any]) -> dict[str, bool] | None:
        """What these variables choose; None where they do not fit, or it is one choice too many."""
        found = {
            name: value
            for name, default in self.defaults.items()
            if (value := variables.get(name, default)) is True or value is False
        }
        key = tuple(found.values())
        if len(found) < len(self.defaults):
            return None
        if key not in self.planned and len(self.planned) >= _CHOICES:
            return None
        self.planned.add(key)
        return found


class Plans:
    """The plans of one schema: made for what is asked, and remembered as far as there is room."""

    def __init__(self, schema: BaseSchema) -> None:
        self._schema = schema
        self._core: Any = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        self._known: Memory[Any, tuple[Plan | None]] = Memory(ROOM)

    def plan(
        self,
        text: str,
        checked: Checked,
        operation: OperationDefinitionNode,
        variables: Mapping[str, Any] | None,
    ) -> Plan | None:
        """The plan for an operation of a document that may run, if there is one."""
        document, name = checked.document, operation.name.value if operation.name else None
        if document is None or operation.operation is not OperationType.QUERY:
            return None
        choices = checked.choices.get(name)
        if choices is None:
            choices = checked.choices[name] = Choices.of(document, operation)
        chosen = choices.made(variables or {})
        if chosen is None:
            return None
        key = (text, name, *chosen.values())
        found = self._known.get(key)
        if found is None:
            found = (self._make(document, operation, chosen),)
            self._known.keep(key, found, 2 * size_of(text, document))
        return found[0]

    def _make(
        self, document: DocumentNode, operation: OperationDefinitionNode, chosen: dict[str, bool]
    ) -> Plan | None:
        if operation.directives:
            return None
        try:
            compiler = Compiler(self._schema, document, chosen)
            root = compiler.place(self._core.query_type, [operation.selection_set])
        except Unplanned:
            return None
        except Exception as error:  # noqa: BLE001 -- another release of a library, say
            log.warning("no plan for a query", error=type(error).__name__)
            return None
        return Plan(root, operation.variable_definitions or ())


def _default(node: Any) -> bool | None:
    told = node.default_value
    return told.value if isinstance(told, BooleanValueNode) else None


def _deciding(document: DocumentNode) -> set[str]:
    """The names of the variables that @skip and @include go by."""
    names: set[str] = set()

    class Find(Visitor):
        def enter_directive(self, node: Any, *_: Any) -> None:
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    names.add(argument.value.name.value)

    visit(document, Find())
    return names
