"""Staff, their sessions, and the actor that performs a call."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlmodel import Field

from models.access_tokens import AccessToken
from models.api_keys import ApiKey
from models.base import Row, UtcTimestamp, words
from models.businesses import Business
from models.points_of_sale import PointOfSale


class Role(StrEnum):
    """What a staff login may do.

    OWNER: everything, also settings, staff and API keys.
    MANAGER: the daily business, templates, campaigns and locations.
    SCANNER: serves customers: issues cards, adds stamps, redeems vouchers.
    """

    OWNER = "owner"
    MANAGER = "manager"
    SCANNER = "scanner"


class ScannerMode(StrEnum):
    """How a scanning point works.

    MANUAL: a person scans and confirms.
    SELF_SERVICE_KIOSK: customers scan by themselves.
    AUTOPILOT: every scan adds a stamp without a confirmation.
    """

    MANUAL = "manual"
    SELF_SERVICE_KIOSK = "self_service_kiosk"
    AUTOPILOT = "autopilot"


class StaffStatus(StrEnum):
    """Whether a staff login can be used.

    ACTIVE: it can be used.
    DISABLED: somebody disabled it: its key and sessions open no door.
    """

    ACTIVE = "active"
    DISABLED = "disabled"


class Staff(Row, table=True):
    """One login: a person or a workstation, one seat, one scanning point."""

    prefix: ClassVar[str] = "st"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    location_id: str | None = Field(default=None, foreign_key="location.id")
    name: str
    login: str = Field(unique=True)
    password_digest: str
    role: Role = Field(sa_type=words(Role))
    mode: ScannerMode = Field(default=ScannerMode.MANUAL, sa_type=words(ScannerMode))
    created_at: datetime = Field(sa_type=UtcTimestamp)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    disabled_by: str | None = None

    @property
    def status(self) -> StaffStatus:
        """ACTIVE until somebody disables it."""
        return StaffStatus.ACTIVE if self.disabled_at is None else StaffStatus.DISABLED


class Session(Row, table=True):
    """A staff login signed in with its password."""

    prefix: ClassVar[str] = "ses"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    staff_id: str = Field(foreign_key="staff.id", index=True)
    digest: str = Field(unique=True)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime = Field(sa_type=UtcTimestamp)
    ended_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    address: str | None = None
    """The beginning of the address it was opened from; never the whole of it."""
    program: str | None = None
    """The kind of program it was opened with, such as `Firefox`."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who performs a call: a staff login (by key or session), a till, or the system itself."""

    business: Business
    staff: Staff | None = None
    api_key: ApiKey | None = None
    session: Session | None = None
    token: AccessToken | None = None
    """Set where the call came with an access token: then it reads, and only within its scope.

    `api_key` or `session` is then what issued the token.
    """
    secret_digest: str | None = None
    """What is stored of the secret the call came with."""
    point_of_sale: PointOfSale | None = None
    """Set where a till acts: it has no staff login, and a location of its own."""

    @property
    def business_id(self) -> str:
        """The business in which the actor acts; it sees no other."""
        return self.business.id

    @property
    def staff_id(self) -> str | None:
        """The staff login, None for the system."""
        return self.staff.id if self.staff else None

    @property
    def session_id(self) -> str | None:
        """The session of this call, None if it came with a key."""
        return self.session.id if self.session else None

    @property
    def location_id(self) -> str | None:
        """Where the actor works."""
        at = self.staff or self.point_of_sale
        return at.location_id if at else None

    @property
    def role(self) -> Role | None:
        """The staff login's role, None for the system."""
        return self.staff.role if self.staff else None

    @property
    def connector_id(self) -> str | None:
        """The till that acts, None for people and the system."""
        return self.point_of_sale.id if self.point_of_sale else None

    @property
    def id(self) -> str:
        """Whose idempotency keys these are."""
        return self.named_id or "system"

    @property
    def named_id(self) -> str | None:
        """The staff login or till, None for the system: who is named as the cause of an event."""
        named = self.staff or self.point_of_sale
        return named.id if named else None
