"""The shape every event shares, and the register of all event types."""

import re
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

API_VERSION = "2026-11-01"
"""The version of the body; `api_version` on the wire."""

_types: dict[str, type["Event"]] = {}


class Part(BaseModel):
    """An object inside the body of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def sample(cls) -> Self:
        """An example, made from the examples of its fields."""
        return cls(**_examples(cls))


class Reference(Part):
    """A part that tells of a thing with an id of its own: in GraphQL, that thing as it is now."""


class CustomerPart(Part):
    """Whom it happened to: ids and language only, never a name, e-mail or phone."""

    id: str = Field(examples=["c_01jwsample0000000000000000"], description="The customer's id.")
    wallet_pass_id: str | None = Field(
        examples=["wp_01jwsample0000000000000000"], description="The wallet pass of the card."
    )
    language: str = Field(examples=["en"], description="The customer's language.")


class CardPart(Part):
    """The card it happened on."""

    id: str = Field(examples=["card_01jwsample0000000000000000"], description="The card's id.")
    goal_index: int | None = Field(
        None, examples=[None], description="1-based position of the goal it concerns, if any."
    )


class Event(BaseModel):
    """Something that happened; each subclass is a type.

    It is registered under its name in snake case, and its docstring is public. Its own fields, in
    their order, are the subject of the wire body; the envelope is added when it is recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ClassVar[str]
    opt_in: ClassVar[bool] = False

    location_id: str | None = Field(
        None, examples=["loc_01jwsample0000000000000000"], description="Where; null for the system."
    )
    customer: CustomerPart | None = Field(None, description="Whom it happened to.")
    card: CardPart | None = Field(None, description="The card it happened on.")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        cls.type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        _types[cls.type] = cls

    @classmethod
    def subject_fields(cls) -> list[str]:
        """The names of the fields that belong to this type alone, in the order of the wire."""
        return [name for name in cls.model_fields if name not in Event.model_fields]

    @classmethod
    def sample(cls) -> Self:
        """An example of this type, made from the examples of its fields."""
        return cls(**_examples(cls))


def event_types() -> dict[str, type[Event]]:
    """Every event type by its name, in the order of the catalogue."""
    return dict(_types)


def is_event_type(name: str) -> bool:
    """Whether there is such an event here. While a newer release takes over, the log has others."""
    return name in _types


@cache
def event_type_enum() -> type[StrEnum]:
    """The event types as an enum, computed from the register."""
    return StrEnum("EventType", {name.upper(): name for name in _types})  # type: ignore[return-value]


def _examples(model: type[BaseModel]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        part = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part)), None
        )
        if part is not None:
            values[name] = part.sample()
        elif field.examples:
            values[name] = field.examples[0]
    return values
