"""Deliveries and attempts, as GraphQL shows them."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

import models
import resolvers.deliveries
from core.ids import Id
from schema.base import Info, Node, connection, plain, represents, resolved
from schema.events import Event
from schema.inputs import register_enum
from services import deliveries as service
from services.pages import PageArgs

for _kind in (models.AttemptKind, models.AttemptStatus, models.DeliveryStatus):
    register_enum(_kind)


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


@represents(service.EventDelivery)
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
    status: Any = strawberry.UNSET,
    first: Any = strawberry.UNSET,
    after: Any = strawberry.UNSET,
) -> Any:
    args = PageArgs(first=plain(first), after=plain(after))
    return await resolvers.deliveries.deliveries(info.context, endpoint_id, args, plain(status))


deliveries = resolved(
    _deliveries,
    connection(Delivery, "Delivery") | None,
    "What an endpoint was due, newest first; null if there is no such endpoint.",
    endpoint_id=Annotated[Id, strawberry.argument(description="The endpoint's id.")],
    status=Annotated[
        models.DeliveryStatus | None,
        strawberry.argument(description="Only those of this status; DEAD: what failed for good."),
    ],
    first=Annotated[
        int | None, strawberry.argument(description="How many items, 1–100; 20 if absent.")
    ],
    after=Annotated[str | None, strawberry.argument(description="Only items beyond this cursor.")],
)
