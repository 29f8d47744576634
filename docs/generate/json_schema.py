"""specs/json-schema: what a body of each event looks like, in each vocabulary (2020-12).

A consumer is to ignore keys it does not know: more may come, so none is forbidden here.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, create_model
from pydantic.config import JsonDict

from docs.generate.shared import line, sample_of
from events import Event, event_types, payload
from events.vocabulary import CARD_KEYS, EVENTS, KEYS, ROUTES, STATUSES, VOUCHER_KEYS
from models import Vocabulary

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ORDER = ("title", "description", "type", "properties", "required", "$defs", "examples")
_REF = "#/$defs/"
_OPTIONAL = "contact"
_MOMENT: JsonDict = {"format": "date-time"}


class Contact(BaseModel):
    """Who it is, as far as the customer consented to be written to."""

    name: str | None = Field(description="What they are called.")
    email: str | None = Field(description="Null without consent to mail.")
    phone: str | None = Field(description="Null without consent to messengers.")


def the_json_schemas() -> Mapping[str, str]:
    """A file for each event, and one for any of them, in a folder for each vocabulary."""
    return dict(_files())


def _files() -> Iterator[tuple[str, str]]:
    for vocabulary in Vocabulary:
        folder = vocabulary.name.lower()
        names = [word_of(kind, vocabulary) for kind in event_types().values()]
        for name, kind in zip(names, event_types().values(), strict=True):
            schema = schema_of(kind, vocabulary)
            in_order = {word: schema[word] for word in _ORDER}
            yield f"{folder}/{name}.json", pretty({"$schema": _DIALECT, **in_order})
        any_of_them = {
            "$schema": _DIALECT,
            "title": "Event",
            "description": f"Any event, in the vocabulary {vocabulary.name}.",
            "oneOf": [{"$ref": f"{name}.json"} for name in names],
        }
        yield f"{folder}/event.json", pretty(any_of_them)


def word_of(kind: type[Event], vocabulary: Vocabulary) -> str:
    """What an event is called on the wire."""
    return EVENTS.get(kind.type, kind.type) if vocabulary is Vocabulary.ID else kind.type


@cache
def schema_of(kind: type[Event], vocabulary: Vocabulary) -> dict[str, Any]:
    """The JSON Schema of an event's body, its parts in `$defs`, with a sample."""
    made = _tidy(_wire_model(kind).model_json_schema(mode="serialization"))
    if vocabulary is Vocabulary.ID:
        _translate(made)
        made["properties"]["event"]["const"] = word_of(kind, vocabulary)
    made["examples"] = [orjson.loads(payload(sample_of(kind), vocabulary))]
    return made


def pretty(value: Any) -> str:
    """JSON as people read it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def _wire_model(kind: type[Event]) -> type[BaseModel]:
    """The body as it goes over the wire, keys in their order."""
    own = {name: kind.model_fields[name] for name in kind.subject_fields()}
    shared = {name: kind.model_fields[name] for name in Event.model_fields}
    fields: dict[str, Any] = {
        "event": (Literal[kind.type], Field(description="The event's name.")),
        "timestamp": (
            str,
            Field(description="When it happened: UTC.", json_schema_extra=_MOMENT),
        ),
        "business_id": (str, Field(description="The business.")),
        **{name: (field.annotation, field) for name, field in (shared | own).items()},
        "id": (str, Field(description="The event's id; webhooks carry it as `webhook-id` too.")),
        "sequence": (
            int,
            Field(
                ge=0,
                description="Its place in the log, from 1, without gaps; 0 for a sample.",
            ),
        ),
        "api_version": (str, Field(description="The version of this body.")),
        "staff_id": (str | None, Field(description="Who caused it; null for the system itself.")),
        _OPTIONAL: (
            Contact,
            Field(description="Only for endpoints with `includeContact`, and with consent."),
        ),
    }
    return create_model(kind.__name__, __doc__=kind.__doc__, **fields)


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """What the reader needs: every key is there but the optional one, and nothing is forbidden."""
    for made in (schema, *schema["$defs"].values()):
        made.pop("additionalProperties", None)
        if "description" in made:
            made["description"] = line(made["description"])
        if "properties" not in made:
            continue
        made["required"] = [name for name in made["properties"] if name != _OPTIONAL]
        for value in made["properties"].values():
            for word in ("title", "default", "examples"):
                value.pop(word, None)
    return schema


def _translate(schema: dict[str, Any]) -> None:
    """Say it in the words of the reference text."""
    parts, properties = schema["$defs"], schema["properties"]
    for name in _parts_at(properties["card"]):
        _rename(parts[name], CARD_KEYS)
    for name in _parts_at(properties.get("voucher", {})):
        for key, words in (("status", STATUSES), ("redeemed_via", ROUTES)):
            for enum in _parts_at(parts[name]["properties"].get(key, {})):
                parts[enum]["enum"] = [words.get(word, word) for word in parts[enum]["enum"]]
        _rename(parts[name], VOUCHER_KEYS)
    _rename(schema, KEYS)


def _rename(schema: dict[str, Any], names: Mapping[str, str]) -> None:
    schema["required"] = [names.get(name, name) for name in schema["required"]]
    schema["properties"] = {
        names.get(name, name): value for name, value in schema["properties"].items()
    }


def _parts_at(schema: Mapping[str, Any]) -> list[str]:
    """The names of the parts that stand at a property."""
    options = (schema, *schema.get("anyOf", ()))
    return [option["$ref"].removeprefix(_REF) for option in options if "$ref" in option]
