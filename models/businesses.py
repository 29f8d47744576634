"""The business (the tenant) and the head of its event log."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger
from sqlmodel import Field

from models.base import Row, UtcTimestamp, words


class Mode(StrEnum):
    """Whether a business is real.

    LIVE: a real business.
    TEST: for trying out; its clock can be moved.
    """

    LIVE = "live"
    TEST = "test"


class Vocabulary(StrEnum):
    """The words in which an event's body is written.

    EN: English keys and words.
    ID: Indonesian keys and words, as in the reference text.
    """

    EN = "en"
    ID = "id"


class Business(Row, table=True):
    """A tenant: nothing crosses its border."""

    prefix: ClassVar[str] = "b"

    id: str = Field(primary_key=True)
    name: str
    logo_url: str | None = None
    timezone: str
    default_language: str = "en"
    currency: str
    mode: Mode = Field(default=Mode.LIVE, sa_type=words(Mode))
    vocabulary: Vocabulary = Field(default=Vocabulary.ID, sa_type=words(Vocabulary))
    plan: str = "free"
    event_retention_days: int | None = None
    clock_offset: int = 0
    created_at: datetime = Field(sa_type=UtcTimestamp)

    @property
    def zone(self) -> ZoneInfo:
        """The timezone in which this business has its days."""
        return ZoneInfo(self.timezone)

    def time(self, now: datetime) -> datetime:
        """The programme's time: a TEST business's clock may have been moved forward."""
        return now + timedelta(seconds=self.clock_offset) if self.clock_offset else now

    def real_time(self, now: datetime) -> datetime:
        """The world's time at a moment of the programme's: security goes by it."""
        return now - timedelta(seconds=self.clock_offset) if self.clock_offset else now


class LogHead(Row, table=True):
    """How far a business's log reaches, and the version of who may see it.

    Both numbers are bumped under this row's lock, last in their transaction: so sequence numbers
    appear in the order of commits, without gaps.
    """

    __tablename__ = "log_head"

    business_id: str = Field(primary_key=True, foreign_key="business.id")
    sequence: int = Field(default=0, sa_type=BigInteger)
    access_version: int = 0
    pruned_sequence: int = Field(default=0, sa_type=BigInteger)
    """Up to here retention has thrown the log away."""
    pruned_until: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """The latest moment at which anything happened that was thrown away with it."""
