"""Sessions, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from schema.base import Info, Node, represents


@represents(models.Session)
@strawberry.type(description="A staff login signed in somewhere; never the secret of it.")
class Session(Node):
    """Whoever holds the login sees it, and owners."""

    created_at: datetime = strawberry.field(description="When it signed in.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to the minute."
    )
    expires_at: datetime = strawberry.field(description="When it ends by itself.")
    address: str | None = strawberry.field(
        description="The beginning of the address it signed in from, such as `203.0.x.x`."
    )
    program: str | None = strawberry.field(
        description="The kind of program it signed in with, such as `Firefox`."
    )

    @strawberry.field(description="Whether it is the session of this call.")
    def is_current(self, info: Info) -> bool:
        """By the caller."""
        return bool(self.id == info.context.actor.session_id)
