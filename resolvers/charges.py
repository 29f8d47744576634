"""What a call is charged: whose bucket it is, and what this operation took from it.

A key has a bucket, also when it is rotated; all sessions of a staff login share one; an access
token has its own, for it is in the hands of a customer who must not stop the counter. Strangers
have one per address (of IPv6: per network of 64 bits), and so has each who guesses at codes.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from core.buckets import Bucket
from core.errors import Denied, RateLimited
from core.settings import Settings
from resolvers.context import Context

FREE_PER_EVENT = 25
"""What an event may cost a subscriber for nothing: several times what most ask of one."""
_SHORT, _CHARACTERS = 1_000, 25
"""Characters of a document that are read for nothing, and those beyond them that cost a point."""


@dataclass
class Charge:
    """What an operation took from a bucket, or why it may not run."""

    bucket: Bucket
    whose: str
    requested: int
    actual: int
    level: float
    at: datetime
    refusal: Denied | None = None

    @property
    def size(self) -> int:
        """What the bucket holds when it is full."""
        return int(self.bucket.size)

    @property
    def restore_rate(self) -> int:
        """What comes back per second."""
        return int(self.bucket.per_second)

    @property
    def remaining(self) -> int:
        """What is left in the bucket."""
        return int(self.level)

    @property
    def seconds_until_full(self) -> int:
        """How long the bucket takes to be full again, if nothing more is taken."""
        return ceil(self.bucket.seconds_until(self.bucket.size, self.level))

    @property
    def full_at(self) -> datetime:
        """When that is."""
        return self.at + timedelta(seconds=self.seconds_until_full)


charge_of_call: ContextVar[Charge | None] = ContextVar("charge_of_call", default=None)
"""The charge of the operation that runs in this task."""


async def rate_limit(context: Context) -> Charge:
    """What the running operation was charged; where none was, how the caller's bucket stands."""
    charge = charge_of_call.get()
    if charge is not None:
        return charge
    (bucket, whose), now = bucket_for(context), context.deployment.clock.now()
    taken = await context.deployment.buckets.take(bucket, whose, 0, now)
    return Charge(bucket, whose, 0, 0, taken.level, now)


def bucket_for(context: Context) -> tuple[Bucket, str]:
    """The bucket that a caller's operations take from, and whose it is."""
    settings, whose = context.deployment.settings, caller_key(context)
    if whose is None and not context.is_operator:
        return _strangers(settings), address_key(context)
    return _callers(settings), whose or "operator"


async def charge_stranger(context: Context) -> None:
    """Take from its address what a call without a good key costs. RateLimited after too many."""
    if context.caller is None:
        await _take(context, 1)


async def charge_holder(context: Context, held: str) -> None:
    """Take what a call costs from whoever shows the secret of something. RateLimited, too.

    Each such thing has a bucket of its own, as large as an address's.
    """
    await _take_from(_strangers(context.deployment.settings), f"held:{held}", 1, context)


async def charge_reading(context: Context, length: int) -> None:
    """Take what it costs to read so long a document. RateLimited if it cannot be paid for.

    Whether it is good is known only then, so it is paid for before; what is short is free. No
    bucket is too small for it: who has saved enough may send one, and then waits.
    """
    if amount := max(0, length - _SHORT) // _CHARACTERS:
        size = int(bucket_for(context)[0].size)
        await _take(context, min(amount, size))


async def pay_for_event(context: Context, cost: int) -> float:
    """Take what an event costs a subscriber; where that is not there, how many seconds it takes.

    Nothing is lost by waiting: the log keeps the event.
    """
    (bucket, whose), now = bucket_for(context), context.deployment.clock.now()
    amount = min(cost, int(bucket.size))
    taken = await context.deployment.buckets.take(bucket, whose, amount, now)
    return 0.0 if taken.is_granted else max(0.01, bucket.seconds_until(amount, taken.level))


async def wait_to_pay(context: Context, cost: int) -> None:
    """Take what an event costs a subscriber, as soon as it is there."""
    while wait := await pay_for_event(context, cost):  # noqa: ASYNC110 -- it fills by itself
        await asyncio.sleep(wait)


async def _take(context: Context, amount: int) -> None:
    await _take_from(*bucket_for(context), amount, context)


async def _take_from(bucket: Bucket, whose: str, amount: int, context: Context) -> None:
    now = context.deployment.clock.now()
    taken = await context.deployment.buckets.take(bucket, whose, amount, now)
    if not taken.is_granted:
        raise too_fast(bucket, amount, taken.level)


def caller_key(context: Context) -> str | None:
    """Who calls, by the secret that was used; None for strangers."""
    actor = context.caller
    if actor is None:
        return None
    if actor.token is not None:
        return f"token:{actor.token.id}"
    if actor.point_of_sale is not None:
        return f"till:{actor.point_of_sale.id}"
    if actor.session is not None:
        return f"login:{actor.staff_id}"
    return f"key:{actor.api_key.id}" if actor.api_key else f"login:{actor.staff_id}"


def address_key(context: Context) -> str:
    """Where a call comes from, as a digest: an address is personal."""
    return f"address:{context.deployment.secrets.digest(f'bucket {context.place.source}')}"


def too_fast(bucket: Bucket, amount: float, level: float) -> RateLimited:
    """The refusal of what a bucket does not hold, with how long it takes until it does."""
    wait = ceil(bucket.seconds_until(amount, level) * 1_000)
    return RateLimited("Too much, too quickly; try again later.", retry_after_ms=max(1, wait))


def _callers(settings: Settings) -> Bucket:
    return Bucket("cost", settings.cost_bucket, settings.cost_per_second)


def _strangers(settings: Settings) -> Bucket:
    return Bucket("cost", settings.stranger_cost_bucket, settings.stranger_cost_per_second)
