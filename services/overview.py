"""Figures, as they are read: the dashboard's start page and the pulse of the day.

Both read daily rows and indexes of what is in use now, never the ledger or the log: a year of a
busy café costs them no more than a week.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Day  # noqa: N812 -- fields of this file are called date
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import and_, case, func, or_, true
from sqlmodel import col, select

from core.errors import BadUserInput
from db import BUSINESS, Query, Transaction, among, param, query
from models import (
    Actor,
    Card,
    CardTemplate,
    CardTemplateVersion,
    DailyFigure,
    Location,
    Role,
    Staff,
    TemplateStatus,
    Voucher,
    VoucherStatus,
)
from models.base import UtcTimestamp
from models.cards import silent_since
from models.figures import COUNTERS

QUIET_DAYS = 30
"""Days without activity after which a card is quiet where its template does not say."""
_EARLIEST, _LATEST = Day(1970, 1, 1), Day(9000, 1, 1)


class Period(StrEnum):
    """How long a period is; its edges are those of the business's local days.

    DAY: one day.
    WEEK: Monday to Sunday.
    MONTH: a calendar month.
    """

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def around(self, day: Day) -> "Span":
        """The period in which a day lies."""
        if self is Period.DAY:
            return Span(day, day + timedelta(days=1))
        if self is Period.WEEK:
            monday = day - timedelta(days=day.weekday())
            return Span(monday, monday + timedelta(days=7))
        first = day.replace(day=1)
        return Span(first, (first + timedelta(days=31)).replace(day=1))


@dataclass(frozen=True)
class Span:
    """Days from the first to before the last."""

    first: Day
    end: Day

    def __contains__(self, day: Day) -> bool:
        return self.first <= day < self.end

    def days(self) -> list[Day]:
        """Each day."""
        return [self.first + timedelta(days=n) for n in range((self.end - self.first).days)]


@dataclass(frozen=True)
class Asked:
    """What an overview is asked for."""

    period: Period = Period.MONTH
    date: Day | None = None
    location_id: str | None = None
    template_id: str | None = None


@dataclass(frozen=True)
class Figure:
    """A number, and what it was in the period before; None where there was nothing yet."""

    value: int
    previous: int | None


@dataclass(frozen=True)
class Bucket:
    """How many customers have so many stamps."""

    stamps: int
    customers: int


@dataclass(frozen=True)
class Histogram:
    """Who is close to the reward, of one template."""

    template: CardTemplate
    buckets: list[Bucket]


@dataclass(frozen=True)
class RewardFigures:
    """What was handed out, and what came back."""

    awards_issued: int
    vouchers_issued: int
    vouchers_redeemed: int
    redemption_rate: float | None
    cohort_rate: float | None


@dataclass(frozen=True)
class StaffFigures:
    """What one staff login did."""

    staff: Staff
    new_cards: int
    stamp_operations: int
    stamps: int
    vouchers_issued: int
    vouchers_redeemed: int
    last_activity_at: datetime | None


@dataclass(frozen=True)
class DayFigures:
    """What one day came to."""

    date: Day
    new_cards: int
    stamp_operations: int
    vouchers_redeemed: int


@dataclass(frozen=True)
class CustomerFigures:
    """Who still comes."""

    active: int
    inactive: int


@dataclass(frozen=True)
class Usage:
    """What is counted for a plan, in the calendar month of the date."""

    card_operations: int
    staff_seats: int
    notifications: int


@dataclass(frozen=True)
class Overview:
    """The dashboard's start page."""

    first_day: Day
    last_day: Day
    total_cards: Figure
    new_cards: Figure
    stamp_operations: Figure
    birthday_gifts: Figure
    stamp_histogram: list[Histogram]
    rewards: RewardFigures
    staff: list[StaffFigures]
    series: list[DayFigures]
    customers: CustomerFigures
    usage: Usage


@dataclass(frozen=True)
class Pulse:
    """The figures of today, as they are now."""

    stamp_operations_today: int
    new_cards_today: int
    vouchers_redeemed_today: int
    open_vouchers: int


_Narrowed = tuple[bool, bool]
"""Whether a statement asks for one location only, and for one template only."""
_SUMS = [func.coalesce(func.sum(getattr(DailyFigure, name)), 0).label(name) for name in COUNTERS]
_GROWTH = col(DailyFigure.new_cards) - col(DailyFigure.deleted_cards)
_TEMPLATES: Query[tuple[CardTemplate, CardTemplateVersion]] = query(
    select(CardTemplate, CardTemplateVersion)
    .join(CardTemplateVersion, col(CardTemplateVersion.template_id) == col(CardTemplate.id))
    .where(
        col(CardTemplate.business_id) == BUSINESS,
        col(CardTemplate.published_at).is_not(None),
        col(CardTemplateVersion.version) == col(CardTemplate.version),
    )
    .order_by(col(CardTemplate.id))
)
_LAST_AT = (
    select(DailyFigure.last_at)
    .where(
        col(DailyFigure.business_id) == BUSINESS,
        col(DailyFigure.staff_id) == col(Staff.id),
        col(DailyFigure.last_at).is_not(None),
    )
    .order_by(col(DailyFigure.day).desc(), col(DailyFigure.last_at).desc())
    .limit(1)
    .correlate(Staff)
    .scalar_subquery()
)
_STAFF: Query[tuple[Staff, datetime | None]] = query(
    select(Staff, _LAST_AT).where(col(Staff.business_id) == BUSINESS).order_by(col(Staff.id))
)


async def overview(tx: Transaction, actor: Actor, asked: Asked, now: datetime) -> Overview:
    """The dashboard's start page: figures of a period beside those of the period before.

    A scanner sees its own location. BadUserInput for a location or template that is not there.
    """
    asked = await _allowed(tx, actor, asked)
    zone = actor.business.zone
    day = asked.date or now.astimezone(zone).date()
    if not _EARLIEST <= day < _LATEST:
        raise BadUserInput("No figures are kept of that time.")
    span, month = asked.period.around(day), Period.MONTH.around(day)
    before = asked.period.around(span.first - timedelta(days=1))
    narrowed = _narrowed(asked)
    filters = {"location_id": asked.location_id, "template_id": asked.template_id}

    reach = Span(min(before.first, month.first), max(span.end, month.end))
    rows = await tx.many(_sums_by("day", narrowed), first=reach.first, end=reach.end, **filters)
    days = {row[0]: dict(zip(COUNTERS, row[1:], strict=True)) for row in rows}
    sums, earlier, monthly = (_sum(days, part) for part in (span, before, month))
    started, since, after = await tx.one(
        _growth(narrowed), first=span.first, end=span.end, **filters
    )
    has_before = started is not None and started < span.first

    templates = [
        (template, version)
        for template, version in await tx.many(_TEMPLATES)
        if asked.template_id in (None, template.id)
    ]
    stamps: dict[str, dict[int, int]] = {template.id: {} for template, _ in templates}
    for template_id, place, cards in await tx.many(_cards_by_stamps(narrowed), **filters):
        stamps.setdefault(template_id, {})[place] = cards
    cards_now = sum(sum(places.values()) for places in stamps.values())

    def beside(name: str) -> Figure:
        return Figure(sums[name], earlier[name] if has_before else None)

    return Overview(
        first_day=span.first,
        last_day=span.end - timedelta(days=1),
        total_cards=Figure(cards_now - after, cards_now - since if has_before else None),
        new_cards=beside("new_cards"),
        stamp_operations=beside("stamp_operations"),
        birthday_gifts=beside("birthday_gifts"),
        stamp_histogram=[
            _histogram(template, version.stamps_required, stamps[template.id])
            for template, version in templates
            if stamps[template.id] or template.status is TemplateStatus.PUBLISHED
        ],
        rewards=RewardFigures(
            awards_issued=sums["awards_issued"],
            vouchers_issued=sums["vouchers_issued"],
            vouchers_redeemed=sums["vouchers_redeemed"],
            redemption_rate=_rate(sums["vouchers_redeemed"], sums["vouchers_issued"]),
            cohort_rate=_rate(sums["cohort_redeemed"], sums["vouchers_issued"]),
        ),
        **await _staff(tx, asked, narrowed, span, monthly),
        series=[
            DayFigures(
                date=day,
                new_cards=figures["new_cards"],
                stamp_operations=figures["stamp_operations"],
                vouchers_redeemed=figures["vouchers_redeemed"],
            )
            for day in span.days()
            for figures in [days.get(day, _NOTHING)]
        ],
        customers=await _customers(
            tx, actor, [item for _, item in templates], narrowed, filters, now
        ),
    )


async def pulse(tx: Transaction, actor: Actor, now: datetime) -> Pulse:
    """What today came to so far; a scanner sees its own location."""
    asked = await _allowed(tx, actor, Asked())
    narrowed, today = _narrowed(asked), now.astimezone(actor.business.zone).date()
    row = await tx.maybe(
        _sums_by("day", narrowed),
        first=today,
        end=today + timedelta(days=1),
        location_id=asked.location_id,
    )
    figures = dict(zip(COUNTERS, row[1:], strict=True)) if row else _NOTHING
    return Pulse(
        stamp_operations_today=figures["stamp_operations"],
        new_cards_today=figures["new_cards"],
        vouchers_redeemed_today=figures["vouchers_redeemed"],
        open_vouchers=await tx.one(_open_vouchers(narrowed[0]), location_id=asked.location_id),
    )


_NOTHING = dict.fromkeys(COUNTERS, 0)


async def _allowed(tx: Transaction, actor: Actor, asked: Asked) -> Asked:
    """What is asked, within what the actor may see."""
    if actor.role is Role.SCANNER:
        location_id: str | None = actor.location_id or ""
    else:
        location_id = asked.location_id
        if location_id is not None and await tx.get(Location, location_id) is None:
            raise BadUserInput("There is no such location.")
    template_id = asked.template_id
    if template_id is not None and await tx.get(CardTemplate, template_id) is None:
        raise BadUserInput("There is no such card template.")
    return Asked(asked.period, asked.date, location_id, template_id)


def _narrowed(asked: Asked) -> _Narrowed:
    return asked.location_id is not None, asked.template_id is not None


def _sum(days: dict[Day, dict[str, int]], span: Span) -> dict[str, int]:
    within = [figures for day, figures in days.items() if day in span]
    return {name: sum(figures[name] for figures in within) for name in COUNTERS}


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _histogram(template: CardTemplate, most: int, stamps: dict[int, int]) -> Histogram:
    places = range(max([most, *stamps]) + 1)
    return Histogram(template, [Bucket(place, stamps.get(place, 0)) for place in places])


async def _staff(
    tx: Transaction, asked: Asked, narrowed: _Narrowed, span: Span, monthly: dict[str, int]
) -> dict[str, Any]:
    """The staff table, and what a plan counts: seats are counted from the same rows."""
    rows = await tx.many(
        _sums_by("staff_id", narrowed),
        first=span.first,
        end=span.end,
        location_id=asked.location_id,
        template_id=asked.template_id,
    )
    did = {row[0]: dict(zip(COUNTERS, row[1:], strict=True)) for row in rows}
    table, seats = [], 0
    for staff, last_at in await tx.many(_STAFF):
        is_seat = staff.disabled_at is None and asked.location_id in (None, staff.location_id or "")
        seats += is_seat
        if not is_seat and staff.id not in did:
            continue
        figures = did.get(staff.id, _NOTHING)
        table.append(
            StaffFigures(
                staff=staff,
                new_cards=figures["new_cards"],
                stamp_operations=figures["stamp_operations"],
                stamps=figures["stamps"],
                vouchers_issued=figures["vouchers_issued"],
                vouchers_redeemed=figures["vouchers_redeemed"],
                last_activity_at=last_at,
            )
        )
    operations = ("stamp_operations", "vouchers_issued", "vouchers_redeemed")
    usage = Usage(
        card_operations=sum(monthly[name] for name in operations),
        staff_seats=seats,
        notifications=monthly["notifications"],
    )
    return {"staff": table, "usage": usage}


async def _customers(
    tx: Transaction,
    actor: Actor,
    versions: Sequence[CardTemplateVersion],
    narrowed: _Narrowed,
    filters: dict[str, Any],
    now: datetime,
) -> CustomerFigures:
    """Who has a card that is not quiet now, by the rule that the inactivity trigger goes by."""
    rules: dict[int, list[str]] = {}
    for version in versions:
        rules.setdefault(version.inactivity_days or QUIET_DAYS, []).append(version.template_id)
    values = dict(filters)
    for number, (days, templates) in enumerate(rules.items()):
        values[f"templates_{number}"] = templates
        values[f"since_{number}"] = silent_since(days, now, actor.business.zone)
    if not rules:
        return CustomerFigures(0, 0)
    everybody, active = await tx.one(_active(len(rules), narrowed), **values)
    return CustomerFigures(active, everybody - active)


@cache
def _sums_by(name: str, narrowed: _Narrowed) -> Query[Any]:
    """All counters within some days, by day or by staff login."""
    group: Any = getattr(DailyFigure, name)
    return query(
        select(group, *_SUMS)
        .where(
            col(DailyFigure.business_id) == BUSINESS,
            col(DailyFigure.day) >= param("first"),
            col(DailyFigure.day) < param("end"),
            *_only(DailyFigure, narrowed),
        )
        .group_by(group)
    )


@cache
def _growth(narrowed: _Narrowed) -> Query[Any]:
    """The first day of any figure; by how much cards grew since a period began, and after it."""
    only = _only(DailyFigure, narrowed)
    started = (
        select(func.min(DailyFigure.day))
        .where(col(DailyFigure.business_id) == BUSINESS, *only)
        .scalar_subquery()
    )
    after = case((col(DailyFigure.day) >= param("end"), _GROWTH), else_=0)
    return query(
        select(
            started, func.coalesce(func.sum(_GROWTH), 0), func.coalesce(func.sum(after), 0)
        ).where(
            col(DailyFigure.business_id) == BUSINESS,
            col(DailyFigure.day) >= param("first"),
            *only,
        )
    )


@cache
def _cards_by_stamps(narrowed: _Narrowed) -> Query[Any]:
    return query(
        select(Card.template_id, Card.stamps, func.count())
        .where(
            col(Card.business_id) == BUSINESS,
            col(Card.deleted_at).is_(None),
            *_only(Card, narrowed),
        )
        .group_by(col(Card.template_id), col(Card.stamps))
    )


@cache
def _active(rules: int, narrowed: _Narrowed) -> Query[Any]:
    """How many customers have cards in use, and how many have one that is not quiet."""
    stirs = [
        and_(
            among(col(Card.template_id), f"templates_{number}") if rules > 1 else true(),
            col(Card.last_activity_at) > param(f"since_{number}", UtcTimestamp()),
        )
        for number in range(rules)
    ]
    holders = (
        select(func.max(case((or_(*stirs), 1), else_=0)).label("is_active"))
        .where(
            col(Card.business_id) == BUSINESS,
            col(Card.deleted_at).is_(None),
            *_only(Card, narrowed),
        )
        .group_by(col(Card.customer_id))
        .subquery()
    )
    return query(select(func.count(), func.coalesce(func.sum(holders.c.is_active), 0)))


@cache
def _open_vouchers(at_location: bool) -> Query[int]:
    return query(
        select(func.count())
        .select_from(Voucher)
        .where(
            col(Voucher.business_id) == BUSINESS,
            col(Voucher.status) == VoucherStatus.ACTIVE,
            *_only(Voucher, (at_location, False)),
        )
    )


def _only(row: Any, narrowed: _Narrowed) -> list[Any]:
    """The conditions of a statement that asks for one location, one template, or both."""
    at_location, of_template = narrowed
    conditions = []
    if at_location:
        conditions.append(row.location_id == param("location_id"))
    if of_template:
        conditions.append(row.template_id == param("template_id"))
    return conditions
