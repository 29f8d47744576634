"""The business and its locations, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from schema.base import Info, Node, represents
from schema.inputs import register_enum
from schema.scalars import TimeZone

for _kind in (models.Mode, models.Vocabulary):
    register_enum(_kind)


@represents(models.Business)
@strawberry.type(description="A tenant: nothing crosses its border.")
class Business(Node):
    """The caller's own."""

    name: str = strawberry.field(description="What customers read.")
    logo_url: str | None = strawberry.field(description="The logo's address.")
    mode: models.Mode = strawberry.field(description="LIVE, or TEST with a clock of its own.")
    timezone: TimeZone = strawberry.field(description="The timezone in which it has its days.")
    currency: str = strawberry.field(description="The currency of its amounts (ISO 4217).")
    default_language: str = strawberry.field(description="The language of customers who name none.")
    vocabulary: models.Vocabulary = strawberry.field(
        description="The words of webhook bodies, unless an endpoint says otherwise."
    )
    event_retention_days: int | None = strawberry.field(
        description="How long events are kept, in days; null for ever."
    )
    created_at: datetime = strawberry.field(description="When it was created.")

    @strawberry.field(description="Its present moment: a TEST business may have moved its clock.")
    def now(self, info: Info) -> datetime:
        """The programme's time."""
        now: datetime = self.time(info.context.deployment.clock.now())  # type: ignore[attr-defined]
        return now


@represents(models.Location)
@strawberry.type(description="A place where staff work.")
class Location(Node):
    """A business is born with one."""

    name: str = strawberry.field(description="What people call it.")
    address: str | None = strawberry.field(description="Where it is.")
    latitude: float | None = strawberry.field(description="Degrees north.")
    longitude: float | None = strawberry.field(description="Degrees east.")
    timezone: TimeZone | None = strawberry.field(
        description="Its own timezone, for figures; null means the business's."
    )
    is_active: bool = strawberry.field(description="Whether it is still in use.")
    created_at: datetime = strawberry.field(description="When it was created.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")
