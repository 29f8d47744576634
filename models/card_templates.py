"""Card templates: the promise a business makes, its versions and its goals."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words

MAX_STAMPS = 50
MAX_GOALS = 10


class TemplateStatus(StrEnum):
    """Where a template is in its life.

    DRAFT: being written; no card goes by it yet.
    PUBLISHED: cards are issued by it.
    ARCHIVED: no longer issued; cards that exist go on.
    """

    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class EarningRule(StrEnum):
    """What earns a stamp.

    PER_ORDER: every order earns the stamps that staff add.
    BY_AMOUNT: every so much spent earns one stamp.
    """

    PER_ORDER = "per_order"
    BY_AMOUNT = "by_amount"


class Overflow(StrEnum):
    """What becomes of stamps beyond a full card.

    CARRY_OVER: they count for the next cycle.
    DISCARD: they are lost.
    """

    CARRY_OVER = "carry_over"
    DISCARD = "discard"


class RewardType(StrEnum):
    """What waits at a goal.

    AWARD: a gift handed over at once.
    VOUCHER: a voucher, to be redeemed later.
    LOTTERY: a lottery ticket.
    """

    AWARD = "award"
    VOUCHER = "voucher"
    LOTTERY = "lottery"


class VariantType(StrEnum):
    """What one outcome of a lottery gives.

    AWARD: a gift handed over at once.
    VOUCHER: a voucher, to be redeemed later.
    TRY_AGAIN: another ticket.
    NO_PRIZE: nothing.
    """

    AWARD = "award"
    VOUCHER = "voucher"
    TRY_AGAIN = "try_again"
    NO_PRIZE = "no_prize"


class CardTemplate(Row, table=True):
    """A stamp card as the owner defines it; `version` is the one that cards are issued by.

    Before the first publication version 1 is the draft; after it `draft_version` is the version
    that waits to be published, if there is one.
    """

    __tablename__ = "card_template"
    prefix: ClassVar[str] = "tpl"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    name: str
    version: int = 1
    draft_version: int | None = None
    created_at: datetime = Field(sa_type=UtcTimestamp)
    published_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    published_by: str | None = None
    archived_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    archived_by: str | None = None
    joining_open: bool = False
    """Whether anybody may ask for such a card on its join page."""
    joining_text: str | None = None
    """What the join page tells of privacy, beside our own words."""

    @property
    def status(self) -> TemplateStatus:
        """DRAFT until published, ARCHIVED when it is no longer issued."""
        if self.archived_at is not None:
            return TemplateStatus.ARCHIVED
        return TemplateStatus.PUBLISHED if self.published_at else TemplateStatus.DRAFT


class CardTemplateVersion(Row, table=True):
    """The rules of one version; append-only once published. An open cycle keeps its version."""

    __tablename__ = "card_template_version"
    __table_args__ = (UniqueConstraint("template_id", "version"),)
    prefix: ClassVar[str] = "tpv"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    template_id: str = Field(foreign_key="card_template.id")
    version: int
    design: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    stamps_required: int
    earning_rule: EarningRule = Field(default=EarningRule.PER_ORDER, sa_type=words(EarningRule))
    amount_per_stamp: int | None = Field(default=None, sa_type=BigInteger)
    overflow: Overflow = Field(default=Overflow.CARRY_OVER, sa_type=words(Overflow))
    max_stamps_per_operation: int | None = None
    max_stamps_per_day: int | None = None
    min_seconds_between: int | None = None
    birthday_days_before: int | None = None
    birthday_voucher_template_id: str | None = Field(
        default=None, foreign_key="voucher_template.id"
    )
    inactivity_days: int | None = 30
    auto_play: bool = False
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by: str | None = None


class Goal(Row, table=True):
    """A mark on the card, and the reward that waits there."""

    __table_args__ = (UniqueConstraint("version_id", "position"),)
    prefix: ClassVar[str] = "goal"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    version_id: str = Field(foreign_key="card_template_version.id")
    position: int
    stamps: int
    reward_type: RewardType = Field(sa_type=words(RewardType))
    title: str
    description: str | None = None
    image_url: str | None = None
    voucher_template_id: str | None = Field(default=None, foreign_key="voucher_template.id")


class LotteryVariant(Row, table=True):
    """One outcome of a goal's lottery; probabilities in hundredths of a percent sum to 10 000."""

    __tablename__ = "lottery_variant"
    __table_args__ = (UniqueConstraint("goal_id", "position"),)
    prefix: ClassVar[str] = "lv"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    goal_id: str = Field(foreign_key="goal.id")
    position: int
    type: VariantType = Field(sa_type=words(VariantType))
    probability: int
    name: str
    greeting: str | None = None
    stock: int | None = None
    voucher_template_id: str | None = Field(default=None, foreign_key="voucher_template.id")
