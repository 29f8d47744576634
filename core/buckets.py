"""Buckets: how much one may still do. They fill by themselves; what is done takes from them.

Kept in this process, or in Redis for all processes together. Written by hand, as no library takes
a weight, gives back, and is told the time (docs/decisions/0016).
"""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, cast

import structlog

MOST_LOCAL = 100_000
"""Buckets kept in a process; over that, those used longest ago are thrown away."""
ANSWER_SECONDS = 0.25
"""How long Redis may take before we go on without it."""
_CONNECTIONS = 8
REST_SECONDS = 5.0
"""How long we go on without it before it is asked again."""

log = structlog.get_logger("stampwire.buckets")


@dataclass(frozen=True)
class Bucket:
    """How much a bucket holds, and how quickly it fills."""

    kind: str
    size: float
    per_second: float

    def seconds_until(self, amount: float, level: float) -> float:
        """How long until it holds an amount."""
        return max(0.0, (min(amount, self.size) - level) / self.per_second)


@dataclass(frozen=True)
class Taken:
    """Whether the bucket held what was asked for, and what it holds now."""

    is_granted: bool
    level: float


class Buckets(Protocol):
    """Where the buckets stand."""

    async def take(self, bucket: Bucket, whose: str, amount: float, now: datetime) -> Taken:
        """Take all of it, or nothing. A negative amount is given back; 0 looks only."""
        ...

    async def close(self) -> None:
        """Let go of what was opened."""
        ...


class LocalBuckets:
    """Buckets of this process."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take_now(self, bucket: Bucket, whose: str, amount: float, now: datetime) -> Taken:
        """As `take`, at once."""
        key, at = (bucket.kind, whose), now.timestamp()
        level, since = self._known.get(key, (bucket.size, at))
        # A clock that was set back fills nothing, and empties nothing.
        at = max(at, since)
        level = min(bucket.size, level + (at - since) * bucket.per_second)
        is_granted = amount <= level
        if is_granted:
            level = min(bucket.size, level - amount)
        self._known[key] = (level, at)
        self._known.move_to_end(key)
        if len(self._known) > MOST_LOCAL:
            self._known.popitem(last=False)
        return Taken(is_granted, level)

    async def take(self, bucket: Bucket, whose: str, amount: float, now: datetime) -> Taken:
        return self.take_now(bucket, whose, amount, now)

    async def close(self) -> None:
        """Nothing was opened."""


# The same sum as in `take_now`. A bucket that is full again need not be kept.
_TAKE = """
local size, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local amount, at = tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, since = tonumber(known[1]) or size, tonumber(known[2]) or at
at = math.max(at, since)
level = math.min(size, level + (at - since) * rate)
local granted = 0
if amount <= level then
    granted = 1
    level = math.min(size, level - amount)
end
redis.call('HSET', KEYS[1], 'level', tostring(level), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil((size - level) / rate * 1000) + 1000)
return {granted, tostring(level)}
"""


class SharedBuckets:
    """Buckets in Redis: one script takes and fills, so that many processes never take twice.

    A Redis that does not answer in time is left alone for a while. Until then each process goes
    by buckets of its own: limits hold, though for each process; no caller sees an error.
    """

    def __init__(self, url: str, name: str) -> None:
        # Loading it takes a tenth of a second, which a server without Redis need not wait for.
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Any = Redis.from_pool(pool)
        self._name = name
        self._script: Any = self._redis.register_script(_TAKE)
        self._local = LocalBuckets()
        self._rests_until = 0.0

    async def take(self, bucket: Bucket, whose: str, amount: float, now: datetime) -> Taken:
        clock = asyncio.get_running_loop().time
        if clock() >= self._rests_until:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._ask(bucket, whose, amount, now)
            except Exception as error:  # noqa: BLE001 -- whatever it is, callers are not told
                self._rests_until = clock() + REST_SECONDS
                log.warning("buckets are kept locally", error=type(error).__name__)
        return self._local.take_now(bucket, whose, amount, now)

    async def close(self) -> None:
        with suppress(Exception):  # it may be gone already
            await self._redis.aclose()

    async def _ask(self, bucket: Bucket, whose: str, amount: float, now: datetime) -> Taken:
        told = await self._script(
            keys=[f"stampwire:{self._name}:{bucket.kind}:{whose}"],
            args=[bucket.size, bucket.per_second, amount, f"{now.timestamp():.6f}"],
        )
        granted, level = cast("tuple[int, bytes]", told)
        return Taken(bool(granted), float(level))


def buckets_of(broadcast_url: str, name: str) -> Buckets:
    """Where a deployment's buckets stand: in Redis where that is the doorbell, else here."""
    if broadcast_url.startswith(("redis://", "rediss://")):
        return SharedBuckets(broadcast_url, name)
    return LocalBuckets()
