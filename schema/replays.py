"""Replays, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from models.relations import STAFF
from schema.base import Actor, Node, related, represents
from schema.events import EventType
from schema.inputs import register_enum

register_enum(models.ReplayStatus)


@represents(models.Replay)
@strawberry.type(description="A part of the log that an endpoint is sent once more.")
class WebhookReplay(Node):
    """Beside what is live, at its own pace."""

    status: models.ReplayStatus = strawberry.field(description="How far it has come.")
    since: datetime = strawberry.field(description="Events that happened then or later.")
    until: datetime | None = strawberry.field(
        description="Events that happened before then; null: up to when it was asked for."
    )
    total: int = strawberry.field(
        description="How many events it has, but for those that turned out to be on their way."
    )
    sent: int = strawberry.field(description="How many of them the receiver has taken.")
    failed: int = strawberry.field(description="How many were refused, and are not tried again.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    created_by = related(STAFF, "created_by_id", Actor, "Who asked for it.")
    finished_at: datetime | None = strawberry.field(description="When it was done or stopped.")

    @strawberry.field(description="The event types it sends.")
    def types(self) -> list[EventType]:  # type: ignore[valid-type]
        """Stored as words of the wire."""
        words: list[str] = self.__dict__["types"]
        return [EventType(word) for word in words]
