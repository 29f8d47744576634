"""The agenda: what is due, when to look again, and who looks.

A job says what is due first; `services/due.py` lists the jobs and does what they say. This file
knows none of them, so that whatever makes something due can say so.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, or_, update
from sqlmodel import col, select

from db import BUSINESS, Query, Transaction, command, param, query
from models import Actor, Agenda, Business
from models.base import UtcTimestamp

HORIZON = timedelta(minutes=15)
"""A business is looked at this often at least; what is due later pulls nothing."""
LEASE = timedelta(seconds=30)

_MOMENT, _UNTIL = param("moment", UtcTimestamp()), param("until", UtcTimestamp())

# -- Across all businesses: these run in the name of the system. ----------------------------------

# A moment beyond every horizon was written by a clock that was wrong and has been set right.
_WAITING = select(Agenda.business_id).where(
    or_(col(Agenda.next_at) <= param("now"), col(Agenda.next_at) > param("beyond")),
    or_(col(Agenda.lease_until) <= param("now"), col(Agenda.lease_owner).is_(None)),
)
_ANY_WAITING: Query[str] = query(_WAITING.limit(1))
_NEXT = (
    _WAITING.order_by(col(Agenda.next_at))
    .limit(param("most"))
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[Agenda] = query(
    update(Agenda)
    .where(col(Agenda.business_id).in_(select(_NEXT.c.business_id)))
    .values(lease_owner=param("owner"), lease_until=_UNTIL, next_at=_UNTIL)
    .returning(Agenda)
)

_TAKE_OVER = command(
    update(Agenda)
    .where(col(Agenda.lease_until) > param("now"))
    .values(lease_owner=None, lease_until=param("now"), next_at=param("now"))
)

# -- Within one business. -------------------------------------------------------------------------

_PULL = command(
    update(Agenda)
    .where(col(Agenda.business_id) == BUSINESS, col(Agenda.next_at) > _MOMENT)
    .values(next_at=_MOMENT)
)
# Whoever pulled `next_at` while the lease was held did so for something that was not seen.
_LET_GO = command(
    update(Agenda)
    .where(col(Agenda.business_id) == BUSINESS, col(Agenda.lease_owner) == param("owner"))
    .values(
        lease_owner=None,
        lease_until=param("now"),
        next_at=case(
            (col(Agenda.next_at) == _UNTIL, _MOMENT),
            (col(Agenda.next_at) < _MOMENT, col(Agenda.next_at)),
            else_=_MOMENT,
        ),
    )
)


@dataclass(frozen=True)
class Due:
    """What a job does next."""

    at: datetime
    """When it is due, in the programme's time: what it does happens at this moment."""
    do: Callable[[Transaction, Actor], Awaitable[object]]
    """Does it, in the transaction in which it was found. Another worker may be doing it at this
    moment: it happens once by a conditional update or a unique row, and the loser does nothing."""


@dataclass(frozen=True)
class Span:
    """How far a job looks."""

    now: datetime
    """The moment by which a thing is late. Where a test clock is moved, where it set out."""
    upto: datetime
    """What is due later need not be found."""


Job = Callable[[Transaction, Business, Span], Awaitable[Due | None]]
"""Finds what it does next, by an index; None if nothing is due within the span."""


def new_agenda(business: Business, now: datetime) -> Agenda:
    """The agenda of a new business; no birthday before today's is kept."""
    today = business.time(now).astimezone(business.zone).date()
    return Agenda(
        business_id=business.id,
        next_at=now,
        birthdays_done=today - timedelta(days=1),
        lease_until=now,
    )


async def pull_agenda(tx: Transaction, business: Business, moment: datetime, now: datetime) -> None:
    """See to it that the business is looked at when this moment comes.

    Both moments are of the programme's time. What lies beyond the horizon is found anyway.
    """
    if moment - now < HORIZON:
        await tx.run(_PULL, moment=business.real_time(moment))


async def anything_waits(tx: Transaction, now: datetime) -> bool:
    """Whether a business waits to be looked at; in the name of the system."""
    return await tx.maybe(_ANY_WAITING, now=now, beyond=now + 2 * HORIZON) is not None


async def claim(tx: Transaction, owner: str, now: datetime, most: int) -> list[Agenda]:
    """Lease agendas that wait, those that wait longest first; in the name of the system."""
    beyond = now + 2 * HORIZON
    return await tx.many(_CLAIM, owner=owner, now=now, beyond=beyond, until=now + LEASE, most=most)


async def take_over(tx: Transaction, now: datetime) -> None:
    """End every lease: no other process can hold one. In the name of the system."""
    await tx.run(_TAKE_OVER, now=now)


async def let_go(tx: Transaction, agenda: Agenda, now: datetime, moment: datetime) -> None:
    """End a lease; the business is looked at again at this moment. All times are real ones."""
    await tx.run(
        _LET_GO, owner=agenda.lease_owner, until=agenda.lease_until, now=now, moment=moment
    )
