"""Endpoints as staff handle them: made, changed, paused, resumed, tried out, and looked at."""

import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from standardwebhooks.webhooks import Webhook

from cafes import BROKEN, FakeDocuments
from core.errors import BadUserInput, Code, Forbidden, Invalid, LimitReached, NotFound, Refused
from core.ids import new_id
from core.secrets import Secrets
from db import BUSINESS, Transaction, query
from models import (
    Actor,
    AttemptKind,
    AttemptStatus,
    DeliveryState,
    DeliveryStatus,
    EndpointStatus,
    Notice,
    NoticeKind,
    Ordering,
    Role,
    SigningSecret,
    Staff,
    Vocabulary,
    WebhookEndpoint,
    encode_cursor,
)
from services.attempts import (
    RedeliverInput,
    SendTestEventInput,
    redeliver,
    send_prepared,
    send_test_event,
)
from services.deliveries import deliveries_of
from services.pages import PageArgs
from services.signing_secrets import RotateSigningSecretInput, rotate_signing_secret
from services.webhook_endpoints import (
    MOST_ENDPOINTS,
    CreateWebhookEndpointInput,
    DeleteWebhookEndpointInput,
    EventType,
    HeaderInput,
    PauseWebhookEndpointInput,
    ResumeWebhookEndpointInput,
    StartAtInput,
    create_webhook_endpoint,
    delete_webhook_endpoint,
    pause_webhook_endpoint,
    refuse_forbidden_host,
    resume_webhook_endpoint,
    update_webhook_endpoint,
)
from services.webhook_health import health_of, lag_of

URL = "https://partner.example/hooks"
_OPERATOR = "whoever runs the server"
_CHANGES = query(
    select(Notice)
    .where(col(Notice.business_id) == BUSINESS, col(Notice.kind) == NoticeKind.ENDPOINT_CHANGED)
    .order_by(col(Notice.id))
)
Perform = Callable[..., Awaitable[Any]]


@pytest.fixture
def perform(cafe: Any, secrets: Secrets, documents: FakeDocuments) -> Perform:
    """Perform an operation in a transaction of the café."""
    deployment = {"secrets": secrets, "documents": documents, "allow_insecure": False}
    needs = {
        create_webhook_endpoint: tuple(deployment),
        update_webhook_endpoint: tuple(deployment),
        rotate_signing_secret: ("secrets",),
    }

    async def do(operation: Any, input: Any, actor: Actor | None = None, **extras: Any) -> Any:
        given = {name: deployment[name] for name in needs.get(operation, ())} | extras
        who = actor or cafe.actor

        async def work(tx: Transaction) -> Any:
            return await operation(tx, who, input, cafe.clock.now(), **given)

        return await cafe.database.write(cafe.business.id, work)

    return do


@pytest.fixture
def staff(cafe: Any) -> Callable[[Role], Actor]:
    """An actor of a role."""

    def make(role: Role) -> Actor:
        who = Staff(
            id=new_id("st"),
            business_id=cafe.business.id,
            name="Ana",
            login=f"{new_id('st')}@kopi.example",
            password_digest="",
            role=role,
            created_at=cafe.clock.now(),
        )
        return Actor(cafe.business, who)

    return make


async def read(cafe: Any, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
    return await cafe.database.read(cafe.business.id, work)


async def test_a_new_endpoint_has_working_defaults(perform: Perform, cafe: Any) -> None:
    made = await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=URL))

    endpoint = await cafe.now_of(made.endpoint)
    assert (endpoint.url, endpoint.types, endpoint.vocabulary) == (URL, None, Vocabulary.ID)
    assert (endpoint.ordering, endpoint.status) == (Ordering.NONE, EndpointStatus.ACTIVE)
    assert (endpoint.include_contact, endpoint.is_rest_hook) == (False, False)
    assert made.signing_secret.startswith("whsec_")


@pytest.mark.parametrize(("path", "goes"), [("standard/1/abc/", True), ("catch/1/abc/", False)])
async def test_an_endpoint_that_a_zap_made_goes_with_it_and_a_catch_hook_does_not(
    perform: Perform, path: str, goes: bool
) -> None:
    url = f"https://hooks.zapier.com/hooks/{path}"

    made = await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=url))

    assert made.endpoint.is_rest_hook is goes


async def test_secrets_and_headers_are_stored_encrypted(perform: Perform, cafe: Any) -> None:
    headers = [HeaderInput(name="X-Token", value="canary-7")]

    made = await perform(
        create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, headers=headers)
    )

    (stored,) = await read(cafe, lambda tx: tx.many(_ALL_SECRETS))
    assert made.signing_secret.removeprefix("whsec_") not in stored.ciphertext
    assert "canary-7" not in (await cafe.now_of(made.endpoint)).headers


async def test_event_types_are_kept_in_the_order_of_the_catalogue(perform: Perform) -> None:
    types = [EventType["VOUCHER_REDEEMED"], EventType["GOAL_REACHED"], EventType["GOAL_REACHED"]]

    made = await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, types=types))

    assert made.endpoint.types == ["goal_reached", "voucher_redeemed"]


@pytest.mark.parametrize(
    ("start_at", "cursor"),
    [
        (None, 3),
        (StartAtInput(now=True), 3),
        (StartAtInput(beginning=True), 0),
        (StartAtInput(cursor=encode_cursor(2)), 2),
    ],
)
async def test_an_endpoint_begins_where_it_is_told(
    perform: Perform, cafe: Any, stamp: Any, start_at: Any, cursor: int
) -> None:
    await cafe.happens(stamp(), stamp(), stamp())

    made = await perform(
        create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, start_at=start_at)
    )

    assert made.endpoint.cursor_sequence == cursor


async def test_an_endpoint_cannot_begin_beyond_the_log(
    perform: Perform, cafe: Any, stamp: Any
) -> None:
    await cafe.happens(stamp())
    start = StartAtInput(cursor=encode_cursor(2))

    with pytest.raises(BadUserInput):
        await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, start_at=start))

    assert await read(cafe, lambda tx: tx.many(_ALL)) == []


@pytest.mark.parametrize(("minutes", "cursor"), [(-1, 0), (0, 0), (5, 1), (10, 1), (11, 2)])
async def test_an_endpoint_may_begin_at_a_moment(
    perform: Perform, cafe: Any, stamp: Any, minutes: int, cursor: int
) -> None:
    begin = cafe.clock.now()
    await cafe.happens(stamp())
    cafe.clock.advance(timedelta(minutes=10))
    await cafe.happens(stamp())

    start = StartAtInput(since=begin + timedelta(minutes=minutes))
    made = await perform(
        create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, start_at=start)
    )

    assert made.endpoint.cursor_sequence == cursor


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({"url": "http://partner.example/"}, Code.ADDRESS_NOT_ALLOWED, ["input", "url"]),
        ({"url": "https://169.254.169.254/"}, Code.ADDRESS_NOT_ALLOWED, ["input", "url"]),
        ({"types": []}, Code.INVALID, ["input", "types"]),
        ({"document": BROKEN}, Code.INVALID, ["input", "document"]),
        ({"max_in_flight": 0}, Code.INVALID, ["input", "maxInFlight"]),
        ({"max_in_flight": 17}, Code.INVALID, ["input", "maxInFlight"]),
        ({"max_per_second": 0.09}, Code.INVALID, ["input", "maxPerSecond"]),
        ({"max_per_second": 1000.1}, Code.INVALID, ["input", "maxPerSecond"]),
        ({"max_per_second": float("nan")}, Code.INVALID, ["input", "maxPerSecond"]),
        ({"headers": [HeaderInput(name="Host", value="x")]}, Code.INVALID, ["input", "headers"]),
        (
            {"start_at": StartAtInput(now=False)},
            Code.INVALID,
            ["input", "startAt", "now"],
        ),
    ],
)
async def test_a_bad_endpoint_is_refused(
    perform: Perform, cafe: Any, values: Any, code: Code, field: list[str]
) -> None:
    with pytest.raises(Refused) as refusal:
        await perform(create_webhook_endpoint, CreateWebhookEndpointInput(**{"url": URL} | values))

    assert (refusal.value.code, refusal.value.field) == (code, field)
    assert await read(cafe, lambda tx: tx.many(_ALL)) == []


async def test_only_an_owner_may_have_contact_data_sent(
    perform: Perform, cafe: Any, staff: Any
) -> None:
    asked = CreateWebhookEndpointInput(url=URL, include_contact=True)

    with pytest.raises(Forbidden):
        await perform(create_webhook_endpoint, asked, staff(Role.MANAGER))
    made = await perform(create_webhook_endpoint, asked, staff(Role.OWNER))

    assert made.endpoint.include_contact is True
    assert len(await read(cafe, lambda tx: tx.many(_ALL))) == 1


async def test_a_business_has_a_bounded_number_of_endpoints(perform: Perform, cafe: Any) -> None:
    for _ in range(MOST_ENDPOINTS):
        await cafe.endpoint(URL)

    with pytest.raises(LimitReached):
        await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=URL))


async def test_a_scanner_handles_only_the_endpoints_it_made(perform: Perform, staff: Any) -> None:
    mine, other, manager = staff(Role.SCANNER), staff(Role.SCANNER), staff(Role.MANAGER)
    made = await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=URL), mine)
    asked = PauseWebhookEndpointInput(id=made.endpoint.id)

    with pytest.raises(NotFound):
        await perform(pause_webhook_endpoint, asked, other)
    paused = await perform(pause_webhook_endpoint, asked, mine)
    again = await perform(pause_webhook_endpoint, asked, manager)

    assert paused.endpoint.status is again.endpoint.status is EndpointStatus.PAUSED


async def test_the_given_fields_are_changed_and_no_others(perform: Perform, cafe: Any) -> None:
    endpoint = await cafe.endpoint(URL, name="CRM", types=["stamp_added"], failures=4)

    same = await perform(update_webhook_endpoint, {"id": endpoint.id})
    changed = await perform(
        update_webhook_endpoint,
        {
            "id": endpoint.id,
            "url": "https://other.example/",
            "types": None,
            "name": None,
            "ordering": Ordering.STRICT,
            "headers": [HeaderInput(name="X", value="1")],
        },
    )

    assert same.endpoint == endpoint
    after = await cafe.now_of(endpoint)
    assert after == changed.endpoint
    assert (after.url, after.types, after.name) == ("https://other.example/", None, None)
    assert (after.ordering, after.vocabulary, after.failures) == (
        Ordering.STRICT,
        Vocabulary.EN,
        0,
    )
    assert after.headers is not None


async def test_headers_follow_to_no_other_place(perform: Perform, cafe: Any) -> None:
    """Who may change an endpoint is not thereby shown the tokens that somebody else put there."""
    headers = [HeaderInput(name="Authorization", value="Bearer canary")]
    made = await perform(
        create_webhook_endpoint, CreateWebhookEndpointInput(url=URL, headers=headers)
    )
    id, elsewhere = made.endpoint.id, "https://other.example/"

    with pytest.raises(Refused) as refused:
        await perform(update_webhook_endpoint, {"id": id, "url": elsewhere})
    stayed = await cafe.now_of(made.endpoint)
    nearby = await perform(update_webhook_endpoint, {"id": id, "url": f"{URL}/other"})
    without = await perform(update_webhook_endpoint, {"id": id, "url": elsewhere, "headers": None})

    assert (refused.value.code, refused.value.field) == (Code.INVALID, ["input", "headers"])
    assert stayed == made.endpoint
    assert nearby.endpoint.headers == made.endpoint.headers
    assert (without.endpoint.url, without.endpoint.headers) == (elsewhere, None)


async def test_who_leaves_the_order_by_card_frees_what_was_parked(
    perform: Perform, cafe: Any, receiver: Any, pusher: Any, stamp: Any
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    first, second = await cafe.happens(stamp(card), stamp(card))
    receiver.by_id[first.id] = 422
    await pusher.sweep()

    await perform(update_webhook_endpoint, {"id": endpoint.id, "ordering": Ordering.NONE})
    await pusher.sweep()

    assert receiver.ids == [first.id, second.id]


async def test_resuming_a_disabled_endpoint_delivers_what_it_missed(
    perform: Perform, cafe: Any, receiver: Any, pusher: Any, stamp: Any, clock: Any
) -> None:
    receiver.turns = [410]
    endpoint = await cafe.endpoint(receiver.url)
    events = await cafe.happens(stamp())
    await pusher.sweep()
    events += await cafe.happens(stamp(), stamp())
    assert await pusher.sweep() == 0

    resumed = await perform(resume_webhook_endpoint, ResumeWebhookEndpointInput(id=endpoint.id))
    await pusher.sweep()

    assert resumed.endpoint.status is EndpointStatus.ACTIVE
    assert (resumed.endpoint.disabled_reason, resumed.endpoint.failures) == (None, 0)
    assert sorted(receiver.ids[1:]) == sorted(event.id for event in events)
    assert await cafe.exceptions() == []


async def test_a_deleted_endpoint_is_not_found_and_its_attempts_stay(
    perform: Perform, cafe: Any, receiver: Any, pusher: Any, stamp: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(stamp())
    await pusher.sweep()

    deleted = await perform(delete_webhook_endpoint, DeleteWebhookEndpointInput(id=endpoint.id))

    assert deleted.deleted_id == endpoint.id
    with pytest.raises(NotFound):
        await perform(resume_webhook_endpoint, ResumeWebhookEndpointInput(id=endpoint.id))
    assert len(await cafe.attempts()) == 1


async def test_during_the_overlap_both_secrets_sign_and_then_only_the_new_one(
    perform: Perform, cafe: Any, receiver: Any, pusher: Any, stamp: Any, clock: Any
) -> None:
    """Case 46: the old key stops at its end."""
    endpoint = await cafe.endpoint(receiver.url)
    old = cafe.keys[endpoint.id]

    rotated = await perform(
        rotate_signing_secret, RotateSigningSecretInput(id=endpoint.id, overlap_hours=2)
    )
    await cafe.happens(stamp())
    await pusher.sweep()
    ends_at = clock.now() + timedelta(hours=2)
    clock.moment = ends_at
    await cafe.happens(stamp())
    await pusher.sweep()

    assert rotated.previous_expires_at == ends_at
    both, one = (got.headers["webhook-signature"].split() for got in receiver.got)
    assert (len(both), len(one)) == (2, 1)
    Webhook(old).verify(receiver.got[0].body, receiver.got[0].headers)
    Webhook(rotated.signing_secret).verify(receiver.got[0].body, receiver.got[0].headers)


@pytest.mark.parametrize("hours", [-1, 73])
async def test_an_overlap_has_its_bounds(perform: Perform, cafe: Any, hours: int) -> None:
    endpoint = await cafe.endpoint(URL)

    with pytest.raises(Invalid):
        await perform(
            rotate_signing_secret, RotateSigningSecretInput(id=endpoint.id, overlap_hours=hours)
        )

    assert len(await read(cafe, lambda tx: tx.many(_ALL_SECRETS))) == 1


# -- By hand --------------------------------------------------------------------------------------


async def test_a_test_event_is_sent_at_once_and_marked(
    perform: Perform, cafe: Any, receiver: Any, sender: Any, secrets: Secrets
) -> None:
    endpoint = await cafe.endpoint(receiver.url, status=EndpointStatus.PAUSED)
    asked = SendTestEventInput(id=endpoint.id, type=EventType["LOTTERY_PLAYED"])

    prepared = await perform(send_test_event, asked)
    (before,) = await cafe.attempts()
    sent = await _send(cafe, sender, secrets, prepared.attempt, prepared.body)

    assert (before.status, before.kind) == (AttemptStatus.PENDING, AttemptKind.TEST)
    assert (sent.status, sent.response_status) == (AttemptStatus.SUCCEEDED, 200)
    assert await cafe.attempts() == [sent]
    (got,) = receiver.got
    assert got.body.decode() == prepared.body
    assert got.headers["webhook-attempt-kind"] == "test"
    assert "webhook-previous-id" not in got.headers
    said = Webhook(cafe.keys[endpoint.id]).verify(got.body, got.headers)
    assert (said["event"], said["sequence"], said["id"]) == ("lottery_played", 0, got.id)
    assert (await cafe.now_of(endpoint)).cursor_sequence == 0


async def test_a_test_that_is_prepared_is_sent_once(
    perform: Perform, cafe: Any, receiver: Any, sender: Any, secrets: Secrets
) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    asked = SendTestEventInput(id=endpoint.id, type=EventType["CARD_SAVED"])
    prepared = await perform(send_test_event, asked)

    first = await _send(cafe, sender, secrets, prepared.attempt, prepared.body)
    again = await _send(cafe, sender, secrets, prepared.attempt, prepared.body)

    assert len(receiver.got) == 1
    assert again == first


async def test_a_test_without_an_answer_in_time_stays_pending(
    perform: Perform, cafe: Any, receiver: Any, sender: Any, secrets: Secrets
) -> None:
    receiver.delay = 1.2
    endpoint = await cafe.endpoint(receiver.url)
    asked = SendTestEventInput(id=endpoint.id, type=EventType["CARD_SAVED"])
    prepared = await perform(send_test_event, asked)

    sent = await _send(cafe, sender, secrets, prepared.attempt, prepared.body)

    assert (sent.status, sent.error) == (AttemptStatus.PENDING, "timeout")


async def test_waiting_for_a_turn_counts_into_the_time_of_a_test(
    perform: Perform,
    cafe: Any,
    receiver: Any,
    sender: Any,
    secrets: Secrets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.attempts.DEADLINE_SECONDS", 0.1)
    endpoint = await cafe.endpoint(receiver.url)
    asked = SendTestEventInput(id=endpoint.id, type=EventType["CARD_SAVED"])
    prepared = await perform(send_test_event, asked)

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(sender.turn(endpoint.id))
        sent = await _send(cafe, sender, secrets, prepared.attempt, prepared.body)

    assert (sent.status, sent.error) == (AttemptStatus.PENDING, "timeout")
    assert receiver.got == []


async def test_a_redelivery_ends_what_was_dead(
    perform: Perform,
    cafe: Any,
    receiver: Any,
    sender: Any,
    pusher: Any,
    secrets: Secrets,
    stamp: Any,
) -> None:
    receiver.turns = [(400, {"webhook-delivery": "abort-message"})]
    endpoint = await cafe.endpoint(receiver.url)
    (event,) = await cafe.happens(stamp())
    await pusher.sweep()
    assert [row.state for row in await cafe.exceptions()] == [DeliveryState.DEAD]

    prepared = await perform(redeliver, RedeliverInput(id=endpoint.id, event_id=event.id))
    sent = await _send(cafe, sender, secrets, prepared.attempt)

    assert (sent.number, sent.kind, sent.status) == (2, "redelivery", "succeeded")
    assert receiver.got[1].body == receiver.got[0].body
    assert receiver.got[1].headers["webhook-attempt-kind"] == "redelivery"
    assert await cafe.exceptions() == []


async def test_an_unknown_event_cannot_be_redelivered(perform: Perform, cafe: Any) -> None:
    endpoint = await cafe.endpoint(URL)

    with pytest.raises(NotFound):
        await perform(redeliver, RedeliverInput(id=endpoint.id, event_id=new_id("evt")))

    assert await cafe.attempts() == []


# -- Looking at it --------------------------------------------------------------------------------


async def test_deliveries_tell_how_far_each_event_has_come(
    cafe: Any, receiver: Any, pusher: Any, stamp: Any, clock: Any
) -> None:
    card = new_id("card")
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.CARD)
    events = await cafe.happens(stamp(), stamp(), stamp(card), stamp(card))
    receiver.by_id[events[1].id] = (400, {"webhook-delivery": "abort-message"})
    receiver.by_id[events[2].id] = 404
    await pusher.sweep()
    await cafe.happens(stamp())

    page = await read(cafe, lambda tx: _deliveries(tx, cafe, endpoint, PageArgs(first=10)))

    told = [(row.event.sequence, row.status, len(row.attempts)) for row in page.rows]
    assert told == [
        (5, DeliveryStatus.PENDING, 0),
        (4, DeliveryStatus.PARKED, 0),
        (3, DeliveryStatus.RETRYING, 1),
        (2, DeliveryStatus.DEAD, 1),
        (1, DeliveryStatus.SUCCEEDED, 1),
    ]
    assert page.rows[2].next_attempt_at == clock.now() + timedelta(seconds=5)
    assert (page.has_next, page.has_previous) == (False, False)


async def test_deliveries_come_in_pages(cafe: Any, receiver: Any, pusher: Any, stamp: Any) -> None:
    endpoint = await cafe.endpoint(receiver.url)
    await cafe.happens(*(stamp() for _ in range(5)))
    await pusher.sweep()

    first = await read(cafe, lambda tx: _deliveries(tx, cafe, endpoint, PageArgs(first=3)))
    rest = await read(
        cafe,
        lambda tx: _deliveries(tx, cafe, endpoint, PageArgs(first=3, after=first.cursors()[-1])),
    )

    assert [row.event.sequence for row in first.rows] == [5, 4, 3]
    assert [row.event.sequence for row in rest.rows] == [2, 1]
    assert (first.has_next, rest.has_next, rest.has_previous) == (True, False, True)
    assert await read(cafe, first.count) == 5


async def test_a_strict_endpoint_that_is_held_up_says_so(
    cafe: Any, receiver: Any, pusher: Any, stamp: Any
) -> None:
    receiver.turns = [500]
    endpoint = await cafe.endpoint(receiver.url, ordering=Ordering.STRICT)
    await cafe.happens(stamp(), stamp())
    await pusher.sweep()

    page = await read(cafe, lambda tx: _deliveries(tx, cafe, endpoint, PageArgs()))

    assert [row.status for row in page.rows] == [DeliveryStatus.PENDING, DeliveryStatus.RETRYING]


async def test_health_and_lag_follow_what_happens(
    cafe: Any, receiver: Any, pusher: Any, stamp: Any, clock: Any, opening: Any
) -> None:
    endpoint = await cafe.endpoint(receiver.url, types=["stamp_added"])
    unused = await read(cafe, lambda tx: health_of(tx, endpoint))
    events = await cafe.happens(stamp(), stamp(), stamp(), stamp())
    receiver.by_id[events[0].id] = 404
    await pusher.sweep()
    served_at = clock.now()
    clock.advance(timedelta(seconds=90))
    await cafe.happens(stamp(), opening)
    now = clock.now()

    after = await cafe.now_of(endpoint)
    health = await read(cafe, lambda tx: health_of(tx, after))
    lag = await read(cafe, lambda tx: lag_of(tx, after, now))

    assert (unused.success_rate, unused.last_success_at) == (None, None)
    assert (health.success_rate, health.last_success_at) == (0.75, served_at)
    assert health.failing_since is None
    assert (lag.events, lag.seconds) == (2, 90)


async def test_a_name_that_leads_inside_is_refused_and_an_unknown_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str, _: int) -> list[str]:
        if host == "unknown.example":
            raise OSError
        return ["8.8.8.8", "10.0.0.1"]

    monkeypatch.setattr("core.guard._resolve", resolve)

    await refuse_forbidden_host("https://unknown.example/", allow_insecure=False)
    await refuse_forbidden_host("no url: the operation says so itself", allow_insecure=False)
    with pytest.raises(Refused) as refusal:
        await refuse_forbidden_host("https://inside.example/", allow_insecure=False)

    assert refusal.value.code is Code.ADDRESS_NOT_ALLOWED
    assert refusal.value.field == ["input", "url"]


async def _send(
    cafe: Any,
    sender: Any,
    secrets: Secrets,
    attempt: Any,
    body: Any = None,
    documents: FakeDocuments | None = None,
) -> Any:
    return await send_prepared(
        cafe.database,
        sender,
        secrets,
        documents or FakeDocuments(),
        cafe.actor,
        attempt=attempt,
        now=cafe.clock.now(),
        body=body,
    )


async def _deliveries(tx: Transaction, cafe: Any, endpoint: Any, args: PageArgs) -> Any:
    now = await tx.get(WebhookEndpoint, endpoint.id)
    assert now
    return await deliveries_of(tx, now, args)


def _every(kind: type[Any]) -> Any:
    from sqlmodel import select  # noqa: PLC0415

    from db import query  # noqa: PLC0415

    return query(select(kind))


_ALL, _ALL_SECRETS = _every(WebhookEndpoint), _every(SigningSecret)


async def test_owners_are_told_of_endpoints_without_addresses_and_secrets(
    perform: Perform, cafe: Any
) -> None:
    url = "https://partner.example/hooks/canary-7"
    made = await perform(create_webhook_endpoint, CreateWebhookEndpointInput(url=url))
    id, elsewhere = made.endpoint.id, "https://elsewhere.example/canary-8"
    headers = [HeaderInput(name="X-Token", value="canary-9")]
    await perform(update_webhook_endpoint, {"id": id, "url": elsewhere, "headers": headers})
    await perform(update_webhook_endpoint, {"id": id, "name": "Till"})
    rotated = await perform(rotate_signing_secret, RotateSigningSecretInput(id=id))
    await perform(delete_webhook_endpoint, DeleteWebhookEndpointInput(id=id), Actor(cafe.business))

    notices = await read(cafe, lambda tx: tx.many(_CHANGES))

    who = f"{cafe.actor.staff.name} ({cafe.actor.role.name})" if cafe.actor.staff else _OPERATOR
    assert [notice.message for notice in notices] == [
        f"The webhook endpoint partner.example was made by {who}.",
        f"The webhook endpoint elsewhere.example was changed (headers, url) by {who}.",
        f"The webhook endpoint Till was given a new signing secret by {who}.",
        f"The webhook endpoint Till was deleted by {_OPERATOR}.",
    ]
    assert {notice.subject_id for notice in notices} == {id}
    secrets_ = (made.signing_secret, rotated.signing_secret, "canary")
    assert [word for word in secrets_ if word in str(notices)] == []
