"""Documents: parsed, held to limits and validated by one function, remembered by their text.

graphql-core's own overlap rule is quadratic in repeated fields, and limiters that walk each
fragment spread anew are exponential (Strawberry's two were measured to block the loop for 13 s
on 800 bytes). Ours walks response paths merged, level by level, with a budget of visits.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from core.limits import DocumentLimits
from core.memory import Memory
from resolvers.context import Context

ERRORS_TOLD = 5
ROOM = 8_000_000
"""Bytes that remembered documents take, nearly: all of the contract are a quarter of it.

Python looks all of it through for garbage now and then, and nobody is served meanwhile: with 32 MB
for 200 ms.
"""
_BYTES_AT_LEAST, _BYTES_OF_A_WORD, _BYTES_OF_A_CHARACTER = 2_000, 500, 4
_ASKS_FOR_SCHEMA = re.compile(r"__(schema|type)\b")
LONGEST_REMEMBERED = 20_000
_USUAL = DocumentLimits()
_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)


@dataclass(frozen=True)
class Checked:
    """A document that may run, or the errors for which it may not."""

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...] = ()
    prices: dict[str | None, Any] = field(default_factory=dict, compare=False)
    """What its operations cost, once somebody asked (execution/cost.py)."""
    choices: dict[str | None, Any] = field(default_factory=dict, compare=False)
    """What @skip and @include of its operations go by, once they ran (execution/plans)."""


def check_document(schema: GraphQLSchema, text: str, limits: DocumentLimits = _USUAL) -> Checked:
    """Parse, limit and validate a document; successes and failures are remembered."""
    key = (schema, text, limits)
    found = _remembered.get(key)
    if found is None:
        found = _check(schema, text, limits)
        if len(text) <= LONGEST_REMEMBERED:
            _remembered.keep(key, found, size_of(text, found.document))
    return found


def is_remembered(schema: GraphQLSchema, text: str, limits: DocumentLimits) -> bool:
    """Whether to check a document is to look it up."""
    return (schema, text, limits) in _remembered


def size_of(text: str, document: DocumentNode | None) -> int:
    """About how many bytes a document takes with its text: what nobody has read has no words."""
    words = document.token_count or 0 if document is not None else 0
    return _BYTES_AT_LEAST + _BYTES_OF_A_WORD * words + _BYTES_OF_A_CHARACTER * len(text)


def _check(schema: GraphQLSchema, text: str, limits: DocumentLimits) -> Checked:
    try:
        document = parse(text, max_tokens=limits.tokens)
    except GraphQLError as error:
        # Its traceback would keep all that was read so far.
        error.__cause__ = error.__context__ = None
        return Checked(None, (error.with_traceback(None),))
    if broken := _over_limit(document, limits):
        code = {"code": "QUERY_TOO_COMPLEX"}
        return Checked(document, (GraphQLError(broken, extensions=code),))
    errors = validate(schema, document, _RULES, max_errors=ERRORS_TOLD, hide_suggestions=True)
    return Checked(document, tuple(_invalid(error) for error in errors))


def _invalid(error: GraphQLError) -> GraphQLError:
    """The caller's error, also where reading a literal broke: Python's integers have a limit."""
    ours = error.original_error is not None and not isinstance(error.original_error, GraphQLError)
    return GraphQLError(
        "This value cannot be read." if ours else error.message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        extensions={"code": "GRAPHQL_VALIDATION_FAILED"},
    )


_remembered: Memory[tuple[GraphQLSchema, str, DocumentLimits], Checked] = Memory(ROOM)


def _over_limit(document: DocumentNode, limits: DocumentLimits) -> str | None:
    """Which limit a document breaks, None if it keeps them all."""
    fragments = {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    if len(fragments) > limits.fragments:
        return f"A document has at most {limits.fragments} fragments."
    walk = _Walk(fragments, limits)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode) and (fault := walk.fault_of(node)):
            return fault
    return None


class _Walk:
    """One walk over all operations of a document, on one budget."""

    def __init__(
        self, fragments: dict[str, FragmentDefinitionNode], limits: DocumentLimits
    ) -> None:
        self._fragments = fragments
        self._limits = limits
        self._left = limits.visits
        self._aliases = 0

    def fault_of(self, operation: OperationDefinitionNode) -> str | None:
        """Which limit an operation breaks."""
        limits = self._limits
        level = [([operation.selection_set], False)]
        depth = 0
        while level:
            depth += 1
            following = []
            for sets, introspects in level:
                if depth > (limits.introspection_depth if introspects else limits.depth):
                    return f"A document is at most {limits.depth} levels deep."
                fields = self._merge(sets)
                if self._left < 0:
                    return f"A document selects at most {limits.visits} fields, spreads counted."
                if self._aliases > limits.aliases:
                    return f"A document has at most {limits.aliases} aliases."
                if depth == 1 and len(fields) > limits.root_fields:
                    return f"An operation has at most {limits.root_fields} root fields."
                for name, nodes in fields.items():
                    inner = [node.selection_set for node in nodes if node.selection_set]
                    most = limits.same_field if inner else limits.same_leaf
                    if len(nodes) > most:
                        return f"A field is selected at most {most} times in one place."
                    if inner:
                        following.append((inner, introspects or name.startswith("__")))
            level = following
        return None

    def _merge(self, sets: list[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """The fields of one place in the answer, by their response names."""
        fields: dict[str, list[FieldNode]] = defaultdict(list)
        spread: set[str] = set()
        waiting = list(sets)
        while waiting and self._left >= 0:
            for node in waiting.pop().selections:
                self._left -= 1
                if isinstance(node, FieldNode):
                    self._aliases += node.alias is not None
                    fields[(node.alias or node.name).value].append(node)
                elif isinstance(node, FragmentSpreadNode):
                    name = node.name.value
                    if name not in spread and name in self._fragments:
                        spread.add(name)
                        waiting.append(self._fragments[name].selection_set)
                else:
                    waiting.append(node.selection_set)  # type: ignore[attr-defined]
        return fields


def limits_of(context: Context | None) -> DocumentLimits:
    """The limits of the deployment that a call came to."""
    return _USUAL if context is None else context.deployment.settings.document_limits


def asks_for_schema(text: str) -> bool:
    """Whether a document may ask for the schema: strangers are sent to the published file."""
    return _ASKS_FOR_SCHEMA.search(text) is not None


class CheckDocuments(SchemaExtension):
    """Runs `check_document` in the place of Strawberry's own parsing and validation."""

    _checked: Checked | None = None

    def on_parse(self) -> Iterator[None]:
        """Use the remembered document; one that does not parse is left for Strawberry to refuse."""
        context: Any = self.execution_context
        if context.query and context.graphql_document is None:
            limits = limits_of(context.context)
            self._checked = check_document(context.schema._schema, context.query, limits)  # noqa: SLF001
            context.checked = self._checked
            context.graphql_document = self._checked.document
            context.parse_options = {"max_tokens": limits.tokens}
        yield

    def on_validate(self) -> Iterator[None]:
        """Its errors are known already; but for whether an operation was chosen."""
        if self._checked is not None:
            errors = list(self._checked.errors)
            if not errors and self._is_ambiguous(self._checked.document):
                code = {"code": "OPERATION_RESOLUTION_FAILURE"}
                errors = [GraphQLError("Say which operation: there are several.", extensions=code)]
            elif not errors and self._is_of_a_stranger(self.execution_context.query):
                code = {"code": "UNAUTHENTICATED"}
                errors = [GraphQLError("Introspection needs a valid key.", extensions=code)]
            self.execution_context.pre_execution_errors = errors
        yield

    def _is_of_a_stranger(self, text: str | None) -> bool:
        """Whether a stranger asks for the schema: it is published as a file."""
        context = self.execution_context.context
        is_known = getattr(context, "caller", None) or getattr(context, "is_operator", False)
        return not is_known and asks_for_schema(text or "")

    def _is_ambiguous(self, document: DocumentNode | None) -> bool:
        """Whether several operations are given and none is named; Strawberry runs the first."""
        if self.execution_context._provided_operation_name is not None:  # noqa: SLF001
            return False
        definitions = document.definitions if document else ()
        return sum(isinstance(node, OperationDefinitionNode) for node in definitions) > 1
