"""Figures, as GraphQL shows them: the dashboard's start page and the pulse of the day."""

from datetime import date as Day  # noqa: N812 -- a field of this file is called date
from datetime import datetime
from typing import Any

import strawberry

import resolvers.overview
from schema.base import Info, plain, represents
from schema.cards import CardTemplate
from schema.inputs import register_enum
from schema.staff import Staff
from services import overview as figures

register_enum(figures.Period)


@represents(figures.Figure)
@strawberry.type(description="A number beside what it was in the period before.")
class Figure:
    """To show growth by."""

    value: int = strawberry.field(description="In the period asked for.")
    previous: int | None = strawberry.field(
        description="In the period before; null where nothing was counted yet."
    )


@represents(figures.Bucket)
@strawberry.type(description="A bar of a histogram.")
class StampBucket:
    """One number of stamps."""

    stamps: int = strawberry.field(description="Stamps on the card now.")
    customers: int = strawberry.field(description="How many customers have so many.")


@represents(figures.Histogram)
@strawberry.type(description="Who is close to the reward, of one template; as it is now.")
class StampHistogram:
    """From no stamp to a full card."""

    template: CardTemplate = strawberry.field(description="The card template.")
    buckets: list[StampBucket] = strawberry.field(description="A bar for each number of stamps.")


@represents(figures.RewardFigures)
@strawberry.type(description="What was handed out in the period, and what came back.")
class RewardFigures:
    """Rates are 0–1."""

    awards_issued: int = strawberry.field(description="Gifts handed over at once.")
    vouchers_issued: int = strawberry.field(description="Vouchers issued.")
    vouchers_redeemed: int = strawberry.field(description="Vouchers redeemed, whenever issued.")
    redemption_rate: float | None = strawberry.field(
        description="Redeemed by issued, both in the period: above 1 where old ones came back. "
        "Null where none was issued."
    )
    cohort_rate: float | None = strawberry.field(
        description="The share of those issued in the period that was redeemed by now, 0–1. "
        "Null where none was issued."
    )


@represents(figures.StaffFigures)
@strawberry.type(description="What one staff login did in the period.")
class StaffFigures:
    """A line of the staff table."""

    staff: Staff = strawberry.field(description="The staff login.")
    new_cards: int = strawberry.field(description="Cards it issued.")
    stamp_operations: int = strawberry.field(description="How often it added stamps.")
    stamps: int = strawberry.field(description="Stamps it added.")
    vouchers_issued: int = strawberry.field(description="Vouchers its work issued.")
    vouchers_redeemed: int = strawberry.field(description="Vouchers it redeemed.")
    last_activity_at: datetime | None = strawberry.field(
        description="When it last did any of this, in the period or not."
    )


@represents(figures.DayFigures)
@strawberry.type(description="What one day came to.")
class DayFigures:
    """A point of the series."""

    date: Day = strawberry.field(description="The local day of the business.")
    new_cards: int = strawberry.field(description="Cards issued.")
    stamp_operations: int = strawberry.field(description="How often stamps were added.")
    vouchers_redeemed: int = strawberry.field(description="Vouchers redeemed.")


@represents(figures.CustomerFigures)
@strawberry.type(description="Customers with a card in use, as it is now.")
class CustomerFigures:
    """Quiet by the rule of the inactivity trigger; after 30 days where a template has none."""

    active: int = strawberry.field(description="Those with a card that is not quiet.")
    inactive: int = strawberry.field(description="Those whose cards are all quiet.")


@represents(figures.Usage)
@strawberry.type(description="What is counted for a plan, in the calendar month of the date.")
class Usage:
    """Counted and shown; no stamp is ever refused for it."""

    card_operations: int = strawberry.field(
        description="One for each time stamps were added, each voucher issued, each redeemed."
    )
    staff_seats: int = strawberry.field(description="Staff logins in use now.")
    notifications: int = strawberry.field(
        description="Messages of campaigns that a channel accepted."
    )


@represents(figures.Overview)
@strawberry.type(description="The dashboard's start page, in one read.")
class Overview:
    """Period edges are local days of the business; what was undone does not count."""

    first_day: Day = strawberry.field(description="The first day of the period.")
    last_day: Day = strawberry.field(description="The last day of the period.")
    total_cards: Figure = strawberry.field(description="Cards in use at the period's end.")
    new_cards: Figure = strawberry.field(description="Cards issued.")
    stamp_operations: Figure = strawberry.field(description="How often stamps were added.")
    birthday_gifts: Figure = strawberry.field(description="Rewards for birthdays.")
    stamp_histogram: list[StampHistogram] = strawberry.field(
        description="Who is close to the reward, by template."
    )
    rewards: RewardFigures = strawberry.field(description="Gifts and vouchers.")
    staff: list[StaffFigures] = strawberry.field(
        description="Every login in use, and whoever else did something in the period."
    )
    series: list[DayFigures] = strawberry.field(description="Each day of the period.")
    customers: CustomerFigures = strawberry.field(description="Who still comes.")
    usage: Usage = strawberry.field(description="What is counted for a plan.")


@represents(figures.Pulse)
@strawberry.type(description="The figures of today, as they are now.")
class Pulse:
    """Today is the local day of the business."""

    stamp_operations_today: int = strawberry.field(description="How often stamps were added.")
    new_cards_today: int = strawberry.field(description="Cards issued.")
    vouchers_redeemed_today: int = strawberry.field(description="Vouchers redeemed.")
    open_vouchers: int = strawberry.field(description="Vouchers that can be redeemed now.")


async def resolve_overview(
    root: Any,  # noqa: ARG001 -- Strawberry passes it
    info: Info,
    period: figures.Period = figures.Period.MONTH,
    date: Any = strawberry.UNSET,
    location_id: Any = strawberry.UNSET,
    template_id: Any = strawberry.UNSET,
) -> Any:
    """The overview that is asked for; a period of null is a month too."""
    asked = figures.Asked(
        period=period or figures.Period.MONTH,
        date=plain(date),
        location_id=plain(location_id),
        template_id=plain(template_id),
    )
    return await resolvers.overview.overview(info.context, asked)
