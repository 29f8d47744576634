"""GraphQL types of events, made from the catalogue: one type per class, nothing listed by hand."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, cast, get_type_hints

import orjson
import strawberry
from strawberry.scalars import JSON

import models
from core.ids import prefix_of
from events import Event as EventClass
from events import catalogue, event_types, payload, read_event
from events.base import Part, Reference, event_type_enum
from models import Vocabulary
from models.relations import (
    CARD,
    CUSTOMER,
    LOCATION,
    LOTTERY_TICKET,
    OPERATION,
    POINT_OF_SALE,
    REWARD,
    STAFF,
    VOUCHER,
)
from schema.base import Actor, Info, Node, lazy, resolved
from schema.inputs import register_enum

EventType = event_type_enum()
register_enum(EventType)
for _value in EventType.__strawberry_definition__.values:  # type: ignore[attr-defined]
    _value.description = (event_types()[_value.value].__doc__ or "").split("\n\n")[0]
register_enum(Vocabulary)

VocabularyArgument = Annotated[
    Vocabulary, strawberry.argument(description="The words of the wire: EN or ID.")
]
_REFERENCES: dict[str, tuple[Any, Any]] = {
    "voucher": (VOUCHER, lazy("Voucher", "vouchers")),
    "reward": (REWARD, lazy("Reward", "cards")),
    "operation": (OPERATION, lazy("Operation", "cards")),
    "ticket": (LOTTERY_TICKET, lazy("LotteryTicket", "lotteries")),
}
"""What an `…_id` of an event leads to."""


@strawberry.type(description="Stampwire itself: what time causes.")
class System(Actor):
    """It has no id."""

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003 -- graphql-core passes it
        """The one value of this type."""
        return isinstance(value, System)


@strawberry.interface(
    description="Something that happened. Its own fields and its payload are facts of the moment; "
    "objects reached through it are as they are now."
)
class Event(Node):
    """What all of them share."""

    type: EventType = strawberry.field(description="What happened.")  # type: ignore[valid-type]
    sequence: int = strawberry.field(
        description="Its place in the log of the business, from 1, without gaps."
    )
    cursor: str = strawberry.field(
        description="Its place as a cursor, for `after:` in queries, subscriptions and endpoints."
    )
    occurred_at: datetime = strawberry.field(description="When it happened.")

    @strawberry.field(description="Who caused it.")
    async def actor(self, info: Info) -> Actor | None:
        """A staff login, a point of sale, or the system."""
        actor_id = self.actor_id  # type: ignore[attr-defined]
        if actor_id is None:
            return System(id=None, name="Stampwire")
        if prefix_of(actor_id) == "pos":
            return await info.context.one(POINT_OF_SALE, actor_id)  # type: ignore[return-value]
        return await info.context.one(STAFF, actor_id)  # type: ignore[return-value]

    @strawberry.field(description="Where it happened; null for the system.")
    async def location(self, info: Info) -> lazy("Location", "businesses") | None:  # type: ignore[valid-type]
        """As it is now."""
        return await info.context.one(LOCATION, self.location_id)  # type: ignore[attr-defined]

    @strawberry.field(description="Whom it happened to.")
    async def customer(self, info: Info) -> lazy("Customer", "customers") | None:  # type: ignore[valid-type]
        """As they are now."""
        return await info.context.one(CUSTOMER, self.customer_id)  # type: ignore[attr-defined]

    @strawberry.field(description="The card it happened on.")
    async def card(self, info: Info) -> lazy("Card", "cards") | None:  # type: ignore[valid-type]
        """As it is now."""
        return await info.context.one(CARD, self.card_id)  # type: ignore[attr-defined]

    @strawberry.field(description="1-based position of the goal it concerns, if any.")
    def goal_index(self) -> int | None:
        """A fact of the moment."""
        card = facts(self).card
        return card.goal_index if card else None

    @strawberry.field(description="The body as webhooks carry it: exactly the text that is signed.")
    def payload(self, vocabulary: VocabularyArgument = Vocabulary.EN) -> str:
        """The stored text, in the vocabulary asked for."""
        return payload(self.body, vocabulary)  # type: ignore[attr-defined]

    @strawberry.field(description="The same as JSON.")
    def data(self, vocabulary: VocabularyArgument = Vocabulary.EN) -> JSON:
        """The payload, parsed."""
        return cast("JSON", orjson.loads(payload(self.body, vocabulary)))  # type: ignore[attr-defined]


def facts(row: Any) -> EventClass:
    """What a recorded event tells; parsed once per row."""
    known = row.__dict__.get("_facts")
    if known is None:
        known = row.__dict__["_facts"] = read_event(row)
    return cast("EventClass", known)


def _event_type(kind: type[EventClass]) -> Any:
    fields: dict[str, Any] = {}
    for name in kind.subject_fields():
        fields |= _subject_fields(name, kind.model_fields[name])
    for name, value in vars(kind).items():
        if isinstance(value, property) and value.fget is not None:
            returns = get_type_hints(value.fget)["return"]
            fields[name] = _fact(
                lambda row, name=name: getattr(facts(row), name), returns, value.__doc__ or ""
            )
    made = type(kind.__name__, (Event,), {"__annotations__": {}, **fields})
    made.is_type_of = classmethod(  # type: ignore[attr-defined]
        lambda _, row, __: isinstance(row, models.EventRow) and row.type == kind.type
    )
    return strawberry.type(made, description=kind.__doc__)


def _subject_fields(name: str, field: Any) -> dict[str, Any]:
    """The fields by which GraphQL shows one field of an event's class."""
    part = field.annotation
    if not (isinstance(part, type) and issubclass(part, Part)):
        return {name: _fact(lambda row: getattr(facts(row), name), part, field.description)}
    if issubclass(part, Reference):
        relation, type_ = _REFERENCES[name]
        return {
            name: _reference(
                lambda row: getattr(facts(row), name).id, relation, type_, part.__doc__
            )
        }
    if "id" in part.model_fields:
        return {name: _fact(lambda row: getattr(facts(row), name), part, part.__doc__)}
    shown: dict[str, Any] = {}
    for inner, told in part.model_fields.items():
        noun = inner.removesuffix("_id")
        if noun != inner and noun in _REFERENCES:
            relation, type_ = _REFERENCES[noun]
            shown[noun] = _reference(
                lambda row, inner=inner: getattr(getattr(facts(row), name), inner),
                relation,
                type_,
                told.description,
            )
        else:
            shown[inner] = _fact(
                lambda row, inner=inner: getattr(getattr(facts(row), name), inner),
                told.annotation,
                told.description,
            )
    return shown


def _fact(read: Any, annotation: Any, description: str | None) -> Any:
    async def resolve(root: Any, info: Info) -> Any:  # noqa: ARG001 -- Strawberry's shape
        return read(root)

    return resolved(resolve, _graphql(annotation), description or "")


def _reference(read: Any, relation: Any, type_: Any, description: str | None) -> Any:
    async def resolve(root: Any, info: Info) -> Any:
        return await info.context.one(relation, read(root))

    return resolved(resolve, type_ | None, description or "")


_parts: dict[type[Part], Any] = {}


def _graphql(annotation: Any) -> Any:
    """An annotation of the catalogue in GraphQL's types."""
    arguments = getattr(annotation, "__args__", ())
    for item in (annotation, *arguments):
        if isinstance(item, type) and issubclass(item, Enum):
            register_enum(item)
        if isinstance(item, type) and issubclass(item, Part):
            return _part_type(item)
    return annotation


def _part_type(part: type[Part]) -> Any:
    """An object type for a part that is no noun of its own."""
    if part not in _parts:
        fields = {
            name: (_graphql(field.annotation), strawberry.field(description=field.description))
            for name, field in part.model_fields.items()
        }
        made = type(
            part.__name__.replace("Part", "Facts"),
            (),
            {
                "__annotations__": {name: kind for name, (kind, _) in fields.items()},
                **{name: shown for name, (_, shown) in fields.items()},
            },
        )
        made.is_type_of = classmethod(lambda _, value, __: isinstance(value, part))  # type: ignore[attr-defined]
        _parts[part] = strawberry.type(made, description=part.__doc__)
    return _parts[part]


LotteryResult = _part_type(catalogue.LotteryResult)
event_graphql_types = [_event_type(kind) for kind in event_types().values()]


@strawberry.type(description="An example of an event.")
class EventSample:
    """What a receiver of this type can expect."""

    payload: str = strawberry.field(description="The body, as it would be signed.")
    data: JSON = strawberry.field(description="The same as JSON.")

    @classmethod
    def of(cls, text: str) -> "EventSample":
        """The sample with this body."""
        return cls(payload=text, data=cast("JSON", orjson.loads(text)))
