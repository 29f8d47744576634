"""The event log: one row for everything that happened, gapless in each business."""

import base64
from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from core.errors import BadUserInput
from models.base import Row, UtcTimestamp


class EventRow(Row, table=True):
    """An event as it was recorded.

    `body` is the English wire text; the other vocabulary follows from it. `actor_id` is the staff
    login, the connector, or None for the system itself.
    """

    __tablename__ = "event"
    prefix: ClassVar[str] = "evt"
    __table_args__ = (
        Index("event_of_card", "card_id", "sequence"),
        Index("event_by_type", "business_id", "type", "sequence"),
        Index("event_by_time", "business_id", "occurred_at"),
    )

    business_id: str = Field(foreign_key="business.id", primary_key=True)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)
    id: str = Field(unique=True)
    type: str
    occurred_at: datetime = Field(sa_type=UtcTimestamp)
    actor_id: str | None = None
    location_id: str | None = None
    customer_id: str | None = None
    card_id: str | None = None
    body: str

    @property
    def cursor(self) -> str:
        """The place in the log, for `after:` in queries, subscriptions and endpoints."""
        return encode_cursor(self.sequence)


def encode_cursor(sequence: int) -> str:
    """A place in the log as an opaque text."""
    return base64.urlsafe_b64encode(f"evt:{sequence}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """The place in the log that a cursor names. BadUserInput for anything we did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        kind, number = base64.urlsafe_b64decode(padded).decode().split(":")
        if kind == "evt" and number.isdecimal() and len(number) < 19:
            return int(number)
    except ValueError:
        pass
    raise BadUserInput("This is not a cursor of the event log.")
