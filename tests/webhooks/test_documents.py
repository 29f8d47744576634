"""Endpoints with a document of their own: rendered once, kept for every try, by its author."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from cafes import FakeDocuments
from core.ids import new_id
from models import DeliveryState, EndpointStatus, Ordering, Role, Staff
from webhooks import texts
from webhooks.pusher import AUTHOR_LEFT, Pusher
from webhooks.records import settle


@pytest.fixture
async def author(cafe: Any, clock: Any) -> Staff:
    """Who saved the document: a manager."""
    made = Staff(
        id=new_id("st"),
        business_id=cafe.business.id,
        name="Mila",
        login="mila@kopi.example",
        password_digest="-",
        role=Role.MANAGER,
        created_at=clock.now(),
    )
    await cafe.add(made)
    return made


@pytest.fixture
async def endpoint(cafe: Any, receiver: Any, author: Staff) -> Any:
    """An endpoint with a document, served one by one."""
    return await cafe.endpoint(
        receiver.url, document="first", document_by_id=author.id, ordering=Ordering.STRICT
    )


async def test_it_gets_what_its_document_makes_of_the_event(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any, documents: FakeDocuments,
    author: Staff,
) -> None:  # fmt: skip
    await cafe.happens(stamp())

    await pusher.sweep()

    assert [got.body for got in receiver.got] == [b'{"first":1}']
    assert [actor.staff for actor in documents.actors] == [author]
    assert await cafe.renderings() == []


async def test_the_text_is_stored_before_it_is_sent(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any
) -> None:
    seen: list[Any] = []

    async def look(_: Any) -> Any:
        from aiohttp import web  # noqa: PLC0415

        seen.extend(await cafe.renderings())
        return web.Response()

    receiver.turns = [look]
    await cafe.happens(stamp())

    await pusher.sweep()

    assert [(row.sequence, row.body) for row in seen] == [(1, '{"first":1}')]


@pytest.mark.parametrize("ordering", list(Ordering))
async def test_a_retry_sends_the_same_bytes_whatever_became_of_the_document(
    cafe: Any, receiver: Any, pusher: Pusher, second: Pusher, stamp: Any, clock: Any,
    endpoint: Any, documents: FakeDocuments, ordering: Ordering,
) -> None:  # fmt: skip
    receiver.turns = [500]
    await cafe.change(endpoint, ordering=ordering)
    await cafe.happens(stamp())
    await pusher.sweep()
    documents.said = lambda *_: "something else"
    await cafe.change(endpoint, document="second")
    clock.advance(timedelta(seconds=5))

    await second.sweep()

    assert [got.body for got in receiver.got] == [b'{"first":1}'] * 2
    assert documents.asked == [1]
    assert await cafe.renderings() == []


async def test_after_a_kill_between_storing_and_recording_the_same_bytes_are_sent(
    cafe: Any, receiver: Any, pusher: Pusher, second: Pusher, stamp: Any, clock: Any,
    endpoint: Any, documents: FakeDocuments,
) -> None:  # fmt: skip
    receiver.delay = 0.2
    await cafe.happens(stamp())
    await pusher.claim()
    while not receiver.got:  # noqa: ASYNC110 -- it looks at what a receiver got
        await asyncio.sleep(0.005)
    for task in pusher._serving:
        task.cancel()  # nothing of it is recorded
    documents.said = lambda *_: "something else"
    clock.advance(timedelta(seconds=31))

    await second.sweep()

    assert [got.body for got in receiver.got] == [b'{"first":1}'] * 2
    assert len(await cafe.attempts()) == 1


async def test_an_event_that_the_document_leaves_out_is_passed_over(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any, documents: FakeDocuments
) -> None:
    documents.said = lambda _, __, event: str(event.sequence) if event.sequence % 10 == 1 else None
    events = await cafe.happens(*(stamp() for _ in range(21)))

    await pusher.sweep()

    assert [got.body for got in receiver.got] == [b"1", b"11", b"21"]
    named = [got.headers.get("webhook-previous-id") for got in receiver.got]
    assert named == [None, events[0].id, events[10].id]
    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.last_due_id) == (21, events[20].id)
    assert len(await cafe.attempts()) == 3
    assert await cafe.renderings() == []


async def test_an_endpoint_that_is_unwell_is_probed_with_an_event_that_it_is_due(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any, documents: FakeDocuments
) -> None:
    documents.said = lambda _, __, event: str(event.sequence) if event.sequence > 5 else None
    await cafe.change(endpoint, failures=1, ordering=Ordering.NONE)
    await cafe.happens(*(stamp() for _ in range(8)))
    receiver.turns = [500]

    await pusher.sweep()

    assert [got.body for got in receiver.got] == [b"6"]
    assert (await cafe.now_of(endpoint)).cursor_sequence == 6


async def test_an_event_that_cannot_be_rendered_is_an_exception_and_the_others_go_on(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, endpoint: Any,
    documents: FakeDocuments,
) -> None:  # fmt: skip
    def fail_once(_: Any, __: str, event: Any) -> str:
        if event.sequence == 2 and documents.asked.count(2) == 1:
            raise LookupError("gone")
        return str(event.sequence)

    documents.said = fail_once
    await cafe.change(endpoint, ordering=Ordering.NONE)
    await cafe.happens(*(stamp() for _ in range(3)))

    await pusher.sweep()

    assert sorted(got.body for got in receiver.got) == [b"1", b"3"]
    [row] = await cafe.exceptions()
    assert (row.sequence, row.state, row.tries) == (2, DeliveryState.RETRY, 1)
    assert row.last_error == "document"
    after = await cafe.now_of(endpoint)
    assert (after.cursor_sequence, after.failures, after.failing_since) == (3, 0, None)

    clock.advance(timedelta(seconds=5))
    await pusher.sweep()

    assert receiver.got[-1].body == b"2"
    assert await cafe.exceptions() == []
    mine = [(row.error, row.response_status) for row in await cafe.attempts() if row.sequence == 2]
    assert mine == [("document", None), (None, 200)]


async def test_a_document_that_never_comes_to_an_end_is_such_an_exception(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any,
    documents: FakeDocuments, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(texts, "RENDER_SECONDS", 0.05)
    documents.during = asyncio.Event().wait
    await cafe.change(endpoint, ordering=Ordering.NONE)
    await cafe.happens(stamp())

    await pusher.sweep()

    assert receiver.got == []
    assert [row.last_error for row in await cafe.exceptions()] == ["document"]


async def test_when_its_author_left_it_is_disabled_and_nothing_is_lost(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, endpoint: Any, author: Staff
) -> None:
    await cafe.database.write(
        cafe.business.id,
        lambda tx: tx.change(author, disabled_at=clock.now(), disabled_by="st_owner"),
    )
    await cafe.happens(stamp(), stamp())

    await pusher.sweep()

    after = await cafe.now_of(endpoint)
    assert (after.status, after.disabled_reason) == (EndpointStatus.DISABLED, AUTHOR_LEFT)
    assert (after.cursor_sequence, after.lease_until) == (0, clock.now())
    [notice] = await cafe.notices()
    assert (notice.kind, notice.subject_id) == ("endpoint_disabled", endpoint.id)
    assert receiver.got == []

    owner = author.with_values(id=new_id("st"), login="owner@kopi.example", role=Role.OWNER)
    await cafe.add(owner)
    await cafe.change(after, document_by_id=owner.id, status=EndpointStatus.ACTIVE)
    await pusher.sweep()

    assert [got.body for got in receiver.got] == [b'{"first":1}', b'{"first":2}']


async def test_its_author_is_taken_as_they_are_now(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, endpoint: Any, author: Staff,
    documents: FakeDocuments,
) -> None:  # fmt: skip
    await cafe.database.write(cafe.business.id, lambda tx: tx.change(author, role=Role.SCANNER))
    await cafe.happens(stamp())

    await pusher.sweep()

    assert [actor.role for actor in documents.actors] == [Role.SCANNER]


async def test_who_lost_the_lease_while_rendering_stores_and_sends_nothing(
    cafe: Any, receiver: Any, pusher: Pusher, second: Pusher, stamp: Any, clock: Any,
    endpoint: Any, documents: FakeDocuments,
) -> None:  # fmt: skip
    async def be_late() -> None:
        documents.during = None
        documents.said = lambda *_: "theirs"
        clock.advance(timedelta(seconds=31))
        await second.sweep()
        documents.said = lambda *_: "mine"

    documents.during = be_late
    await cafe.happens(stamp())

    await pusher.sweep()

    assert [got.body for got in receiver.got] == [b"theirs"]
    assert len(await cafe.attempts()) == 1
    assert await cafe.renderings() == []


async def test_a_dead_event_keeps_its_text_until_it_is_done_with(
    cafe: Any, receiver: Any, pusher: Pusher, stamp: Any, clock: Any, endpoint: Any
) -> None:
    receiver.turns = [(400, {"webhook-delivery": "abort-message"})]
    await cafe.happens(stamp(), stamp())

    await pusher.sweep()

    [row] = await cafe.exceptions()
    assert row.state is DeliveryState.DEAD
    assert [kept.body for kept in await cafe.renderings()] == ['{"first":1}']

    work = lambda tx: settle(tx, endpoint.id, row, clock.now())  # noqa: E731
    await cafe.database.write(cafe.business.id, work)

    assert await cafe.renderings() == []


@pytest.fixture
def second(
    database: Any, stream: Any, sender: Any, secrets: Any, clock: Any, documents: FakeDocuments
) -> Pusher:
    """A second pusher, as of another process."""
    return Pusher(database, stream, sender, secrets, clock, documents=documents, chance=lambda: 0.5)
