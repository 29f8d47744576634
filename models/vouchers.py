"""Vouchers: a reward in hand, from its issue to its redemption or expiry."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import ClassVar
from zoneinfo import ZoneInfo

from sqlalchemy import Index
from sqlmodel import Field

from core.errors import Code, Refused, VoucherAlreadyRedeemed, VoucherHasExpired
from models.base import Row, UtcTimestamp, words
from models.card_templates import TemplateStatus


class Validity(StrEnum):
    """How long a voucher lasts, counted from its issue.

    UNLIMITED: for ever.
    DAYS: to the end of the day so many days on.
    MONTHS: to the end of the day so many months on.
    FIXED_DATE: to the end of a given day.
    """

    UNLIMITED = "unlimited"
    DAYS = "days"
    MONTHS = "months"
    FIXED_DATE = "fixed_date"


class RedemptionMode(StrEnum):
    """How a business lets its vouchers be redeemed.

    SELF_REDEEM: the customer redeems it.
    STAFF_SCAN: staff scan it.
    REDEEM_CODE: its code is typed in or read at the till.
    """

    SELF_REDEEM = "self_redeem"
    STAFF_SCAN = "staff_scan"
    REDEEM_CODE = "redeem_code"


class VoucherStatus(StrEnum):
    """Where a voucher is in its life: only forward, save by a recorded reversal.

    ISSUED: handed out, not yet in force.
    ACTIVE: can be redeemed.
    REDEEMED: was redeemed.
    EXPIRED: its time passed before it was redeemed.
    VOIDED: was taken back.
    """

    ISSUED = "issued"
    ACTIVE = "active"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    VOIDED = "voided"


class RedeemedVia(StrEnum):
    """The route by which a voucher was redeemed.

    STAFF_SCANNER: staff scanned it.
    SELF_SERVICE_KIOSK: the customer scanned it at a kiosk.
    SELF_REDEEM: the customer redeemed it on the card.
    POS: a point of sale.
    API: a call of this API.
    """

    STAFF_SCANNER = "staff_scanner"
    SELF_SERVICE_KIOSK = "self_service_kiosk"
    SELF_REDEEM = "self_redeem"
    POS = "pos"
    API = "api"


class Source(StrEnum):
    """Why a reward or voucher was handed out.

    GOAL: a goal of the card was reached.
    LOTTERY: a lottery ticket won it.
    BIRTHDAY: the customer's birthday.
    INACTIVITY: the customer had not come for long.
    CAMPAIGN: a campaign carried it.
    MANUAL: staff gave it by hand.
    API: a call of this API.
    """

    GOAL = "goal"
    LOTTERY = "lottery"
    BIRTHDAY = "birthday"
    INACTIVITY = "inactivity"
    CAMPAIGN = "campaign"
    MANUAL = "manual"
    API = "api"


def expiry(
    validity: Validity, number: int | None, fixed: date | None, issued: datetime, zone: ZoneInfo
) -> datetime | None:
    """When a voucher issued now ends: the end of its last local day, None for never.

    Months clamp: 31 January + 1 month is the last day of February.
    """
    today = issued.astimezone(zone).date()
    if validity is Validity.DAYS and number is not None:
        last = today + timedelta(days=number)
    elif validity is Validity.MONTHS and number is not None:
        months = today.year * 12 + today.month - 1 + number
        year, month = months // 12, months % 12 + 1
        last = date(year, month, min(today.day, calendar.monthrange(year, month)[1]))
    elif validity is Validity.FIXED_DATE and fixed is not None:
        last = fixed
    else:
        return None
    return datetime.combine(last + timedelta(days=1), time(), zone).astimezone(UTC)


class VoucherTemplate(Row, table=True):
    """A voucher as the owner defines it, to be issued many times."""

    __tablename__ = "voucher_template"
    prefix: ClassVar[str] = "vt"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    title: str
    description: str | None = None
    image_url: str | None = None
    redeem_code: str | None = None
    generates_code: bool = False
    validity: Validity = Field(default=Validity.UNLIMITED, sa_type=words(Validity))
    validity_number: int | None = None
    validity_date: date | None = None
    redemption_mode: RedemptionMode = Field(
        RedemptionMode.STAFF_SCAN, sa_type=words(RedemptionMode)
    )
    created_at: datetime = Field(sa_type=UtcTimestamp)
    archived_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    archived_by: str | None = None

    @property
    def status(self) -> TemplateStatus:
        """PUBLISHED, or ARCHIVED when it is no longer issued."""
        return TemplateStatus.PUBLISHED if self.archived_at is None else TemplateStatus.ARCHIVED


class Voucher(Row, table=True):
    """One voucher. Its token is its identity; a redeem code may be on a thousand others.

    `staff_id` and `location_id` say who issued it and where.
    """

    prefix: ClassVar[str] = "v"
    __table_args__ = (
        Index("voucher_of_card", "business_id", "card_id", "id"),
        Index("voucher_by_code", "business_id", "redeem_code"),
        Index("voucher_by_status", "business_id", "status", "id", "location_id"),
        Index("voucher_by_expiry", "business_id", "status", "expires_at"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    card_id: str | None = Field(default=None, foreign_key="card.id")
    template_id: str | None = Field(default=None, foreign_key="voucher_template.id")
    operation_id: str | None = None
    staff_id: str | None = None
    location_id: str | None = None
    title: str
    description: str | None = None
    image_url: str | None = None
    redeem_code: str | None = None
    redemption_mode: RedemptionMode = Field(
        RedemptionMode.STAFF_SCAN, sa_type=words(RedemptionMode)
    )
    token: str = Field(unique=True)
    source: Source = Field(sa_type=words(Source))
    goal_position: int | None = None
    cycle: int | None = None
    campaign_id: str | None = None
    status: VoucherStatus = Field(sa_type=words(VoucherStatus))
    valid_from: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    issued_at: datetime = Field(sa_type=UtcTimestamp)
    redeemed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    redeemed_via: RedeemedVia | None = Field(default=None, sa_type=words(RedeemedVia))
    redeemed_by_id: str | None = None
    voided_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    voided_by_id: str | None = None

    @property
    def type(self) -> str:
        """Always `voucher`: the only type the wire knows."""
        return "voucher"

    @property
    def redeem_code_formats(self) -> list[str]:
        """How the redeem code can be shown; empty without one."""
        return ["text", "qr", "barcode"] if self.redeem_code else []

    def check_redeemable(self, now: datetime) -> None:
        """Refuse unless the voucher can be redeemed at this moment.

        Its validity is the half-open interval from `valid_from` to `expires_at`.
        """
        if self.status is VoucherStatus.REDEEMED and self.redeemed_at is not None:
            raise VoucherAlreadyRedeemed(self.redeemed_at, self.redeemed_by_id)
        if self.status is VoucherStatus.VOIDED:
            raise Refused(Code.VOUCHER_NOT_ACTIVE, "This voucher was voided.", "input", "voucher")
        is_expired = self.status is VoucherStatus.EXPIRED
        if self.expires_at is not None and (is_expired or now >= self.expires_at):
            raise VoucherHasExpired(self.expires_at)
        if self.valid_from is not None and now < self.valid_from:
            raise Refused(
                Code.VOUCHER_NOT_ACTIVE, "This voucher is not valid yet.", "input", "voucher"
            )
