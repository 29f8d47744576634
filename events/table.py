"""The log as a table: events laid flat for spreadsheets and whatever else reads CSV.

A column for each place in a body, named by the path to it (`voucher.redeem_code`). First come
those that every type has, then the others in the order of the catalogue: the columns follow from
the catalogue alone, never from what happened to happen. Lists are joined by `|`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from events.base import event_types
from events.log import sample_body
from events.vocabulary import payload
from models import Vocabulary

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # fmt: skip


@cache
def columns(vocabulary: Vocabulary) -> list[str]:
    """The names of the columns, in their order."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    samples = [
        list(dict(_places(orjson.loads(payload(sample_body(kind, "", at), vocabulary)))))
        for kind in event_types().values()
    ]
    shared = [name for name in samples[0] if all(name in names for names in samples)]
    others = [name for names in samples for name in names if name not in shared]
    return [*shared, *dict.fromkeys(others)]


def cells(text: str, vocabulary: Vocabulary) -> list[str]:
    """An event's body as one line of the table; what its type does not have stays empty."""
    told = dict(_places(orjson.loads(text)))
    return [_cell(told.get(name)) for name in columns(vocabulary)]


def _places(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _places(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _cell(value: Any) -> str:
    """A cell's text; a text that a spreadsheet would take for a formula gets a `'` before it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = "|".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
