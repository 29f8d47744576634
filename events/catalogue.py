"""Every event of the system, one class each. Add one here and it is everywhere."""

from decimal import Decimal
from typing import ClassVar

from pydantic import Field

from events.base import CardPart, Event, Part, Reference
from models.card_templates import RewardType, VariantType
from models.cards import OperationKind, Platform, StampChannel
from models.customers import Channel
from models.vouchers import RedeemedVia, Source, VoucherStatus

__all__ = [
    "BirthdayReached",
    "CampaignSent",
    "CardIssued",
    "CardOpened",
    "CardSaved",
    "GoalReached",
    "InactivityTrigger",
    "LotteryPlayed",
    "OperationVoided",
    "RewardIssued",
    "StampAdded",
    "VoucherExpired",
    "VoucherIssued",
    "VoucherRedeemed",
]

_VOUCHER = "v_01jwsample0000000000000000"
_MOMENT = "2026-05-11T12:34:56Z"


class GoalCardPart(CardPart):
    """The card, and the goal it concerns."""

    goal_index: int | None = Field(
        None, examples=[2], description="1-based position of the goal it concerns, if any."
    )


class IssuedCardPart(CardPart):
    """The new card."""

    number: str = Field(examples=["113772"], description="The number people read out.")
    template_id: str = Field(
        examples=["tpl_01jwsample0000000000000000"], description="The card template."
    )
    template_version: int = Field(examples=[1], description="The template's version.")
    stamps: int = Field(examples=[0], description="Stamps on the card.")
    stamps_required: int = Field(examples=[6], description="Stamps of a full card.")


class WalletCardPart(CardPart):
    """The card, and the wallet it was saved to or opened in."""

    platform: Platform = Field(examples=[Platform.APPLE], description="The wallet.")


class StampPart(Part):
    """What was added."""

    operation_id: str = Field(
        examples=["op_01jwsample0000000000000000"], description="The line of the ledger."
    )
    count: int = Field(examples=[2], description="Stamps added, 1–50.")
    before: int = Field(examples=[3], description="Stamps on the card before.")
    after: int = Field(examples=[5], description="Stamps on the card after.")
    required: int = Field(examples=[6], description="Stamps of a full card.")
    cycle: int = Field(examples=[1], description="How often the card was begun, from 1.")
    channel: StampChannel = Field(examples=[StampChannel.POS], description="The route they came.")
    amount: Decimal | None = Field(
        examples=["42.50"], description="The purchase's amount, where stamps follow it."
    )
    currency: str | None = Field(examples=["EUR"], description="The amount's currency.")
    external_ref: str | None = Field(
        examples=["receipt-77"], description="The caller's own label, such as a receipt number."
    )


class GoalPart(Part):
    """The goal that was reached."""

    index: int = Field(examples=[2], description="1-based position among the card's goals.")
    stamps: int = Field(examples=[5], description="Stamps at which it stands.")
    is_final: bool = Field(examples=[False], description="Whether the card is full with it.")
    reward_format: RewardType = Field(
        examples=[RewardType.VOUCHER], description="What waits there."
    )


class RewardPart(Reference):
    """The gift."""

    id: str = Field(examples=["rw_01jwsample0000000000000000"], description="The reward's id.")
    type: RewardType = Field(examples=[RewardType.VOUCHER], description="What it is.")
    title: str = Field(examples=["Free coffee"], description="What the customer reads.")
    source: Source = Field(examples=[Source.GOAL], description="Why it was handed out.")
    voucher_id: str | None = Field(examples=[_VOUCHER], description="Its voucher, if it is one.")


class VoucherPart(Reference):
    """The voucher."""

    id: str = Field(examples=[_VOUCHER], description="The voucher's id.")
    type: str = Field(examples=["voucher"], description="Always `voucher`.")
    redeem_code: str | None = Field(
        examples=["FREECOFFEE"], description="The code; many vouchers may share one."
    )
    redeem_code_formats: list[str] = Field(
        examples=[["text", "qr", "barcode"]], description="How the code can be shown."
    )
    status: VoucherStatus = Field(examples=[VoucherStatus.ACTIVE], description="Where it stands.")


class IssuedVoucherPart(VoucherPart):
    """The new voucher."""

    title: str = Field(examples=["Free coffee"], description="What the customer reads.")
    issued_at: str = Field(examples=[_MOMENT], description="When it was issued.")
    expires_at: str | None = Field(
        examples=["2026-06-11T00:00:00Z"], description="When it ends; null for never."
    )
    source: Source = Field(examples=[Source.GOAL], description="Why it was issued.")


class RedeemedVoucherPart(VoucherPart):
    """The redeemed voucher."""

    status: VoucherStatus = Field(examples=[VoucherStatus.REDEEMED], description="Redeemed.")
    redeemed_via: RedeemedVia = Field(
        examples=[RedeemedVia.STAFF_SCANNER], description="The route by which it was redeemed."
    )
    redeemed_at: str = Field(examples=[_MOMENT], description="When it was redeemed.")


class ExpiredVoucherPart(VoucherPart):
    """The expired voucher."""

    status: VoucherStatus = Field(examples=[VoucherStatus.EXPIRED], description="Expired.")
    expires_at: str = Field(examples=[_MOMENT], description="When its time ended.")


class LotteryPart(Part):
    """How the draw came out."""

    ticket_id: str = Field(
        examples=["lt_01jwsample0000000000000000"], description="The ticket that was played."
    )
    variant_id: str = Field(
        examples=["lv_01jwsample0000000000000000"], description="The outcome drawn."
    )
    variant_type: VariantType = Field(
        examples=[VariantType.AWARD], description="What the outcome gives."
    )
    name: str = Field(examples=["Muffin"], description="The outcome's name.")
    greeting: str | None = Field(
        examples=["Lucky you!"], description="What the customer reads beside it."
    )
    voucher_id: str | None = Field(examples=[None], description="The voucher won, if any.")


class LotteryResult(Part):
    """The outcome of a draw."""

    type: VariantType = Field(description="What the outcome gives.")
    name: str = Field(description="The outcome's name.")
    greeting: str | None = Field(description="What the customer reads beside it.")


class BirthdayPart(Part):
    """The birthday; never the date of birth."""

    days_before: int = Field(examples=[0], description="How many days ahead of the day.")
    year: int = Field(examples=[2026], description="The year of the birthday.")
    voucher_id: str | None = Field(examples=[_VOUCHER], description="The gift, if it is a voucher.")


class InactivityPart(Part):
    """The silence."""

    days: int = Field(examples=[30], description="Days without activity.")
    last_activity_at: str | None = Field(examples=[_MOMENT], description="The last activity.")
    voucher_id: str | None = Field(examples=[None], description="The gift, if it is a voucher.")


class CampaignPart(Part):
    """The message."""

    id: str = Field(examples=["cmp_01jwsample0000000000000000"], description="The campaign's id.")
    name: str = Field(examples=["Rainy week"], description="The campaign's name.")
    channels: list[Channel] = Field(
        examples=[[Channel.PUSH, Channel.EMAIL]], description="The channels that accepted it."
    )
    voucher_id: str | None = Field(examples=[None], description="The attached voucher, if any.")


class VoidedOperationPart(Reference):
    """The line of the ledger that was undone, or that voided a voucher without one of its own."""

    id: str = Field(examples=["op_01jwsample0000000000000000"], description="The line's id.")
    kind: OperationKind = Field(
        examples=[OperationKind.STAMPS],
        description="What it stood for; `void` for a voucher that no line had issued.",
    )
    count: int = Field(examples=[2], description="The stamps it had added.")
    before: int | None = Field(
        examples=[5], description="Stamps on the card before the undoing, where it moved stamps."
    )
    after: int | None = Field(examples=[3], description="Stamps on the card after the undoing.")
    cycle: int | None = Field(examples=[1], description="The card's cycle after the undoing.")
    voucher_id: str | None = Field(
        examples=[None], description="The voucher it had issued or redeemed, if any."
    )
    voided_rewards: list[str] = Field(
        examples=[[]], description="The ids of the rewards that went with it."
    )
    voided_vouchers: list[str] = Field(
        examples=[[]], description="The ids of the vouchers that went with it."
    )
    voided_tickets: list[str] = Field(
        examples=[[]], description="The ids of the lottery tickets that went with it."
    )


class CardIssued(Event):
    """A card was issued to a customer, by any route."""

    card: IssuedCardPart
    issued_via: StampChannel = Field(
        examples=[StampChannel.API], description="The route by which it was issued."
    )


class CardSaved(Event):
    """The customer saved the card to a wallet; once per wallet."""

    card: WalletCardPart

    @property
    def platform(self) -> Platform:
        """The wallet."""
        return self.card.platform


class CardOpened(Event):
    """The customer opened the card; at most once per card and hour."""

    card: WalletCardPart

    @property
    def platform(self) -> Platform:
        """Where it was opened."""
        return self.card.platform


class StampAdded(Event):
    """Stamps were added to a card: one event per operation, whatever the count."""

    stamp: StampPart


class GoalReached(Event):
    """A card reached one of its goals; one event per goal."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    goal: GoalPart


class RewardIssued(Event):
    """A gift was handed out: an award, a voucher or a lottery prize."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    reward: RewardPart


class VoucherIssued(Event):
    """A voucher was issued, from any source."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    voucher: IssuedVoucherPart


class VoucherRedeemed(Event):
    """A voucher was redeemed. It happens once."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    voucher: RedeemedVoucherPart


class VoucherExpired(Event):
    """A voucher's time passed unused."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    voucher: ExpiredVoucherPart


class LotteryPlayed(Event):
    """A lottery ticket was played; carries the result."""

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    lottery: LotteryPart

    @property
    def result(self) -> LotteryResult:
        """How the draw came out."""
        part = self.lottery
        return LotteryResult(type=part.variant_type, name=part.name, greeting=part.greeting)


class BirthdayReached(Event):
    """A customer's birthday rule matched; once per customer, template and year."""

    birthday: BirthdayPart


class InactivityTrigger(Event):
    """A card saw no activity for the days its template sets; once per silent spell."""

    inactivity: InactivityPart


class CampaignSent(Event):
    """A campaign's message was accepted by at least one channel; one event per recipient card."""

    campaign: CampaignPart


class OperationVoided(Event):
    """An operation was undone: stamps, a voucher or a redemption. Only for those who ask for it."""

    opt_in: ClassVar[bool] = True

    card: GoalCardPart | None = Field(None, description="The card it happened on.")
    operation: VoidedOperationPart
