"""Access tokens: what an app or a browser may carry in place of a staff key."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp


class Reach(StrEnum):
    """What a token is for.

    CARD: one card, as the phone of its holder may see it.
    EVENTS: the events of a filter, as an app may follow them.
    """

    CARD = "card"
    EVENTS = "events"


class AccessToken(Row, table=True):
    """Read-only, within a forced filter, for a day at most; it dies with whatever issued it.

    `scope` is `{"card": "card_…"}` or `{"events": {"types": […], "location_ids": […], …}}`. The
    issuer's digest, role and location are those of the moment: once they are others, it is dead.
    """

    __tablename__ = "access_token"
    prefix: ClassVar[str] = "tok"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id", index=True)
    api_key_id: str | None = None
    session_id: str | None = None
    issuer_digest: str
    role: str
    location_id: str | None = None
    digest: str = Field(unique=True)
    scope: dict[str, Any] = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime = Field(sa_type=UtcTimestamp)

    @property
    def reach(self) -> Reach:
        """What it is for."""
        return Reach.CARD if "card" in self.scope else Reach.EVENTS

    @property
    def card_id(self) -> str | None:
        """The one card it shows."""
        return self.scope.get("card")

    @property
    def events(self) -> dict[str, list[str]]:
        """The lists that every event it shows must match; an absent one asks nothing."""
        return self.scope.get("events") or {}

    @property
    def authority(self) -> str:
        """Two tokens of one business with the same authority see the same."""
        return json.dumps(self.scope, sort_keys=True)
