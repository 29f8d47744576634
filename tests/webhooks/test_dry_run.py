"""Dry runs: what an endpoint would be sent, told without sending it; and documents by hand."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cafes import BROKEN, Cafe, FakeDocuments
from core.errors import Forbidden, Invalid, NotFound
from core.ids import new_id
from core.secrets import Secrets
from db import Transaction
from events import payload
from models import Actor, AttemptStatus, Role, Staff, Vocabulary
from services.attempts import RedeliverInput, redeliver, send_prepared
from services.webhook_dry_run import (
    EventType,
    WebhookDryRunInput,
    WebhookRehearsed,
    rehearse_delivery,
    rehearsed,
)
from services.webhook_endpoints import (
    CreateWebhookEndpointInput,
    create_webhook_endpoint,
    update_webhook_endpoint,
)

URL = "https://partner.example/hooks"
Run = Callable[..., Awaitable[WebhookRehearsed]]


@pytest.fixture
def run(cafe: Cafe, documents: FakeDocuments) -> Run:
    """Rehearse."""

    async def do(event: Any, actor: Actor | None = None, **values: Any) -> WebhookRehearsed:
        asked = WebhookDryRunInput(event_id=event.id, **values)

        async def work(tx: Transaction) -> Any:
            return await rehearse_delivery(tx, actor or cafe.actor, asked, documents=documents)

        draft = await cafe.database.read(cafe.business.id, work)
        return await rehearsed(draft, documents)

    return do


@pytest.fixture
def hire(cafe: Cafe) -> Callable[[Role], Awaitable[Actor]]:
    """A staff login of a role."""

    async def make(role: Role) -> Actor:
        staff = Staff(
            id=new_id("st"),
            business_id=cafe.business.id,
            name="Ana",
            login=f"{new_id('st')}@kopi.example",
            password_digest="",
            role=role,
            created_at=cafe.clock.now(),
        )
        await cafe.add(staff)
        return Actor(cafe.business, staff)

    return make


@pytest.fixture
def save(cafe: Cafe, secrets: Secrets, documents: FakeDocuments) -> Callable[..., Awaitable[Any]]:
    """Save an endpoint."""

    async def do(operation: Any, actor: Actor, input: Any) -> Any:
        async def work(tx: Transaction) -> Any:
            made = await operation(
                tx,
                actor,
                input,
                cafe.clock.now(),
                secrets=secrets,
                documents=documents,
                allow_insecure=True,
            )
            return made.endpoint

        return await cafe.database.write(cafe.business.id, work)

    return do


async def test_the_standard_body_is_told_for_an_endpoint_and_for_none(
    cafe: Cafe, run: Run, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(URL)
    [event] = await cafe.happens(stamp())

    of_endpoint = await run(event, id=endpoint.id)
    in_other_words = await run(event, id=endpoint.id, vocabulary=Vocabulary.ID)
    of_none = await run(event)

    assert (of_endpoint.matches, of_endpoint.body) == (True, event.body)
    assert in_other_words.body == of_none.body == payload(event.body, Vocabulary.ID)
    assert await cafe.attempts() == []
    assert await cafe.now_of(endpoint) == endpoint


async def test_types_are_looked_at_first(cafe: Cafe, run: Run, stamp: Any) -> None:
    endpoint = await cafe.endpoint(URL, types=["card_opened"], document="x")
    [event] = await cafe.happens(stamp())

    by_its_types = await run(event, id=endpoint.id)
    by_others = await run(event, id=endpoint.id, types=[EventType["STAMP_ADDED"]], document="y")
    of_none = await run(event, types=[EventType["CARD_OPENED"]])

    assert (by_its_types.matches, by_its_types.body) == (False, None)
    assert (by_others.matches, by_others.body) == (True, '{"y":1}')
    assert of_none.matches is False


async def test_a_document_is_tried_before_it_is_saved_and_by_whoever_asks(
    cafe: Cafe, run: Run, documents: FakeDocuments, stamp: Any, hire: Any
) -> None:
    manager = await hire(Role.MANAGER)
    first, second = await cafe.happens(stamp(), stamp())
    documents.said = lambda _, text, event: text if event.sequence == 1 else None

    shaped = await run(first, manager, document="told")
    left_out = await run(second, manager, document="told")

    assert (shaped.matches, shaped.body) == (True, "told")
    assert (left_out.matches, left_out.body) == (False, None)
    assert {actor.staff_id for actor in documents.actors} == {manager.staff_id}


async def test_a_saved_document_is_executed_with_the_rights_of_who_saved_it(
    cafe: Cafe, run: Run, documents: FakeDocuments, stamp: Any, hire: Any, save: Any
) -> None:
    owner, manager = await hire(Role.OWNER), await hire(Role.MANAGER)
    asked = CreateWebhookEndpointInput(url=URL, document=" told ")
    endpoint = await save(create_webhook_endpoint, owner, asked)
    [event] = await cafe.happens(stamp())

    told = await run(event, manager, id=endpoint.id)

    assert (endpoint.document, endpoint.document_by_id) == ("told", owner.staff_id)
    assert told.body == '{"told":1}'
    assert [actor.staff_id for actor in documents.actors] == [owner.staff_id]


async def test_a_dry_run_says_what_is_wrong(
    cafe: Cafe, run: Run, documents: FakeDocuments, stamp: Any, hire: Any
) -> None:
    endpoint = await cafe.endpoint(URL, document="told")
    [event] = await cafe.happens(stamp())

    with pytest.raises(Invalid) as refusal:
        await run(event, document=BROKEN)
    assert refusal.value.field == ["input", "document"]
    with pytest.raises(NotFound):
        await run(event, id=new_id("we"))
    with pytest.raises(NotFound):
        await run(event.with_values(id=new_id("evt")))
    with pytest.raises(Forbidden):
        await run(event, await hire(Role.SCANNER), document="told")
    [error] = (await run(event, id=endpoint.id)).user_errors  # nobody saved it
    assert error.field == ["input", "document"]


# -- Documents as they are saved ------------------------------------------------------------------


async def test_documents_and_caps_are_changed_and_taken_away(
    cafe: Cafe, hire: Any, save: Any
) -> None:
    owner, manager = await hire(Role.OWNER), await hire(Role.MANAGER)
    asked = CreateWebhookEndpointInput(url=URL, document="one", max_in_flight=1, max_per_second=0.1)
    endpoint = await save(create_webhook_endpoint, owner, asked)
    assert (endpoint.max_in_flight, endpoint.max_per_second) == (1, 0.1)

    changed = await save(
        update_webhook_endpoint,
        manager,
        {"id": endpoint.id, "document": "two", "max_in_flight": 16, "max_per_second": 1000.0},
    )
    other = await save(update_webhook_endpoint, owner, {"id": endpoint.id, "name": "CRM"})
    bare = await save(
        update_webhook_endpoint,
        owner,
        {"id": endpoint.id, "document": None, "max_in_flight": None, "max_per_second": None},
    )
    with pytest.raises(Invalid):
        await save(update_webhook_endpoint, owner, {"id": endpoint.id, "document": BROKEN})

    assert (changed.document, changed.document_by_id) == ("two", manager.staff_id)
    assert (changed.max_in_flight, changed.max_per_second) == (16, 1000)
    assert (other.document, other.document_by_id) == ("two", manager.staff_id)
    assert (bare.document, bare.document_by_id) == (None, None)
    assert (bare.max_in_flight, bare.max_per_second) == (None, None)
    assert await cafe.now_of(endpoint) == bare


async def test_a_scanner_saves_no_document(cafe: Cafe, hire: Any, save: Any) -> None:
    scanner = await hire(Role.SCANNER)
    endpoint = await save(create_webhook_endpoint, scanner, CreateWebhookEndpointInput(url=URL))

    asked = CreateWebhookEndpointInput(url=URL, document="told")
    with pytest.raises(Forbidden):
        await save(create_webhook_endpoint, scanner, asked)
    with pytest.raises(Forbidden):
        await save(update_webhook_endpoint, scanner, {"id": endpoint.id, "document": "told"})

    assert await cafe.now_of(endpoint) == endpoint


async def test_nobody_is_lent_anothers_rights_by_a_new_url(
    cafe: Cafe, hire: Any, save: Any
) -> None:
    owner, manager, scanner = [
        await hire(role) for role in (Role.OWNER, Role.MANAGER, Role.SCANNER)
    ]
    shaped = await save(
        create_webhook_endpoint, owner, CreateWebhookEndpointInput(url=URL, document="told")
    )
    told = await save(
        create_webhook_endpoint, owner, CreateWebhookEndpointInput(url=URL, include_contact=True)
    )
    own = await save(create_webhook_endpoint, scanner, CreateWebhookEndpointInput(url=URL))
    own = await save(update_webhook_endpoint, owner, {"id": own.id, "document": "told"})

    elsewhere = "https://other.example/"
    led = await save(update_webhook_endpoint, manager, {"id": shaped.id, "url": elsewhere})
    same = await save(update_webhook_endpoint, manager, {"id": told.id, "url": URL})
    for actor, endpoint in ((manager, told), (scanner, own)):
        with pytest.raises(Forbidden):
            await save(update_webhook_endpoint, actor, {"id": endpoint.id, "url": elsewhere})

    assert (led.url, led.document_by_id) == (elsewhere, manager.staff_id)
    assert same == told
    assert await cafe.now_of(told) == told
    assert await cafe.now_of(own) == own


async def test_a_redelivery_has_what_the_document_makes_of_the_event(
    cafe: Cafe,
    receiver: Any,
    sender: Any,
    secrets: Secrets,
    documents: FakeDocuments,
    stamp: Any,
    hire: Any,
) -> None:
    owner = await hire(Role.OWNER)
    endpoint = await cafe.endpoint(
        receiver.url, document="told", document_by_id=owner.staff_id, cursor_sequence=2
    )
    rows = await cafe.happens(stamp(), stamp())
    documents.said = lambda _, text, event: text if event.sequence == 1 else None

    attempts = []
    for row in rows:
        asked = RedeliverInput(id=endpoint.id, event_id=row.id)

        async def work(tx: Transaction, asked: RedeliverInput = asked) -> Any:
            return await redeliver(tx, cafe.actor, asked, cafe.clock.now())

        prepared = (await cafe.database.write(cafe.business.id, work)).attempt
        attempts.append(
            await send_prepared(
                cafe.database,
                sender,
                secrets,
                documents,
                cafe.actor,
                attempt=prepared,
                now=cafe.clock.now(),
            )
        )

    assert [got.body for got in receiver.got] == [b"told"]
    assert [(one.status, one.error) for one in attempts] == [
        (AttemptStatus.SUCCEEDED, None),
        (AttemptStatus.FAILED, "left out"),
    ]


@pytest.mark.parametrize("error", [ValueError("broken"), RuntimeError("a bug of ours")])
async def test_a_redelivery_whose_body_cannot_be_made_says_so(
    cafe: Cafe,
    sender: Any,
    secrets: Secrets,
    documents: FakeDocuments,
    stamp: Any,
    hire: Any,
    error: Exception,
) -> None:
    """It was not left out, and the attempt is not under way for ever."""
    owner = await hire(Role.OWNER)
    endpoint = await cafe.endpoint(
        URL, document="told", document_by_id=owner.staff_id, cursor_sequence=1
    )
    [row] = await cafe.happens(stamp())

    def fail(*_: Any) -> str:
        raise error

    documents.said = fail
    asked = RedeliverInput(id=endpoint.id, event_id=row.id)

    async def work(tx: Transaction) -> Any:
        return await redeliver(tx, cafe.actor, asked, cafe.clock.now())

    prepared = (await cafe.database.write(cafe.business.id, work)).attempt
    given = (cafe.database, sender, secrets, documents, cafe.actor)
    sent = await send_prepared(*given, attempt=prepared, now=cafe.clock.now())

    assert (sent.status, sent.error) == (AttemptStatus.FAILED, "document")
