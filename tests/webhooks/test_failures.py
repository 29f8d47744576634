"""The failure table, over five days of virtual time: every request equals a model of the design."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cafes import Cafe, VirtualSender, VirtualTime, a_stamp
from core.clock import ManualClock
from events.stream import Stream
from models import DeliveryState, EndpointStatus, EventRow, Ordering

STEPS = (5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""As design/events-and-webhooks.md has them, written down a second time."""
DAY = 86_400
FIVE_DAYS = 5 * DAY
Log = list[tuple[float, int]]
"""When a request left (seconds since the first), and with which event."""


def steps(asked: float = 0) -> list[float]:
    """When a receiver that never takes anything is asked, until it is disabled."""
    moments, failures = [0.0], 0
    while moments[-1] < FIVE_DAYS:
        moments.append(moments[-1] + max(STEPS[min(failures, 10)], asked))
        failures += 1
    return moments


def one_event_again_and_again(asked: float = 0) -> Log:
    return [(at, 1) for at in steps(asked)]


def four_at_first_then_one_per_step() -> Log:
    first, *later = steps()
    return [(first, place) for place in range(1, 5)] + list(zip(later, range(5, 50), strict=False))


def until_it_is_given_up() -> Log:
    moments = [0.0]
    for step in STEPS:
        moments.append(moments[-1] + step)
    return [(at, 1) for at in moments]


def three_rounds_then_one_per_step() -> Log:
    """Twenty refusals of twenty: a receiver that takes nothing is not asked with everything."""
    first, *later = steps()
    return [(first, place) for place in range(1, 25)] + list(
        zip(later, range(25, 60), strict=False)
    )


def once() -> Log:
    return [(0.0, 1)]


WORSE = {"status": 429, "retry_after": 86_400.0}
GIVEN_UP = "dead"
FAILED = "It failed for five days."
BLOCKED = "Webhooks may not be sent to this address."
OVER = "The receiver asked for no more (410, or webhook-delivery: disable)."


@pytest.mark.parametrize(
    ("said", "events", "ordering", "model", "end"),
    [
        *(
            (said, 1, Ordering.NONE, one_event_again_and_again, FAILED)
            for said in (500, 502, 503, 408, 425, 599, {"error": "dns"}, {"error": "connect"})
        ),
        *(
            (said, 1, Ordering.STRICT, one_event_again_and_again, FAILED)
            for said in (504, {"error": "tls"}, {"error": "timeout"}, {"error": "protocol"})
        ),
        (500, 60, Ordering.NONE, four_at_first_then_one_per_step, FAILED),
        (500, 60, Ordering.STRICT, one_event_again_and_again, FAILED),
        (429, 1, Ordering.NONE, one_event_again_and_again, FAILED),
        (429, 9, Ordering.STRICT, one_event_again_and_again, FAILED),
        (WORSE, 1, Ordering.STRICT, lambda: one_event_again_and_again(DAY), FAILED),
        *(
            (said, 1, ordering, until_it_is_given_up, GIVEN_UP)
            for said in (400, 401, 404, 422, 301, 307)
            for ordering in (Ordering.NONE, Ordering.STRICT)
        ),
        (404, 60, Ordering.NONE, three_rounds_then_one_per_step, FAILED),
        (302, 60, Ordering.NONE, three_rounds_then_one_per_step, FAILED),
        (410, 9, Ordering.STRICT, once, OVER),
        ({"status": 200, "control": "disable"}, 9, Ordering.STRICT, once, OVER),
        ({"status": 500, "control": "disable"}, 9, Ordering.STRICT, once, OVER),
        ({"status": 500, "control": "abort-message"}, 1, Ordering.STRICT, once, GIVEN_UP),
        ({"status": 429, "control": "abort-message"}, 1, Ordering.NONE, once, GIVEN_UP),
        (
            {"error": "address"}, 9, Ordering.STRICT,
            lambda: [(0.0, 1), (5.0, 1), (35.0, 1)], BLOCKED,
        ),
        ({"error": "url"}, 9, Ordering.STRICT, lambda: [(0.0, 1), (5.0, 1), (35.0, 1)], BLOCKED),
    ],
)  # fmt: skip
async def test_five_days_of_one_answer_are_as_the_design_says(
    cafe: Cafe, stream: Stream, clock: ManualClock,
    said: Any, events: int, ordering: Ordering, model: Callable[[], Log], end: str,
) -> None:  # fmt: skip
    sender = VirtualSender(clock, lambda *_: said)
    begin = clock.now()
    endpoint = await cafe.endpoint("https://partner.example/", ordering=ordering)
    await cafe.happens(*(a_stamp() for _ in range(events)))
    time = VirtualTime(cafe, stream, clock, sender)

    after = await time.pass_by(endpoint, time.pusher(), until=begin + timedelta(days=9))

    sent = [
        (round((row.started_at - begin).total_seconds(), 1), row.sequence)
        for row in await _log(cafe)
    ]
    assert sent == model()
    assert len(sender.sent) == len(sent)
    if end == GIVEN_UP:
        assert after.status is EndpointStatus.ACTIVE
        assert [row.state for row in await cafe.exceptions()] == [DeliveryState.DEAD]
    else:
        assert (after.status, after.disabled_reason) == (EndpointStatus.DISABLED, end)
        assert [notice.kind for notice in await cafe.notices()] == ["endpoint_disabled"]


async def test_a_blocked_address_is_counted_by_itself(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    script = [500, 500, {"error": "address"}, 500, {"error": "url"}, {"error": "address"}, 200]
    sender = VirtualSender(clock, lambda *_: script.pop(0))
    endpoint = await cafe.endpoint("https://partner.example/", ordering=Ordering.STRICT)
    await cafe.happens(a_stamp())
    time = VirtualTime(cafe, stream, clock, sender)

    after = await time.pass_by(endpoint, time.pusher(), until=clock.now() + timedelta(days=9))

    assert (after.status, after.cursor_sequence) == (EndpointStatus.ACTIVE, 1)


async def test_an_event_its_receiver_chokes_on_is_given_up_in_the_end(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    """500 to one event and 200 to all others says something of that event."""
    endpoint = await cafe.endpoint("https://partner.example/")
    [poison, *_] = await cafe.happens(*(a_stamp() for _ in range(3)))
    sender = VirtualSender(clock, lambda parcel, _: 500 if parcel.id == poison.id else 200)
    time = VirtualTime(cafe, stream, clock, sender)
    pusher, begin = time.pusher(), clock.now()

    for hours in range(1, 24 * 9, 3):  # the café is open
        await cafe.happens(a_stamp())
        await time.pass_by(endpoint, pusher, until=begin + timedelta(hours=hours))
        clock.moment = max(clock.now(), begin + timedelta(hours=hours))

    assert sum(sent.parcel.id == poison.id for sent in sender.sent) == 12
    assert [row.state for row in await cafe.exceptions()] == [DeliveryState.DEAD]


async def test_a_receiver_that_refuses_half_is_well(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    endpoint = await cafe.endpoint("https://partner.example/", ordering=Ordering.NONE)
    events = await cafe.happens(*(a_stamp() for _ in range(60)))
    refused = {event.id for event in events[::2]}
    sender = VirtualSender(clock, lambda parcel, _: 422 if parcel.id in refused else 200)
    time = VirtualTime(cafe, stream, clock, sender)

    await time.pusher().sweep()

    after = await cafe.now_of(endpoint)
    assert (after.failures, after.failing_since, after.pace) == (0, None, None)
    assert len(sender.sent) == 60


# -- Events that we cannot send -------------------------------------------------------------------


async def test_a_poisoned_event_is_an_exception_and_delays_nobody(
    cafe: Any, receiver: Any, pusher: Any, clock: ManualClock
) -> None:
    from models import Vocabulary  # noqa: PLC0415

    endpoint = await cafe.endpoint(receiver.url, vocabulary=Vocabulary.ID)
    events = await cafe.happens(*(a_stamp() for _ in range(20)))
    await _tamper(cafe, events[3], body="{")

    await pusher.sweep()

    assert len(receiver.got) == 19
    [row] = await cafe.exceptions()
    assert (row.sequence, row.state, row.last_error) == (4, DeliveryState.RETRY, "body")
    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.failures) == (20, 0)

    await _tamper(cafe, events[3], body=events[3].body)
    clock.advance(timedelta(seconds=5))
    await pusher.sweep()

    assert len(receiver.got) == 20
    assert await cafe.exceptions() == []


async def test_a_poisoned_event_does_not_stop_an_endpoint_that_is_probed(
    cafe: Any, receiver: Any, pusher: Any
) -> None:
    from models import Vocabulary  # noqa: PLC0415

    endpoint = await cafe.endpoint(receiver.url, vocabulary=Vocabulary.ID, failures=2)
    events = await cafe.happens(a_stamp(), a_stamp())
    await _tamper(cafe, events[0], body="{")

    await pusher.sweep()

    assert receiver.ids == [events[1].id]
    assert (await cafe.now_of(endpoint)).failures == 0


@pytest.mark.parametrize("ordering", list(Ordering))
async def test_an_event_type_of_a_newer_release_is_kept_for_it(
    cafe: Any, receiver: Any, pusher: Any, clock: ManualClock, ordering: Ordering
) -> None:
    """An old worker beside a new server: it skips what it does not know, and loses nothing."""
    endpoint = await cafe.endpoint(receiver.url, ordering=ordering)
    events = await cafe.happens(*(a_stamp("card_a") for _ in range(3)), a_stamp("card_b"))
    await _tamper(cafe, events[1], type="card_teleported")

    await pusher.sweep()

    expected = {Ordering.NONE: [0, 2, 3], Ordering.CARD: [0, 3], Ordering.STRICT: [0]}[ordering]
    assert set(receiver.ids) == {events[place].id for place in expected}

    await _tamper(cafe, events[1], type=events[1].type)  # the new release takes over
    for _ in range(4):
        clock.advance(timedelta(minutes=1))
        await pusher.sweep()

    assert sorted(receiver.ids) == sorted(event.id for event in events)
    assert await cafe.exceptions() == []
    assert (await cafe.now_of(endpoint)).cursor_sequence == 4
    if ordering is not Ordering.NONE:
        mine = [event.id for event in events[:3]]
        assert [id_ for id_ in receiver.ids if id_ in mine] == mine


async def test_what_was_kept_for_a_newer_release_and_is_not_due_is_not_sent(
    cafe: Any, receiver: Any, pusher: Any, clock: ManualClock
) -> None:
    await cafe.endpoint(receiver.url)
    [event] = await cafe.happens(a_stamp())
    await _tamper(cafe, event, type="card_teleported")
    await pusher.sweep()
    assert len(await cafe.exceptions()) == 1

    await _tamper(cafe, event, type="operation_voided")  # which is due only by its name
    clock.advance(timedelta(minutes=1))
    await pusher.sweep()

    assert receiver.got == []
    assert await cafe.exceptions() == []


async def test_types_that_were_not_asked_for_are_not_kept(
    cafe: Any, receiver: Any, pusher: Any
) -> None:
    await cafe.endpoint(receiver.url, types=["goal_reached"])
    [event] = await cafe.happens(a_stamp())
    await _tamper(cafe, event, type="card_teleported")

    await pusher.sweep()

    assert receiver.got == []
    assert await cafe.exceptions() == []


async def _log(cafe: Cafe) -> list[Any]:
    return sorted(await cafe.attempts(), key=lambda row: (row.started_at, row.sequence))


async def _tamper(cafe: Cafe, event: EventRow, **values: Any) -> None:
    await cafe.database.write(
        None,
        lambda tx: tx.run(
            _TAMPER,
            sequence=event.sequence,
            **(
                {"new_type": event.type, "new_body": event.body}
                | {f"new_{name}": value for name, value in values.items()}
            ),
        ),
    )


def _tampering() -> Any:
    from sqlalchemy import update  # noqa: PLC0415
    from sqlmodel import col  # noqa: PLC0415

    from db import command, param  # noqa: PLC0415

    return command(
        update(EventRow)
        .where(col(EventRow.sequence) == param("sequence"))
        .values(type=param("new_type"), body=param("new_body"))
    )


_TAMPER = _tampering()
