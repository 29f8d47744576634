"""When things are due: hours that come twice or never, 29 February, silences, ends of months."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from core.clock import local_moment, next_local
from models import Card, Validity, birthdays_on, expiry


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "hour", "moment"),
    [
        ("Asia/Jakarta", "2026-03-02", 9, "2026-03-02T02:00"),
        ("Asia/Kathmandu", "2026-03-02", 9, "2026-03-02T03:15"),
        ("Europe/Berlin", "2026-03-28", 9, "2026-03-28T08:00"),
        ("Europe/Berlin", "2026-03-29", 9, "2026-03-29T07:00"),  # the clocks went forward
        ("Europe/Berlin", "2026-03-29", 2, "2026-03-29T01:00"),  # left out: 03:00 of the new time
        ("Europe/Berlin", "2026-10-25", 2, "2026-10-25T00:00"),  # comes twice: the first
        ("Europe/Berlin", "2026-10-25", 9, "2026-10-25T08:00"),
        ("America/New_York", "2026-03-08", 2, "2026-03-08T07:00"),
        ("America/New_York", "2026-11-01", 1, "2026-11-01T05:00"),
        ("America/Sao_Paulo", "2018-11-04", 0, "2018-11-04T03:00"),  # no midnight that day
        ("America/Havana", "2026-11-01", 0, "2026-11-01T04:00"),  # midnight twice: the first
        ("Australia/Lord_Howe", "2026-10-04", 2, "2026-10-03T15:30"),  # half an hour left out
        ("Pacific/Apia", "2011-12-30", 9, "2011-12-30T19:00"),  # a day that was left out whole
    ],
)
def test_a_local_hour_is_one_moment(zone: str, day: str, hour: int, moment: str) -> None:
    assert local_moment(date.fromisoformat(day), hour, ZoneInfo(zone)) == utc(moment)


@pytest.mark.parametrize(
    ("zone", "since", "moment"),
    [
        ("Asia/Jakarta", "2026-03-02T02:59:59", "2026-03-02T03:00"),
        ("Asia/Jakarta", "2026-03-02T03:00:00", "2026-03-02T03:00"),
        ("Asia/Jakarta", "2026-03-02T03:00:01", "2026-03-03T03:00"),
        ("Europe/Berlin", "2026-03-28T09:00:01", "2026-03-29T08:00"),  # a day of 23 hours
        ("Europe/Berlin", "2026-10-24T08:00:01", "2026-10-25T09:00"),  # a day of 25 hours
        ("Europe/Berlin", "2026-12-31T09:30", "2027-01-01T09:00"),
    ],
)
def test_ten_o_clock_comes_next(zone: str, since: str, moment: str) -> None:
    assert next_local(utc(since), 10, ZoneInfo(zone)) == utc(moment)


@pytest.mark.parametrize(
    ("day", "kept"),
    [
        ("2026-02-28", (2, 28, 29)),  # a common year: who was born on the 29th, too
        ("2026-03-01", (3, 1, 1)),
        ("2028-02-28", (2, 28, 28)),
        ("2028-02-29", (2, 29, 29)),
        ("2100-02-28", (2, 28, 29)),  # no leap year, though divisible by four
        ("2000-02-28", (2, 28, 28)),
        ("2026-12-31", (12, 31, 31)),
    ],
)
def test_29_february_is_kept_on_the_28th_where_there_is_none(
    day: str, kept: tuple[int, int, int]
) -> None:
    assert birthdays_on(date.fromisoformat(day)) == kept


@pytest.mark.parametrize(
    ("zone", "last", "days", "moment"),
    [
        ("Asia/Jakarta", "2026-03-02T03:00:00", 30, "2026-04-01T03:00"),  # at ten sharp
        ("Asia/Jakarta", "2026-03-02T03:00:01", 30, "2026-04-02T03:00"),
        ("Asia/Jakarta", "2026-03-02T01:00", 30, "2026-04-01T03:00"),
        ("Asia/Jakarta", "2026-01-30T12:00", 30, "2026-03-02T03:00"),
        ("Europe/Berlin", "2026-03-01T08:30", 28, "2026-03-30T08:00"),  # ends at 10:30, in summer
        ("Europe/Berlin", "2026-03-01T09:00", 28, "2026-03-30T08:00"),  # full days of 24 hours
        ("Europe/Berlin", "2026-10-01T08:00", 25, "2026-10-26T09:00"),
    ],
)
def test_a_silence_is_told_at_the_first_ten_o_clock_that_ends_it(
    zone: str, last: str, days: int, moment: str
) -> None:
    card = Card(last_activity_at=utc(last))

    assert card.quiet_at(days, utc("2020-01-01T00:00"), ZoneInfo(zone)) == utc(moment)


def test_a_silence_is_never_told_before_its_rule_was_made() -> None:
    card = Card(last_activity_at=utc("2024-01-01T00:00"))
    zone = ZoneInfo("Asia/Jakarta")

    assert card.quiet_at(30, utc("2026-03-02T12:00"), zone) == utc("2026-03-03T03:00")


def test_a_card_without_a_past_is_not_silent() -> None:
    card = Card(last_activity_at=None)

    assert card.quiet_at(30, utc("2026-03-02T12:00"), ZoneInfo("UTC")) is None


@pytest.mark.parametrize(
    ("zone", "issued", "months", "ends"),
    [
        ("Asia/Jakarta", "2026-01-31T12:00", 1, "2026-02-28T17:00"),
        ("Asia/Jakarta", "2028-01-31T12:00", 1, "2028-02-29T17:00"),
        ("Asia/Jakarta", "2026-08-31T12:00", 6, "2027-02-28T17:00"),
        ("Asia/Jakarta", "2026-05-31T12:00", 1, "2026-06-30T17:00"),
        ("Asia/Jakarta", "2026-01-31T17:30", 1, "2026-03-01T17:00"),  # 1 February there
        ("Europe/Berlin", "2026-02-28T12:00", 1, "2026-03-28T23:00"),
        ("Europe/Berlin", "2026-02-28T23:30", 1, "2026-04-01T22:00"),  # 1 March there; summer
        ("America/Sao_Paulo", "2018-10-03T12:00", 1, "2018-11-04T03:00"),  # ends in a gap
    ],
)
def test_months_end_with_the_month(zone: str, issued: str, months: int, ends: str) -> None:
    assert expiry(Validity.MONTHS, months, None, utc(issued), ZoneInfo(zone)) == utc(ends)
