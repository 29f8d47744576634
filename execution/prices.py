"""What a document costs, by one rule over the places of its answer.

An object costs 1, a scalar nothing; a connection 2, and for each item of its page that item and
what is asked of it; a mutation 10 and a subscription 10, and what is asked of what they give. A
plain list is short and counts as one object. `pageInfo` and `totalCount` are part of a
connection's 2. An operation costs at least 1. What @skip and @include leave out is counted.

The places are those of execution/documents.py: selections merged by response name, fragments
entered once in a place, so that the budget of visits that held there holds here. Where types or
fields differ in one place (under fragments of several types), the dearer one counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_composite_type,
    is_interface_type,
    is_object_type,
)

from services.pages import DEFAULT, MOST

OBJECT = 1
CONNECTION = 2
OPERATIONS = {OperationType.QUERY: 0, OperationType.MUTATION: 10, OperationType.SUBSCRIPTION: 10}
LEAST = 1

_META = {"__schema": "__Schema", "__type": "__Type"}
Size = int | str
"""How many items are asked for: a number, or the variable that says it."""


@dataclass
class Place:
    """One place in the answer, and what lies below it."""

    fixed: int = 0
    """What it costs without the connections below."""
    deeper: list[tuple[str, "Place"]] = field(default_factory=list)
    """The places under it with connections below them, by their response names."""
    pages: list["_Page"] = field(default_factory=list)


@dataclass
class _Page:
    """A connection in a place."""

    name: str
    asked: tuple[tuple[Size, ...], ...]
    """`first` and `last`, each time it is selected; the largest counts."""
    nodes: list[tuple[str, Place]]
    """Where the items stand under their response names: an object each, and what is below."""
    edges: list[tuple[str, Place]]
    """The same for items in edges, where the edge and its node count as one."""


@dataclass(frozen=True)
class Price:
    """What an operation costs, once its variables are known."""

    start: int
    root: Place
    defaults: Mapping[str, int]
    fixed: int | None
    """The whole cost, where no variable matters to it."""

    def requested(self, variables: Mapping[str, Any] | None) -> int:
        """What it costs at most: every page full."""
        if self.fixed is not None:
            return self.fixed
        given = {**self.defaults, **(variables or {})}
        return max(LEAST, self.start + _most(self.root, given))

    def actual(self, data: Any, requested: int) -> int:
        """What it did cost: connections count the items they really gave."""
        if not (self.root.pages or self.root.deeper):
            return requested
        return min(requested, max(LEAST, self.start + _real(self.root, data)))


def price_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> Price:
    """The price of an operation of a document that was validated."""
    root_type: Any = schema.get_root_type(operation.operation)
    kind = operation.operation
    start = OPERATIONS[kind]
    root = _Reader(schema, document).place([(root_type, operation.selection_set)])
    if kind is not OperationType.QUERY:
        # Each root field is an operation of its own; what it gives is part of its 10.
        roots = _Reader(schema, document).names([(root_type, operation.selection_set)])
        root.fixed += (start - OBJECT) * roots
        start = 0
    defaults = {
        node.variable.name.value: int(node.default_value.value)
        for node in operation.variable_definitions or ()
        if isinstance(node.default_value, IntValueNode)
    }
    fixed = None if _asks_variables(root) else max(LEAST, start + _most(root, {}))
    return Price(start, root, defaults, fixed)


class _Reader:
    """Reads places, merged as the executor merges them."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }

    def place(self, sets: list[tuple[Any, SelectionSetNode]]) -> Place:
        """The place where these selections are merged, each with the type it is made on."""
        place = Place()
        for name, found in self._merge(sets).items():
            below = [(kind, node.selection_set) for kind, node in found if node.selection_set]
            if not below:
                continue
            connections = [one for one in found if _is_connection(one[0])]
            if connections:
                place.pages.append(self._page(name, connections, below))
                continue
            inner = self.place(below)
            place.fixed += OBJECT + inner.fixed
            if inner.pages or inner.deeper:
                place.deeper.append((name, inner))
        return place

    def names(self, sets: list[tuple[Any, SelectionSetNode]]) -> int:
        """How many fields with something below them a place has."""
        return sum(
            any(node.selection_set for _, node in found) for found in self._merge(sets).values()
        )

    def _page(self, name: str, found: list[tuple[Any, FieldNode]], below: list[Any]) -> _Page:
        nodes, edges = [], []
        for inner, items in self._merge(below).items():
            lists = [(kind, node.selection_set) for kind, node in items if node.selection_set]
            words = {node.name.value for _, node in items}
            if "nodes" in words:
                nodes.append((inner, self.place(lists)))
            elif "edges" in words:
                edges.append((inner, self.place(lists)))
        return _Page(name, tuple(_sizes_of(node) for _, node in found), nodes, edges)

    def _merge(
        self, sets: list[tuple[Any, SelectionSetNode]]
    ) -> dict[str, list[tuple[Any, FieldNode]]]:
        """The fields of one place by response name, each with the type it gives."""
        fields: dict[str, list[tuple[Any, FieldNode]]] = {}
        spread: set[str] = set()
        waiting = list(sets)
        while waiting:
            kind, selected = waiting.pop()
            for node in selected.selections:
                if isinstance(node, FieldNode):
                    found = (self._given_by(kind, node), node)
                    fields.setdefault((node.alias or node.name).value, []).append(found)
                elif isinstance(node, FragmentSpreadNode):
                    name = node.name.value
                    if name not in spread:
                        spread.add(name)
                        fragment = self._fragments[name]
                        waiting.append((self._type(fragment, kind), fragment.selection_set))
                else:
                    inline: Any = node
                    waiting.append((self._type(inline, kind), inline.selection_set))
        return fields

    def _type(self, node: Any, kind: Any) -> Any:
        told = node.type_condition
        return self._schema.get_type(told.name.value) if told else kind

    def _given_by(self, kind: Any, node: FieldNode) -> Any:
        """The named type that a field gives; None for `__typename`."""
        name = node.name.value
        if name in _META:
            return self._schema.get_type(_META[name])
        known = kind.fields if is_object_type(kind) or is_interface_type(kind) else {}
        given = get_named_type(known[name].type) if name in known else None
        return given if is_composite_type(given) else None


def _is_connection(kind: Any) -> bool:
    return is_object_type(kind) and kind.name.endswith("Connection") and "pageInfo" in kind.fields


def _sizes_of(node: FieldNode) -> tuple[Size, ...]:
    """The sizes that a field's arguments ask for."""
    sizes: list[Size] = []
    for argument in node.arguments or ():
        if argument.name.value in ("first", "last"):
            if isinstance(argument.value, IntValueNode):
                sizes.append(_bounded(int(argument.value.value)))
            elif isinstance(argument.value, VariableNode):
                sizes.append(argument.value.name.value)
    return tuple(sizes)


def _size(page: _Page, variables: Mapping[str, Any]) -> int:
    largest = 0
    for sizes in page.asked:
        told = [size if isinstance(size, int) else variables.get(size) for size in sizes]
        known = [_bounded(size) for size in told if isinstance(size, int | float)]
        largest = max(largest, max(known, default=DEFAULT))
    return largest


def _bounded(size: float) -> int:
    """As pages are bounded; what is out of bounds is refused by whoever reads the page."""
    return int(size) if 0 <= size <= MOST else MOST


def _most(place: Place, variables: Mapping[str, Any]) -> int:
    """What a place costs with every page full."""
    cost = place.fixed
    for _, inner in place.deeper:
        cost += _most(inner, variables) - inner.fixed
    for page in place.pages:
        item = sum(OBJECT + _most(below, variables) for _, below in page.nodes)
        item += sum(max(OBJECT, _most(below, variables)) for _, below in page.edges)
        cost += CONNECTION + _size(page, variables) * item
    return cost


def _real(place: Place, value: Any) -> int:
    """What a place did cost, by what stands there in the answer."""
    cost = place.fixed
    for one in value if isinstance(value, list) else (value,):
        if not isinstance(one, dict):
            continue
        for name, inner in place.deeper:
            cost += _real(inner, one.get(name)) - inner.fixed
        for page in place.pages:
            cost += CONNECTION
            found = one.get(page.name)
            if isinstance(found, dict):
                for name, below in page.nodes:
                    items = found.get(name) or ()
                    cost += OBJECT * len(items) + sum(_each(below, items))
                for name, below in page.edges:
                    items = found.get(name) or ()
                    cost += sum(max(OBJECT, one) for one in _each(below, items))
    return cost


def _each(below: Place, items: Sequence[Any]) -> list[int]:
    """What lies below each item."""
    if below.pages or below.deeper:
        return [_real(below, item) for item in items]
    return [below.fixed] * len(items)


def _asks_variables(place: Place) -> bool:
    below = [inner for _, inner in place.deeper]
    for page in place.pages:
        if any(isinstance(size, str) for sizes in page.asked for size in sizes):
            return True
        below += [inner for _, inner in (*page.nodes, *page.edges)]
    return any(map(_asks_variables, below))
