"""Our scalars: times in UTC with `Z`, timezones by name, ids as the standard ID."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON
from strawberry.schema.types.scalar import DEFAULT_SCALAR_REGISTRY

from core.ids import Id
from services.card_templates import Design
from services.channels import ChannelSettings
from services.points_of_sale import SettingsDocument
from services.template_documents import Document

TimeZone = NewType("TimeZone", str)
_MOST_DIGITS = 30
_DEEPEST = 30
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


def write_time(moment: datetime) -> str:
    """RFC 3339 in UTC with `Z`; microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_time(text: Any) -> datetime:
    """A moment with its offset. Refused without one: a local time names no moment."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise GraphQLError("A DateTime is written as in RFC 3339, such as 2026-05-11T12:34:56Z.")


def read_day(text: Any) -> date:
    """A day of the calendar."""
    try:
        if isinstance(text, str) and _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise GraphQLError("A Date is written as 2026-05-11.")


def read_decimal(text: Any) -> Decimal:
    """A finite number of at most 30 digits, before and behind the point."""
    told = "" if isinstance(text, bool) else str(text)
    if _NUMBER.fullmatch(told) and _is_plain(number := Decimal(told)):
        return number
    raise GraphQLError("A Decimal is a plain number, such as 42.50.")


def _is_plain(number: Decimal) -> bool:
    digits = len(number.as_tuple().digits)
    return digits <= _MOST_DIGITS and abs(number.adjusted()) <= _MOST_DIGITS


def read_json(told: Any) -> Any:
    """A value of JSON that whoever looks into it can follow to its end."""
    level: list[Any] = [told]
    for _ in range(_DEEPEST):
        if not level:
            return told
        level = [inner for value in level for inner in _inside(value)]
    raise GraphQLError(f"A JSON value is less than {_DEEPEST} levels deep.")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_JSON = replace(DEFAULT_SCALAR_REGISTRY[JSON], parse_value=read_json)

scalar_map: dict[object, Any] = {
    Id: DEFAULT_SCALAR_REGISTRY[strawberry.ID],
    JSON: _JSON,
    ChannelSettings: _JSON,
    Design: _JSON,
    Document: _JSON,
    SettingsDocument: _JSON,
    TimeZone: strawberry.scalar(
        name="TimeZone",
        description="A timezone of the IANA database, such as `Asia/Jakarta`.",
        specified_by_url="https://www.iana.org/time-zones",
        serialize=str,
        parse_value=str,
    ),
    date: strawberry.scalar(
        name="Date",
        description="A day, written as `2026-05-11`.",
        serialize=date.isoformat,
        parse_value=read_day,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in RFC 3339; in answers always UTC, written with `Z`.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=write_time,
        parse_value=read_time,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description="An exact number, written as a text such as `42.50`.",
        serialize=str,
        parse_value=read_decimal,
    ),
}
