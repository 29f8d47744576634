"""Access tokens: what an app or a browser may carry in place of a staff key."""

from datetime import datetime
from typing import Any, ClassVar

from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp


class AccessToken(Row, table=True):
    """Read-only, within a forced filter, for a day at most; it dies with whatever issued it.

    `scope` is `{"card": "card_…"}` or `{"events": {"types": […], "location_ids": […], …}}`.
    """

    __tablename__ = "access_token"
    prefix: ClassVar[str] = "tok"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id", index=True)
    api_key_id: str | None = None
    session_id: str | None = None
    digest: str = Field(unique=True)
    scope: dict[str, Any] = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime = Field(sa_type=UtcTimestamp)
