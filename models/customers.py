"""Customers, and what they agreed to."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar, Self

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from models.base import Row, UtcTimestamp, words


class Channel(StrEnum):
    """A way to reach a customer.

    PUSH: a notification of the wallet pass.
    EMAIL: an e-mail.
    MESSENGERS: a message in a messenger, by a connected provider.
    """

    PUSH = "push"
    EMAIL = "email"
    MESSENGERS = "messengers"


@dataclass(frozen=True, slots=True)
class Birthday:
    """A day of the year, with the year where the customer told it."""

    month: int
    day: int
    year: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1990-02-28`, or `--02-28` without the year. ValueError for anything else."""
        match = re.fullmatch(r"(\d{4}-|--)(\d{2})-(\d{2})", text)
        if match is None:
            raise ValueError(text)
        year = None if match[1] == "--" else int(match[1][:4])
        month, day = int(match[2]), int(match[3])
        days = (
            calendar.monthrange(2000 if year is None else year, month)[1] if 0 < month < 13 else 0
        )
        if not 0 < day <= days or (year is not None and year < 1900):
            raise ValueError(text)
        return cls(month, day, year)

    def __str__(self) -> str:
        year = "-" if self.year is None else f"{self.year:04}"
        return f"{year}-{self.month:02}-{self.day:02}"


def birthdays_on(day: date) -> tuple[int, int, int]:
    """Which birthdays are kept on this day: their month, the first and the last day of it.

    29 February is kept on the 28th where there is no 29th.
    """
    is_for_two = (day.month, day.day) == (2, 28) and not calendar.isleap(day.year)
    return day.month, day.day, 29 if is_for_two else day.day


class Customer(Row, table=True):
    """Somebody who collects; e-mail and phone are unique within the business."""

    prefix: ClassVar[str] = "c"
    __table_args__ = (
        UniqueConstraint("business_id", "email"),
        UniqueConstraint("business_id", "phone"),
        Index("customer_birthday", "business_id", "birth_month", "birth_day"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    birth_year: int | None = None
    birth_month: int | None = None
    birth_day: int | None = None
    birthday_changed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    language: str
    created_at: datetime = Field(sa_type=UtcTimestamp)
    last_activity_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    erased_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    erased_by_id: str | None = None
    merged_into: str | None = Field(default=None, index=True)
    merged_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    merged_by_id: str | None = None

    @property
    def birthday(self) -> str | None:
        """`1990-02-28`, `--02-28` where the year is not known, None where nothing is."""
        if self.birth_month is None or self.birth_day is None:
            return None
        return str(Birthday(self.birth_month, self.birth_day, self.birth_year))


class Consent(Row, table=True):
    """What a customer last said about being written to on one channel."""

    __table_args__ = (
        UniqueConstraint("customer_id", "channel"),
        Index("consent_of_customer", "business_id", "customer_id"),
    )
    prefix: ClassVar[str] = "con"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    customer_id: str = Field(foreign_key="customer.id")
    channel: Channel = Field(sa_type=words(Channel))
    granted: bool
    at: datetime = Field(sa_type=UtcTimestamp)
    staff_id: str | None = None
