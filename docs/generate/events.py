"""events.md: every event class, its fields, and a sample in both vocabularies."""

from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, get_args, get_origin

import orjson
from pydantic import BaseModel

from docs.generate.shared import NOTE, events_of, every_operation, listed, said, sample_of, table
from events import Event, event_types, to_indonesian
from events.base import Part
from events.vocabulary import CARD_KEYS, EVENTS, KEYS, ROUTES, STATUSES, VOUCHER_KEYS


def the_events() -> str:
    """Every event class: when it fires, its fields, a sample in both vocabularies."""
    kinds = event_types()
    parts = [
        NOTE,
        "# Events",
        (
            "An event is something that happened. Webhook bodies, the `payload` of the GraphQL "
            "journal and the `payload` of subscriptions are the same text. Each event exists in "
            "two vocabularies: **EN**, and **ID**, the words of the reference text. A business "
            "chooses its default, an endpoint may choose its own, and `payload(vocabulary:)` asks "
            "for either. [glossary.md](glossary.md) tells how events follow one another."
        ),
        table(
            ("EN", "ID", "Fires"),
            [
                (f"[`{name}`](#{name})", f"`{EVENTS.get(name, name)}`", said(kind))
                for name, kind in kinds.items()
            ],
        ),
        "## The envelope",
        (
            "Every body begins with these keys, in this order. The keys of the event's own subject "
            "stand between `card` and `id`. No body holds a name, an e-mail address or a phone "
            "number, unless an endpoint was made with `includeContact`."
        ),
        table(("EN", "ID", "Type", "Meaning"), list(_envelope())),
        "## The words that are translated",
        (
            "The table is closed: nothing else differs between the vocabularies. The name of the "
            "event is translated as above, these keys and values as below."
        ),
        table(("Where", "EN", "ID"), list(_words())),
        *(_event(kind) for kind in kinds.values()),
    ]
    return "\n\n".join(parts) + "\n"


def _envelope() -> Iterator[tuple[str, ...]]:
    text, number = "text", "number"
    rows = [
        ("event", text, "The event's name; see the table above."),
        ("timestamp", text, "When it happened: UTC, whole seconds, ending in `Z`."),
        ("business_id", text, "The business."),
        *_fields(Event, ("location_id", "customer", "card")),
        ("…", "", "The subject: one object, or more, by event."),
        ("id", text, "The event's id; webhooks carry it as `webhook-id` too."),
        ("sequence", number, "Its place in the log of the business, from 1, without gaps."),
        ("api_version", text, "The version of this body."),
        ("staff_id", "text or null", "Who caused it; null for the system itself."),
    ]
    for name, kind, meaning in rows:
        shown = f"`{name}`" if name != "…" else name
        yield shown, f"`{_in_indonesian(name)}`" if name != "…" else name, kind, meaning


def _words() -> Iterator[tuple[str, ...]]:
    tables = {
        "key": KEYS,
        "key in `card`": CARD_KEYS,
        "key in `voucher`": VOUCHER_KEYS,
        "value of `voucher.status`": STATUSES,
        "value of `voucher.redeemed_via`": ROUTES,
    }
    for where, words in tables.items():
        for english, indonesian in words.items():
            yield where, f"`{english}`", f"`{indonesian}`"


def _event(kind: type[Event]) -> str:
    english = _pretty(sample_of(kind))
    indonesian = _pretty(to_indonesian(sample_of(kind)))
    everywhere = set(_fields(Event, tuple(Event.model_fields)))
    own = [row for row in _fields(kind, _own_fields(kind)) if row not in everywhere]
    parts = [
        f"## {kind.type}",
        (
            f"`{EVENTS.get(kind.type, kind.type)}` · GraphQL `{kind.__name__}`, "
            f"`EventType.{kind.type.upper()}`"
        ),
        f"{said(kind)} {_caused_by(kind)}",
        table(
            ("EN", "ID", "Type", "Meaning"),
            [(f"`{name}`", f"`{_in_indonesian(name)}`", *rest) for name, *rest in own],
        ),
        _side_by_side(english, indonesian),
    ]
    return "\n\n".join(parts)


def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    """What a type says beyond every other: its subject, and a card part of its own."""
    changed = kind.model_fields["card"].annotation != Event.model_fields["card"].annotation
    return (*(("card",) if changed else ()), *kind.subject_fields())


def _caused_by(kind: type[Event]) -> str:
    names = [
        f"`{name}`" for name, operation in every_operation().items() if kind in events_of(operation)
    ]
    return f"Fired by {listed(names)}." if names else "No mutation fires it."


def _fields(model: type[BaseModel], names: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Each field as (path, type, meaning), parts opened."""
    for name in names:
        field = model.model_fields[name]
        part = _part_of(field.annotation)
        if part is None:
            yield name, _type(field.annotation), field.description or ""
            continue
        for path, kind, meaning in _fields(part, tuple(part.model_fields)):
            yield f"{name}.{path}", kind, meaning


def _part_of(annotation: Any) -> type[Part] | None:
    kinds = (annotation, *get_args(annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Part)), None)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if type(None) in arguments:
        [kind] = [item for item in arguments if item is not type(None)]
        return f"{_type(kind)} or null"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " · ".join(f"`{member.value}`" for member in annotation)
    names = {str: "text", int: "number", bool: "`true` · `false`", Decimal: "decimal as text"}
    return names[annotation]


def _in_indonesian(path: str) -> str:
    first, _, rest = path.partition(".")
    inner = {"card": CARD_KEYS, "voucher": VOUCHER_KEYS}.get(first, {})
    return KEYS.get(first, first) + (f".{inner.get(rest, rest)}" if rest else "")


def _pretty(body: str) -> str:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()


def _side_by_side(english: str, indonesian: str) -> str:
    cells = "\n\n</td><td>\n\n".join(f"```json\n{body}\n```" for body in (english, indonesian))
    return f"<table><tr><th>EN</th><th>ID</th></tr><tr><td>\n\n{cells}\n\n</td></tr></table>"
