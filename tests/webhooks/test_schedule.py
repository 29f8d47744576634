"""The schedule: what each answer means, and when the next try is, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from webhooks.schedule import Outcome, is_exhausted, judge, seconds_to_wait, step

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "error", "retry_after", "control", "outcome"),
    [
        (200, None, None, None, Outcome.TAKEN),
        (204, None, None, None, Outcome.TAKEN),
        (299, None, None, "abort-message", Outcome.TAKEN),
        (None, "timeout", None, None, Outcome.UNWELL),
        (None, "dns", None, None, Outcome.UNWELL),
        (None, "connect", None, None, Outcome.UNWELL),
        (None, "tls", None, None, Outcome.UNWELL),
        (200, "timeout", None, None, Outcome.UNWELL),
        (408, None, None, None, Outcome.UNWELL),
        (425, None, None, None, Outcome.UNWELL),
        (500, None, None, None, Outcome.UNWELL),
        (503, None, None, None, Outcome.UNWELL),
        (599, None, None, None, Outcome.UNWELL),
        (503, None, 7.0, None, Outcome.WANTS_LESS),
        (429, None, None, None, Outcome.WANTS_LESS),
        (429, None, 7.0, None, Outcome.WANTS_LESS),
        (301, None, None, None, Outcome.REFUSED),
        (307, None, None, None, Outcome.REFUSED),
        (400, None, None, None, Outcome.REFUSED),
        (404, None, 7.0, None, Outcome.REFUSED),
        (500, None, None, "abort-message", Outcome.ABORTED),
        (400, None, None, "abort-message", Outcome.ABORTED),
        (400, None, None, "gibberish", Outcome.REFUSED),
        (410, None, None, None, Outcome.OVER),
        (200, None, None, "disable", Outcome.OVER),
        (500, None, None, "disable", Outcome.OVER),
        (None, "address", None, None, Outcome.BLOCKED),
        (None, "url", None, None, Outcome.BLOCKED),
    ],
)
def test_an_answer_means(
    status: int | None,
    error: str | None,
    retry_after: float | None,
    control: str | None,
    outcome: Outcome,
) -> None:
    assert judge(status, error, retry_after, control) is outcome


def test_the_steps_are_those_of_the_design() -> None:
    waits = [step(tries, 0.5) for tries in range(1, 14)]

    assert [wait.total_seconds() for wait in waits] == [
        5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000, 86400, 86400, 86400
    ]  # fmt: skip


def test_a_step_is_spread_by_a_fifth() -> None:
    assert step(3, 0) == timedelta(seconds=96)
    assert step(3, 1) == timedelta(seconds=144)


def test_an_event_is_exhausted_after_its_last_step() -> None:
    assert next(tries for tries in range(1, 20) if is_exhausted(tries)) == 12


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 120 ", 120),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("99999999999999999999", 86_400),
        ("90000", 86_400),
        ("Mon, 02 Mar 2026 12:01:00 GMT", 60),
        ("Mon, 02 Mar 2026 11:59:00 GMT", None),
        ("Mon, 02 Mar 2027 12:00:00 GMT", 86_400),
        ("Mon, 99 Mar 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_asks_for(header: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(header, NOW) == seconds
