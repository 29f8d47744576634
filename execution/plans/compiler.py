"""From a document to a plan: selections collected as the executor collects them, place by place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import (
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    is_leaf_type,
)
from strawberry.schema.base import BaseSchema

from execution.plans.columns import columns_behind, row_of
from execution.plans.leaves import Constant, Leaf, completed, filler
from execution.plans.plan import Below, Crossing, Place, Step
from execution.plans.ways import Unplanned, Way, arguments_of, definition_of, way_of
from models import Reach, Row
from schema.access import Decision, decision_of


@dataclass(frozen=True)
class _Shape:
    """A field's type, taken apart."""

    named: Any
    is_list: bool
    is_required: bool
    is_item_required: bool

    @classmethod
    def of(cls, given: GraphQLOutputType) -> "_Shape":
        """The shape of a type. Unplanned for lists of lists."""
        kind, is_required = _bare(given)
        if not isinstance(kind, GraphQLList):
            return cls(kind, False, is_required, is_required)
        item, is_item_required = _bare(kind.of_type)
        if isinstance(item, GraphQLList):
            raise Unplanned
        return cls(item, True, is_required, is_item_required)


class Compiler:
    """Makes the places of one operation, for one choice of what @skip and @include leave in."""

    def __init__(
        self, schema: BaseSchema, document: DocumentNode, booleans: Mapping[str, bool]
    ) -> None:
        self._schema = schema
        self._core: Any = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        self._booleans = booleans
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }

    def place(self, kind: GraphQLObjectType, sets: Iterable[SelectionSetNode]) -> Place:
        """The place of objects of a type. Unplanned where a field of it has no way."""
        fields: list[Leaf | Constant] = []
        steps: list[Step] = []
        names: set[str] = set()
        for key, nodes in self._collected(kind, sets).items():
            name = nodes[0].name.value
            if name == "__typename":
                fields.append(Constant(key, kind.name))
                continue
            if name.startswith("__"):
                raise Unplanned
            names.add(name)
            part = self._leaf(key, kind, name) or self._step(key, kind, nodes)
            fields.append(part if isinstance(part, Leaf) else Constant(key, None))
            steps += [part] if isinstance(part, Step) else []
        needs = _needs(fields, steps, row_of(kind))
        reaches = frozenset(reach for reach, allowed in _allowed(kind) if names <= allowed)
        return Place(filler(fields), steps, reaches, needs)

    def _leaf(self, key: str, kind: GraphQLObjectType, name: str) -> Leaf | None:
        """A field whose value stands on the object itself; None if it does not."""
        field = kind.fields[name]
        shape, told = _Shape.of(field.type), definition_of(field)
        if told.base_resolver is not None or shape.is_list or not is_leaf_type(shape.named):
            return None
        row, attribute = row_of(kind), told.python_name
        is_column = row is not None and columns_behind(row, attribute) == frozenset({attribute})
        return Leaf(key, attribute, is_column, shape.named, shape.is_required)

    def _step(self, key: str, kind: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Step:
        field = kind.fields[nodes[0].name.value]
        shape = _Shape.of(field.type)
        below = None
        if not is_leaf_type(shape.named):
            below = self._below(shape.named, [node.selection_set for node in nodes])  # type: ignore[misc]
        way = way_of(definition_of(field))
        return Step(
            key=key,
            name=nodes[0].name.value,
            way=way,
            arguments=arguments_of(self._schema, field, nodes[0]),
            is_list=shape.is_list,
            is_required=shape.is_required,
            below=below,
            complete=completed(shape.named, is_required=shape.is_item_required),
            only=_wanted(way, below),
        )

    def _below(self, kind: Any, sets: list[SelectionSetNode]) -> Below:
        if isinstance(kind, GraphQLObjectType):
            return self.place(kind, sets)
        if not isinstance(kind, GraphQLInterfaceType):
            raise Unplanned
        possible = self._core.get_possible_types(kind)
        places: dict[str, Place] = {}

        def place_of(one: Any) -> Place:
            for found in possible:
                if found.is_type_of is not None and found.is_type_of(one, None):
                    if found.name not in places:
                        places[found.name] = self.place(found, sets)
                    return places[found.name]
            raise Unplanned

        return Crossing(place_of)

    # -- What is selected -------------------------------------------------------------------------

    def _collected(
        self, kind: GraphQLObjectType, sets: Iterable[SelectionSetNode]
    ) -> dict[str, list[FieldNode]]:
        """The fields of a place by their response names, in the order of the answer."""
        found: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for selected in sets:
            self._collect(kind, selected, found, spread)
        return found

    def _collect(
        self,
        kind: GraphQLObjectType,
        selected: SelectionSetNode,
        found: dict[str, list[FieldNode]],
        spread: set[str],
    ) -> None:
        for node in selected.selections:
            if not self._is_included(node):
                continue
            if isinstance(node, FieldNode):
                found.setdefault((node.alias or node.name).value, []).append(node)
                continue
            fragment: Any = node
            if isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name in spread:
                    continue
                spread.add(name)
                fragment = self._fragments[name]
            if self._applies(fragment.type_condition, kind):
                self._collect(kind, fragment.selection_set, found, spread)

    def _applies(self, condition: Any, kind: GraphQLObjectType) -> bool:
        if condition is None or condition.name.value == kind.name:
            return True
        wanted = self._core.get_type(condition.name.value)
        return isinstance(wanted, GraphQLInterfaceType) and self._core.is_sub_type(wanted, kind)

    def _is_included(self, node: SelectionNode) -> bool:
        for directive in node.directives or ():
            name = directive.name.value
            if name not in ("skip", "include"):
                raise Unplanned
            [argument] = directive.arguments or ()
            told = argument.value
            if isinstance(told, VariableNode):
                is_true = self._booleans[told.name.value]
            elif isinstance(told, BooleanValueNode):
                is_true = told.value
            else:
                raise Unplanned
            if is_true is (name == "skip"):
                return False
        return True


@cache
def _allowed(kind: GraphQLObjectType) -> list[tuple[Reach, frozenset[str]]]:
    """The fields of a type that access tokens may read, by how far they reach."""
    decision = decision_of(kind) or Decision()
    return [(reach, decision.fields(reach)) for reach in Reach]


def _bare(kind: Any) -> tuple[Any, bool]:
    """A type without its `!`, and whether it had one."""
    return (kind.of_type, True) if isinstance(kind, GraphQLNonNull) else (kind, False)


def _needs(
    fields: Sequence[Leaf | Constant], steps: Sequence[Step], row: type[Row] | None
) -> frozenset[str] | None:
    """The columns that a place reads of its rows; None where that is not known."""
    if row is None or any(step.way.needs is None for step in steps):
        return None
    attributes = {field.attribute for field in fields if isinstance(field, Leaf)}
    attributes.update(*(step.way.needs or () for step in steps))
    columns = [columns_behind(row, attribute) for attribute in attributes]
    if any(found is None for found in columns):
        return None
    return frozenset().union(*(found or () for found in columns))


def _wanted(way: Way, below: Below | None) -> frozenset[str] | None:
    """The columns wanted of the rows that a way gives; None for all of them."""
    if way.gives == "values" or not isinstance(below, Place):
        return None
    if way.gives == "rows":
        return below.needs
    found: set[str] = set()
    for step in _rows_of_page(below.steps):
        if not isinstance(step.below, Place) or step.below.needs is None:
            return None
        found |= step.below.needs
    return frozenset(found)


def _rows_of_page(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        if step.name == "edges" and isinstance(step.below, Place):
            yield from (inner for inner in step.below.steps if inner.name == "node")
        elif step.name == "nodes":
            yield step
