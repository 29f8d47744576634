"""Cards, templates, the ledger and rewards, as GraphQL shows them."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from strawberry.scalars import JSON

import models
from core.money import major_units
from models import Promise
from models.relations import (
    CARD,
    CARD_TEMPLATE,
    CARD_TEMPLATE_VERSION,
    CUSTOMER,
    GOALS_OF_VERSION,
    LOCATION,
    OPERATION,
    PLATFORMS_OF_CARD,
    POINT_OF_SALE,
    STAFF,
    VERSIONS_OF_TEMPLATE,
    VOUCHER,
    VOUCHER_TEMPLATE,
    VOUCHERS_OF_CARD,
)
from schema.base import Actor, Info, Node, lazy, listed, related, represents, shown
from schema.businesses import Location
from schema.customers import Customer
from schema.errors import user_errors
from schema.events import Event, EventType
from schema.inputs import register_enum
from services import card_templates, offline
from services.listings import JOURNAL, VOUCHERS, VoucherFilter

for _kind in (
    models.TemplateStatus,
    models.EarningRule,
    models.Overflow,
    models.RewardType,
    models.CardStatus,
    models.Platform,
    models.StampChannel,
    models.OperationKind,
    models.Source,
):
    register_enum(_kind)


@strawberry.type(description="An amount of money.")
class Money:
    """Exact."""

    amount: Decimal = strawberry.field(description="The amount, such as `42.50`.")
    currency: str = strawberry.field(description="The currency (ISO 4217).")


@represents(models.Goal)
@strawberry.type(description="A mark on the card, and the reward that waits there.")
class Goal:
    """Of one version of a template."""

    position: int = strawberry.field(description="1-based position among the goals.")
    stamps: int = strawberry.field(description="Stamps at which it stands.")
    reward_type: models.RewardType = strawberry.field(description="What waits there.")
    title: str = strawberry.field(description="What the customer reads.")
    description: str | None = strawberry.field(description="More about the reward.")
    image_url: str | None = strawberry.field(description="The reward's picture.")
    voucher_template = related(
        VOUCHER_TEMPLATE,
        "voucher_template_id",
        lazy("VoucherTemplate", "vouchers"),
        "The voucher that is issued there.",
    )


@represents(card_templates.Change)
@strawberry.type(description="What one field of a card template said before and says now.")
class Change:
    """In words that can be compared."""

    field: str = strawberry.field(description="The field of the input, such as `goals`.")
    before: str | None = strawberry.field(description="What it said; null for nothing.")
    after: str | None = strawberry.field(description="What it says now; null for nothing.")


@strawberry.type(description="The goal ahead of a card.")
class NextGoal:
    """What the customer is collecting for."""

    position: int = strawberry.field(description="1-based position among the goals.")
    stamps: int = strawberry.field(description="Stamps at which it stands.")
    remaining: int = strawberry.field(description="Stamps still missing.")
    reward_type: models.RewardType = strawberry.field(description="What waits there.")
    title: str = strawberry.field(description="What the customer reads.")


@strawberry.type(description="A page where anybody may ask for a card, by an address of theirs.")
class JoinPage:
    """Opened and closed by `setJoinPage`."""

    url: str = strawberry.field(description="Its address.")
    code_url: str = strawberry.field(
        description="The address as a QR code for the counter; `.png` instead of `.svg` works too."
    )
    is_open: bool = strawberry.field(description="Whether it is there.")
    privacy_text: str | None = strawberry.field(
        description="What it tells of privacy beside our own words."
    )


@represents(models.CardTemplate)
@strawberry.type(description="A stamp card as its owner defines it.")
class CardTemplate(Node):
    """Shows the version that is published, or the draft before the first."""

    name: str = strawberry.field(description="What customers read.")
    version: int = strawberry.field(description="The number of the version shown here.")
    status: models.TemplateStatus = strawberry.field(description="Where it is in its life.")
    created_at: datetime = strawberry.field(description="When it was created.")
    published_at: datetime | None = strawberry.field(description="When it was first published.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")

    @strawberry.field(description="Stamps of a full card.")
    async def stamps_required(self, info: Info) -> int:
        """Of this version."""
        return (await version_of(self, info)).stamps_required

    @strawberry.field(description="What earns a stamp.")
    async def earning_rule(self, info: Info) -> models.EarningRule:
        """Of this version."""
        return (await version_of(self, info)).earning_rule

    @strawberry.field(description="The amount that earns a stamp, where amounts do.")
    async def amount_per_stamp(self, info: Info) -> Money | None:
        """Of this version."""
        units, currency = (await version_of(self, info)).amount_per_stamp, _currency(info)
        return (
            None if units is None else Money(amount=major_units(units, currency), currency=currency)
        )

    @strawberry.field(description="What becomes of stamps beyond a full card.")
    async def overflow(self, info: Info) -> models.Overflow:
        """Of this version."""
        return (await version_of(self, info)).overflow

    @strawberry.field(description="Days without activity after which a card counts as quiet.")
    async def inactivity_days(self, info: Info) -> int | None:
        """Null where the trigger is off."""
        return (await version_of(self, info)).inactivity_days

    @strawberry.field(description="The look: a document of the designer's own.")
    async def design(self, info: Info) -> JSON:
        """Of this version."""
        return JSON((await version_of(self, info)).design)

    @strawberry.field(description="The page where anybody may ask for such a card.")
    def join_page(self, info: Info) -> JoinPage:
        """There while it is open and the template is published."""
        url = f"{info.context.deployment.settings.url}/join/{self.id}"
        return JoinPage(
            url=url,
            code_url=f"{url}/code.svg",
            is_open=self.joining_open,  # type: ignore[attr-defined]
            privacy_text=self.joining_text,  # type: ignore[attr-defined]
        )

    @strawberry.field(description="The goals, ascending.")
    async def goals(self, info: Info) -> list[Goal]:
        """Of this version."""
        version = await version_of(self, info)
        return await info.context.many(GOALS_OF_VERSION, version.id)  # type: ignore[return-value]


async def version_of(template: Any, info: Info) -> models.CardTemplateVersion:
    """The version of a template that is shown."""
    versions = await info.context.many(VERSIONS_OF_TEMPLATE, template.id)
    return next(item for item in versions if item.version == template.version)


async def promise_of(card: Any, info: Info) -> Promise | None:
    """What a card goes by: the version its cycle began with."""
    version = await info.context.one(CARD_TEMPLATE_VERSION, card.version_id)
    if version is None:
        return None
    return Promise(version, await info.context.many(GOALS_OF_VERSION, version.id))


@represents(models.Card)
@strawberry.type(description="One customer's progress on one template.")
class Card(Node):
    """The noun everything turns around."""

    number: str = strawberry.field(description="The number people read out; at least six digits.")
    status: models.CardStatus = strawberry.field(description="Whether it is in use.")
    stamps: int = strawberry.field(description="Stamps on the card now.")
    cycle: int = strawberry.field(description="How often it was begun, from 1.")
    token: str = strawberry.field(description="What its barcode holds; treat it as a secret.")
    wallet_pass_id: str = strawberry.field(description="The id of its wallet pass.")
    created_at: datetime = strawberry.field(description="When it was issued.")
    last_stamp_at: datetime | None = strawberry.field(description="When it was last stamped.")
    template = related(CARD_TEMPLATE, "template_id", CardTemplate, "The template it was made from.")
    customer = related(CUSTOMER, "customer_id", Customer, "Who holds it.")
    vouchers = listed(
        VOUCHERS,
        lazy("Voucher", "vouchers"),
        "Voucher",
        "The card's vouchers, newest first.",
        filter=VoucherFilter,
        always=lambda card, _: {"card_id": card.id},
        batch=(VOUCHERS_OF_CARD, "id"),
        within=True,
    )
    history = listed(
        JOURNAL,
        Event,
        "Event",
        "What happened on this card, newest first.",
        always=lambda card, _: {"card_id": card.id},
    )

    @strawberry.field(description="Stamps of a full card.")
    async def stamps_required(self, info: Info) -> int | None:
        """By the version its cycle began with."""
        promise = await promise_of(self, info)
        return promise.required if promise else None

    @strawberry.field(description="How full it is, 0–100.")
    async def progress(self, info: Info) -> int | None:
        """Rounded down."""
        promise = await promise_of(self, info)
        return self.stamps * 100 // promise.required if promise else None

    @strawberry.field(description="The goal ahead; null on a full card.")
    async def next_goal(self, info: Info) -> NextGoal | None:
        """By the version its cycle began with."""
        promise = await promise_of(self, info)
        ahead = [goal for goal in promise.goals if goal.stamps > self.stamps] if promise else []
        if not ahead:
            return None
        goal = ahead[0]
        return NextGoal(
            position=goal.position,
            stamps=goal.stamps,
            remaining=goal.stamps - self.stamps,
            reward_type=goal.reward_type,
            title=goal.title,
        )

    @strawberry.field(description="The wallets it was saved to.")
    async def platforms(self, info: Info) -> list[models.Platform]:
        """In the order they were saved."""
        return [item.platform for item in await info.context.many(PLATFORMS_OF_CARD, self.id)]

    @strawberry.field(description="The customer's own page of the card; opening it needs no login.")
    def join_url(self, info: Info) -> str:
        """Give it to the customer only."""
        return _page_of(self, info)

    @strawberry.field(
        description="Where the customer puts it into Apple Wallet; null where that cannot be."
    )
    def apple_wallet_url(self, info: Info) -> str | None:
        """Give it to the customer only."""
        apple = info.context.deployment.wallets.apple
        return f"{_page_of(self, info)}/card.pkpass" if apple else None

    @strawberry.field(
        description="Where the customer puts it into Google Wallet; null where that cannot be."
    )
    def google_wallet_url(self, info: Info) -> str | None:
        """Give it to the customer only."""
        google = info.context.deployment.wallets.google
        return f"{_page_of(self, info)}/google" if google else None


def _page_of(card: Card, info: Info) -> str:
    return f"{info.context.deployment.settings.url}/c/{card.token}"


@strawberry.type(description="That an operation was undone.")
class Voiding:
    """Who, when and why."""

    at: datetime = strawberry.field(description="When.")
    reason: str | None = strawberry.field(description="Why.")
    by: Actor | None = strawberry.field(description="Who undid it.")


@represents(models.Operation)
@strawberry.type(description="A line of the ledger.")
class Operation(Node):
    """Append-only."""

    kind: models.OperationKind = strawberry.field(description="What it stands for.")
    count: int = strawberry.field(description="Stamps added; below zero where stamps were undone.")
    before: int | None = strawberry.field(description="Stamps on the card before.")
    after: int | None = strawberry.field(description="Stamps on the card after.")
    cycle_before: int | None = strawberry.field(description="The card's cycle before.")
    cycle_after: int | None = strawberry.field(description="The card's cycle after.")
    channel: models.StampChannel | None = strawberry.field(description="The route it came.")
    external_ref: str | None = strawberry.field(description="The caller's own label.")
    occurred_at: datetime = strawberry.field(description="When it happened.")
    card = related(CARD, "card_id", Card, "The card.")
    location = related(LOCATION, "location_id", Location, "Where it happened.")

    @strawberry.field(description="Who did it: a staff login or a point of sale.")
    async def actor(self, info: Info) -> Actor | None:
        """Null for the system."""
        return await _doer_of(info, self)

    @strawberry.field(description="The amount of the purchase, where stamps followed it.")
    def amount(self, info: Info) -> Money | None:
        """In the business's currency."""
        units, currency = self.__dict__["amount"], _currency(info)
        return (
            None if units is None else Money(amount=major_units(units, currency), currency=currency)
        )

    @strawberry.field(description="Who undid it, when and why; null while it is in force.")
    async def voided(self, info: Info) -> Voiding | None:
        """Told by the line that undid it."""
        line = await info.context.one(OPERATION, self.voided_by_id)  # type: ignore[attr-defined]
        if line is None:
            return None
        by = await _doer_of(info, line)
        return Voiding(at=line.occurred_at, reason=line.reason, by=by)


async def _doer_of(info: Info, line: Any) -> Actor | None:
    if line.staff_id is None and line.connector_id is not None:
        return await info.context.one(POINT_OF_SALE, line.connector_id)  # type: ignore[return-value]
    return await info.context.one(STAFF, line.staff_id)  # type: ignore[return-value]


@represents(models.Reward)
@strawberry.type(description="A gift handed out.")
class Reward(Node):
    """One per goal and cycle."""

    type: models.RewardType = strawberry.field(description="What it is.")
    source: models.Source = strawberry.field(description="Why it was handed out.")
    title: str = strawberry.field(description="What the customer reads.")
    cycle: int | None = strawberry.field(description="The card's cycle.")
    issued_at: datetime = strawberry.field(description="When it was handed out.")
    voided_at: datetime | None = strawberry.field(description="When it was voided.")
    goal_index = shown("goal_position", int | None, "1-based position of its goal, if any.")
    card = related(CARD, "card_id", Card, "The card.")
    voucher = related(
        VOUCHER, "voucher_id", lazy("Voucher", "vouchers"), "Its voucher, if it is one."
    )


@represents(offline.StampVerdict)
@strawberry.type(description="What became of one item of a batch.")
class StampVerdict:
    """In the order of the items."""

    client_id: str = strawberry.field(description="The item's client id.")
    applied: bool = strawberry.field(
        description="Whether its stamps are added, by this call or an earlier one."
    )
    operation: Operation | None = strawberry.field(
        description="The line of the ledger; null where it was refused, or earned no stamp."
    )
    card: Card | None = strawberry.field(description="The card, as it then was.")
    user_errors = user_errors("Why it was refused; empty on success.")


@strawberry.type(description="A reward that would be handed out.")
class ExpectedReward:
    """Nothing was written."""

    type: models.RewardType = strawberry.field(description="What it would be.")
    title: str = strawberry.field(description="What the customer would read.")


@strawberry.type(description="An event that would fire.")
class ExpectedEvent:
    """Nothing was written."""

    type: EventType = strawberry.field(description="What would happen.")  # type: ignore[valid-type]


def _currency(info: Info) -> str:
    return info.context.actor.business.currency
