"""Counting is cheap, its classes are right, and a blocked event loop is told with its stack."""

import ctypes
import time
import timeit
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from core.metrics import LOOP_BLOCKED, LOOP_DELAY, Counter, Gauge, Histogram, Metric
from core.watchdog import Watchdog
from patience import until

pytestmark = pytest.mark.on("sqlite")


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    """Metrics of a test leave with it."""
    before = list(Metric.known)
    yield
    Metric.known[:] = before


def test_counting_takes_less_than_a_microsecond() -> None:
    counter, histogram = Counter("a", "A.", "kind", "status"), Histogram("b", "B.", "kind")
    took = {}
    for _ in range(2):
        for name, count in {
            "counter": lambda: counter.count("query", "ok"),
            "histogram": lambda: histogram.observe(0.003, "query"),
        }.items():
            best = min(timeit.repeat(count, number=20_000, repeat=5)) / 20_000
            took[name] = min(best, took.get(name, best))
        if max(took.values()) < 1e-6:
            break

    assert max(took.values()) < 1e-6, took


def test_a_gauge_counts_what_is_held() -> None:
    gauge = Gauge("a", "A.", "transport")

    with gauge.held("websocket"), gauge.held("websocket"):
        assert gauge.values == {("websocket",): 2}

    assert gauge.values == {("websocket",): 0}


def test_a_duration_is_in_the_first_class_that_holds_it() -> None:
    histogram = Histogram("a", "A.", bounds=(0.1, 1.0))

    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)

    assert histogram.read() == ([2, 3, 4], pytest.approx(7.65))


async def test_a_blocked_loop_is_told_with_its_stack() -> None:
    blocked = LOOP_BLOCKED.values[()]
    watchdog = Watchdog(limit=0.3, every=0.05)
    with structlog.testing.capture_logs() as said:
        watchdog.start()
        try:
            _hold_the_loop_until(said)
            await until(lambda: len(said) > 1)
        finally:
            watchdog.stop()

    first, second = said
    assert first["event"] == "event loop blocked"
    assert first["where"][-1].endswith("_hold_the_loop_until")
    assert second["event"] == "event loop goes on"
    assert second["blocked_seconds"] >= 0.3
    assert LOOP_BLOCKED.values[()] == blocked + 1
    assert LOOP_DELAY.read()[1] >= 0.3


async def test_a_loop_held_together_with_pythons_lock_is_told_too() -> None:
    watchdog = Watchdog(limit=0.3, every=0.05)
    with structlog.testing.capture_logs() as said:
        watchdog.start()
        try:
            ctypes.PyDLL(None).usleep(500_000)  # keeps the lock: no thread of Python's runs
            await until(lambda: "event loop goes on" in [line["event"] for line in said])
        finally:
            watchdog.stop()


async def test_a_loop_that_goes_on_is_not_told_of() -> None:
    watchdog = Watchdog(limit=60, every=0.01)
    LOOP_DELAY.observe(0)
    before = LOOP_DELAY.read()[0][-1]
    with structlog.testing.capture_logs() as said:
        watchdog.start()
        await until(lambda: LOOP_DELAY.read()[0][-1] > before + 5)
        watchdog.stop()

    assert said == []


def _hold_the_loop_until(said: list[Any]) -> None:
    """Until the thread beside has said something, or the time limit of tests ends it."""
    while not said:
        time.sleep(0.01)
