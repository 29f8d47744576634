"""The events as no-code tools are told of them: names, descriptions, samples."""

from datetime import UTC, datetime

import orjson

from events import Event, event_types
from events.log import sample_body

_AT = datetime(2026, 5, 11, 12, 34, 56, tzinfo=UTC)


def the_events_for_zapier() -> str:
    """One entry for each event, from which the Zapier app makes a trigger."""
    told = [_entry(name, kind) for name, kind in event_types().items()]
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n"


def _entry(name: str, kind: type[Event]) -> dict[str, object]:
    first = (kind.__doc__ or "").strip().split("\n", maxsplit=1)[0]
    happens = first.partition(". ")[0].rstrip(".")
    sample = orjson.loads(sample_body(kind, "b_01jwsample0000000000000000", _AT))
    return {
        "type": name,
        "name": name.upper(),
        "label": name.replace("_", " ").title(),
        "noun": name.partition("_")[0].title(),
        "description": f"Triggers when {happens[0].lower()}{happens[1:]}.",
        "sample": {**sample, "id": "evt_01jwsample0000000000000000"},
    }
