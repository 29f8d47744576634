"""Counts of what this process does: cheap to keep on every floor, shown by endpoints/metrics.py.

A count is one look-up in a dictionary (0.2 µs were measured); prometheus_client's own counters take
a lock and seven times as long, so that library only writes the text. All counting happens in the
event loop. Labels are words of our own, never of callers: what callers may choose (names,
documents, addresses) has no bound, and may be personal.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from time import time
from typing import ClassVar

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
"""Upper bounds of the classes in which durations are counted."""


class Metric:
    """Something that is counted in this process, by the values of its labels."""

    known: ClassVar[list["Metric"]] = []
    """All of them, in the order in which they were declared."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self.name = f"stampwire_{name}"
        self.meaning = meaning
        self.labels = labels
        Metric.known.append(self)


class Counter(Metric):
    """A number that only grows."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def count(self, *labels: str) -> None:
        """One more."""
        self.values[labels] = self.values.get(labels, 0) + 1

    def add(self, amount: float, *labels: str) -> None:
        """So many more."""
        self.values[labels] = self.values.get(labels, 0) + amount


class Gauge(Metric):
    """A number that goes up and down."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def set(self, value: float, *labels: str) -> None:
        """It is this now."""
        self.values[labels] = value

    def move(self, by: float, *labels: str) -> None:
        """It is so much more than before."""
        self.values[labels] = self.values.get(labels, 0) + by

    @contextmanager
    def held(self, *labels: str) -> Iterator[None]:
        """One more for as long as the block lasts."""
        self.move(1, *labels)
        try:
            yield
        finally:
            self.move(-1, *labels)


class Histogram(Metric):
    """Durations, counted in classes."""

    def __init__(
        self, name: str, meaning: str, *labels: str, bounds: tuple[float, ...] = SECONDS
    ) -> None:
        super().__init__(name, meaning, *labels)
        self.bounds = bounds
        self.values: dict[tuple[str, ...], list[float]] = {}
        """For each set of labels how many were in each class, and the sum of all at the end."""

    def observe(self, seconds: float, *labels: str) -> None:
        """It took so long."""
        values = self.values.get(labels)
        if values is None:
            values = self.values[labels] = [0] * (len(self.bounds) + 2)
        values[bisect_left(self.bounds, seconds)] += 1
        values[-1] += seconds

    def read(self, *labels: str) -> tuple[list[float], float]:
        """How many took at most each bound and how many there are in all, and their sum."""
        *classes, total = self.values[labels]
        return list(accumulate(classes)), total


# -- What is counted ------------------------------------------------------------------------------

REQUESTS = Counter("requests_total", "GraphQL operations answered.", "kind", "status")
PLANS = Counter("plans_total", "Queries for which there was a plan, and what it gave.", "outcome")
REQUEST_SECONDS = Histogram(
    "request_seconds", "How long queries and mutations took to answer.", "kind"
)
SOCKETS = Gauge("sockets", "Websockets and event streams that are open.", "transport")
SUBSCRIPTIONS = Gauge("subscriptions", "Subscriptions that are followed.")
ATTEMPTS = Counter("webhook_attempts_total", "Requests made to webhook endpoints.", "answer")
ATTEMPT_SECONDS = Histogram("webhook_attempt_seconds", "How long those requests took.")
DELIVERIES = Counter(
    "webhook_deliveries_total", "What became of events due to webhook endpoints.", "outcome"
)
LEASES_LOST = Counter("webhook_leases_lost_total", "Rounds refused, for the lease was lost.")
LEASES_HELD = Gauge("leases_held", "What workers of this process hold leases of now.", "of")
LAST_PASS = Gauge(
    "worker_last_pass_timestamp_seconds", "When each worker last looked for work.", "hand"
)
LOOP_DELAY = Histogram("event_loop_delay_seconds", "How late the event loop's clock tick came.")
LOOP_BLOCKED = Counter("event_loop_blocked_total", "Times that the event loop stood for 1 s.")


def passed(hand: str) -> None:
    """A worker has looked for work."""
    LAST_PASS.values[(hand,)] = time()
