"""What time causes, under faults: several schedulers, one that was dead, clocks that jump.

Proves of research/reliability.md §3 the rows "3 schedulers at once", "scheduler dead 3 days",
"clock jump" and "DST", the last over every zone that there is.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from sqlmodel import col, select

from core.clock import ManualClock, local_moment, next_local
from core.ids import Id
from core.settings import Settings
from db import Database, query
from events import read_event
from factories import (
    Cafe,
    a_business,
    a_campaign,
    a_card,
    a_card_template,
    a_voucher,
    a_voucher_template,
)
from models import Campaign, CampaignStatus, EventRow, Voucher, VoucherStatus
from processes import ROOT
from services.audit import Finding, audit, audited
from services.card_templates import BirthdayRuleInput
from services.timekeeper import Timekeeper
from services.vouchers import ValidityInput

_EVENTS = query(select(EventRow).order_by(col(EventRow.business_id), col(EventRow.sequence)))
_CAMPAIGNS = query(select(Campaign))
_ACTIVE = query(select(Voucher.id).where(col(Voucher.status) == VoucherStatus.ACTIVE).limit(1))
SCHEDULER = """
import asyncio, json, sys
from core.clock import SystemClock
from core.settings import Settings
from db import database_of
from services.timekeeper import Timekeeper

async def main():
    database = database_of(Settings(**json.loads(sys.argv[1])))
    await database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    await Timekeeper(database, SystemClock(), leases=2).run()

asyncio.run(main())
"""


# -- Three at once --------------------------------------------------------------------------------


@pytest.mark.on("postgres")  # SQLite has one process at a time
async def test_three_schedulers_at_once_do_each_due_thing_once(
    settings: Settings, database: Database, figure: Callable[[str], None]
) -> None:
    await share(settings, database, figure, cafes=6, due=30, kills=False)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.on("postgres")
async def test_three_schedulers_at_once_do_ten_thousand_due_things_once(
    settings: Settings, database: Database, figure: Callable[[str], None]
) -> None:
    await share(settings, database, figure, cafes=20, due=500, kills=True)


async def share(
    settings: Settings, database: Database, figure: Callable[[str], None],
    *, cafes: int, due: int, kills: bool,
) -> None:  # fmt: skip
    """Vouchers of many cafés are over; of three processes that see to it, one may be killed."""
    born = datetime.now(UTC) - timedelta(days=3)
    expected: Counter[str] = Counter()
    for _ in range(cafes):
        cafe = await a_business(database, now=born)
        short = await a_voucher_template(database, cafe.owner, born, validity=ValidityInput(days=1))
        for _ in range(due):
            voucher = await a_voucher(database, cafe.owner, short.id, now=born)
            expected[voucher.id] = 1

    async with contextlib.AsyncExitStack() as stack:
        entered = (stack.enter_async_context(scheduler(settings)) for _ in range(3))
        schedulers = await asyncio.gather(*entered)
        for each in schedulers:
            assert each.stdin
            each.stdin.write(b"go\n")
        began = asyncio.get_running_loop().time()
        while await database.read(None, lambda tx: tx.maybe(_ACTIVE)) is not None:
            if kills and len(await caused(database)) > len(expected) // 4:
                schedulers[0].kill()
                await schedulers[0].wait()
                kills = False
            assert asyncio.get_running_loop().time() - began < 600
            await asyncio.sleep(0.05)
        took = asyncio.get_running_loop().time() - began
        assert not kills

    told = Counter(read_event(row).voucher.id for row in await caused(database))  # type: ignore[attr-defined]
    figure(f"{told.total()} due things by three processes in {took:.1f} s")
    assert told == expected
    assert await findings(database) == []


@contextlib.asynccontextmanager
async def scheduler(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """A timekeeper as a process of its own."""
    given = {"database_url": settings.database, "secret_key": settings.secret_key}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCHEDULER, json.dumps(given)),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert running.stdout
    assert await running.stdout.readline() == b"ready\n"
    yield running
    if running.returncode is None:
        running.kill()
    await running.wait()


# -- Dead for three days --------------------------------------------------------------------------


async def test_after_three_dead_days_each_job_follows_its_rule(
    database: Database, clock: ManualClock
) -> None:
    """Late things are dated when they were due, and told once; a campaign's day may be over."""
    born = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # 08:00 in Jakarta
    clock.moment = born
    cafe = await a_business(database, now=born)
    await one_of_each(database, cafe, born)
    lives = Timekeeper(database, clock)
    await lives.sweep()

    clock.advance(timedelta(days=3))
    keepers = [Timekeeper(database, clock) for _ in range(2)]
    await asyncio.gather(*(keeper.sweep() for keeper in keepers))
    once = await caused(database)
    for keeper in keepers:
        clock.advance(timedelta(minutes=15))
        await keeper.sweep()

    assert [(row.type, row.occurred_at) for row in once] == [
        ("birthday_reached", jakarta(3, 9)),
        ("reward_issued", jakarta(3, 9)),
        ("voucher_issued", jakarta(3, 9)),
        ("inactivity_trigger", jakarta(3, 10)),
        ("voucher_expired", jakarta(4, 0)),
    ]
    assert await caused(database) == once
    campaigns = await database.read(None, lambda tx: tx.many(_CAMPAIGNS))
    assert {row.scheduled_at: row.status for row in campaigns} == {
        jakarta(3, 12): CampaignStatus.CANCELLED,  # its day was over
        jakarta(4, 12): CampaignStatus.SENDING,
    }
    assert await findings(database) == []


async def one_of_each(database: Database, cafe: Cafe, born: datetime) -> None:
    """A birthday, a silence, a voucher's end and two campaigns, all within the next days."""
    owner = cafe.owner
    cake = await a_voucher_template(database, owner, born)
    rule = BirthdayRuleInput(days_before=0, voucher_template_id=Id(cake.id))
    template = await a_card_template(database, owner, now=born, birthday=rule, inactivity_days=None)
    await a_card(database, owner, template.id, born, email="a@b.example", birthday="--03-03")
    quiet = await a_card_template(database, owner, now=born, inactivity_days=1)
    await a_card(database, owner, quiet.id, born, email="c@d.example")
    short = await a_voucher_template(database, owner, born, validity=ValidityInput(days=1))
    await a_voucher(database, owner, short.id, now=born)
    for day in (3, 4):
        await a_campaign(database, owner, template.id, born, scheduled_at=jakarta(day, 12))


def jakarta(day: int, hour: int) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC) - timedelta(hours=7)


# -- Clocks that jump -----------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=1)])
@pytest.mark.parametrize("sign", [1, -1])
async def test_a_clock_that_jumps_does_nothing_twice(
    database: Database, clock: ManualClock, jump: timedelta, sign: int
) -> None:
    """Case 21, for what time causes: there and back, and what is due is done soon after."""
    clock.moment = jakarta(2, 8)
    cafe = await a_business(database, now=clock.now())
    short = await a_voucher_template(
        database, cafe.owner, clock.now(), validity=ValidityInput(days=1)
    )
    first = await a_voucher(database, cafe.owner, short.id, now=clock.now())
    keepers = [Timekeeper(database, clock) for _ in range(2)]

    async def live(span: timedelta) -> None:
        """Both look every minute."""
        for _ in range(span // timedelta(minutes=1)):
            clock.advance(timedelta(minutes=1))
            await asyncio.gather(*(keeper.sweep() for keeper in keepers))

    await live(timedelta(minutes=3))
    clock.advance(sign * jump)
    await live(timedelta(minutes=20))
    clock.advance(-sign * jump)
    await live(timedelta(minutes=20))
    clock.moment = jakarta(3, 23)
    second = await a_voucher(database, cafe.owner, short.id, now=clock.now())
    await live(timedelta(minutes=70))  # the first ends at midnight

    told = [read_event(row).voucher.id for row in await caused(database)]  # type: ignore[attr-defined]
    assert told == [first.id]
    clock.moment = jakarta(4, 23)
    await live(timedelta(minutes=70))
    told = [read_event(row).voucher.id for row in await caused(database)]  # type: ignore[attr-defined]
    assert told == [first.id, second.id]
    assert await findings(database) == []


@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(days=1)])
async def test_a_clock_that_is_set_right_makes_nothing_wait(
    database: Database, clock: ManualClock, wrong: timedelta
) -> None:
    """Case 21: what a clock ahead of time had noted does not hold up what is due now."""
    clock.moment = jakarta(2, 23) + timedelta(minutes=30)
    cafe = await a_business(database, now=clock.now())
    keeper = Timekeeper(database, clock)
    clock.advance(wrong)
    await keeper.sweep()
    clock.advance(-wrong)
    today = clock.now().astimezone(cafe.business.zone).date()
    template = await a_voucher_template(
        database, cafe.owner, clock.now(), validity=ValidityInput(date=today)
    )
    voucher = await a_voucher(database, cafe.owner, template.id, now=clock.now())

    clock.moment = voucher.expires_at or clock.moment
    await keeper.sweep()

    assert [row.type for row in await caused(database)] == ["voucher_expired"]


# -- Summer time ----------------------------------------------------------------------------------


@pytest.mark.on("sqlite")
def test_in_every_zone_each_hour_comes_once_on_each_day(figure: Callable[[str], None]) -> None:
    """Also in the nights in which an hour is left out or comes twice."""
    nights = 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for day in nights_of_change(zone):
            nights += 1
            for hour in range(24):
                moment = local_moment(day - timedelta(days=1), 0, zone)
                for wanted in (day + timedelta(days=more) for more in (-1, 0, 1)):
                    moment = next_local(moment, hour, zone)
                    shown = moment.astimezone(zone).replace(tzinfo=None)
                    late = shown - datetime.combine(wanted, time(hour))
                    assert timedelta(0) <= late <= timedelta(hours=2), (name, wanted, hour)
                    assert late == timedelta(0) or wanted == day
                    moment += timedelta(microseconds=1)
    figure(f"{nights} nights of change, 24 hours of each")
    assert nights > 200


def nights_of_change(zone: ZoneInfo) -> list[date]:
    """The days of a year on which the clocks are changed."""
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    shown = [datetime(day.year, day.month, day.day, tzinfo=zone).utcoffset() for day in days]
    return [days[place - 1] for place in range(1, 365) if shown[place] != shown[place - 1]]


# -- At hand --------------------------------------------------------------------------------------


async def caused(database: Database) -> list[EventRow]:
    """What time caused so far."""
    found: list[Any] = await database.read(None, lambda tx: tx.many(_EVENTS))
    return [row for row in found if row.actor_id is None]


async def findings(database: Database) -> list[Finding]:
    """What the auditor finds."""
    found: list[Finding] = []
    for business in await audited(database):
        await audit(database, business, found.append)
    return found
