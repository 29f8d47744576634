"""Pace: caps, halving, recovery, and a bucket that is carried from lease to lease."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from cafes import Cafe, VirtualSender, VirtualTime, a_stamp
from core.clock import ManualClock
from events.stream import Stream
from models import WebhookEndpoint
from webhooks.pace import CATCH_UP, FULL, Bucket, begun_again, cap_of, halved, rate_of, risen
from webhooks.pusher import Pusher

ZAPIER = "https://hooks.zapier.com/hooks/catch/1/2"


def endpoint(url: str = "https://partner.example/", **values: Any) -> WebhookEndpoint:
    return WebhookEndpoint(**{"url": url, "max_per_second": None, "pace": None, **values})


@pytest.mark.parametrize(
    ("given", "cap", "rate"),
    [
        (endpoint(), None, None),
        (endpoint(max_per_second=3.0), 3.0, 3.0),
        (endpoint(pace=10.0), None, 10.0),
        (endpoint(max_per_second=3.0, pace=10.0), 3.0, 3.0),
        (endpoint(max_per_second=30.0, pace=10.0), 30.0, 10.0),
        (endpoint(ZAPIER), 25.0, 25.0),
        (endpoint(ZAPIER.upper()), 25.0, 25.0),
        (endpoint(ZAPIER, max_per_second=40.0), 40.0, 40.0),
        (endpoint("https://hooks.zapier.com.evil.example/"), None, None),
    ],
)
def test_the_rate_is_the_lesser_of_cap_and_pace(
    given: WebhookEndpoint, cap: float | None, rate: float | None
) -> None:
    assert (cap_of(given), rate_of(given)) == (cap, rate)


@pytest.mark.parametrize(
    ("given", "speed", "half", "again", "grown"),
    [
        (endpoint(), 80.0, 40.0, CATCH_UP, None),
        (endpoint(max_per_second=25.0), 4.0, 12.5, CATCH_UP, None),
        (endpoint(max_per_second=4.0), 4.0, 2.0, 4.0, None),
        (endpoint(pace=10.0), 9.0, 5.0, 10.0, 11.6),
        (endpoint(pace=0.1), 9.0, 0.1, 0.1, 0.2),
        (endpoint(pace=24.5, max_per_second=25.0), 9.0, 12.25, 10.0, None),
        (endpoint(pace=FULL - 0.001), 9.0, FULL / 2 - 0.0005, 10.0, None),
    ],
)
def test_it_halves_begins_again_and_rises(
    given: WebhookEndpoint, speed: float, half: float, again: float, grown: float | None
) -> None:
    assert halved(given, speed) == pytest.approx(half)
    assert begun_again(given) == pytest.approx(again)
    assert risen(given, 8) == (None if grown is None else pytest.approx(grown))


async def test_a_bucket_spaces_requests_and_makes_a_little_lateness_good() -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    bucket = Bucket(10.0, 60.0, lambda: now, sleep)
    left = []
    for number in range(8):
        assert await bucket.slot(200.0)
        left.append(round(now, 3))
        if number == 4:
            now += 0.25  # somebody was slow
    # Two at first: an idle endpoint has a tenth of a second to its credit.
    assert left == [100.0, 100.0, 100.1, 100.2, 100.3, 100.55, 100.55, 100.65]
    assert bucket.wait == pytest.approx(0.1)


async def test_a_bucket_does_not_wait_beyond_the_end() -> None:
    bucket = Bucket(0.1, 0.0, lambda: 100.0, _never)

    assert await bucket.slot(105.0)
    assert not await bucket.slot(105.0)
    assert bucket.wait == 10.0


async def _never(_: float) -> None:
    raise AssertionError("it waits")


async def test_who_asks_for_less_gets_half_and_then_more_again(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    made = await cafe.endpoint("https://partner.example/", max_per_second=16.0)
    events = await cafe.happens(*(a_stamp() for _ in range(200)))
    told: list[datetime] = []

    def reply(parcel: Any, at: datetime) -> Any:
        if parcel.id == events[50].id and not told:
            told.append(at)
            return {"status": 429, "retry_after": 60.0}
        return 200

    sender = VirtualSender(clock, reply)
    time = VirtualTime(cafe, stream, clock, sender)

    after = await time.pass_by(made, time.pusher(), until=clock.now() + timedelta(hours=1))

    assert (after.cursor_sequence, after.pace) == (200, None)
    later = [at for at in sender.times if at > told[0]]
    assert (later[0] - told[0]).total_seconds() >= 60
    speeds = [1 / (after - before).total_seconds() for before, after in pairwise(later[1:])]
    assert speeds[2] == pytest.approx(8, rel=0.15)
    assert max(speeds[:8]) < 10
    assert max(speeds[-40:]) == pytest.approx(16, rel=0.01)


async def test_an_unlimited_endpoint_that_asks_for_less_gets_half_of_what_it_really_got(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    made = await cafe.endpoint("https://partner.example/")
    await cafe.happens(*(a_stamp() for _ in range(8)))
    sender = VirtualSender(clock, lambda *_: 429)

    await VirtualTime(cafe, stream, clock, sender).pusher().sweep()

    after = await cafe.now_of(made)
    assert after.pace == len(sender.sent) / 2


@pytest.mark.parametrize(("most", "seen"), [(None, 4), (1, 1), (2, 2), (12, 12)])
async def test_as_many_requests_are_under_way_as_an_endpoint_allows(
    cafe: Any, receiver: Any, pusher: Pusher, most: int | None, seen: int
) -> None:
    receiver.delay = 0.05
    await cafe.endpoint(receiver.url, max_in_flight=most)
    await cafe.happens(*(a_stamp() for _ in range(24)))

    await pusher.sweep()

    assert len(receiver.got) == 24
    assert receiver.most_at_once == seen


async def test_in_a_crowd_each_endpoint_has_one_request_under_way(
    cafe: Any, receiver: Any, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.sender._CROWDED", 0)
    receiver.delay = 0.02
    await cafe.endpoint(receiver.url)
    await cafe.happens(*(a_stamp() for _ in range(6)))

    await pusher.sweep()

    assert len(receiver.got) == 6
    assert receiver.most_at_once == 1
