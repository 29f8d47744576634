"""The pusher, against real receivers on loopback: delivered, ordered, retried, fenced."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from core.ids import new_id
from events import payload
from models import (
    AttemptStatus,
    Channel,
    Consent,
    Customer,
    DeliveryState,
    EndpointStatus,
    LogHead,
    Ordering,
    Vocabulary,
)
from patience import until
from webhooks.parcels import seal_headers
from webhooks.pusher import Pusher


async def test_events_arrive_signed_and_in_the_words_of_the_endpoint(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    english = await cafe.endpoint(receiver.url)
    (event,) = await cafe.happens(stamp())

    await pusher.sweep()

    (got,) = receiver.got
    assert got.id == event.id
    assert got.body == event.body.encode()
    assert Webhook(cafe.keys[english.id]).verify(got.body, got.headers)["sequence"] == 1
    assert got.headers["content-type"] == "application/json"
    assert "accept-encoding" not in got.headers or got.headers["accept-encoding"] == "identity"


async def test_the_body_in_the_other_vocabulary_is_the_payload(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    await cafe.endpoint(receiver.url, vocabulary=Vocabulary.ID)
    (event,) = await cafe.happens(stamp())

    await pusher.sweep()

    assert receiver.got[0].body == payload(event.body, Vocabulary.ID).encode()
    assert json.loads(receiver.got[0].body)["event"] == "Stamp_ditambahkan"


async def test_a_delivery_moves_the_cursor_and_leaves_an_attempt(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(stamp(), stamp())

    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.last_due_id) == (2, events[1].id)
    assert (after.failures, after.failing_since, after.last_success_at) == (0, None, clock.now())
    assert after.lease_until == clock.now()
    first = (await cafe.attempts())[0]
    assert (first.event_id, first.sequence, first.number) == (events[0].id, 1, 1)
    assert (first.status, first.response_status) == (AttemptStatus.SUCCEEDED, 200)
    assert (first.response_head, first.error) == ("said 200", None)
    assert first.remote_address == "127.0.0.1"
    assert await cafe.exceptions() == []


async def test_each_request_names_the_event_that_was_due_before(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, opening: Any
) -> None:
    await cafe.endpoint(receiver.url, types=["stamp_added"], ordering=Ordering.STRICT)
    first, _, second = await cafe.happens(stamp(), opening, stamp())
    await pusher.sweep()
    (third,) = await cafe.happens(stamp())

    await pusher.sweep()

    named = {got.id: got.headers.get("webhook-previous-id") for got in receiver.got}
    assert named == {first.id: None, second.id: first.id, third.id: second.id}


async def test_an_endpoint_gets_only_the_types_it_named(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, opening: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url, types=["card_opened"])
    _, opened, _ = await cafe.happens(stamp(), opening, stamp())

    await pusher.sweep()

    assert receiver.ids == [opened.id]
    assert (await cafe.now_of(endpoint)).cursor_sequence == 3


async def test_events_of_another_business_do_not_arrive(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, database: Any
) -> None:
    other = cafe.__class__(
        database, cafe.secrets, cafe.clock, cafe.business.with_values(id=new_id("b"))
    )

    async def work(tx: Any) -> None:
        await tx.add(other.business, LogHead(business_id=other.business.id))

    await database.write(None, work)
    await cafe.endpoint(receiver.url)
    await other.happens(stamp())

    assert await pusher.sweep() == 0
    assert receiver.got == []


async def test_a_long_backlog_is_served_in_quanta_of_64(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(*(stamp() for _ in range(100)))

    await pusher.sweep()
    halfway = (await cafe.now_of(endpoint)).cursor_sequence
    await pusher.sweep()

    assert halfway == 64
    assert (await cafe.now_of(endpoint)).cursor_sequence == 100
    assert sorted(receiver.ids) == sorted(event.id for event in events)


async def test_at_most_four_requests_are_under_way_to_one_endpoint(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    receiver.delay = 0.05
    await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(16)))

    await pusher.sweep()

    assert len(receiver.got) == 16
    assert receiver.most_at_once == 4


async def test_own_headers_are_sent_and_ours_cannot_be_overridden(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    sealed = seal_headers(cafe.secrets, endpoint.id, {"x-token": "canary-7"})
    await cafe.change(endpoint, headers=sealed)
    await cafe.happens(stamp())

    await pusher.sweep()

    assert receiver.got[0].headers["x-token"] == "canary-7"
    assert "canary" not in sealed


async def test_contact_data_is_sent_only_where_it_is_asked_for_and_consented(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    people = [new_id("c"), new_id("c")]
    for place, id_ in enumerate(people):
        await cafe.add(
            Customer(
                id=id_,
                business_id=cafe.business.id,
                name="Ana",
                email=f"ana{place}@mail.example",
                phone=f"+6281200000{place}",
                language="en",
                created_at=clock.now(),
            )
        )
    consent = Consent(
        id=new_id("con"),
        business_id=cafe.business.id,
        customer_id=people[0],
        channel=Channel.EMAIL,
        granted=True,
        at=clock.now(),
    )
    await cafe.add(consent)
    await cafe.endpoint(receiver.url, include_contact=True, ordering=Ordering.STRICT)
    await cafe.happens(stamp(customer=people[0]), stamp(customer=people[1]))

    await pusher.sweep()

    consented, silent = (json.loads(got.body) for got in receiver.got)
    assert list(consented)[-1] == "contact"
    assert consented["contact"] == {"name": "Ana", "email": "ana0@mail.example", "phone": None}
    assert "contact" not in silent


# -- Failures -------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_down_gets_one_request_per_step(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [500] * 40
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    await cafe.happens(*(stamp() for _ in range(9)))
    waits = []

    for _ in range(5):
        asked = len(receiver.got)
        await pusher.sweep()
        assert len(receiver.got) == asked + 1
        after = await cafe.now_of(endpoint)
        waits.append((after.next_attempt_at - clock.now()).total_seconds())
        clock.moment = after.next_attempt_at - timedelta(microseconds=1)
        assert await pusher.sweep() == 0
        clock.moment = after.next_attempt_at

    assert waits == [5, 30, 120, 600, 1800]
    assert (after.failures, after.cursor_sequence) == (5, 0)
    assert [attempt.number for attempt in await cafe.attempts()] == [1, 2, 3, 4, 5]
    assert len({got.id for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1
    assert len({got.headers["webhook-timestamp"] for got in receiver.got}) == 5


async def test_any_answer_of_2xx_resumes_and_everything_arrives(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [503, 503, 503, 503, 503]
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(*(stamp() for _ in range(20)))

    await _until_served(cafe, pusher, clock, endpoint)

    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.failures, after.failing_since) == (20, 0, None)
    taken = {row.event_id for row in await cafe.attempts() if row.status == "succeeded"}
    assert taken == {event.id for event in events}
    assert await cafe.exceptions() == []


async def test_an_event_its_receiver_chokes_on_does_not_stand_in_the_way_of_others(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(*(stamp() for _ in range(6)))
    receiver.by_id[events[0].id] = 500

    for _ in range(4):
        await pusher.sweep()
        clock.advance(timedelta(seconds=6))

    assert set(receiver.ids) == {event.id for event in events}
    (row,) = await cafe.exceptions()
    assert (row.sequence, row.state, row.last_error) == (1, DeliveryState.RETRY, "500")
    assert (await cafe.now_of(endpoint)).cursor_sequence == 6


async def test_a_refused_event_becomes_an_exception_and_others_go_on(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(stamp(), stamp(), stamp())
    receiver.by_id[events[1].id] = 422

    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.failures) == (3, 0)
    (row,) = await cafe.exceptions()
    assert (row.sequence, row.state, row.tries) == (2, DeliveryState.RETRY, 1)
    assert row.next_attempt_at == clock.now() + timedelta(seconds=5)
    assert after.retry_due_at == row.next_attempt_at


async def test_a_retry_that_is_taken_ends_the_exception(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [404]
    endpoint = await cafe.endpoint(receiver.url)
    first, _ = await cafe.happens(stamp(), stamp())
    await pusher.sweep()
    clock.advance(timedelta(seconds=5))

    await pusher.sweep()

    assert await cafe.exceptions() == []
    assert (await cafe.now_of(endpoint)).retry_due_at is None
    numbers = {got.id: got.headers.get("webhook-previous-id") for got in receiver.got}
    assert numbers[first.id] is None
    tries = [row for row in await cafe.attempts() if row.event_id == first.id]
    assert [(row.number, row.response_status) for row in tries] == [(1, 404), (2, 200)]


async def test_a_refused_event_is_dead_after_its_last_step(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    await cafe.endpoint(receiver.url)
    (event,) = await cafe.happens(stamp())
    receiver.by_id[event.id] = 400

    for _ in range(13):
        await pusher.sweep()
        clock.advance(timedelta(hours=25))

    (row,) = await cafe.exceptions()
    assert (row.state, row.tries, row.next_attempt_at) == (DeliveryState.DEAD, 12, None)
    assert len(receiver.got) == 12


@pytest.mark.parametrize("reply", [(429, {"Retry-After": "3600"}), (503, {"Retry-After": "3600"})])
async def test_a_receiver_that_wants_less_is_given_its_pause(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, reply: Any
) -> None:
    receiver.turns = [reply] * 4
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())

    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert after.next_attempt_at == clock.now() + timedelta(hours=1)
    assert (await cafe.exceptions())[0].next_attempt_at == clock.now() + timedelta(hours=1)


async def test_a_pause_that_is_asked_for_is_never_shorter_than_the_step(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [(429, {"Retry-After": "1"})]
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())

    await pusher.sweep()

    assert (await cafe.now_of(endpoint)).next_attempt_at == clock.now() + timedelta(seconds=5)


@pytest.mark.parametrize("reply", [410, (200, {"webhook-delivery": "disable"})])
async def test_a_receiver_may_end_it(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, reply: Any
) -> None:
    receiver.turns = [reply]
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())

    await pusher.sweep()
    clock.advance(timedelta(days=1))
    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert after.status is EndpointStatus.DISABLED
    assert after.disabled_reason.startswith("The receiver asked for no more")
    assert after.deleted_at is None
    assert len(receiver.got) == 1


async def test_a_rest_hook_that_says_it_is_gone_is_deleted(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [410]
    endpoint = await cafe.endpoint(receiver.url, is_rest_hook=True)
    await cafe.happens(stamp())

    await pusher.sweep()

    assert (await cafe.now_of(endpoint)).deleted_at == clock.now()


async def test_a_receiver_may_abort_one_event(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    events = await cafe.happens(stamp(), stamp())
    receiver.by_id[events[0].id] = (500, {"webhook-delivery": "abort-message"})

    await pusher.sweep()

    assert receiver.ids == [events[0].id, events[1].id]
    (row,) = await cafe.exceptions()
    assert (row.sequence, row.state) == (1, DeliveryState.DEAD)
    assert (await cafe.now_of(endpoint)).cursor_sequence == 2


async def test_an_endpoint_that_failed_for_five_days_is_disabled_and_nothing_is_lost(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [500] * 100
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(stamp(), stamp(), stamp())
    begin = clock.now()

    for _ in range(40):
        await pusher.sweep()
        after = await cafe.now_of(endpoint)
        if after.status is EndpointStatus.DISABLED:
            break
        clock.advance(timedelta(hours=4))

    assert after.disabled_reason == "It failed for five days."
    [notice] = await cafe.notices()
    assert (notice.kind, notice.subject_id) == ("endpoint_disabled", endpoint.id)
    assert "was disabled: It failed for five days." in notice.message
    assert clock.now() - begin >= timedelta(days=5)
    receiver.turns.clear()
    await cafe.change(
        after, status=EndpointStatus.ACTIVE, failures=0, failing_since=None,
        next_attempt_at=clock.now(), lease_until=clock.now(),
    )  # fmt: skip
    await _until_served(cafe, pusher, clock, endpoint)
    taken = {row.event_id for row in await cafe.attempts() if row.status == "succeeded"}
    assert taken == {event.id for event in events}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    cafe: Any, receiver: Any, make_receiver: Any, pusher: Pusher, stamp: Any, status: int
) -> None:
    canary = await make_receiver()
    receiver.turns = [(status, {"Location": canary.url})]
    await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())

    await pusher.sweep()

    assert canary.got == []
    assert (await cafe.attempts())[0].response_status == status


async def test_an_address_that_became_forbidden_disables_the_endpoint_at_the_third_time(
    cafe: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    endpoint = await cafe.endpoint("http://10.0.0.1:9000/")
    await cafe.happens(stamp())

    for _ in range(3):
        await pusher.sweep()
        clock.advance(timedelta(hours=1))

    after = await cafe.now_of(endpoint)
    assert after.status is EndpointStatus.DISABLED
    assert after.disabled_reason == "Webhooks may not be sent to this address."
    assert [row.error for row in await cafe.attempts()] == ["address"] * 3


# -- Order ----------------------------------------------------------------------------------------


async def test_strict_order_holds_through_failures(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.turns = [200, 500, 200, 404, 500, 200, 200, 429]
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    events = await cafe.happens(*(stamp() for _ in range(12)))

    await _until_served(cafe, pusher, clock, endpoint)

    taken = [row for row in await cafe.attempts() if row.status == "succeeded"]
    assert list(dict.fromkeys(receiver.ids)) == [event.id for event in events]
    assert [row.sequence for row in taken] == list(range(1, 13))
    assert receiver.most_at_once == 1


async def test_the_events_of_one_card_wait_for_each_other_and_other_cards_do_not(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    card, other = new_id("card"), new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    mine = await cafe.happens(stamp(card), stamp(card), stamp(card))
    theirs = await cafe.happens(stamp(other), stamp(other))
    receiver.by_id[mine[0].id] = 422

    await pusher.sweep()

    assert set(receiver.ids) == {mine[0].id, *(event.id for event in theirs)}
    states = [(row.sequence, row.state) for row in await cafe.exceptions()]
    assert states == [
        (1, DeliveryState.RETRY), (2, DeliveryState.PARKED), (3, DeliveryState.PARKED)
    ]  # fmt: skip

    del receiver.by_id[mine[0].id]
    receiver.got.clear()
    (late,) = await cafe.happens(stamp(card))
    await _until_served(cafe, pusher, clock, endpoint)

    assert receiver.ids == [mine[0].id, mine[1].id, mine[2].id, late.id]
    assert await cafe.exceptions() == []


async def test_per_card_order_holds_while_an_endpoint_comes_and_goes(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    cards = [new_id("card") for _ in range(3)]
    receiver.turns = [200, 500, 404, 200, 500, 500, 200, 429, 200, 503, 422]
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    events = await cafe.happens(*(stamp(cards[number % 3]) for number in range(15)))

    await _until_served(cafe, pusher, clock, endpoint)

    taken = {row.event_id: row for row in await cafe.attempts() if row.status == "succeeded"}
    assert len(taken) == 15
    for card in cards:
        mine = [event.id for event in events if event.card_id == card]
        first_sent = [id_ for id_ in dict.fromkeys(receiver.ids) if id_ in mine]
        by_time = sorted(mine, key=lambda id_: taken[id_].id)
        assert first_sent == by_time == mine


# -- Leases ---------------------------------------------------------------------------------------


async def test_a_leased_endpoint_is_left_alone_by_others(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, second: Pusher
) -> None:
    receiver.delay = 0.2
    await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())

    claims = await asyncio.gather(pusher.sweep(), second.sweep())

    assert sorted(claims) == [0, 1]
    assert len(receiver.got) == 1


async def test_who_lost_the_lease_stores_nothing(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, second: Pusher
) -> None:
    go_on = asyncio.Event()

    async def stall(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(text="late")

    receiver.turns = [stall]
    endpoint = await cafe.endpoint(receiver.url)
    (event,) = await cafe.happens(stamp())
    await pusher.claim()
    await until(lambda: receiver.got)
    clock.advance(timedelta(seconds=31))

    await second.sweep()
    go_on.set()
    await pusher.sweep()

    (attempt,) = await cafe.attempts()
    assert attempt.response_head == "said 200"
    assert receiver.ids == [event.id, event.id]
    assert (await cafe.now_of(endpoint)).lease_epoch == 2


async def test_a_slow_endpoint_delays_nobody(
    cafe: Any, make_receiver: Any, pusher: Pusher, stamp: Any, sender: Any
) -> None:
    """It answers once all others have got everything."""
    sender._deadline = 60
    go_on = asyncio.Event()

    async def stall(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    slow, *others = [await make_receiver() for _ in range(12)]
    slow.turns = [stall] * 8
    for receiver in (slow, *others):
        await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(8)))

    await pusher.claim()
    await until(lambda: all(len(receiver.got) == 8 for receiver in others))

    assert slow.at_once == 4
    go_on.set()
    await pusher.drain()


async def test_a_paused_or_deleted_endpoint_is_not_served(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    await cafe.endpoint(receiver.url, status=EndpointStatus.PAUSED)
    await cafe.endpoint(receiver.url, deleted_at=clock.now())
    await cafe.happens(stamp())

    assert await pusher.sweep() == 0
    assert receiver.got == []


async def test_pausing_takes_effect_between_two_records(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    receiver.delay = 0.05
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(40)))
    await pusher.claim()
    await until(lambda: len(receiver.got) >= 4)

    await cafe.change(endpoint, status=EndpointStatus.PAUSED)
    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert after.status is EndpointStatus.PAUSED
    assert after.cursor_sequence == len(receiver.got) == 8


async def test_what_is_deleted_is_sent_nothing_more_after_the_next_record(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any
) -> None:
    receiver.delay = 0.05
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(40)))
    await pusher.claim()
    await until(lambda: len(receiver.got) >= 4)

    await cafe.change(endpoint, deleted_at=cafe.clock.now())
    await pusher.sweep()

    assert len(receiver.got) == 8


async def test_running_it_delivers_what_happens_at_once(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the ring: to look of itself is too seldom for it."""
    monkeypatch.setattr("webhooks.pusher.SAFETY_SECONDS", 3_600)
    await cafe.endpoint(receiver.url)
    running = asyncio.create_task(pusher.run())
    await until(lambda: pusher._news._waiters)

    events = await cafe.happens(stamp(), stamp())
    await until(lambda: len(receiver.got) == 2)
    pusher.stop()
    await running

    assert sorted(receiver.ids) == sorted(event.id for event in events)


async def test_news_that_ring_while_an_endpoint_is_leased_are_not_forgotten(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.pusher.SAFETY_SECONDS", 3_600)
    receiver.delay = 0.2
    await cafe.endpoint(receiver.url)
    running = asyncio.create_task(pusher.run())
    await cafe.happens(stamp())
    await until(lambda: receiver.got)

    await cafe.happens(stamp())
    await until(lambda: len(receiver.got) == 2)

    pusher.stop()
    await running


async def test_stopping_finishes_what_is_in_flight_and_releases_the_lease(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any
) -> None:
    receiver.delay = 0.3
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(30)))
    running = asyncio.create_task(pusher.run())
    await until(lambda: len(receiver.got) == 4)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    after = await cafe.now_of(endpoint)
    assert after.lease_until <= clock.now()
    assert after.cursor_sequence == len(await cafe.attempts()) == len(receiver.got) == 4


async def test_a_lost_ring_is_covered_by_looking(
    cafe: Any,
    receiver: Any,
    pusher: Pusher,
    stamp: Any,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webhooks.pusher.SAFETY_SECONDS", 0.1)
    await cafe.endpoint(receiver.url)
    database.on_commit = None
    running = asyncio.create_task(pusher.run())
    await until(lambda: pusher._news._waiters)

    await cafe.happens(stamp())
    await until(lambda: receiver.got)

    pusher.stop()
    await running
    assert len(receiver.got) == 1


@pytest.fixture
def second(database: Any, stream: Any, sender: Any, secrets: Any, clock: Any) -> Pusher:
    """A second pusher, as of another process."""
    return Pusher(database, stream, sender, secrets, clock, chance=lambda: 0.5)


async def _until_served(cafe: Any, pusher: Pusher, clock: Any, endpoint: Any) -> None:
    """Sweep and let time pass until nothing more is due."""
    for _ in range(200):
        await pusher.sweep()
        after = await cafe.now_of(endpoint)
        rows = await cafe.exceptions()
        head = await cafe.rows(LogHead)
        if after.cursor_sequence == head[0].sequence and not rows:
            return
        waits = [row.next_attempt_at for row in rows if row.next_attempt_at]
        clock.moment = max(clock.now() + timedelta(milliseconds=1), after.next_attempt_at)
        if after.cursor_sequence == head[0].sequence:
            clock.moment = max(clock.moment, min(waits, default=clock.now()))
    raise AssertionError("not everything was delivered")
