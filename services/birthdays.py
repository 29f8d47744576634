"""Birthdays: the gift of a card template, once for each customer and year."""

from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy import exists, or_, update
from sqlmodel import col, select

from core.clock import local_moment
from db import BUSINESS, Transaction, command, param, query
from events import BirthdayReached, record
from events.catalogue import BirthdayPart
from models import (
    Actor,
    Agenda,
    BirthdayGift,
    Business,
    Card,
    CardTemplate,
    CardTemplateVersion,
    Customer,
    Source,
    VoucherTemplate,
    birthdays_on,
)
from services.agenda import Due, Span
from services.gifts import make_gift, tell_of_gift
from services.vouchers import card_part, customer_part

BIRTHDAY_HOUR = 9
"""The local hour at which birthdays are kept."""
MOST_LATE = timedelta(days=7)
SETTLES_AFTER = timedelta(days=30)
"""A birthday that was changed counts after this time: nobody has two in a year."""
_DAYS_AT_ONCE = 31
"""Days without a birthday that are passed over in one step."""

_RULES = query(
    select(CardTemplateVersion)
    .join(CardTemplate, col(CardTemplate.id) == col(CardTemplateVersion.template_id))
    .where(
        col(CardTemplate.business_id) == BUSINESS,
        col(CardTemplate.published_at).is_not(None),
        col(CardTemplateVersion.version) == col(CardTemplate.version),
        col(CardTemplateVersion.birthday_days_before).is_not(None),
    )
    .order_by(col(CardTemplate.id))
)
_AGENDA = query(select(Agenda).where(col(Agenda.business_id) == BUSINESS))
_KEPT = command(
    update(Agenda)
    .where(col(Agenda.business_id) == BUSINESS, col(Agenda.birthdays_done) < param("day"))
    .values(birthdays_done=param("day"))
)
_NEXT = query(
    select(Customer, Card)
    .join(Card, col(Card.customer_id) == col(Customer.id))
    .where(
        col(Customer.business_id) == BUSINESS,
        col(Customer.birth_month) == param("month"),
        col(Customer.birth_day) >= param("first_day"),
        col(Customer.birth_day) <= param("last_day"),
        col(Customer.merged_into).is_(None),
        or_(
            col(Customer.birthday_changed_at).is_(None),
            col(Customer.birthday_changed_at) <= param("settled"),
        ),
        col(Card.template_id) == param("template_id"),
        col(Card.created_at) <= param("at"),
        col(Card.deleted_at).is_(None),
        ~exists().where(
            col(BirthdayGift.business_id) == BUSINESS,
            col(BirthdayGift.customer_id) == col(Customer.id),
            col(BirthdayGift.template_id) == param("template_id"),
            col(BirthdayGift.year) == param("year"),
        ),
    )
    .order_by(col(Customer.birth_day))  # by the index: in the order of ids all would be read
    .limit(1)
)


async def next_birthday(tx: Transaction, business: Business, span: Span) -> Due | None:
    """The birthday that is kept next, `daysBefore` its day at 09:00.

    Whoever holds the card by then is meant. Up to seven days late it is kept all the same, at
    the moment it was due; later it is left out for this year.
    """
    rules = await tx.many(_RULES)
    agenda = await tx.maybe(_AGENDA) if rules else None
    if agenda is None:
        return None
    earliest = span.now - MOST_LATE
    day = max(agenda.birthdays_done + timedelta(days=1), earliest.astimezone(business.zone).date())
    passed: Due | None = None
    for _ in range(_DAYS_AT_ONCE):
        at = local_moment(day, BIRTHDAY_HOUR, business.zone)
        if at > span.upto:
            break
        due = await _first_of_day(tx, rules, day, at) if at >= earliest else None
        if due is not None:
            return due
        passed = Due(at, partial(_day_is_done, day))
        day += timedelta(days=1)
    return passed


async def _first_of_day(
    tx: Transaction, rules: list[CardTemplateVersion], day: date, at: datetime
) -> Due | None:
    for rule in rules:
        if rule.birthday_days_before is None or rule.created_at > at:
            continue
        birthday = day + timedelta(days=rule.birthday_days_before)
        month, first_day, last_day = birthdays_on(birthday)
        found = await tx.maybe(
            _NEXT,
            template_id=rule.template_id,
            month=month,
            first_day=first_day,
            last_day=last_day,
            year=birthday.year,
            at=at,
            settled=at - SETTLES_AFTER,
        )
        if found is not None:
            return Due(at, partial(_keep, rule, found, birthday.year, at))
    return None


async def _keep(
    rule: CardTemplateVersion,
    whose: tuple[Customer, Card],
    year: int,
    at: datetime,
    tx: Transaction,
    actor: Actor,
) -> None:
    """Tell of a birthday and hand out its gift, unless that was done for this year."""
    customer, card = whose
    kept = BirthdayGift(
        business_id=actor.business_id,
        customer_id=customer.id,
        template_id=rule.template_id,
        year=year,
        at=at,
    )
    if not await tx.add_if_new(kept):
        return
    template = await tx.get(VoucherTemplate, rule.birthday_voucher_template_id)
    gift = await make_gift(tx, actor, template, Source.BIRTHDAY, card, at) if template else None
    record(
        tx,
        actor,
        BirthdayReached(
            customer=customer_part(customer, card),
            card=card_part(card),
            birthday=BirthdayPart(
                days_before=rule.birthday_days_before or 0,
                year=year,
                voucher_id=gift.voucher.id if gift else None,
            ),
        ),
        at,
    )
    if gift is not None:
        tell_of_gift(tx, actor, gift, card, customer, at)


async def _day_is_done(day: date, tx: Transaction, actor: Actor) -> None:  # noqa: ARG001 -- as Due asks
    await tx.run(_KEPT, day=day)
