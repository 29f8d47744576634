"""Webhook endpoints, deliveries and attempts, as GraphQL shows them."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

import models
import resolvers.webhooks
from core.ids import Id
from models import encode_cursor
from models.relations import STAFF
from schema.base import Actor, Info, Node, connection, related, represents, resolved
from schema.events import Event, EventType
from schema.inputs import register_enum
from services import webhooks
from services.pages import PageArgs

for _kind in (
    models.Ordering,
    models.EndpointStatus,
    models.AttemptKind,
    models.AttemptStatus,
    models.DeliveryStatus,
):
    register_enum(_kind)


@represents(webhooks.Health)
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


@represents(webhooks.Lag)
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
    status: models.EndpointStatus = strawberry.field(description="Whether it is served.")
    disabled_reason: str | None = strawberry.field(description="Why it was disabled.")
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
        return await resolvers.webhooks.health(info.context, self)  # type: ignore[arg-type,return-value]

    @strawberry.field(description="How far it is behind.")
    async def lag(self, info: Info) -> WebhookLag:
        """Zero where all was delivered."""
        return await resolvers.webhooks.lag(info.context, self)  # type: ignore[arg-type,return-value]


@represents(models.Attempt)
@strawberry.type(description="One HTTP request to an endpoint, and what came of it.")
class WebhookAttempt(Node):
    """Kept for 30 days."""

    number: int = strawberry.field(description="Which request for this event it was, from 1.")
    kind: models.AttemptKind = strawberry.field(description="Why it was made.")
    status: models.AttemptStatus = strawberry.field(description="How it went.")
    started_at: datetime = strawberry.field(description="When it was made.")
    duration_ms: int | None = strawberry.field(description="How long it took, in milliseconds.")
    response_status: int | None = strawberry.field(description="The HTTP status of the answer.")
    response_head: str | None = strawberry.field(description="The first bytes of the answer.")
    error: str | None = strawberry.field(description="What went wrong, if anything did.")
    remote_address: str | None = strawberry.field(description="The address it really went to.")


@represents(webhooks.EventDelivery)
@strawberry.type(description="An event that an endpoint was due, and how far it has come.")
class Delivery:
    """With every request made for it."""

    event: Event = strawberry.field(description="The event.")
    status: models.DeliveryStatus = strawberry.field(description="How far it has come.")
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is tried next, where it is."
    )
    attempts: list[WebhookAttempt] = strawberry.field(description="The requests, oldest first.")


async def _deliveries(
    root: Any,  # noqa: ARG001 -- Strawberry's shape
    info: Info,
    endpoint_id: str,
    first: Any = strawberry.UNSET,
    after: Any = strawberry.UNSET,
) -> Any:
    unset = strawberry.UNSET
    args = PageArgs(
        first=None if first is unset else first, after=None if after is unset else after
    )
    return await resolvers.webhooks.deliveries(info.context, endpoint_id, args)


deliveries = resolved(
    _deliveries,
    connection(Delivery, "Delivery") | None,
    "What an endpoint was due, newest first; null if there is no such endpoint.",
    endpoint_id=Annotated[Id, strawberry.argument(description="The endpoint's id.")],
    first=Annotated[
        int | None, strawberry.argument(description="How many items, 1–100; 20 if absent.")
    ],
    after=Annotated[str | None, strawberry.argument(description="Only items beyond this cursor.")],
)
