"""Webhook endpoints, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
import resolvers.webhook_endpoints
from models import encode_cursor
from models.relations import REPLAYS_OF_ENDPOINT, STAFF
from schema.base import Actor, Info, Node, listed, related, represents
from schema.events import EventType
from schema.inputs import register_enum
from schema.replays import WebhookReplay
from services import listings, webhook_health

register_enum(models.Ordering)
register_enum(models.EndpointStatus)


@represents(webhook_health.Health)
@strawberry.type(description="How an endpoint fares.")
class WebhookHealth:
    """Of its last hundred requests."""

    success_rate: float | None = strawberry.field(
        description="The share that succeeded, 0–1; null before the first."
    )
    last_success_at: datetime | None = strawberry.field(description="The last success.")
    failing_since: datetime | None = strawberry.field(
        description="Since when nothing succeeds; null where all is well."
    )


@represents(webhook_health.Lag)
@strawberry.type(description="How far an endpoint is behind.")
class WebhookLag:
    """Events it is due and has not got."""

    events: int = strawberry.field(description="How many, counted to 10 000.")
    seconds: int = strawberry.field(description="The age of the oldest, in seconds.")


@represents(models.WebhookEndpoint)
@strawberry.type(description="Where a partner receives events, signed.")
class WebhookEndpoint(Node):
    """A cursor over the log."""

    name: str | None = strawberry.field(description="What people call it.")
    url: str = strawberry.field(description="Where requests go.")
    vocabulary: models.Vocabulary = strawberry.field(description="The words of the bodies.")
    ordering: models.Ordering = strawberry.field(description="In which order it is served.")
    include_contact: bool = strawberry.field(
        description="Whether bodies carry contact data of customers who consented."
    )
    document: str | None = strawberry.field(
        description="The GraphQL subscription that shapes its bodies; null for the standard body."
    )
    document_by = related(
        STAFF, "document_by_id", Actor, "Who saved the document: it is executed with their rights."
    )
    max_in_flight: int | None = strawberry.field(
        description="How many requests may be under way at once; null for 4."
    )
    max_per_second: float | None = strawberry.field(
        description="How many requests may begin in a second; null for as fast as it answers."
    )
    status: models.EndpointStatus = strawberry.field(description="Whether it is served.")
    disabled_reason: str | None = strawberry.field(description="Why it was disabled.")
    missed_events: int = strawberry.field(
        description="How many events it was due that retention threw away before it got them."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    created_by = related(STAFF, "created_by_id", Actor, "Who made it.")

    @strawberry.field(description="The event types it is due; null for the thirteen.")
    def types(self) -> list[EventType] | None:  # type: ignore[valid-type]
        """Stored as words of the wire."""
        words: list[str] | None = self.__dict__["types"]
        return None if words is None else [EventType(word) for word in words]

    @strawberry.field(description="All up to this place in the log was sent or is being retried.")
    def cursor(self) -> str:
        """The same cursor as in queries and subscriptions."""
        return encode_cursor(self.cursor_sequence)  # type: ignore[attr-defined]

    @strawberry.field(description="How it fares.")
    async def health(self, info: Info) -> WebhookHealth:
        """Of its last hundred requests."""
        return await resolvers.webhook_endpoints.health(info.context, self)  # type: ignore[arg-type,return-value]

    @strawberry.field(description="How far it is behind.")
    async def lag(self, info: Info) -> WebhookLag:
        """Zero where all was delivered."""
        return await resolvers.webhook_endpoints.lag(info.context, self)  # type: ignore[arg-type,return-value]

    replays = listed(
        listings.REPLAYS,
        WebhookReplay,
        "WebhookReplay",
        "The parts of the log it is sent once more, newest first; kept for 30 days.",
        always=lambda root, _: {"endpoint_id": root.id},
        batch=(REPLAYS_OF_ENDPOINT, "id"),
    )
