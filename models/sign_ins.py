"""Signing in: where staff signed in before, who guesses too much, and passwords to be set anew."""

from datetime import datetime

from sqlmodel import Field

from models.base import Row, UtcTimestamp


class KnownPlace(Row, table=True):
    """A place from which a staff login signed in: nothing but a keyed digest, kept for 90 days."""

    __tablename__ = "known_place"

    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(primary_key=True, foreign_key="staff.id")
    digest: str = Field(primary_key=True)
    seen_at: datetime = Field(sa_type=UtcTimestamp)


class PasswordReset(Row, table=True):
    """A secret that was mailed to the holder of a staff login: it sets a new password, once."""

    __tablename__ = "password_reset"

    digest: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id", index=True)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime = Field(sa_type=UtcTimestamp)
    used_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)


class Throttle(Row, table=True):
    """How often something was tried in vain: of whom is known by a keyed digest alone.

    It belongs to no business, for who signs in may be nobody's.
    """

    key: str = Field(primary_key=True)
    failures: int
    last_at: datetime = Field(sa_type=UtcTimestamp)
    until: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """Before then nobody tries again."""
