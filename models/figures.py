"""Figures: what a day came to, kept as rows so that a year of them is read at once."""

from datetime import date, datetime

from sqlalchemy import Index
from sqlmodel import Field

from models.base import Row, UtcTimestamp


class DailyFigure(Row, table=True):
    """One local day of a business, by location, staff login and card template (`""` for none).

    Counted in the transaction that changes anything; undoing takes back from the day, and the
    place, it was done. `cohort_redeemed` counts, on the day vouchers were issued, how many of
    them have been redeemed since. `last_at` is when its staff was last at work.
    """

    __tablename__ = "daily_figure"
    __table_args__ = (Index("figure_of_staff", "business_id", "staff_id", "day"),)

    business_id: str = Field(primary_key=True, foreign_key="business.id")
    day: date = Field(primary_key=True)
    location_id: str = Field(primary_key=True)
    staff_id: str = Field(primary_key=True)
    template_id: str = Field(primary_key=True)
    new_cards: int = 0
    deleted_cards: int = 0
    stamp_operations: int = 0
    stamps: int = 0
    awards_issued: int = 0
    vouchers_issued: int = 0
    vouchers_redeemed: int = 0
    cohort_redeemed: int = 0
    vouchers_expired: int = 0
    birthday_gifts: int = 0
    lottery_plays: int = 0
    notifications: int = 0
    last_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)


COUNTERS = (
    "new_cards",
    "deleted_cards",
    "stamp_operations",
    "stamps",
    "awards_issued",
    "vouchers_issued",
    "vouchers_redeemed",
    "cohort_redeemed",
    "vouchers_expired",
    "birthday_gifts",
    "lottery_plays",
    "notifications",
)
"""The columns that count."""
