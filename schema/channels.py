"""Channels, as GraphQL shows them."""

import strawberry

import models
import resolvers.channels
from schema.base import Info, represents
from schema.inputs import register_enum
from services import channels

for _kind in (models.ChannelKind, models.ChannelStatus, models.Messenger):
    register_enum(_kind)


@represents(channels.ConnectedChannel)
@strawberry.type(description="A way to reach customers: a provider's, or the deployment's own.")
class Channel:
    """Never its settings."""

    id: strawberry.ID | None = strawberry.field(
        description="What it is tested and disconnected by; null for the deployment's own."
    )
    kind: models.ChannelKind = strawberry.field(description="What serves it.")
    channel: models.Channel = strawberry.field(description="The channel it serves.")
    status: models.ChannelStatus = strawberry.field(description="Whether messages go out.")
    name: str | None = strawberry.field(description="What the provider calls the account.")
    problem: str | None = strawberry.field(description="What is wrong; null where all is well.")

    @strawberry.field(description="How many customers may be written to by it, and can be.")
    async def reachable_customers(self, info: Info) -> int:
        """By the same rules as campaigns."""
        return await resolvers.channels.reachable(info.context, self)

    @strawberry.field(
        description="Where the provider calls us; WhatsApp's is to be typed at Meta. Null for the "
        "deployment's own."
    )
    def callback_url(self, info: Info) -> str | None:
        """An address of ours."""
        return resolvers.channels.callback_of(info.context, self.id)
