"""Leaves: how plain values become what JSON says, and many rows are turned into objects at once.

The function that fills the objects of one place in the answer is generated: one expression per
field, in one comprehension. (Closures per field were measured at three times its cost.) What is
put into the text are names of GraphQL and Python alone; values reach it as variables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLEnumType, GraphQLLeafType

Fill = Callable[[list[Any]], list[dict[str, Any]]]
_FITTING = {
    "String": "str",
    "ID": "str",
    "Boolean": "bool",
    "Int": "int and -0x80000000 <= value <= 0x7FFFFFFF",
}
"""The class of values that are what JSON says as they stand."""


class Dropped(Exception):
    """A plan cannot give this answer: it is left to graphql-core, which tells what is wrong."""


@dataclass(frozen=True)
class Leaf:
    """A field whose value stands on the object itself."""

    key: str
    attribute: str
    is_column: bool
    """Whether the object is a row, and this one of its columns."""
    kind: GraphQLLeafType
    is_required: bool


@dataclass(frozen=True)
class Constant:
    """A field that is the same for each object; None for what is put in later."""

    key: str
    value: str | None


def completed(kind: GraphQLLeafType, *, is_required: bool) -> Callable[[Any], Any]:
    """What turns any value of a leaf type into what JSON says."""

    def complete(value: Any) -> Any:
        if value is not None and (told := kind.coerce_output_value(value)) is not None:
            return told
        if is_required or value is not None:
            raise Dropped
        return None

    return complete


def filler(fields: Sequence[Leaf | Constant]) -> Fill:
    """The function that makes the objects of one place, in the order of their fields."""
    known: dict[str, Any] = {}
    shown = ", ".join(f"{field.key!r}: {_expression(field, known)}" for field in fields)
    columns = " for row in (one.__dict__,)" if "row[" in shown else ""
    text = f"def fill(many):\n    return [{{{shown}}} for one in many{columns}]"
    exec(text, known)  # noqa: S102 -- made above, of names alone
    fill: Fill = known["fill"]
    return fill


def _expression(field: Leaf | Constant, known: dict[str, Any]) -> str:
    if isinstance(field, Constant):
        return repr(field.value)
    name = f"complete_{len(known)}"
    known[name] = completed(field.kind, is_required=field.is_required)
    value = f"row[{field.attribute!r}]" if field.is_column else f"one.{field.attribute}"
    words = _words_of(field.kind)
    if words is not None:
        known[f"words_{name}"] = words
        return f"words_{name}.get(value := {value}) or {name}(value)"
    fits = _FITTING.get(field.kind.name)
    if fits is None:
        return f"{name}({value})"
    fits = fits if field.is_required else f"{fits} or value is None"
    return f"value if (value := {value}).__class__ is {fits} else {name}(value)"


def _words_of(kind: GraphQLLeafType) -> dict[str, str] | None:
    """The names of an enum by its values, where those are texts, as ours are."""
    if not isinstance(kind, GraphQLEnumType):
        return None
    words = {told.value: name for name, told in kind.values.items()}
    return words if all(isinstance(word, str) for word in words) else None
