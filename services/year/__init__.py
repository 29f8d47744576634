"""A year in the café: three places, thousands of customers, all that happens, by the real services.

The same seed tells the same story: the same things happen to the same people at the same moments.
Only ids and secrets are others each time. Two runs on SQLite write the same log line for line; on
PostgreSQL, things that time causes at one moment may change places.
"""

from collections.abc import Callable
from datetime import UTC, datetime, time
from random import Random
from zoneinfo import ZoneInfo

from core.clock import ManualClock
from core.secrets import Secrets
from db import Database
from services.demo import Starter
from services.year import shape
from services.year.cafe import former_cafe, open_cafe, throw_away
from services.year.people import SeededLuck, cast_of
from services.year.story import MonthOver, Story

__all__ = ["MonthOver", "YearExists", "make_year"]


class YearExists(Exception):
    """The café of the year was made before."""


async def make_year(
    database: Database,
    secrets: Secrets,
    now: datetime,
    keep: Callable[[Starter], None],
    month_over: Callable[[MonthOver], None] = lambda month: None,  # noqa: ARG005 -- nobody asks
    *,
    seed: int,
    customers: int,
    days: int,
) -> dict[str, int]:
    """Make the café and its year; says how much there is of everything.

    One that was cut off is thrown away first; YearExists where one was finished. `keep` is given
    the credentials, which nobody can read again, before the year counts as finished.
    """
    former = await database.read(None, former_cafe)
    if former is not None:
        if former.name != shape.IN_THE_MAKING:
            raise YearExists(former.id)
        await database.write(former.id, throw_away)
    # The story has moments of its own; beside them the world stands still, so that they are exact.
    clock = ManualClock(now.replace(microsecond=0))
    begin = datetime.combine(shape.FIRST_DAY, time(), ZoneInfo(shape.TIMEZONE)).astimezone(UTC)
    cafe = await open_cafe(database, secrets, begin, clock.now())
    story = Story(
        database=database,
        cafe=cafe,
        people=cast_of(_random(seed, "people"), customers, days),
        random=_random(seed, "days"),
        luck=SeededLuck(_random(seed, "luck")),
        clock=clock,
    )
    await story.tell(days, month_over)
    keep(cafe.starter)
    await story.finish()
    return await story.counts()


def _random(seed: int, what: str) -> Random:
    """Chances that come the same again; so the length of one table does not move the others."""
    return Random(f"{seed} {what}")  # noqa: S311 -- a story, not a secret
