"""Our scalars: times in UTC with `Z`, timezones by name, ids as the standard ID."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
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


def read_decimal(text: Any) -> Decimal:
    """A finite number of at most 30 digits, before and behind the point."""
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(text, bool) or not number.is_finite() or not _is_plain(number):
        raise GraphQLError("A Decimal is a plain number, such as 42.50.")
    return number


def _is_plain(number: Decimal) -> bool:
    digits = len(number.as_tuple().digits)
    return digits <= _MOST_DIGITS and abs(number.adjusted()) <= _MOST_DIGITS


scalar_map: dict[object, Any] = {
    Id: DEFAULT_SCALAR_REGISTRY[strawberry.ID],
    ChannelSettings: DEFAULT_SCALAR_REGISTRY[JSON],
    Design: DEFAULT_SCALAR_REGISTRY[JSON],
    Document: DEFAULT_SCALAR_REGISTRY[JSON],
    SettingsDocument: DEFAULT_SCALAR_REGISTRY[JSON],
    TimeZone: strawberry.scalar(
        name="TimeZone",
        description="A timezone of the IANA database, such as `Asia/Jakarta`.",
        specified_by_url="https://www.iana.org/time-zones",
        serialize=str,
        parse_value=str,
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
