"""Claim codes, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from core.money import major_units
from models.relations import CARD, CARD_TEMPLATE, OPERATION
from schema.base import Info, Node, related, represents
from schema.cards import Card, CardTemplate, Money, Operation


@represents(models.ClaimCode)
@strawberry.type(description="A one-time code for a receipt, worth stamps or an amount.")
class ClaimCode(Node):
    """Whoever has it may claim it."""

    code: str = strawberry.field(description="The code, 12 symbols that are easily typed.")
    stamps: int | None = strawberry.field(
        description="The stamps it is worth; null where it is worth what an amount earns."
    )
    external_ref: str | None = strawberry.field(description="The caller's own label.")
    expires_at: datetime | None = strawberry.field(
        description="From when on it cannot be claimed; null for never."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    claimed_at: datetime | None = strawberry.field(description="When it was claimed.")
    template = related(CARD_TEMPLATE, "template_id", CardTemplate, "The cards it is for.")
    claimed_card = related(CARD, "claimed_card_id", Card, "The card it was claimed for.")
    operation = related(
        OPERATION, "operation_id", Operation, "What it did; null where it earned no stamp."
    )

    @strawberry.field(description="The purchase's amount, where stamps follow one.")
    def amount(self, info: Info) -> Money | None:
        """In the business's currency."""
        units, currency = self.__dict__["amount"], info.context.actor.business.currency
        return (
            None if units is None else Money(amount=major_units(units, currency), currency=currency)
        )

    @strawberry.field(
        description="The address to print as a QR code: a page that shows the code to customers."
    )
    def url(self, info: Info) -> str:
        """Opening it needs no login, and claims nothing."""
        return f"{info.context.deployment.settings.url}/claim/{self.code}"

    @strawberry.field(description="That address as a QR code; `.png` instead of `.svg` works too.")
    def code_url(self, info: Info) -> str:
        """Needs no login either."""
        return f"{info.context.deployment.settings.url}/claim/{self.code}/code.svg"
