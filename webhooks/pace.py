"""Pace: how fast an endpoint is sent to, and when its next request may leave.

Own code over aiolimiter and its like, because a bucket here is carried from worker to worker in
the endpoint's row (`next_attempt_at` is when its next request may leave) and keeps a virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from models import WebhookEndpoint

IN_FLIGHT = 4
"""Requests under way at once to one endpoint, unless it says otherwise."""
CATCH_UP = 10.0
"""Requests a second with which an endpoint that was unwell begins again."""
GAIN = 2.0
"""How much faster it becomes with each second that goes well."""
FULL = 500.0
"""The pace at which an endpoint without a cap is not held back any more."""
SLOWEST = 0.1
CREDIT = 0.1
"""Seconds by which a request may be late and yet not delay those after it."""
_OF_HOSTS = {"hooks.zapier.com": 25.0}
"""What is known of receivers: Zapier takes 30 a second."""

Sleep = Callable[[float], Awaitable[None]]


def in_flight_of(endpoint: WebhookEndpoint) -> int:
    """How many requests may be under way to an endpoint at once."""
    return endpoint.max_in_flight or IN_FLIGHT


def cap_of(endpoint: WebhookEndpoint) -> float | None:
    """The most requests a second that an endpoint may be sent; None: any number."""
    if endpoint.max_per_second is not None:
        return endpoint.max_per_second
    return _OF_HOSTS.get(urlsplit(endpoint.url).hostname or "")


def rate_of(endpoint: WebhookEndpoint) -> float | None:
    """Requests a second that it is sent now: its cap, or less while it recovers."""
    rates = [rate for rate in (cap_of(endpoint), endpoint.pace) if rate is not None]
    return min(rates, default=None)


def halved(endpoint: WebhookEndpoint, speed: float) -> float:
    """The pace after it asked for less; `speed` is how fast it was really sent to."""
    return max(SLOWEST, (rate_of(endpoint) or speed) / 2)


def begun_again(endpoint: WebhookEndpoint) -> float:
    """The pace with which it will catch up, after it was unwell."""
    return min(CATCH_UP, rate_of(endpoint) or CATCH_UP)


def risen(endpoint: WebhookEndpoint, taken: int) -> float | None:
    """The pace after so many requests went well; None once it is as fast as it may be."""
    pace = endpoint.pace
    if pace is None:
        return None
    # At this pace, that many requests are taken / pace seconds. It doubles at most.
    grown = min(2 * pace, pace + GAIN * taken / pace)
    return None if grown >= (cap_of(endpoint) or FULL) else grown


class Bucket:
    """When the requests of one lease may leave: spaced by the rate, and a little late made good.

    `late` is how many seconds ago the first might have left.
    """

    def __init__(
        self, rate: float | None, late: float, time: Callable[[], float], sleep: Sleep
    ) -> None:
        self.rate = rate
        self._time = time
        self._sleep = sleep
        self._begun = time()
        self._free_at = self._begun - max(0.0, late)
        self.sent = 0
        """How many requests really left: who has waited may yet be told to stay."""
        self._line = asyncio.Lock()

    @property
    def speed(self) -> float:
        """Requests a second so far."""
        return max(1, self.sent) / max(1.0, self._time() - self._begun)

    @property
    def wait(self) -> float:
        """In how many seconds the next request may leave."""
        return max(0.0, self._free_at - self._time()) if self.rate else 0.0

    async def slot(self, until: float) -> bool:
        """Wait until a request may leave; False, at once, if that is not before `until`."""
        async with self._line:
            now = self._time()
            if self.rate:
                at = max(self._free_at, now - CREDIT)
                if at > now and at >= until:
                    return False
                if at > now:
                    await self._sleep(at - now)
                self._free_at = at + 1 / self.rate
            return True

    def give_back(self) -> None:
        """A request that had its slot did not leave: the next one may leave in its stead."""
        if self.rate:
            self._free_at -= 1 / self.rate
