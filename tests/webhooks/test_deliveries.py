"""Deliveries: listed by status, skipped one by one, and the dead ones tried again together."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col

from cafes import Cafe
from core.errors import Invalid, NotFound
from core.ids import new_id
from db import BUSINESS, Transaction, command
from models import (
    AttemptKind,
    DeliveryState,
    DeliveryStatus,
    EventRow,
    Ordering,
    Role,
    Staff,
    WebhookEndpoint,
)
from services.attempts import RedeliverInput, record_answer, redeliver
from services.deliveries import (
    MOST_REVIVED,
    SKIPPED,
    RedeliverDeadInput,
    SkipEventInput,
    deliveries_of,
    redeliver_dead,
    skip_event,
)
from services.pages import PageArgs
from services.webhook_endpoints import (
    CreateWebhookEndpointInput,
    StartAtInput,
    create_webhook_endpoint,
)
from webhooks import records
from webhooks.sender import Answer

URL = "https://partner.example/hooks"
ABORT = (400, {"webhook-delivery": "abort-message"})
Perform = Callable[..., Awaitable[Any]]


@pytest.fixture
def perform(cafe: Cafe) -> Perform:
    """Perform an operation in a transaction of the café."""

    async def do(operation: Any, input: Any, **extras: Any) -> Any:
        async def work(tx: Transaction) -> Any:
            return await operation(tx, cafe.actor, input, cafe.clock.now(), **extras)

        return await cafe.database.write(cafe.business.id, work)

    return do


async def page_of(
    cafe: Cafe, endpoint: WebhookEndpoint, status: DeliveryStatus | None = None, **args: Any
) -> Any:
    now = await cafe.now_of(endpoint)

    async def work(tx: Transaction) -> Any:
        return await deliveries_of(tx, now, PageArgs(**args), status)

    return await cafe.database.read(cafe.business.id, work)


async def total_of(cafe: Cafe, page: Any) -> int:
    counted: int = await cafe.database.read(cafe.business.id, page.count)
    return counted


async def states(cafe: Cafe) -> list[tuple[int, DeliveryState]]:
    return [(row.sequence, row.state) for row in await cafe.exceptions()]


async def an_author(cafe: Cafe) -> Staff:
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


async def redelivered_under_way(
    cafe: Cafe,
    endpoint: WebhookEndpoint,
    event: EventRow,
    receiver: Any,
    pusher: Any,
    perform: Perform,
) -> None:
    """A redelivery succeeds while a round waits for the receiver."""
    before, receiver.delay = len(receiver.got), 0.1
    sending = asyncio.create_task(pusher.sweep())
    while len(receiver.got) == before:  # noqa: ASYNC110 -- it comes at once
        await asyncio.sleep(0.01)
    attempt = (await perform(redeliver, RedeliverInput(id=endpoint.id, event_id=event.id))).attempt
    answer, at = Answer(cafe.clock.now(), 1, status=200), cafe.clock.now()
    await cafe.database.write(
        cafe.business.id, lambda tx: record_answer(tx, cafe.actor, attempt, answer, at)
    )
    await sending
    receiver.delay = 0


# -- By status ------------------------------------------------------------------------------------


async def test_each_status_has_a_list_of_its_own(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    rows = await cafe.happens(stamp(), stamp(), stamp(), stamp(card), stamp(card), stamp(card))
    receiver.by_id = {rows[1].id: ABORT, rows[3].id: 404}
    await pusher.sweep()
    await cafe.happens(stamp(), stamp())

    told = {status: await page_of(cafe, endpoint, status) for status in DeliveryStatus}

    places = {status: [row.event.sequence for row in page.rows] for status, page in told.items()}
    assert places == {
        DeliveryStatus.PENDING: [8, 7],
        DeliveryStatus.SUCCEEDED: [3, 1],
        DeliveryStatus.RETRYING: [4],
        DeliveryStatus.PARKED: [6, 5],
        DeliveryStatus.DEAD: [2],
    }
    assert all(row.status is status for status, page in told.items() for row in page.rows)
    for status, page in told.items():
        assert await total_of(cafe, page) == len(places[status]), status


async def test_what_a_strict_endpoint_stops_at_is_being_retried(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any
) -> None:
    receiver.turns = [500]
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    await cafe.happens(stamp(), stamp())
    await pusher.sweep()

    retrying = await page_of(cafe, endpoint, DeliveryStatus.RETRYING)
    pending = await page_of(cafe, endpoint, DeliveryStatus.PENDING)

    assert [row.event.sequence for row in retrying.rows] == [1]
    assert [row.event.sequence for row in pending.rows] == [2]


async def test_the_dead_come_in_pages(cafe: Cafe, receiver: Any, pusher: Any, stamp: Any) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    rows = await cafe.happens(*(stamp() for _ in range(10)))
    receiver.by_id = {row.id: ABORT for row in rows[::2]}
    while await pusher.sweep():
        pass

    first = await page_of(cafe, endpoint, DeliveryStatus.DEAD, first=3)
    cursor = first.cursors()[-1]
    rest = await page_of(cafe, endpoint, DeliveryStatus.DEAD, first=3, after=cursor)

    assert [row.event.sequence for row in first.rows] == [9, 7, 5]
    assert [row.event.sequence for row in rest.rows] == [3, 1]
    assert [len(row.attempts) for row in first.rows] == [1, 1, 1]
    assert (first.has_next, rest.has_next, await total_of(cafe, rest)) == (True, False, 5)


# -- Skipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 422])
async def test_a_strict_endpoint_steps_over_an_event(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform, status: int
) -> None:
    """Case 31: one event that its receiver will never take, and then the rest in order."""
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    rows = await cafe.happens(*(stamp() for _ in range(4)))
    receiver.by_id = {rows[1].id: status}
    await pusher.sweep()
    asked = SkipEventInput(id=endpoint.id, event_id=rows[1].id)

    skipped = (await perform(skip_event, asked)).endpoint
    again = (await perform(skip_event, asked)).endpoint
    while await pusher.sweep():
        pass

    assert (skipped.cursor_sequence, skipped.failures, skipped.failing_since) == (2, 0, None)
    assert again.cursor_sequence == 2
    assert receiver.ids == [row.id for row in rows]
    assert receiver.got[2].headers["webhook-previous-id"] == rows[1].id
    [row] = await cafe.exceptions()
    assert (row.sequence, row.state, row.last_error) == (2, DeliveryState.DEAD, SKIPPED)
    assert (row.tries, row.previous_id) == (1, rows[0].id)
    page = await page_of(cafe, endpoint)
    assert [row.status for row in page.rows].count(DeliveryStatus.DEAD) == 1


async def test_only_the_event_it_stops_at_is_stepped_over(
    cafe: Cafe, stamp: Any, perform: Perform
) -> None:
    strict = await cafe.endpoint(URL, ordering=Ordering.STRICT)
    loose = await cafe.endpoint(URL)
    rows = await cafe.happens(stamp(), stamp())

    for endpoint, row in ((strict, rows[1]), (loose, rows[0])):
        with pytest.raises(Invalid) as refusal:
            await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=row.id))
        assert refusal.value.field == ["input", "eventId"]
    with pytest.raises(NotFound):
        await perform(skip_event, SkipEventInput(id=strict.id, event_id=new_id("evt")))

    assert [await cafe.now_of(one) for one in (strict, loose)] == [strict, loose]
    assert await cafe.exceptions() == []


async def test_skipping_what_is_retried_frees_the_next_event_of_its_card(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    rows = await cafe.happens(*(stamp(card) for _ in range(3)))
    receiver.by_id = {rows[0].id: 404}
    await pusher.sweep()

    await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=rows[0].id))
    while await pusher.sweep():
        pass

    assert receiver.ids == [row.id for row in rows]
    assert await states(cafe) == [(1, DeliveryState.DEAD)]


async def test_what_is_skipped_keeps_its_text_for_who_redelivers_it(
    cafe: Cafe, receiver: Any, pusher: Any, documents: Any, stamp: Any, perform: Perform
) -> None:
    author = await an_author(cafe)
    endpoint = await cafe.endpoint(receiver.url, document="told", document_by_id=author.id)
    rows = await cafe.happens(stamp())
    receiver.by_id = {rows[0].id: 404}
    await pusher.sweep()
    [kept] = await cafe.renderings()

    await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=rows[0].id))
    await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=rows[0].id))
    cafe.clock.advance(timedelta(days=2))
    await pusher.sweep()

    assert await cafe.renderings() == [kept]
    assert len(receiver.got) == 1
    assert await states(cafe) == [(1, DeliveryState.DEAD)]
    assert (await cafe.now_of(endpoint)).retry_due_at is None


async def test_an_event_whose_card_was_freed_while_it_was_parked_is_delivered(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    """The earlier one is redelivered while a round is under way that saw it undelivered."""
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    [first] = await cafe.happens(stamp(card))
    receiver.by_id = {first.id: 404}
    await pusher.sweep()
    rows = await cafe.happens(stamp(card), stamp())

    await redelivered_under_way(cafe, endpoint, first, receiver, pusher, perform)
    while await pusher.sweep():
        pass

    assert receiver.ids == [first.id, rows[1].id, rows[0].id]
    assert await cafe.exceptions() == []


async def test_an_event_that_left_the_log_does_not_hold_up_its_card(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    rows = await cafe.happens(stamp(card), stamp(card))
    receiver.by_id = {rows[0].id: 404}
    await pusher.sweep()
    parked = await states(cafe)
    gone = command(
        delete(EventRow).where(col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) == 1)
    )
    await cafe.database.write(cafe.business.id, lambda tx: tx.run(gone))

    cafe.clock.advance(timedelta(minutes=1))
    while await pusher.sweep():
        pass

    assert parked == [(1, DeliveryState.RETRY), (2, DeliveryState.PARKED)]
    assert receiver.ids == [rows[0].id, rows[1].id]
    assert await states(cafe) == [(1, DeliveryState.DEAD)]
    assert (await cafe.now_of(endpoint)).retry_due_at is None


async def test_what_was_redelivered_while_it_was_tried_is_tried_no_more(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    [row] = await cafe.happens(stamp())
    receiver.by_id = {row.id: 404}
    await pusher.sweep()
    cafe.clock.advance(timedelta(seconds=20))

    await redelivered_under_way(cafe, endpoint, row, receiver, pusher, perform)

    assert await cafe.exceptions() == []
    assert (await cafe.now_of(endpoint)).retry_due_at is None


@pytest.mark.on("postgres")
async def test_a_redelivery_and_a_round_are_stored_one_after_the_other(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    """Neither sees half of the other, so none of the card's events is left behind."""
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    [first] = await cafe.happens(stamp(card))
    receiver.by_id = {first.id: 404}
    await pusher.sweep()
    await cafe.happens(stamp(card), stamp())
    asked = RedeliverInput(id=endpoint.id, event_id=first.id)
    attempt = (await perform(redeliver, asked)).attempt
    answer, at = Answer(cafe.clock.now(), 1, status=200), cafe.clock.now()
    receiver.delay = 0.1
    sending = asyncio.create_task(pusher.sweep())
    while len(receiver.got) == 1:  # noqa: ASYNC110 -- it comes at once
        await asyncio.sleep(0.01)

    async def slowly(tx: Any) -> Any:
        run = tx.run

        async def last_comes_late(statement: Any, **values: Any) -> int:
            if statement is records._NOTE_RETRY:
                await asyncio.wait({sending}, timeout=0.5)
            return int(await run(statement, **values))

        tx.run = last_comes_late
        return await record_answer(tx, cafe.actor, attempt, answer, at)

    await cafe.database.write(cafe.business.id, slowly)
    await sending
    while await pusher.sweep():
        pass

    assert len(receiver.got) == 3
    assert await cafe.exceptions() == []


async def test_whoever_is_sending_what_is_skipped_stores_nothing(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    rows = await cafe.happens(stamp(), stamp())
    receiver.delay = 0.1
    receiver.by_id = {rows[0].id: 500}
    sending = asyncio.create_task(pusher.sweep())
    while not receiver.got:  # noqa: ASYNC110 -- it comes at once
        await asyncio.sleep(0.01)

    await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=rows[0].id))
    await sending
    while await pusher.sweep():
        pass

    assert receiver.ids == [row.id for row in rows]
    assert await states(cafe) == [(1, DeliveryState.DEAD)]
    assert (await cafe.now_of(endpoint)).cursor_sequence == 2


async def test_what_was_delivered_is_not_skipped(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    [row] = await cafe.happens(stamp())
    await pusher.sweep()
    before = await cafe.now_of(endpoint)

    told = await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=row.id))

    assert told.endpoint == before == await cafe.now_of(endpoint)
    assert await cafe.exceptions() == []


async def test_redelivering_what_a_strict_endpoint_stops_at_lets_it_go_on(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    rows = await cafe.happens(stamp(), stamp())
    receiver.by_id = {rows[0].id: 500}
    await pusher.sweep()
    asked = RedeliverInput(id=endpoint.id, event_id=rows[0].id)
    attempt = (await perform(redeliver, asked)).attempt
    taken, at = Answer(cafe.clock.now(), 5, status=204), cafe.clock.now()
    receiver.by_id = {}

    await cafe.database.write(
        cafe.business.id, lambda tx: record_answer(tx, cafe.actor, attempt, taken, at)
    )
    while await pusher.sweep():
        pass

    assert receiver.ids == [row.id for row in rows]
    assert (await cafe.now_of(endpoint)).cursor_sequence == 2
    assert receiver.got[-1].headers["webhook-previous-id"] == rows[0].id


# -- The dead -------------------------------------------------------------------------------------


async def test_the_dead_are_tried_again_ten_a_second(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    rows = await cafe.happens(*(stamp() for _ in range(25)))
    receiver.by_id = {row.id: ABORT for row in rows}
    while await pusher.sweep():
        pass
    await perform(skip_event, SkipEventInput(id=endpoint.id, event_id=rows[24].id))
    receiver.by_id, receiver.got = {}, []

    told = await perform(redeliver_dead, RedeliverDeadInput(id=endpoint.id))
    again = await perform(redeliver_dead, RedeliverDeadInput(id=endpoint.id))
    sent = []
    for _ in range(3):
        while await pusher.sweep():
            pass
        sent.append(len(receiver.got))
        cafe.clock.advance(timedelta(seconds=1))

    assert (told.count, again.count) == (24, 0)
    assert sent == [10, 20, 24]
    assert {got.id for got in receiver.got} == {row.id for row in rows[:24]}
    assert not any("webhook-attempt-kind" in got.headers for got in receiver.got)
    assert await states(cafe) == [(25, DeliveryState.DEAD)]  # what was skipped stays so
    kinds = {attempt.kind for attempt in await cafe.attempts()}
    assert kinds == {AttemptKind.DELIVERY}


async def test_the_dead_of_a_card_come_in_their_order(
    cafe: Cafe, receiver: Any, pusher: Any, stamp: Any, perform: Perform
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    rows = await cafe.happens(*(stamp(card) for _ in range(3)))
    receiver.by_id = {row.id: ABORT for row in rows}
    while await pusher.sweep():
        pass
    receiver.by_id, receiver.got = {rows[0].id: 404}, []

    told = await perform(redeliver_dead, RedeliverDeadInput(id=endpoint.id))
    while await pusher.sweep():
        pass
    held = list(receiver.ids)
    receiver.by_id = {}
    cafe.clock.advance(timedelta(minutes=10))
    while await pusher.sweep():
        pass

    assert told.count == 3
    assert held == [rows[0].id]
    assert receiver.ids[1:] == [row.id for row in rows]
    assert await cafe.exceptions() == []


async def test_at_most_a_thousand_are_revived_at_a_call(
    cafe: Cafe, stamp: Any, perform: Perform
) -> None:
    from models import Delivery  # noqa: PLC0415

    count = MOST_REVIVED + 5
    rows = await cafe.happens(*(stamp() for _ in range(count)))
    endpoint = await cafe.endpoint(URL, cursor_sequence=count)
    dead = [
        Delivery(
            endpoint_id=endpoint.id,
            sequence=row.sequence,
            business_id=cafe.business.id,
            state=DeliveryState.DEAD,
            tries=12,
        )
        for row in rows
    ]
    await cafe.add(*dead)

    counts = [
        (await perform(redeliver_dead, RedeliverDeadInput(id=endpoint.id))).count for _ in range(3)
    ]

    assert counts == [MOST_REVIVED, 5, 0]


# -- Beginning in the past ------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [Ordering.NONE, Ordering.STRICT])
async def test_a_backfill_meets_what_is_live_without_a_gap_or_an_overlap(
    cafe: Cafe,
    receiver: Any,
    pusher: Any,
    stamp: Any,
    perform: Perform,
    secrets: Any,
    documents: Any,
    ordering: Ordering,
) -> None:
    """Case 53: an endpoint that begins in the past, while events go on happening."""
    before = await cafe.happens(*(stamp() for _ in range(5)))
    cafe.clock.advance(timedelta(hours=1))
    since = cafe.clock.now()
    rows = await cafe.happens(*(stamp() for _ in range(40)))
    asked = CreateWebhookEndpointInput(
        url=receiver.url, start_at=StartAtInput(since=since), ordering=ordering
    )

    async def go_on() -> None:
        for _ in range(40):
            rows.extend(await cafe.happens(stamp()))
            await asyncio.sleep(0)

    going_on = asyncio.create_task(go_on())
    made = await perform(
        create_webhook_endpoint, asked, secrets=secrets, documents=documents, allow_insecure=True
    )
    while not going_on.done() or await pusher.sweep():
        await pusher.sweep()

    wanted = [row.id for row in sorted(rows, key=lambda row: row.sequence)]
    assert made.endpoint.cursor_sequence == len(before)
    assert sorted(receiver.ids) == sorted(wanted)
    if ordering is Ordering.STRICT:
        assert receiver.ids == wanted
    previous = [got.headers.get("webhook-previous-id") for got in receiver.got]
    assert sorted(previous[1:]) == sorted(wanted[:-1])
