"""Locations: the places of a business."""

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field

from models.base import Row, UtcTimestamp


class Location(Row, table=True):
    """A place where staff work; a business is born with one."""

    prefix: ClassVar[str] = "loc"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    name: str
    address: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    timezone: str | None = None
    created_at: datetime = Field(sa_type=UtcTimestamp)
    archived_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    archived_by: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is still in use."""
        return self.archived_at is None
