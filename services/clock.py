"""The test clock: time that a TEST business moves, and all that happens on the way."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.clock import Clock
from core.errors import Invalid
from db import BUSINESS, Database, Transaction, command, param, query
from events import (
    BirthdayReached,
    CampaignSent,
    InactivityTrigger,
    RewardIssued,
    VoucherExpired,
    VoucherIssued,
)
from events.log import bump_access, head_of
from models import Actor, Business, EventRow, Mode, decode_cursor, encode_cursor
from models.base import UtcTimestamp
from services.agenda import Span, pull_agenda
from services.due import first_due
from services.operation import MANAGERS, Input, Outcome, operation

MOST_DAYS = 366
MOST_EVENTS = 100
MOST_AHEAD = timedelta(days=50 * 366)
_ONLY_FORWARD = f"The clock moves forward, at most {MOST_DAYS} days at once."

_SET_OFFSET = command(
    update(Business)
    .where(col(Business.id) == BUSINESS, col(Business.clock_offset) < param("offset"))
    .values(clock_offset=param("offset"))
)
_CAUSED = (
    (col(EventRow.sequence) > param("after"))
    & (col(EventRow.occurred_at) <= param("upto", UtcTimestamp()))
    & col(EventRow.actor_id).is_(None)
)
_EVENTS = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, _CAUSED)
    .order_by(col(EventRow.sequence))
    .limit(MOST_EVENTS)
)
_COUNT = query(
    select(func.count()).select_from(EventRow).where(col(EventRow.business_id) == BUSINESS, _CAUSED)
)


@dataclass(kw_only=True)
class AdvanceTestClockInput(Input):
    """How far: to a moment, or by a span. At most 366 days in one call."""

    to: Annotated[datetime | None, Doc("To this moment; either this or a span.")] = None
    days: Annotated[int | None, Doc("By so many days of 24 hours.")] = None
    hours: Annotated[int | None, Doc("By so many hours.")] = None
    minutes: Annotated[int | None, Doc("By so many minutes.")] = None


@dataclass(kw_only=True)
class ClockAdvanced(Outcome):
    """The business with its new time, and what time caused on the way, in its order."""

    business: Business | None = None
    moved_from: Annotated[datetime | None, Doc("Its time before the call.")] = None
    moved_to: Annotated[datetime | None, Doc("Its time after the call.")] = None
    event_count: Annotated[
        int | None, Doc("How many events time caused; `events` holds the first hundred.")
    ] = None
    after: Annotated[
        str | None, Doc("The cursor of the log before the call: all of it is beyond.")
    ] = None


@operation(
    *MANAGERS,
    fires=(
        VoucherExpired,
        InactivityTrigger,
        BirthdayReached,
        RewardIssued,
        VoucherIssued,
        CampaignSent,
    ),
)
async def advance_test_clock(
    tx: Transaction, actor: Actor, input: AdvanceTestClockInput, now: datetime
) -> ClockAdvanced:
    """Move the clock of a TEST business forward, and let all happen that is due on the way.

    Expiry, birthdays, silence and campaigns happen in the order of time, each at its own moment
    and in a transaction of its own. A call that was cut off leaves the clock where it had come;
    the same call with its idempotency key goes on from there, to the same moment. The clock of
    the programme moves: keys, deliveries and ids go by real time.
    """
    if actor.business.mode is not Mode.TEST:
        raise Invalid("Only the clock of a TEST business can be moved.", "input")
    moved_to = _target(actor.business, input, now)
    head = await head_of(tx)
    return ClockAdvanced(
        business=actor.business,
        moved_from=now,
        moved_to=moved_to,
        after=encode_cursor(head.sequence),
    )


async def move_clock(
    database: Database,
    clock: Clock,
    business_id: str,
    outcome: ClockAdvanced,
    send: Callable[[], Awaitable[None]] | None = None,
) -> ClockAdvanced:
    """Go the way that `advance_test_clock` decided on; what was gone before is not gone again.

    The clock moves from one due thing to the next: each transaction sets it and does the thing.
    So whatever cuts it off, nothing is left out, and nothing happens before its time. `send`
    brings campaigns that have started to their end, before the clock moves on.
    """
    begin, end = outcome.moved_from, outcome.moved_to
    if begin is None or end is None or outcome.after is None:
        return outcome
    span = Span(begin, end)

    async def step(tx: Transaction) -> bool:
        """Whether there may be more."""
        business = await tx.get(Business, business_id)
        if business is None:
            raise LookupError(business_id)
        found = await first_due(tx, business, span)
        moment = end if found is None else found[1].at
        offset = math.ceil((moment - clock.now()).total_seconds())
        await tx.run(_SET_OFFSET, offset=offset)
        moved = business.with_values(clock_offset=max(business.clock_offset, offset))
        if found is not None:
            await found[1].do(tx, Actor(moved))
            return True
        await bump_access(tx)
        await pull_agenda(tx, moved, moment, moment)
        return False

    while await database.write(business_id, step):
        if send is not None:
            await send()
    after = decode_cursor(outcome.after)
    return await database.read(business_id, lambda tx: _told(tx, outcome, after, end))


async def _told(
    tx: Transaction, outcome: ClockAdvanced, after: int, end: datetime
) -> ClockAdvanced:
    return replace(
        outcome,
        business=await tx.get(Business, tx.business),
        event_count=await tx.one(_COUNT, after=after, upto=end),
        events=await tx.many(_EVENTS, after=after, upto=end),
    )


def _target(business: Business, input: AdvanceTestClockInput, now: datetime) -> datetime:
    """The moment to move to."""
    span = (input.days, input.hours, input.minutes)
    given = [number for number in span if number is not None]
    if (input.to is None) == (not given):
        raise Invalid("Give either `to`, or days, hours and minutes.", "input")
    if input.to is not None:
        moment, path = input.to, ["input", "to"]
    else:
        days, hours, minutes = (number or 0 for number in span)
        total = (days * 24 + hours) * 60 + minutes
        if min(given) < 0 or total > MOST_DAYS * 24 * 60:
            raise Invalid(_ONLY_FORWARD, "input")
        moment, path = now + timedelta(minutes=total), ["input"]
    if not now < moment <= now + timedelta(days=MOST_DAYS):
        raise Invalid(_ONLY_FORWARD, *path)
    if moment > business.real_time(now) + MOST_AHEAD:
        raise Invalid("A test clock is at most fifty years ahead.", *path)
    return moment
