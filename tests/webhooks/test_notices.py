"""Notices: each step of an endpoint's failing is told once, and its end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from db import Database, query
from models import EndpointStatus, Notice, NoticeKind
from webhooks.notices import tell_of_failing

_NOTICES = query(select(Notice).order_by(Notice.id))


@pytest.fixture
def notices(database: Database) -> Callable[[], Any]:
    """Every notice so far."""

    async def read() -> list[Notice]:
        return await database.read(None, lambda tx: tx.many(_NOTICES))

    return read


async def test_an_hour_a_day_and_three_days_of_failing_are_told_once(
    cafe: Any, database: Database, clock: ManualClock, notices: Any
) -> None:
    since = clock.now()
    endpoint = await cafe.endpoint("https://till.example/secret-path", failing_since=since)
    await cafe.endpoint("https://well.example/")
    counts = []

    for hours in (0.9, 1, 2, 23.9, 24, 25, 71, 72, 100, 119):
        clock.moment = since + timedelta(hours=hours)
        await tell_of_failing(database, clock.now())
        await tell_of_failing(database, clock.now())
        counts.append(len(await notices()))

    assert counts == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    told = await notices()
    assert [notice.message for notice in told] == [
        "The webhook endpoint till.example has failed for an hour.",
        "The webhook endpoint till.example has failed for a day.",
        "The webhook endpoint till.example has failed for three days.",
    ]
    assert {(notice.kind, notice.subject_id, notice.business_id) for notice in told} == {
        (NoticeKind.ENDPOINT_FAILING, endpoint.id, cafe.business.id)
    }


async def test_who_looks_late_tells_of_the_longest_step_alone(
    cafe: Any, database: Database, clock: ManualClock, notices: Any
) -> None:
    await cafe.endpoint("https://till.example/", name="Till", failing_since=clock.now())
    clock.advance(timedelta(days=4))

    await tell_of_failing(database, clock.now())

    [notice] = await notices()
    assert notice.message == "The webhook endpoint Till has failed for three days."


async def test_an_endpoint_that_fails_again_is_told_of_again(
    cafe: Any, database: Database, clock: ManualClock, notices: Any
) -> None:
    endpoint = await cafe.endpoint("https://till.example/", failing_since=clock.now())
    for _ in range(2):
        clock.advance(timedelta(hours=1))
        await tell_of_failing(database, clock.now())
        await cafe.change(endpoint, failing_since=clock.now())

    assert len(await notices()) == 2


@pytest.mark.parametrize("status", [EndpointStatus.PAUSED, EndpointStatus.DISABLED])
async def test_an_endpoint_that_is_not_served_does_not_fail(
    cafe: Any, database: Database, clock: ManualClock, notices: Any, status: EndpointStatus
) -> None:
    await cafe.endpoint("https://till.example/", failing_since=clock.now(), status=status)
    clock.advance(timedelta(days=2))

    await tell_of_failing(database, clock.now())

    assert await notices() == []
