"""Watching: the calls that were refused, for owners to look at."""

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field

from models.base import Row, UtcTimestamp


class RefusedCall(Row, table=True):
    """What one staff login tried within an hour, and was refused for one reason; counted.

    It is named by these (see `services.watching`), so that many calls are one row. Nothing of
    what was told in them is kept.
    """

    __tablename__ = "refused_call"
    prefix: ClassVar[str] = "ref"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id")
    mutation: str
    code: str
    count: int = 1
    first_at: datetime = Field(sa_type=UtcTimestamp)
    last_at: datetime = Field(sa_type=UtcTimestamp, index=True)
