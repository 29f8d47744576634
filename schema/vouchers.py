"""Vouchers and their templates, as GraphQL shows them."""

from datetime import date, datetime

import strawberry

import models
from models.relations import CARD, STAFF, VOUCHER_TEMPLATE
from schema.base import Actor, Info, Node, related, represents, shown
from schema.cards import Card
from schema.inputs import register_enum

for _kind in (
    models.VoucherStatus,
    models.RedemptionMode,
    models.RedeemedVia,
    models.Validity,
    models.TemplateStatus,
):
    register_enum(_kind)


@represents(models.VoucherTemplate)
@strawberry.type(description="A voucher as its owner defines it, to be issued many times.")
class VoucherTemplate(Node):
    """Changing it changes no voucher that was issued."""

    title: str = strawberry.field(description="What the customer reads.")
    description: str | None = strawberry.field(description="More about it.")
    image_url: str | None = strawberry.field(description="A picture's address.")
    redeem_code: str | None = strawberry.field(description="The code its vouchers share, if any.")
    generates_code: bool = strawberry.field(
        description="Whether each voucher gets a code of its own."
    )
    status: models.TemplateStatus = strawberry.field(description="Whether it is still issued.")
    validity: models.Validity = strawberry.field(description="How long its vouchers last.")
    validity_number: int | None = strawberry.field(description="So many days or months.")
    validity_date: date | None = strawberry.field(description="To the end of this day.")
    redemption_mode: models.RedemptionMode = strawberry.field(description="How it is redeemed.")
    created_at: datetime = strawberry.field(description="When it was created.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")


@strawberry.type(description="A voucher's code as a picture.")
class VoucherCode:
    """Fetched with the URL alone: give it to the customer only."""

    format: str = strawberry.field(
        description="`qr` and `barcode` show the redeem code, `token` the voucher's own token."
    )
    url: str = strawberry.field(description="The picture as SVG; `.png` in its place gives PNG.")


@represents(models.Voucher)
@strawberry.type(description="A reward in hand.")
class Voucher(Node):
    """Redeemed at most once."""

    type: str = strawberry.field(description="Always `voucher`.")
    title: str = strawberry.field(description="What the customer reads.")
    description: str | None = strawberry.field(description="More about it.")
    image_url: str | None = strawberry.field(description="A picture's address.")
    status: models.VoucherStatus = strawberry.field(description="Where it stands.")
    redeem_code: str | None = strawberry.field(description="The code; many vouchers may share one.")
    redeem_code_formats: list[str] = strawberry.field(description="How the code can be shown.")
    redemption_mode: models.RedemptionMode = strawberry.field(description="How it is redeemed.")
    token: str = strawberry.field(description="What identifies it when scanned; a secret.")
    source: models.Source = strawberry.field(description="Why it was issued.")
    valid_from: datetime | None = strawberry.field(description="From when it can be redeemed.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    issued_at: datetime = strawberry.field(description="When it was issued.")
    redeemed_at: datetime | None = strawberry.field(description="When it was redeemed.")
    redeemed_via: models.RedeemedVia | None = strawberry.field(
        description="The route by which it was redeemed."
    )
    voided_at: datetime | None = strawberry.field(description="When it was voided.")
    goal_index = shown("goal_position", int | None, "1-based position of its goal, if any.")
    card = related(CARD, "card_id", Card, "The card it belongs to; null for a bearer voucher.")
    template = related(VOUCHER_TEMPLATE, "template_id", VoucherTemplate, "Its template, if any.")
    redeemed_by = related(STAFF, "redeemed_by_id", Actor, "Who redeemed it.")

    @strawberry.field(description="Pictures of its code.")
    def codes(self, info: Info) -> list[VoucherCode]:
        """Without a redeem code only the token can be shown."""
        formats = ["qr", "barcode", "token"] if self.redeem_code else ["token"]
        root = f"{info.context.deployment.settings.url}/codes/{self.token}.svg"
        return [VoucherCode(format=name, url=f"{root}?format={name}") for name in formats]
