"""What is due: every job that time causes, and how their work is done in its order."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from core.clock import Clock
from core.errors import Overloaded
from db import Database, Transaction
from models import Actor, Business
from services.agenda import HORIZON, Due, Job, Span
from services.birthdays import next_birthday
from services.campaigns import next_campaign
from services.expiry import next_expiry
from services.inactivity import next_silence

JOBS: tuple[Job, ...] = (next_expiry, next_silence, next_birthday, next_campaign)
"""All jobs. What is due at one moment is done in this order."""
_AFTER_A_FAILURE = timedelta(minutes=1)

log = structlog.get_logger("stampwire.time")


async def first_due(
    tx: Transaction, business: Business, span: Span, jobs: Sequence[Job] = JOBS
) -> tuple[Job, Due] | None:
    """What is due first within the span, and whose job it is."""
    found: tuple[Job, Due] | None = None
    for job in jobs:
        due = await job(tx, business, span)
        if due is not None and (found is None or due.at < found[1].at):
            # What comes later than this need not be looked for.
            found, span = (job, due), replace(span, upto=due.at)
    return found


async def run_due(
    database: Database,
    business_id: str,
    clock: Clock,
    is_enough: Callable[[], bool] = lambda: False,
    jobs: Sequence[Job] = JOBS,
) -> datetime:
    """Do all that is due by now, in the order of time, each in a transaction of its own.

    Says when to look again, in real time: at once where it was enough before all was done. A job
    that fails is left out and tried again in a minute; the others go on.
    """
    left = list(jobs)
    while not is_enough():
        tried: list[Job] = []

        async def do_next(tx: Transaction, tried: list[Job] = tried) -> bool:
            tried.clear()
            business = await _business(tx, business_id)
            now = business.time(clock.now())
            found = await first_due(tx, business, Span(now, now), left)
            if found is None:
                return False
            job, due = found
            tried.append(job)
            await due.do(tx, Actor(business))
            return True

        try:
            if not await database.write(business_id, do_next):
                return await _next_look(database, business_id, clock, left, jobs)
        except Overloaded:
            raise
        except Exception as error:
            if not tried:
                raise
            [job] = tried
            log.exception(
                "a job failed",
                job=getattr(job, "__name__", ""),
                business=business_id,
                error=type(error).__name__,
            )
            left.remove(job)
    return clock.now()


async def _next_look(
    database: Database,
    business_id: str,
    clock: Clock,
    left: Sequence[Job],
    jobs: Sequence[Job],
) -> datetime:
    async def work(tx: Transaction) -> datetime:
        business = await _business(tx, business_id)
        wait = HORIZON if len(left) == len(jobs) else _AFTER_A_FAILURE
        now = business.time(clock.now())
        found = await first_due(tx, business, Span(now, now + wait), left)
        return business.real_time(now + wait if found is None else found[1].at)

    return await database.read(business_id, work)


async def _business(tx: Transaction, id: str) -> Business:
    business = await tx.get(Business, id)
    if business is None:
        raise LookupError(id)
    return business
