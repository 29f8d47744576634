"""Customers and their consents, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from models.relations import CONSENTS_OF_CUSTOMER
from schema.base import Info, Node, lazy, listed, represents
from schema.inputs import register_enum
from services.listings import CARDS

register_enum(models.Channel)


@represents(models.Consent)
@strawberry.type(description="What a customer last said about being written to on one channel.")
class Consent:
    """Recorded with who and when."""

    channel: models.Channel = strawberry.field(description="The channel.")
    granted: bool = strawberry.field(description="Whether we may write there.")
    at: datetime = strawberry.field(description="When it was said.")


@represents(models.Customer)
@strawberry.type(description="Somebody who collects.")
class Customer(Node):
    """Personal data: only within the business."""

    name: str | None = strawberry.field(description="The name.")
    email: str | None = strawberry.field(description="The e-mail address, in lower case.")
    phone: str | None = strawberry.field(description="The phone number, in E.164.")
    birthday: str | None = strawberry.field(
        description="`1990-02-28`, or `--02-28` where the year is not known."
    )
    language: str = strawberry.field(description="The language tag.")
    created_at: datetime = strawberry.field(description="When they were first seen.")
    last_activity_at: datetime | None = strawberry.field(
        description="Their last card issue, stamp, redemption or draw."
    )
    cards = listed(
        CARDS,
        lazy("Card", "cards"),
        "Card",
        "The customer's cards, newest first.",
        always=lambda customer, _: {"customer_id": customer.id, "alive": True},
    )

    @strawberry.field(description="What they said about being written to.")
    async def consents(self, info: Info) -> list[Consent]:
        """One per channel they spoke of."""
        return await info.context.many(CONSENTS_OF_CUSTOMER, self.id)  # type: ignore[return-value]
