"""Inputs and enums: the lower floors' own dataclasses and enums, registered with Strawberry.

A service's input is found through its annotations, with all that it contains; nothing is listed
by hand. Optional fields have no default in the schema, for `= null` would say that leaving one
out and emptying it are the same.
"""

import dataclasses
import inspect
from enum import Enum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import strawberry
from annotated_doc import Doc
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.enum import StrawberryEnumDefinition

ENUM_NAMES = {"Code": "UserErrorCode", "Channel": "ContactChannel", "Source": "RewardSource"}
"""Enums whose name is too short for the public schema."""


def register(annotation: Any) -> None:
    """Register every dataclass and enum that an annotation mentions."""
    for argument in get_args(annotation):
        register(argument)
    if not isinstance(annotation, type) or "__strawberry_definition__" in vars(annotation):
        return
    if issubclass(annotation, Enum):
        register_enum(annotation)
    elif dataclasses.is_dataclass(annotation):
        register_input(annotation)


def register_input(cls: type) -> None:
    """Make a dataclass an input type; its docstring and `Doc`s are the documentation."""
    hints = get_type_hints(cls, include_extras=True)
    for hint in hints.values():
        register(hint)
    one_of = getattr(cls, "one_of", False) or None
    strawberry.input(cls, one_of=one_of, description=inspect.getdoc(cls))
    definition: StrawberryObjectDefinition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    for field in definition.fields:
        field.description = doc_of(hints[field.python_name])
        if field.default_value is None:
            field.default_value = strawberry.UNSET


def register_enum(cls: type[Enum]) -> None:
    """Make an enum public. Its docstring describes it and, in lines `NAME: text`, its values."""
    if hasattr(cls, "__strawberry_definition__"):
        return
    lines = (inspect.getdoc(cls) or "").splitlines()
    said = dict(line.split(": ", 1) for line in lines if line.partition(": ")[0] in cls.__members__)
    about = " ".join(line for line in lines if line.partition(": ")[0] not in cls.__members__)
    strawberry.enum(
        cls, name=ENUM_NAMES.get(cls.__name__, cls.__name__), description=about.strip() or None
    )
    definition: StrawberryEnumDefinition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        text = said.get(value.name)
        value.description = text and text[0].upper() + text[1:]


def doc_of(annotation: Any) -> str | None:
    """What an annotation's `Doc` says."""
    if get_origin(annotation) is Annotated:
        return next(
            (item.documentation for item in annotation.__metadata__ if isinstance(item, Doc)), None
        )
    return None


def given(input: Any) -> dict[str, Any]:
    """The fields of a partial update that were given, as a mapping; null means empty it."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(input):
        value = getattr(input, field.name)
        if isinstance(value, strawberry.Some):
            values[field.name] = value.value
        elif value is not None and value is not strawberry.UNSET:
            values[field.name] = value
    return values


def partial(cls: type) -> type:
    """Declare an input whose fields may be absent, null or given: three different things."""
    register_input(cls)
    cls.is_partial = True  # type: ignore[attr-defined]
    return cls
