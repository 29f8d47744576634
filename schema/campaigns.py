"""Campaigns and what became of them, as GraphQL shows them."""

from datetime import datetime
from typing import Any

import strawberry

import models
import resolvers.campaigns
from models import Channel
from models.relations import CARD_TEMPLATE, LOCATION, STAFF, VOUCHER_TEMPLATE
from schema.base import Actor, Info, Node, related, represents
from schema.businesses import Location
from schema.cards import CardTemplate
from schema.customers import Customer
from schema.errors import user_errors
from schema.inputs import register_enum
from schema.vouchers import VoucherTemplate
from services import campaigns

register_enum(models.CampaignStatus)
register_enum(models.Messenger)


@represents(campaigns.DeliveryProblem)
@strawberry.type(description="Why messages that a channel took did not arrive.")
class DeliveryProblem:
    """As the provider reports it."""

    reason: str = strawberry.field(description="What the provider says, in its own words.")
    count: int = strawberry.field(description="How many messages that is true of.")


@represents(campaigns.ChannelResult)
@strawberry.type(description="What became of a campaign on one channel, so far.")
class ChannelResult:
    """The first four numbers make up the audience, once it is frozen."""

    channel: Channel = strawberry.field(description="The channel.")
    accepted: int = strawberry.field(description="Messages the channel took.")
    failed: int = strawberry.field(
        description="Messages the channel refused, or of which nobody knows what became."
    )
    skipped: int = strawberry.field(
        description="Recipients not written to: no consent, no address, or cancelled before."
    )
    waiting: int = strawberry.field(description="Recipients who are still to be written to.")
    delivered: int = strawberry.field(
        description="Of the accepted messages: those of which the provider reported that they "
        "arrived. Only messengers report this, and not all of them."
    )
    undelivered: int = strawberry.field(
        description="Of the accepted messages: those of which the provider reported later that "
        "they did not arrive. Of all others nothing was reported."
    )
    problems: list[DeliveryProblem] = strawberry.field(
        description="Why those did not arrive: the ten commonest reasons, the most frequent first."
    )


@strawberry.type(description="Which holders of the card; what is null asks nothing.")
class Segment:
    """As it was asked for."""

    stamps_at_least: int | None = strawberry.field(description="At least so many stamps.")
    stamps_at_most: int | None = strawberry.field(description="At most so many stamps.")
    stamps_left_at_most: int | None = strawberry.field(
        description="At most so many stamps missing to a full card."
    )
    last_activity_before: datetime | None = strawberry.field(
        description="The card's last activity before then."
    )
    last_activity_after: datetime | None = strawberry.field(
        description="The card's last activity then or later."
    )
    language: str | None = strawberry.field(description="This language.")
    has_active_voucher: bool | None = strawberry.field(
        description="With a voucher that can be redeemed, or without one."
    )
    location = related(
        LOCATION, "location_id", Location, "The card issued or used at this location."
    )
    location_id: strawberry.Private[str | None]


@represents(models.Campaign)
@strawberry.type(description="A message to the holders of a card, or to a segment of them.")
class Campaign(Node):
    """Each recipient is written to at most once on each channel."""

    name: str = strawberry.field(description="What people call it.")
    status: models.CampaignStatus = strawberry.field(description="Where it is in its life.")
    notification_text: str = strawberry.field(description="The short text.")
    message_text: str = strawberry.field(description="The long text.")
    audience_size: int = strawberry.field(
        description="Cards in its audience: expected until it starts, frozen from then on."
    )
    scheduled_at: datetime = strawberry.field(description="When it starts.")
    created_at: datetime = strawberry.field(description="When it was made.")
    started_at: datetime | None = strawberry.field(description="When its audience was frozen.")
    finished_at: datetime | None = strawberry.field(
        description="When everybody was dealt with, or it was cancelled."
    )
    cancelled_at: datetime | None = strawberry.field(description="When it was cancelled.")
    template = related(
        CARD_TEMPLATE, "template_id", CardTemplate, "The card whose holders it is for."
    )
    voucher_template = related(
        VOUCHER_TEMPLATE, "voucher_template_id", VoucherTemplate, "The attached voucher, if any."
    )
    created_by = related(STAFF, "created_by_id", Actor, "Who made it.")
    cancelled_by = related(STAFF, "cancelled_by_id", Actor, "Who cancelled it.")

    @strawberry.field(description="The channels it goes by.")
    def channels(self) -> list[Channel]:
        """Stored as words."""
        return [Channel(word) for word in self.__dict__["channels"]]

    @strawberry.field(description="Which holders it is for; null for all of them.")
    def segment(self) -> Segment | None:
        """Stored as JSON."""
        stored: dict[str, Any] = self.__dict__["segment"]
        return _segment(stored) if stored else None

    @strawberry.field(description="What became of it so far, on each of its channels.")
    async def results(self, info: Info) -> list[ChannelResult]:
        """Counted by an index."""
        return await resolvers.campaigns.results(info.context, self)  # type: ignore[arg-type,return-value]


@strawberry.type(description="How many messages would go by a channel.")
class ChannelCount:
    """Who refused or has no address there is left out."""

    channel: Channel = strawberry.field(description="The channel.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many messages would go by a messenger.")
class MessengerCount:
    """Each customer is written to in one: that of the newest chat."""

    messenger: models.Messenger = strawberry.field(description="The messenger.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="What one customer would read.")
class CampaignSample:
    """With the placeholders filled in."""

    customer: Customer = strawberry.field(description="Who.")
    notification: str = strawberry.field(description="The short text.")
    text: str = strawberry.field(description="The long text.")


@strawberry.type(description="What a campaign would do if it were sent now; nothing was written.")
class CampaignDryRun:
    """By the same rules that would do it."""

    audience_size: int | None = strawberry.field(description="Cards in its audience.")
    notifications: list[ChannelCount] = strawberry.field(description="Messages by channel.")
    messengers: list[MessengerCount] = strawberry.field(
        description="Of the messages in messengers, how many would go by each."
    )
    sample: list[CampaignSample] = strawberry.field(
        description="The texts for the first of the audience, at most five."
    )
    user_errors = user_errors("Why it would be refused; empty if it would not.")


def _segment(stored: dict[str, Any]) -> Segment:
    before, after = stored.get("last_activity_before"), stored.get("last_activity_after")
    return Segment(
        stamps_at_least=stored.get("stamps_at_least"),
        stamps_at_most=stored.get("stamps_at_most"),
        stamps_left_at_most=stored.get("stamps_left_at_most"),
        last_activity_before=datetime.fromisoformat(before) if before else None,
        last_activity_after=datetime.fromisoformat(after) if after else None,
        language=stored.get("language"),
        has_active_voucher=stored.get("has_active_voucher"),
        location_id=stored.get("location_id"),
    )
