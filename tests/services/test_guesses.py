"""Guesses: misses are counted singly, however many are under way; what is found is free."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from core.buckets import LocalBuckets
from core.clock import ManualClock
from core.errors import RateLimited
from services.guesses import Guesses

ME = ("key ana", "address 198.51.100.7")
OTHER_KEY = ("key budi", "address 198.51.100.7")


@pytest.fixture
def guesses(clock: ManualClock) -> Guesses:
    """Three misses a minute."""
    return Guesses(LocalBuckets(), clock, 3)


async def look_up(guesses: Guesses, whose: Sequence[str] = ME, *, is_miss: bool = True) -> int:
    """Guess once; for how many milliseconds one must wait first, 0 if the guess was made."""
    try:
        async with guesses.guess(whose) as made:
            assert not made.is_miss
            made.is_miss = is_miss
    except RateLimited as refusal:
        return refusal.retry_after_ms
    return 0


async def test_after_three_misses_one_waits_until_there_is_room_for_another(
    guesses: Guesses, clock: ManualClock
) -> None:
    assert [await look_up(guesses) for _ in range(4)] == [0, 0, 0, 20_000]

    clock.advance(timedelta(seconds=19.5))
    assert await look_up(guesses) == 500
    clock.advance(timedelta(seconds=0.4999))
    assert await look_up(guesses) == 1
    clock.advance(timedelta(seconds=0.0001))
    assert [await look_up(guesses), await look_up(guesses)] == [0, 20_000]


async def test_who_must_wait_is_told_why(guesses: Guesses) -> None:
    for _ in range(3):
        await look_up(guesses)

    with pytest.raises(RateLimited, match=r"^Too many codes that do not exist; wait a moment\.$"):
        async with guesses.guess(ME):
            pytest.fail("it was not to be made")


async def test_what_is_found_is_free(guesses: Guesses) -> None:
    said = [await look_up(guesses, is_miss=False) for _ in range(20)]
    said += [await look_up(guesses) for _ in range(3)]

    assert said == [0] * 23


async def test_a_look_up_that_breaks_is_no_miss(guesses: Guesses) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with guesses.guess(ME):
                raise ZeroDivisionError

    assert [await look_up(guesses) for _ in range(3)] == [0, 0, 0]


async def test_misses_count_for_the_address_too_and_a_refusal_for_neither(
    guesses: Guesses,
) -> None:
    assert [await look_up(guesses), await look_up(guesses)] == [0, 0]
    assert [await look_up(guesses, OTHER_KEY), await look_up(guesses, OTHER_KEY)] == [0, 20_000]

    # Of its own three, the other key used one: what the address refused was given back.
    elsewhere = ("key budi", "address 203.0.113.9")
    assert [await look_up(guesses, elsewhere) for _ in range(3)] == [0, 0, 20_000]


async def test_of_many_at_once_no_more_miss_than_one_after_the_other(guesses: Guesses) -> None:
    asked = asyncio.Event()

    async def slowly() -> int:
        try:
            async with guesses.guess(ME) as made:
                await asked.wait()
                made.is_miss = True
        except RateLimited:
            return 1
        return 0

    under_way = [asyncio.create_task(slowly()) for _ in range(8)]
    await asyncio.sleep(0)
    asked.set()

    assert sorted(await asyncio.gather(*under_way)) == [0] * 3 + [1] * 5


async def test_who_is_refused_only_for_those_under_way_waits_until_they_have_ended(
    guesses: Guesses,
) -> None:
    may_end = [asyncio.Event() for _ in range(3)]
    order: list[str] = []

    async def slowly(number: int, *, is_miss: bool) -> None:
        async with guesses.guess(ME) as made:
            await may_end[number].wait()
            made.is_miss = is_miss
            order.append(f"{number}")

    async def one_more() -> int:
        wait = await look_up(guesses)
        order.append("one more")
        return wait

    first = [asyncio.create_task(slowly(number, is_miss=number != 1)) for number in range(3)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(one_more())
    for number in range(3):
        for _ in range(5):
            await asyncio.sleep(0)
        may_end[number].set()
        await first[number]

    # The first was a miss; the second was none, and so there was room for one more.
    async with asyncio.timeout(10):
        assert await waiting == 0
    assert order.index("one more") > order.index("1")
    assert not guesses._under_way
    assert await look_up(guesses) == 20_000


async def test_nobody_waits_for_the_guesses_of_others(guesses: Guesses) -> None:
    may_end = asyncio.Event()

    async def slowly() -> None:
        async with guesses.guess(("key citra",)):
            await may_end.wait()

    under_way = asyncio.create_task(slowly())
    await asyncio.sleep(0)
    for _ in range(3):
        await look_up(guesses)

    async with asyncio.timeout(10):
        assert await look_up(guesses) == 20_000
    may_end.set()
    await under_way
