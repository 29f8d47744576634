"""Buckets: the same sum in this process and in Redis, and what happens while Redis is away."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import core.buckets
from backends import free_port, wait_until_open
from core.buckets import Bucket, LocalBuckets, SharedBuckets, Taken, buckets_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
COST = Bucket("cost", 100, 10)
STORY = [
    (70, 0, Taken(True, 30)),
    (31, 0, Taken(False, 30)),
    (30, 0, Taken(True, 0)),  # the very last of it
    (1, 0, Taken(False, 0)),
    (15, 2, Taken(True, 5)),  # two seconds later 20 more are in it
    (-1, 2, Taken(True, 6)),
    (1, -5, Taken(True, 5)),  # a clock that was set back fills nothing, and empties nothing
    (0, 3, Taken(True, 15)),  # counted from the latest moment there ever was
    (0, 60, Taken(True, 100)),
    (-7, 60, Taken(True, 100)),
    (101, 60, Taken(False, 100)),
]
"""What is taken, so many seconds after noon, and what is answered."""


def later(seconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(seconds=seconds)


# -- In this process ------------------------------------------------------------------------------


def test_a_bucket_goes_by_the_sum_of_the_table() -> None:
    buckets = LocalBuckets()

    told = [buckets.take_now(COST, "me", amount, later(at)) for amount, at, _ in STORY]

    assert told == [expected for _, _, expected in STORY]


def test_each_kind_and_each_caller_has_a_bucket_of_its_own() -> None:
    buckets = LocalBuckets()
    buckets.take_now(COST, "me", 100, NOON)

    levels = [
        buckets.take_now(Bucket(kind, 100, 10), whose, 0, NOON).level
        for kind, whose in (("cost", "me"), ("cost", "you"), ("misses", "me"))
    ]

    assert levels == [0, 100, 100]


def test_the_buckets_used_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.buckets, "MOST_LOCAL", 2)
    buckets = LocalBuckets()
    for whose in ("ana", "budi", "ana", "citra"):
        buckets.take_now(COST, whose, 10, NOON)

    levels = [buckets.take_now(COST, whose, 0, NOON).level for whose in ("ana", "citra", "budi")]

    assert levels == [80, 90, 100]


@pytest.mark.parametrize(
    ("amount", "level", "seconds"), [(60, 40, 2), (40, 40, 0), (10, 40, 0), (10_000, 40, 6)]
)
def test_how_long_until_it_holds_an_amount(amount: float, level: float, seconds: float) -> None:
    assert COST.seconds_until(amount, level) == seconds


# -- In Redis -------------------------------------------------------------------------------------

Start = Callable[[], None]


@pytest.fixture
def port() -> int:
    """Where Redis is, or is to be."""
    return free_port()


@pytest.fixture
def redis(port: int, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A Redis, and how it is ended and started anew."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for one in started:
        one.kill()
        one.wait(10)


@pytest.fixture
def start(port: int, redis: list[subprocess.Popen[bytes]], tmp_path: Path) -> Start:
    """Start a Redis without anything in it."""
    program = shutil.which("redis-server")
    assert program, "redis-server is missing: apt-get install redis-server"
    words = ["--port", f"{port}", "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]

    def begin() -> None:
        redis.append(subprocess.Popen([program, *words], stdout=subprocess.DEVNULL))
        wait_until_open(port)

    return begin


@pytest.fixture
async def shared(port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SharedBuckets]:
    """Buckets in that Redis; it may take its time, however busy the machine is."""
    monkeypatch.setattr(core.buckets, "ANSWER_SECONDS", 10.0)
    made = SharedBuckets(f"redis://127.0.0.1:{port}", "kopi")
    yield made
    await made.close()


async def test_redis_goes_by_the_same_sum(start: Start, shared: SharedBuckets) -> None:
    start()

    told = [await shared.take(COST, "me", amount, later(at)) for amount, at, _ in STORY]

    assert told == [expected for _, _, expected in STORY]


async def test_redis_keeps_a_bucket_no_longer_than_it_takes_to_fill(
    start: Start, shared: SharedBuckets
) -> None:
    start()
    await shared.take(COST, "me", 70, NOON)
    await shared.take(Bucket("misses", 10, 1), "me", 1, NOON)

    left = {
        key: await shared._redis.pttl(key) / 1_000 async for key in shared._redis.scan_iter("*")
    }

    assert {key: round(seconds) for key, seconds in left.items()} == {
        b"stampwire:kopi:cost:me": 8,
        b"stampwire:kopi:misses:me": 2,
    }


async def test_while_redis_is_away_a_process_goes_by_its_own_and_asks_again_after_a_rest(
    start: Start,
    redis: list[subprocess.Popen[bytes]],
    shared: SharedBuckets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    at, began = [0.0], loop.time()
    monkeypatch.setattr(loop, "time", lambda: began + at[0])
    start()

    async def level_after(seconds: float) -> float:
        at[0] = seconds
        return (await shared.take(COST, "me", 10, NOON)).level

    levels = [await level_after(0)]
    redis[0].kill()
    redis[0].wait(10)
    levels += [await level_after(1)]
    start()
    levels += [await level_after(seconds) for seconds in (2, 5.9, 6, 6)]

    # 90 in Redis; then three times from its own bucket; then from the new Redis, which is full.
    assert levels == [90, 90, 80, 70, 90, 80]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1"])
def test_buckets_stand_in_redis_where_that_is_the_doorbell(url: str) -> None:
    assert isinstance(buckets_of(url, "kopi"), SharedBuckets)


@pytest.mark.parametrize("url", ["memory://", "postgres://127.0.0.1/redis", ""])
def test_buckets_stand_in_the_process_elsewhere(url: str) -> None:
    assert isinstance(buckets_of(url, "kopi"), LocalBuckets)
