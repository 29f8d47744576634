"""Points of sale and their sales, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
import resolvers.points_of_sale
from core.money import major_units
from integrations.tills import PointOfSaleKind
from models.relations import (
    CARD,
    CARD_TEMPLATE,
    CLAIM_CODE,
    LOCATION,
    OPERATION,
    POINT_OF_SALE,
    STAFF,
)
from schema.base import Actor, Info, Node, lazy, listed, related, represents
from schema.businesses import Location
from schema.cards import Card, CardTemplate, Money, Operation
from schema.claim_codes import ClaimCode
from schema.inputs import register_enum
from services import listings

for _kind in (PointOfSaleKind, models.PointOfSaleStatus, models.SaleStatus):
    register_enum(_kind)


@represents(models.Sale)
@strawberry.type(description="A receipt of a till: one, however often and by whatever way it came.")
class Sale(Node):
    """Nothing of it names a person but the card."""

    sale_id: str = strawberry.field(description="The till's own number of the receipt.")
    status: models.SaleStatus = strawberry.field(description="What became of it.")
    problem: str | None = strawberry.field(
        description="Why it earned nothing, or is not settled yet."
    )
    closed_at: datetime | None = strawberry.field(description="When the receipt was closed.")
    received_at: datetime = strawberry.field(description="When it was told first.")
    refunded_at: datetime | None = strawberry.field(
        description="When the till told that it took it back."
    )
    point_of_sale = related(
        POINT_OF_SALE, "point_of_sale_id", lazy("PointOfSale", "points_of_sale"), "Where it was."
    )
    card = related(CARD, "card_id", Card, "The card it was for; null where it named nobody.")
    operation = related(OPERATION, "operation_id", Operation, "The stamps it gave.")
    claim_code = related(
        CLAIM_CODE,
        "claim_code_id",
        ClaimCode,
        "Where it named nobody: the code by which whoever has the receipt gets its stamps.",
    )

    @strawberry.field(description="What it came to; null where the till told none.")
    def amount(self, info: Info) -> Money | None:
        """In the till's currency."""
        units = self.__dict__["amount"]
        currency = self.__dict__["currency"] or info.context.actor.business.currency
        return (
            None if units is None else Money(amount=major_units(units, currency), currency=currency)
        )


@represents(models.PointOfSale)
@strawberry.type(description="A till that is connected: its sales add stamps.")
class PointOfSale(Actor, Node):
    """An actor: its stamps name it."""

    id: strawberry.ID = strawberry.field(description="The global id.")
    name: str = strawberry.field(description="What people call it.")
    status: models.PointOfSaleStatus = strawberry.field(description="Whether its sales come in.")
    problem: str | None = strawberry.field(description="What is wrong; null where all is well.")
    last_sale_at: datetime | None = strawberry.field(description="When it told of a sale last.")
    created_at: datetime = strawberry.field(description="When it was connected.")
    location = related(LOCATION, "location_id", Location, "Where its sales happen.")
    template = related(CARD_TEMPLATE, "template_id", CardTemplate, "Whose cards it stamps.")
    created_by = related(STAFF, "created_by_id", Actor, "Who connected it.")
    sales = listed(
        listings.SALES,
        Sale,
        "Sale",
        "Its sales, newest first.",
        always=lambda root, _: {"point_of_sale_id": root.id},
    )

    @strawberry.field(description="What kind of till it is.")
    def kind(self) -> PointOfSaleKind:  # type: ignore[valid-type]
        """Stored as the name of its file."""
        return PointOfSaleKind(self.__dict__["kind"])

    @strawberry.field(description="Where the till must send its webhooks; null to scanners.")
    def callback_url(self, info: Info) -> str | None:
        """An address of ours."""
        return resolvers.points_of_sale.callback_of(info.context, self)  # type: ignore[arg-type]

    @strawberry.field(
        description="The till's page where its owner lets Stampwire in; null where nobody has to, "
        "where somebody did, and to scanners."
    )
    def authorize_url(self, info: Info) -> str | None:
        """To be opened in a browser."""
        return resolvers.points_of_sale.authorize_url(info.context, self)  # type: ignore[arg-type]
