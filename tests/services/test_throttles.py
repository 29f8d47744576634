"""Throttles: who tries in vain waits longer each time, and is never locked out for good."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.errors import RateLimited
from core.secrets import Secrets
from db import Database, Query, Transaction, query
from models import Throttle
from services.throttles import Tries, begin, succeed, wait_after

LOGIN = Tries("login", "ana@kopi.example", 3)
ADDRESS = Tries("address", "198.51.100.7", 5)
_ALL: Query[Throttle] = query(select(Throttle))

Try = Callable[..., Awaitable[int | None]]


@pytest.fixture
def attempt(database: Database, secrets: Secrets, clock: ManualClock) -> Try:
    """Try; for how many milliseconds one must wait first, if one must."""

    async def do(*tries: Tries) -> int | None:
        try:
            await begin(database, secrets, tries or (LOGIN,), clock.now())
        except RateLimited as refusal:
            return refusal.retry_after_ms
        return None

    return do


@pytest.fixture
def counted(database: Database, secrets: Secrets) -> Callable[..., Awaitable[Any]]:
    """How often was tried in vain, when last, and until when one must wait."""

    async def look(*tries: Tries) -> Any:
        rows = await database.read(None, lambda tx: tx.many(_ALL))
        by_key = {row.key: (row.failures, row.last_at, row.until) for row in rows}
        assert len(by_key) == len(rows)
        return [by_key.get(one.key(secrets)) for one in tries]

    return look


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(0, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 15), (8, 15), (13, 15), (10_000, 15)],
)
def test_the_wait_doubles_up_to_a_quarter_of_an_hour(failures: int, minutes: int) -> None:
    assert wait_after(failures, 3) == timedelta(minutes=minutes)


async def test_the_third_failure_costs_a_minute_and_asking_earlier_costs_nothing(
    attempt: Try, counted: Any, clock: ManualClock
) -> None:
    began = clock.now()
    assert [await attempt(), await attempt(), await attempt()] == [None, None, None]
    until = began + timedelta(minutes=1)
    assert await counted(LOGIN) == [(3, began, until)]

    clock.advance(timedelta(seconds=59, milliseconds=999))
    assert await attempt() == 1
    clock.advance(timedelta(milliseconds=-30_499))
    assert await attempt() == 30_500
    assert await counted(LOGIN) == [(3, began, until)]

    clock.advance(timedelta(milliseconds=30_500))
    assert await attempt() is None
    assert await counted(LOGIN) == [(4, until, until + timedelta(minutes=2))]


async def test_who_must_wait_is_told_so(
    attempt: Try, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    for _ in range(3):
        await attempt()

    with pytest.raises(RateLimited, match=r"^Too many tries; wait a moment\.$"):
        await begin(database, secrets, [LOGIN], clock.now())


async def test_less_than_a_millisecond_is_told_as_one(attempt: Try, clock: ManualClock) -> None:
    for _ in range(3):
        await attempt()
    clock.advance(timedelta(minutes=1) - timedelta(microseconds=1))

    assert await attempt() == 1


async def test_of_many_at_once_no_more_pass_than_one_after_the_other(
    attempt: Try, counted: Any, clock: ManualClock
) -> None:
    said = await asyncio.gather(*(attempt() for _ in range(8)))

    assert sorted(said, key=str) == [60_000] * 5 + [None] * 3
    assert await counted(LOGIN) == [(3, clock.now(), clock.now() + timedelta(minutes=1))]


async def test_everything_is_forgotten_a_quarter_of_an_hour_after_the_last_try(
    attempt: Try, counted: Any, clock: ManualClock
) -> None:
    await attempt()
    clock.advance(timedelta(minutes=15) - timedelta(microseconds=1))
    await attempt()
    assert await counted(LOGIN) == [(2, clock.now(), None)]

    clock.advance(timedelta(minutes=15))
    await attempt()
    assert await counted(LOGIN) == [(1, clock.now(), None)]


async def test_a_wait_is_forgotten_a_quarter_of_an_hour_after_its_end(
    attempt: Try, counted: Any, clock: ManualClock
) -> None:
    for _ in range(3):
        await attempt()
    clock.advance(timedelta(minutes=16) - timedelta(microseconds=1))
    await attempt()
    assert await counted(LOGIN) == [(4, clock.now(), clock.now() + timedelta(minutes=2))]

    clock.advance(timedelta(minutes=17))
    await attempt()
    assert await counted(LOGIN) == [(1, clock.now(), None)]


async def test_each_is_counted_by_itself_and_the_longest_wait_is_told(
    attempt: Try, counted: Any, clock: ManualClock
) -> None:
    for _ in range(3):
        assert await attempt(LOGIN, ADDRESS) is None
    clock.advance(timedelta(seconds=30))
    assert await attempt(ADDRESS) is None
    assert await attempt(ADDRESS) is None

    assert await attempt(LOGIN) == 30_000
    assert await attempt(LOGIN, ADDRESS) == 60_000
    assert await attempt(ADDRESS, LOGIN) == 60_000
    assert await attempt(Tries("login", "198.51.100.7", 3)) is None
    assert [failures for failures, _, _ in await counted(LOGIN, ADDRESS)] == [3, 5]


async def test_what_is_stored_tells_nobody_whose_it_is(
    attempt: Try, database: Database, secrets: Secrets
) -> None:
    await attempt(LOGIN, ADDRESS)

    rows = await database.read(None, lambda tx: tx.many(_ALL))

    assert {row.key for row in rows} == {LOGIN.key(secrets), ADDRESS.key(secrets)}
    assert not any(part in f"{row}" for row in rows for part in ("ana", "198.51", "login"))


async def test_success_forgets_some_and_takes_one_back_from_others(
    attempt: Try, counted: Any, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    other = Tries("login", "budi@kopi.example", 3)
    for _ in range(3):
        await attempt(LOGIN, ADDRESS)
    await attempt(other)

    await succeed(database, secrets, [LOGIN], [ADDRESS])

    noon = clock.now()
    assert await counted(LOGIN, ADDRESS, other) == [None, (2, noon, None), (1, noon, None)]


async def test_a_success_ends_the_wait_that_its_own_try_began(
    attempt: Try, counted: Any, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    for _ in range(3):
        await attempt()

    for _ in range(4):  # never below nothing
        await succeed(database, secrets, [], [LOGIN])

    assert await counted(LOGIN) == [(0, clock.now(), None)]
    assert await attempt() is None


async def test_a_try_that_must_wait_for_one_reason_is_counted_for_none(
    attempt: Try, counted: Any, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    async def work(tx: Transaction) -> None:
        until = clock.now() + timedelta(minutes=3)
        key = LOGIN.key(secrets)
        await tx.add(Throttle(key=key, failures=5, last_at=clock.now(), until=until))

    await database.write(None, work)

    assert await attempt(ADDRESS, LOGIN) == 180_000
    assert await counted(ADDRESS) == [None]
