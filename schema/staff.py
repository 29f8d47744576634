"""Staff and their API keys, as GraphQL shows them."""

from datetime import UTC, datetime

import strawberry

import models
import resolvers.staff
from models.relations import CARD, KEY_OF_STAFF, LOCATION, STAFF
from schema.base import Actor, Info, Node, lazy, related, represents
from schema.businesses import Business, Location
from schema.inputs import register_enum
from schema.sessions import Session
from services.velocity import StaffVelocity as Velocity

for _kind in (models.Role, models.StaffStatus, models.ScannerMode, models.ApiKeyStatus):
    register_enum(_kind)


@represents(models.Staff)
@strawberry.type(description="One login: a person or a workstation, one scanning point.")
class Staff(Actor, Node):
    """An actor."""

    id: strawberry.ID = strawberry.field(description="The global id.")
    name: str = strawberry.field(description="What people call it.")
    login: str = strawberry.field(description="What it signs in with; unique everywhere.")
    role: models.Role = strawberry.field(description="What it may do.")
    status: models.StaffStatus = strawberry.field(description="Whether it can be used.")
    mode: models.ScannerMode = strawberry.field(description="How the scanning point works.")
    created_at: datetime = strawberry.field(description="When it was created.")
    disabled_at: datetime | None = strawberry.field(description="When it was disabled.")
    location = related(LOCATION, "location_id", Location, "Where it works.")
    api_key = related(KEY_OF_STAFF, "id", lazy("ApiKey", "staff"), "Its API key, if it has one.")

    @strawberry.field(
        description="The sessions that are open, newest first, at most 20; null but to itself and "
        "to owners."
    )
    async def sessions(self, info: Info) -> list[Session] | None:
        """Where it is signed in."""
        return await resolvers.staff.open_sessions(info.context, self.id)  # type: ignore[return-value]


@represents(models.ApiKey)
@strawberry.type(description="An API key: bound to one staff login, acting as it.")
class ApiKey(Node):
    """Never the key itself."""

    name: str = strawberry.field(description="What people call it; at first the staff's name.")
    hint: str = strawberry.field(description="The last four characters, to tell it by.")
    created_at: datetime = strawberry.field(description="When it was generated.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to the minute."
    )
    regenerated_at: datetime | None = strawberry.field(description="When it was regenerated.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    staff = related(STAFF, "staff_id", Staff, "The staff login it acts as.")

    @strawberry.field(description="Whether it can be used.")
    def status(self, info: Info) -> models.ApiKeyStatus:
        """EXPIRED once its end has passed, LEAKED where that is why."""
        if self.leaked_at is not None:  # type: ignore[attr-defined]
            return models.ApiKeyStatus.LEAKED
        now = info.context.deployment.clock.now().astimezone(UTC)
        if self.expires_at is not None and now >= self.expires_at:
            return models.ApiKeyStatus.EXPIRED
        return models.ApiKeyStatus.ACTIVE

    @strawberry.field(description="The login of its staff.")
    async def login(self, info: Info) -> str | None:
        """Read through the staff."""
        staff = await info.context.one(STAFF, self.staff_id)  # type: ignore[attr-defined]
        return staff.login if staff else None


@represents(Velocity)
@strawberry.type(
    description="How fast a staff login gave stamps in a window of time. Many stamps on one card, "
    "or far more than the others gave, are worth a question."
)
class StaffVelocity:
    """Undone stamps count in `voided` alone."""

    operations: int = strawberry.field(description="Stamp operations in force.")
    voided: int = strawberry.field(description="Stamp operations that were undone since.")
    stamps: int = strawberry.field(description="Stamps given.")
    cards: int = strawberry.field(description="Cards that got them.")
    busiest_share: float = strawberry.field(
        description="The part of the stamps that went to one card, 0–1."
    )
    staff = related(STAFF, "staff_id", Staff, "The staff login.")
    busiest_card = related(
        CARD, "busiest_card_id", lazy("Card", "cards"), "The card that got the most."
    )


@strawberry.type(description="Who is calling.")
class Viewer:
    """The caller's own view of itself."""

    actor: Staff = strawberry.field(description="The staff login that acts.")
    business: Business = strawberry.field(description="The business it acts in.")
    api_key: ApiKey | None = strawberry.field(description="The key it called with, if any.")
