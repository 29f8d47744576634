"""The clock: every rule is told what time it is by one of these."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The present moment, aware and in UTC."""
        ...


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved: for tests, and for the demo's year."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def advance(self, span: timedelta) -> None:
        """Move the clock forward."""
        self.moment += span


def wire_time(moment: datetime) -> str:
    """A moment as the wire writes it: UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local_moment(day: date, hour: int, zone: ZoneInfo) -> datetime:
    """The moment at which a day's clocks show a full hour.

    An hour that comes twice (clocks go back) counts when it comes first; one that is left out
    (clocks go forward) counts as if they had not: as much later as the gap is long.
    """
    return datetime.combine(day, time(hour), zone).astimezone(UTC)


def next_local(moment: datetime, hour: int, zone: ZoneInfo) -> datetime:
    """The first time from this moment on that clocks show a full hour."""
    today = moment.astimezone(zone).date()
    first = local_moment(today, hour, zone)
    return first if first >= moment else local_moment(today + timedelta(days=1), hour, zone)
