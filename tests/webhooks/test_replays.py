"""Replays: a part of the log once more, at its own pace, beside what is live and not in its way."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cafes import Cafe, FakeDocuments, VirtualSender
from core.clock import ManualClock
from core.errors import Invalid, LimitReached, NotFound
from core.ids import new_id
from db import Transaction
from models import (
    AttemptKind,
    DeliveryState,
    EndpointStatus,
    Ordering,
    Replay,
    ReplayStatus,
    Role,
    Staff,
    WebhookEndpoint,
)
from services.replays import (
    MOST_REPLAYS,
    EventType,
    ReplayEventsInput,
    StopReplayInput,
    replay_events,
    stop_replay,
)
from services.webhook_endpoints import DeleteWebhookEndpointInput, delete_webhook_endpoint
from webhooks.replay_rounds import MOST_TRIES, ROUND
from webhooks.replays import LEASE, Replayer

URL = "https://partner.example/hooks"
DAY = timedelta(days=1)
Ask = Callable[..., Awaitable[Replay]]


@pytest.fixture
def ask(cafe: Cafe) -> Ask:
    """Ask for a replay of all that was, unless told."""

    async def do(endpoint: WebhookEndpoint, **values: Any) -> Replay:
        asked = {"id": endpoint.id, "since": cafe.clock.now() - DAY, **values}
        return (await perform(cafe, replay_events, ReplayEventsInput(**asked))).replay

    return do


@pytest.fixture
def replayer(cafe: Cafe, sender: Any, documents: FakeDocuments) -> Replayer:
    """A replayer in a hurry, whose requests really leave."""
    return Replayer(
        cafe.database,
        sender,
        cafe.secrets,
        documents,
        cafe.clock,
        pace=1_000,
        chance=lambda: 0.5,
    )


@pytest.fixture
def virtual(cafe: Cafe, clock: ManualClock, documents: FakeDocuments) -> Callable[..., Replayer]:
    """Make a replayer whose clock moves only when it waits."""

    async def sleep(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))

    def make(sender: VirtualSender, **options: Any) -> Replayer:
        return Replayer(
            cafe.database,
            sender,
            cafe.secrets,
            documents,
            clock,
            chance=lambda: 0.5,
            time=lambda: clock.now().timestamp(),
            sleep=sleep,
            **options,
        )

    return make


@pytest.fixture
async def author(cafe: Cafe) -> Staff:
    """Who saved a document."""
    made = Staff(
        id=new_id("st"),
        business_id=cafe.business.id,
        name="Ana",
        login="ana@kopi.example",
        password_digest="",
        role=Role.MANAGER,
        created_at=cafe.clock.now(),
    )
    await cafe.add(made)
    return made


async def perform(cafe: Cafe, operation: Any, input: Any) -> Any:
    async def work(tx: Transaction) -> Any:
        return await operation(tx, cafe.actor, input, cafe.clock.now())

    return await cafe.database.write(cafe.business.id, work)


async def comes(receiver: Any, count: int = 1) -> None:
    """Wait until so many requests have come."""
    for _ in range(5_000):
        if len(receiver.got) >= count:
            return
        await asyncio.sleep(0.002)
    raise TimeoutError


async def now_of(cafe: Cafe, replay: Replay) -> Replay:
    found = await cafe.database.read(cafe.business.id, lambda tx: tx.get(Replay, replay.id))
    assert found
    return found


async def to_its_end(cafe: Cafe, replay: Replay, *replayers: Replayer) -> Replay:
    """Let replayers work, and time pass wherever nothing is due, until the replay has ended."""
    while (now := await now_of(cafe, replay)).status is ReplayStatus.RUNNING:
        if not any([await one.sweep() for one in replayers]):
            cafe.clock.moment = max(
                now.next_attempt_at, cafe.clock.now() + timedelta(milliseconds=100)
            )
    return now


async def delivered(cafe: Cafe, url: str, *events: Any, **values: Any) -> Any:
    """An endpoint that has had these events long ago; it and the events."""
    rows = await cafe.happens(*events)
    endpoint = await cafe.endpoint(url, cursor_sequence=len(rows), **values)
    return endpoint, rows


async def test_a_part_of_the_log_is_sent_once_more(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any, opening: Any
) -> None:
    endpoint, rows = await delivered(cafe, receiver.url, stamp(), opening, stamp())

    asked = await ask(endpoint)
    ended = await to_its_end(cafe, asked, replayer)

    assert (asked.status, asked.total, asked.sent) == (ReplayStatus.RUNNING, 3, 0)
    assert (ended.status, ended.total, ended.sent, ended.failed) == (ReplayStatus.DONE, 3, 3, 0)
    assert ended.finished_at is not None
    # Several are under way at once: the endpoint asked for no order.
    assert {got.id: got.body.decode() for got in receiver.got} == {row.id: row.body for row in rows}
    assert len(receiver.got) == 3
    assert {got.headers["webhook-attempt-kind"] for got in receiver.got} == {"replay"}
    assert not any("webhook-previous-id" in got.headers for got in receiver.got)
    attempts = await cafe.attempts()
    assert [(attempt.kind, attempt.number) for attempt in attempts] == [(AttemptKind.REPLAY, 1)] * 3
    assert await cafe.now_of(endpoint) == endpoint


async def test_it_has_what_was_asked_for_and_the_endpoint_has_had(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any, opening: Any
) -> None:
    begin = cafe.clock.now()
    rows = []
    for _ in range(3):
        rows += await cafe.happens(stamp(), opening)
        cafe.clock.advance(timedelta(hours=1))
    endpoint = await cafe.endpoint(receiver.url, cursor_sequence=5)
    hour = timedelta(hours=1)

    middle = await ask(endpoint, since=begin + hour, until=begin + 2 * hour)
    rest = await ask(endpoint, since=begin + hour, types=[EventType["STAMP_ADDED"]])
    nothing = await ask(endpoint, since=begin + 3 * hour)
    for replay in (middle, rest):
        await to_its_end(cafe, replay, replayer)

    assert [replay.total for replay in (middle, rest, nothing)] == [2, 2, 0]
    assert nothing.status is ReplayStatus.DONE
    places = [place for place, row in enumerate(rows, 1) for id in receiver.ids if id == row.id]
    assert sorted(places) == [3, 3, 4, 5]  # the sixth is yet to be delivered anyway


async def test_asking_again_for_what_runs_is_answered_with_it(
    cafe: Cafe, ask: Ask, stamp: Any
) -> None:
    """Case 52: to recover since a moment twice is one replay."""
    endpoint, _ = await delivered(cafe, URL, stamp(), status=EndpointStatus.PAUSED)

    first = await ask(endpoint)
    again = await ask(endpoint)
    other = await ask(endpoint, types=[EventType["STAMP_ADDED"]])

    assert again == first
    assert other.id != first.id


async def test_a_replay_that_is_repeated_sends_the_same_ids_and_bytes(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    """Case 52: receivers know the repeats by their ids."""
    endpoint, rows = await delivered(cafe, receiver.url, stamp(), stamp())

    await to_its_end(cafe, await ask(endpoint), replayer)
    await to_its_end(cafe, await ask(endpoint), replayer)

    assert receiver.ids == [row.id for row in rows] * 2
    assert len({(got.id, got.body) for got in receiver.got}) == 2
    assert [attempt.number for attempt in await cafe.attempts()] == [1, 2, 1, 2]


async def test_it_keeps_its_pace(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, URL, *(stamp() for _ in range(60)))
    sender = VirtualSender(clock, lambda *_: 200)

    await to_its_end(cafe, await ask(endpoint), virtual(sender))

    gaps = [
        (then - first).total_seconds()
        for first, then in zip(sender.times, sender.times[1:], strict=False)
    ]
    assert len(sender.times) == 60
    assert min(gaps) >= 0.0999
    assert sum(gaps) == pytest.approx(5.9, abs=0.6)


async def test_it_takes_a_fifth_of_the_rate_that_an_endpoint_allows(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, URL, *(stamp() for _ in range(4)), max_per_second=0.5)
    sender = VirtualSender(clock, lambda *_: 200)

    await to_its_end(cafe, await ask(endpoint), virtual(sender))

    gaps = [
        (then - first).total_seconds()
        for first, then in zip(sender.times, sender.times[1:], strict=False)
    ]
    assert gaps == pytest.approx([10, 10, 10], abs=0.2)


@pytest.mark.parametrize(
    "values", [{"status": EndpointStatus.PAUSED}, {"status": EndpointStatus.DISABLED}]
)
async def test_it_rests_while_its_endpoint_is_not_served(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any, values: Any
) -> None:
    endpoint, _ = await delivered(cafe, receiver.url, stamp())
    asked = await ask(endpoint)
    await cafe.change(endpoint, **values)

    assert await replayer.sweep() == 0
    await cafe.change(endpoint, status=EndpointStatus.ACTIVE)
    ended = await to_its_end(cafe, asked, replayer)

    assert (ended.sent, len(receiver.got)) == (1, 1)


async def test_it_rests_while_its_endpoint_fails(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, receiver.url, stamp(), failures=3)
    asked = await ask(endpoint)

    assert await replayer.sweep() == 0
    await cafe.change(endpoint, failures=0)
    ended = await to_its_end(cafe, asked, replayer)

    assert (ended.status, ended.sent) == (ReplayStatus.DONE, 1)


@pytest.mark.parametrize("ordering", Ordering)
async def test_live_events_overtake_a_replay_that_waits_for_its_receiver(
    cafe: Cafe,
    receiver: Any,
    replayer: Replayer,
    pusher: Any,
    ask: Ask,
    stamp: Any,
    ordering: Ordering,
) -> None:
    """Case 32: live delivery is neither delayed nor put out of order by a replay."""
    freed = asyncio.Event()

    async def wait(_: Any) -> Any:
        from aiohttp import web  # noqa: PLC0415

        await freed.wait()
        return web.Response()

    card = new_id("card")
    endpoint, rows = await delivered(
        cafe, receiver.url, *(stamp(card) for _ in range(4)), ordering=ordering, max_in_flight=1
    )
    receiver.by_id = {row.id: wait for row in rows}
    asked = await ask(endpoint)
    replaying = asyncio.create_task(to_its_end(cafe, asked, replayer))
    await comes(receiver)
    waiting = len(receiver.got)

    fresh = await cafe.happens(*(stamp(card) for _ in range(20)))
    while await pusher.sweep():
        pass
    live = [got for got in receiver.got if "webhook-attempt-kind" not in got.headers]
    freed.set()
    ended = await replaying

    assert [got.id for got in live] == [row.id for row in fresh]
    assert waiting <= 2
    assert live[0].headers.get("webhook-previous-id") is None
    assert [got.headers["webhook-previous-id"] for got in live[1:]] == [
        row.id for row in fresh[:-1]
    ]
    assert ended.sent == 4


async def test_an_event_that_is_refused_is_tried_a_few_times_while_others_go_on(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, rows = await delivered(cafe, URL, *(stamp() for _ in range(20)))
    sender = VirtualSender(clock, lambda parcel, _: 422 if parcel.id == rows[2].id else 200)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    sent = [sent.parcel.id for sent in sender.sent]
    assert (ended.status, ended.total, ended.sent, ended.failed) == (ReplayStatus.DONE, 20, 19, 1)
    assert sent.count(rows[2].id) == MOST_TRIES
    assert len(sent) == 19 + MOST_TRIES
    assert sent.index(rows[19].id) < 25
    assert ended.retries == []


async def test_where_the_order_matters_an_event_that_is_refused_holds_up_the_rest(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, rows = await delivered(
        cafe, URL, *(stamp() for _ in range(5)), ordering=Ordering.STRICT
    )
    tries: list[datetime] = []

    def reply(parcel: Any, at: datetime) -> int:
        if parcel.id == rows[2].id:
            tries.append(at)
            return 200 if len(tries) == 3 else 422
        return 200

    sender = VirtualSender(clock, reply)
    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    order = [sent.parcel.id for sent in sender.sent]
    assert order == [row.id for row in (*rows[:2], rows[2], rows[2], *rows[2:])]
    assert (tries[1] - tries[0], ended.sent) == (timedelta(seconds=5), 5)


async def test_an_outage_costs_one_request_per_step_and_loses_nothing(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, rows = await delivered(cafe, URL, *(stamp() for _ in range(20)))
    begin = clock.now()
    up_at = begin + timedelta(hours=1)
    sender = VirtualSender(clock, lambda _, at: 200 if at >= up_at else 503)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    during = [at for at in sender.times if at < up_at]
    assert (ended.status, ended.sent, ended.failed) == (ReplayStatus.DONE, 20, 0)
    assert len(during) <= 8
    assert {sent.parcel.id for sent in sender.sent} == {row.id for row in rows}


async def test_a_receiver_that_asks_for_a_pause_gets_it(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, URL, stamp())
    said = [{"status": 429, "retry_after": 600.0}]
    sender = VirtualSender(clock, lambda *_: said.pop() if said else 200)

    await to_its_end(cafe, await ask(endpoint), virtual(sender))

    assert sender.times[1] - sender.times[0] >= timedelta(minutes=10)


@pytest.mark.parametrize("answer", [{"status": 410}, {"status": 200, "control": "disable"}])
async def test_a_receiver_that_wants_no_more_stops_it(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any, answer: Any
) -> None:
    endpoint, _ = await delivered(cafe, URL, *(stamp() for _ in range(9)))
    sender = VirtualSender(clock, lambda *_: answer)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    assert ended.status is ReplayStatus.STOPPED
    assert len(sender.sent) <= 2


async def test_killed_in_the_middle_it_goes_on_and_skips_nothing(
    cafe: Cafe, receiver: Any, sender: Any, documents: Any, ask: Ask, stamp: Any
) -> None:
    """Case 51, in one process: no more than the round under way is repeated."""
    endpoint, rows = await delivered(cafe, receiver.url, *(stamp() for _ in range(60)))
    asked = await ask(endpoint)
    made = (cafe.database, sender, cafe.secrets, documents, cafe.clock)
    dying, heir = Replayer(*made, pace=1_000), Replayer(*made, pace=1_000)

    await dying.claim()
    await comes(receiver, 20)
    for task in list(dying._serving):
        task.cancel()
    await asyncio.gather(*dying._serving, return_exceptions=True)
    before = await now_of(cafe, asked)
    assert await heir.sweep() == 0
    cafe.clock.advance(LEASE)
    ended = await to_its_end(cafe, asked, heir)

    assert 0 < before.sent < 60
    assert (ended.status, ended.total, ended.sent) == (ReplayStatus.DONE, 60, 60)
    assert set(receiver.ids) == {row.id for row in rows}
    assert len(receiver.ids) <= 60 + ROUND


async def test_whoever_lost_its_lease_stores_nothing(
    cafe: Cafe, receiver: Any, sender: Any, documents: Any, ask: Ask, stamp: Any
) -> None:
    receiver.delay = 0.1
    endpoint, _ = await delivered(cafe, receiver.url, stamp())
    asked = await ask(endpoint)
    made = (cafe.database, sender, cafe.secrets, documents, cafe.clock)
    frozen, heir = Replayer(*made, pace=1_000), Replayer(*made, pace=1_000)

    await frozen.claim()
    await comes(receiver)
    cafe.clock.advance(LEASE)
    ended = await to_its_end(cafe, asked, heir)
    await asyncio.gather(*frozen._serving)

    assert await now_of(cafe, asked) == ended
    assert (ended.sent, len(receiver.got), len(await cafe.attempts())) == (1, 2, 1)


@pytest.mark.parametrize("ordering", [Ordering.NONE, Ordering.STRICT])
@pytest.mark.parametrize("document", [None, "told"])
async def test_a_slow_receiver_never_outlasts_the_lease(
    cafe: Cafe,
    clock: ManualClock,
    virtual: Any,
    documents: FakeDocuments,
    ask: Ask,
    stamp: Any,
    author: Any,
    ordering: Ordering,
    document: str | None,
) -> None:
    """Else the round would be stored by nobody, and sent again for ever."""
    endpoint, rows = await delivered(
        cafe,
        URL,
        *(stamp() for _ in range(2 * ROUND)),
        ordering=ordering,
        document=document,
        document_by_id=author.id,
    )
    longest = timedelta()

    def slow(*_: Any) -> int:
        clock.advance(timedelta(seconds=8))
        return 200

    async def render() -> None:
        clock.advance(timedelta(seconds=1.9))

    documents.during = render
    sender, asked = VirtualSender(clock, slow), await ask(endpoint)
    replayer = virtual(sender)
    while (await now_of(cafe, asked)).status is ReplayStatus.RUNNING:
        began = clock.now()
        await replayer.sweep()
        longest = max(longest, clock.now() - began)
        clock.advance(timedelta(milliseconds=100))

    assert longest < LEASE
    assert [sent.parcel.id for sent in sender.sent] == [row.id for row in rows]


@pytest.mark.soak
@pytest.mark.on("sqlite")
async def test_ten_thousand_are_not_its_end(
    cafe: Cafe, clock: ManualClock, virtual: Any, ask: Ask, stamp: Any
) -> None:
    """Case 51: a replay has no bound but its range."""
    rows = [row for _ in range(21) for row in await cafe.happens(*(stamp() for _ in range(500)))]
    endpoint = await cafe.endpoint(URL, cursor_sequence=len(rows))
    sender = VirtualSender(clock, lambda *_: 200)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender, pace=1_000_000))

    assert (ended.total, ended.sent) == (10_500, 10_500)
    assert [sent.parcel.id for sent in sender.sent] == [row.id for row in rows]


async def test_what_is_on_its_way_is_left_to_live_delivery(
    cafe: Cafe, receiver: Any, replayer: Replayer, pusher: Any, ask: Ask, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    rows = await cafe.happens(stamp(), stamp(), stamp())
    receiver.by_id = {rows[0].id: 404, rows[1].id: (400, {"webhook-delivery": "abort-message"})}
    await pusher.sweep()
    states = [row.state for row in await cafe.exceptions()]
    assert states == [DeliveryState.RETRY, DeliveryState.DEAD]
    receiver.by_id, receiver.got = {}, []

    ended = await to_its_end(cafe, await ask(endpoint), replayer)

    assert receiver.ids == [rows[1].id, rows[2].id]
    assert (ended.total, ended.sent) == (2, 2)
    [left] = await cafe.exceptions()  # what was dead has been delivered now
    assert (left.sequence, left.state) == (1, DeliveryState.RETRY)


async def test_a_document_shapes_what_is_replayed_and_a_retry_repeats_its_bytes(
    cafe: Cafe,
    clock: ManualClock,
    virtual: Any,
    documents: FakeDocuments,
    ask: Ask,
    stamp: Any,
    author: Any,
) -> None:
    endpoint, rows = await delivered(
        cafe, URL, *(stamp() for _ in range(3)), document="told", document_by_id=author.id
    )
    times = iter(range(100))
    documents.said = lambda _, text, event: (
        None if event.sequence == 2 else f"{text} {event.sequence} at {next(times)}"
    )
    said = [500]
    sender = VirtualSender(clock, lambda *_: said.pop() if said else 200)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    told = [(sent.parcel.id, sent.parcel.body) for sent in sender.sent]
    assert [id for id, _ in told].count(rows[0].id) == 2
    assert len(set(told)) == 2
    assert (ended.status, ended.total, ended.sent) == (ReplayStatus.DONE, 2, 2)
    assert {actor.staff_id for actor in documents.actors} == {author.id}
    assert await cafe.renderings() == []


@pytest.mark.parametrize("ordering", [Ordering.NONE, Ordering.STRICT])
async def test_a_document_that_cannot_be_executed_fails_its_event_alone(
    cafe: Cafe,
    clock: ManualClock,
    virtual: Any,
    documents: FakeDocuments,
    ask: Ask,
    stamp: Any,
    author: Any,
    ordering: Ordering,
) -> None:
    endpoint, _ = await delivered(
        cafe,
        URL,
        *(stamp() for _ in range(3)),
        document="told",
        document_by_id=author.id,
        ordering=ordering,
    )

    def break_at_two(_: Any, __: Any, event: Any) -> str:
        return f"{1 / (event.sequence - 2)}"

    documents.said = break_at_two
    sender = VirtualSender(clock, lambda *_: 200)

    ended = await to_its_end(cafe, await ask(endpoint), virtual(sender))

    assert (ended.status, ended.sent, ended.failed) == (ReplayStatus.DONE, 2, 1)
    attempts = await cafe.attempts()
    broken = [attempt for attempt in attempts if attempt.error == "document"]
    assert [attempt.sequence for attempt in broken] == [2] * MOST_TRIES
    last = attempts[-1]
    held_up = last.started_at >= max(attempt.started_at for attempt in broken)
    assert (last.sequence, held_up) == (3, ordering is Ordering.STRICT)


async def test_one_replay_of_an_endpoint_goes_after_the_other(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any, opening: Any
) -> None:
    endpoint, _ = await delivered(cafe, receiver.url, stamp(), opening)
    first = await ask(endpoint, types=[EventType["STAMP_ADDED"]])
    second = await ask(endpoint, types=[EventType["CARD_OPENED"]])

    assert await replayer.sweep() == 1
    assert (await now_of(cafe, first)).status is ReplayStatus.DONE
    assert (await now_of(cafe, second)).sent == 0
    assert (await to_its_end(cafe, second, replayer)).sent == 1


async def test_a_replay_can_be_stopped(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, receiver.url, stamp())
    asked = await ask(endpoint)

    stopped = (await perform(cafe, stop_replay, StopReplayInput(id=asked.id))).replay
    again = (await perform(cafe, stop_replay, StopReplayInput(id=asked.id))).replay

    assert stopped == again == await now_of(cafe, asked)
    assert (stopped.status, stopped.finished_at) == (ReplayStatus.STOPPED, cafe.clock.now())
    assert await replayer.sweep() == 0
    assert receiver.got == []


async def test_to_stop_it_under_way_keeps_what_was_sent(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    receiver.delay = 0.05
    endpoint, _ = await delivered(cafe, receiver.url, *(stamp() for _ in range(30)))
    asked = await ask(endpoint)

    await replayer.claim()
    await comes(receiver)
    await perform(cafe, stop_replay, StopReplayInput(id=asked.id))
    await asyncio.gather(*replayer._serving)

    now = await now_of(cafe, asked)
    assert now.status is ReplayStatus.STOPPED
    assert now.sent == len(receiver.got) == len(await cafe.attempts()) <= ROUND


async def test_with_its_endpoint_deleted_it_stops(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, receiver.url, stamp())
    by_hand, by_receiver = (
        await ask(endpoint),
        await ask(endpoint, types=[EventType["STAMP_ADDED"]]),
    )
    await perform(cafe, stop_replay, StopReplayInput(id=by_hand.id))
    by_hand = await ask(endpoint, since=cafe.clock.now() - 2 * DAY)
    # A tool that subscribed by a REST hook deletes its endpoint by answering 410.
    await cafe.change(endpoint, deleted_at=cafe.clock.now())

    ended = await to_its_end(cafe, by_receiver, replayer)
    await cafe.change(endpoint, deleted_at=None)
    deleted = DeleteWebhookEndpointInput(id=endpoint.id)
    await perform(cafe, delete_webhook_endpoint, deleted)

    assert ended.status is (await now_of(cafe, by_hand)).status is ReplayStatus.STOPPED
    assert receiver.got == []
    with pytest.raises(NotFound):
        await perform(cafe, stop_replay, StopReplayInput(id=by_hand.id))


async def test_a_range_must_make_sense(cafe: Cafe, ask: Ask, stamp: Any) -> None:
    endpoint, _ = await delivered(cafe, URL, stamp(), types=["stamp_added"])
    now = cafe.clock.now()

    for values in (
        {"until": now - DAY},
        {"types": []},
        {"types": [EventType["CARD_OPENED"]]},
    ):
        with pytest.raises(Invalid):
            await ask(endpoint, **values)
    with pytest.raises(NotFound):
        await ask(endpoint, id=new_id("we"))


async def test_an_endpoint_has_a_bounded_number_of_running_replays(
    cafe: Cafe, ask: Ask, stamp: Any
) -> None:
    endpoint, _ = await delivered(cafe, URL, stamp())
    begin = cafe.clock.now() - DAY
    for hour in range(MOST_REPLAYS):
        await ask(endpoint, since=begin - timedelta(hours=hour))

    with pytest.raises(LimitReached):
        await ask(endpoint, since=begin - timedelta(days=9))


async def test_the_hand_works_until_it_is_told_to_stop(
    cafe: Cafe, receiver: Any, replayer: Replayer, ask: Ask, stamp: Any
) -> None:
    receiver.delay = 0.1
    endpoint, _ = await delivered(cafe, receiver.url, *(stamp() for _ in range(20)))
    asked = await ask(endpoint)

    running = asyncio.create_task(replayer.run())
    await comes(receiver)
    replayer.stop()
    await running

    now = await now_of(cafe, asked)
    assert now.sent == len(receiver.got) < 20
    assert now.lease_until <= cafe.clock.now()
