"""Guesses: looking for a code is free while it finds something, and soon ends when it misses.

Ten misses a minute, each counted, however many are packed into one call: for whoever calls, and
for the address it comes from.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil

from core.buckets import Bucket, Buckets
from core.clock import Clock
from core.errors import RateLimited


@dataclass
class Guess:
    """A look-up that may miss."""

    is_miss: bool = False


class Guesses:
    """The misses of everybody, in the same store as the buckets of cost."""

    def __init__(self, buckets: Buckets, clock: Clock, misses_per_minute: int) -> None:
        self._buckets = buckets
        self._clock = clock
        self._bucket = Bucket("misses", misses_per_minute, misses_per_minute / 60)
        self._under_way: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def guess(self, whose: Sequence[str]) -> AsyncIterator[Guess]:
        """Look something up, and say of it whether that was a miss. RateLimited after too many.

        It is counted as a miss before it is made, and given back if it was none: so many at once
        gain nothing. Who would be refused only for those under way waits until they have ended.
        """
        await self._begin(whose)
        made = Guess()
        try:
            yield made
        finally:
            self._under_way.subtract(whose)
            if not made.is_miss:
                await self._give_back(whose)
            self._under_way += Counter()  # forgets those that are at 0
            ended, self._ended = self._ended, asyncio.Event()
            ended.set()

    async def _begin(self, whose: Sequence[str]) -> None:
        while True:
            ended = self._ended
            wait = await self._take(whose)
            if wait is None:
                self._under_way.update(whose)
                return
            if ended.is_set():
                continue
            if not any(self._under_way[one] for one in whose):
                message = "Too many codes that do not exist; wait a moment."
                raise RateLimited(message, retry_after_ms=max(1, ceil(wait * 1_000)))
            await ended.wait()

    async def _take(self, whose: Sequence[str]) -> float | None:
        """Take a miss from each, or none; then it says for how many seconds to wait."""
        now = self._clock.now()
        for number, one in enumerate(whose):
            taken = await self._buckets.take(self._bucket, one, 1, now)
            if not taken.is_granted:
                await self._give_back(whose[:number])
                return self._bucket.seconds_until(1, taken.level)
        return None

    async def _give_back(self, whose: Sequence[str]) -> None:
        now = self._clock.now()
        for one in whose:
            await self._buckets.take(self._bucket, one, -1, now)
