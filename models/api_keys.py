"""API keys: one per staff login, acting as it."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlmodel import Field

from models.base import Row, UtcTimestamp


class ApiKeyStatus(StrEnum):
    """Whether a key can be used.

    ACTIVE: it opens the door.
    EXPIRED: its time has passed; regenerate it.
    LEAKED: it was found in public, and disabled at once; regenerate it.
    """

    ACTIVE = "active"
    EXPIRED = "expired"
    LEAKED = "leaked"


class ApiKey(Row, table=True):
    """A key; only its digest is kept, and its last four characters to tell it by.

    After a regeneration with an overlap the former digest is good until `former_until`. A key
    that was found in public has ended by `expires_at`; `leaked_at` says why.
    """

    __tablename__ = "api_key"
    prefix: ClassVar[str] = "key"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id", unique=True)
    name: str
    hint: str
    digest: str = Field(unique=True)
    former_digest: str | None = Field(default=None, unique=True)
    former_until: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    regenerated_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    leaked_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)

    def is_good(self, digest: str, now: datetime) -> bool:
        """Whether a secret of this digest opens the door now."""
        if self.expires_at is not None and now >= self.expires_at:
            return False
        if digest == self.digest:
            return True
        return (
            digest == self.former_digest
            and self.former_until is not None
            and now < self.former_until
        )
