"""Webhook endpoints: made, changed, paused, resumed, deleted, tried out, and how they fare."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

import orjson
from annotated_doc import Doc
from sqlalchemy import delete, func, update
from sqlmodel import col, select

from core.errors import BadUserInput, Code, Forbidden, Invalid, LimitReached, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, new_signing_secret
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from events import event_types, payload
from events.base import event_type_enum
from events.log import head_of, sample_body
from models import (
    Actor,
    Attempt,
    AttemptKind,
    AttemptStatus,
    Consent,
    Customer,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    EndpointStatus,
    EventRow,
    Ordering,
    Role,
    SigningSecret,
    Vocabulary,
    WebhookEndpoint,
    decode_cursor,
    encode_cursor,
)
from models.base import UtcTimestamp
from services.operation import EVERYBODY, Input, Outcome, Shown, operation
from services.pages import Page, PageArgs
from services.text import clean, short_text
from webhooks.guard import check_url, leads_astray
from webhooks.parcels import (
    Parcel,
    address_of,
    check_headers,
    due_types,
    seal_headers,
    with_contact,
)
from webhooks.pusher import SIGNING, answer_values, settle
from webhooks.sender import DEADLINE_SECONDS, Answer, Sender
from webhooks.signatures import seal

MOST_ENDPOINTS = 100
_MOST_SECRETS = 5
_MOST_OVERLAP = 72
_MOST_LAG = 10_000
_HEALTH_OF = 100
_BEYOND = 2**31 - 1
"""Beyond every sequence: what PostgreSQL takes for an integer."""

EventType = event_type_enum()

_COUNT = query(
    select(func.count())
    .select_from(WebhookEndpoint)
    .where(col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.deleted_at).is_(None))
)
_SINCE = query(
    select(func.min(EventRow.sequence)).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
    )
)
_EXPIRE = command(
    delete(SigningSecret).where(
        col(SigningSecret.business_id) == BUSINESS,
        col(SigningSecret.endpoint_id) == param("endpoint_id"),
        col(SigningSecret.expires_at) <= param("now"),
    )
)
_RETRY_NOW = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) == param("was", Delivery.__table__.c.state.type),  # type: ignore[attr-defined]
    )
    .values(state=DeliveryState.RETRY, next_attempt_at=param("now"))
)
_TRIES = query(
    select(func.max(Attempt.number)).where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) == param("sequence"),
    )
)
_EVENT = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS, col(EventRow.id) == param("id"))
)
_EVENTS = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, among(col(EventRow.id), "ids"))
    .order_by(col(EventRow.sequence).desc())
)
_TAKE = command(
    update(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.id) == param("id"),
        col(Attempt.status) == AttemptStatus.PENDING,
        col(Attempt.error).is_(None),
    )
    .values(error="under way")
)
_ROW = query(
    select(Delivery).where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) == param("sequence"),
    )
)
_CONSENTS = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS,
        col(Consent.customer_id) == param("customer_id"),
        col(Consent.granted).is_(True),
    )
)

# What an endpoint was due, newest first, from three sides: what lies before its cursor's reach,
# what was tried, and what became an exception.
_UNSENT: Query[tuple[int, str]] = query(
    select(EventRow.sequence, EventRow.id)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        col(EventRow.sequence) < param("below"),
        among(col(EventRow.type), "types"),
    )
    .order_by(col(EventRow.sequence).desc())
    .limit(param("most"))
)
_TRIED: Query[tuple[int, str]] = query(
    select(Attempt.sequence, func.min(Attempt.event_id))
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) > 0,
        col(Attempt.sequence) < param("below"),
    )
    .group_by(col(Attempt.sequence))
    .order_by(col(Attempt.sequence).desc())
    .limit(param("most"))
)
_EXCEPTED: Query[tuple[int, str]] = query(
    select(Delivery.sequence, EventRow.id)
    .join(
        EventRow,
        (col(EventRow.business_id) == col(Delivery.business_id))
        & (col(EventRow.sequence) == col(Delivery.sequence)),
    )
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) < param("below"),
    )
    .order_by(col(Delivery.sequence).desc())
    .limit(param("most"))
)
_COUNT_TRIED = query(
    select(func.count(Attempt.sequence.distinct())).where(  # type: ignore[attr-defined]
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) > 0,
    )
)
_ATTEMPTS = query(
    select(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) >= param("first"),
        col(Attempt.sequence) <= param("last"),
    )
    .order_by(col(Attempt.sequence), col(Attempt.id))
)
_ROWS = query(
    select(Delivery).where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) >= param("first"),
        col(Delivery.sequence) <= param("last"),
    )
)
_RECENT = query(
    select(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.status) != AttemptStatus.PENDING,
    )
    .order_by(col(Attempt.id).desc())
    .limit(param("most"))
)
_AHEAD: Query[tuple[int, datetime | None]] = query(
    select(func.count(), func.min(EventRow.occurred_at)).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        col(EventRow.sequence) <= param("reach"),
        among(col(EventRow.type), "types"),
    )
)
_HELD: Query[tuple[int, datetime | None]] = query(
    select(func.count(), func.min(EventRow.occurred_at))
    .select_from(Delivery)
    .join(
        EventRow,
        (col(EventRow.business_id) == col(Delivery.business_id))
        & (col(EventRow.sequence) == col(Delivery.sequence)),
    )
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) != DeliveryState.DEAD,
    )
)


@dataclass(kw_only=True)
class HeaderInput:
    """A header of your own, sent with every request."""

    name: Annotated[str, Doc("The name; not one that Stampwire sets itself.")]
    value: Annotated[str, Doc("The value; kept encrypted.")]


@dataclass(kw_only=True)
class StartAtInput:
    """Where in the log an endpoint begins."""

    one_of: ClassVar[bool] = True

    now: Annotated[
        bool | None, Doc("With what happens from now on; only `true` has a meaning.")
    ] = None
    beginning: Annotated[
        bool | None, Doc("With the first event there is; only `true` has a meaning.")
    ] = None
    since: Annotated[datetime | None, Doc("With the first event from this moment on.")] = None
    cursor: Annotated[str | None, Doc("With the event after this cursor.")] = None


@dataclass(kw_only=True)
class CreateWebhookEndpointInput(Input):
    """The endpoint to make."""

    url: Annotated[str, Doc("Where requests go: https, a public address.")]
    types: Annotated[
        list[EventType] | None,  # type: ignore[valid-type]
        Doc("The event types it is due; absent: the thirteen."),
    ] = None
    vocabulary: Annotated[
        Vocabulary | None, Doc("The words of the bodies; absent: the business's.")
    ] = None
    ordering: Annotated[Ordering | None, Doc("In which order it is served; absent: NONE.")] = None
    name: Annotated[str | None, Doc("What people call it, at most 200 characters.")] = None
    headers: Annotated[
        list[HeaderInput] | None, Doc("Headers of your own on every request, at most 20.")
    ] = None
    include_contact: Annotated[
        bool | None,
        Doc("Whether bodies carry the customer's contact data, where they consented. OWNER only."),
    ] = None
    start_at: Annotated[StartAtInput | None, Doc("Where in the log it begins; absent: now.")] = None
    document: Annotated[
        str | None, Doc("A GraphQL subscription that shapes the body; not offered yet.")
    ] = None


@dataclass(kw_only=True)
class PauseWebhookEndpointInput(Input):
    """The endpoint to pause."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class ResumeWebhookEndpointInput(Input):
    """The endpoint to resume."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class DeleteWebhookEndpointInput(Input):
    """The endpoint to delete."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class RotateSigningSecretInput(Input):
    """The endpoint whose signing secret is changed."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    overlap_hours: Annotated[
        int | None,
        Doc("How long the former secret signs beside the new one, 0 to 72 hours; absent: 24."),
    ] = None


@dataclass(kw_only=True)
class SendTestEventInput(Input):
    """The sample to send."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    type: Annotated[EventType, Doc("Of which type.")]  # type: ignore[valid-type]


@dataclass(kw_only=True)
class RedeliverInput(Input):
    """The event to send again."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    event_id: Annotated[Id, Doc("The event's id.")]


@dataclass(kw_only=True)
class EndpointCreated(Outcome):
    """The endpoint, and the secret its requests are signed with, which is never shown again."""

    endpoint: WebhookEndpoint | None = None
    signing_secret: Shown | None = None


@dataclass(kw_only=True)
class EndpointOutcome(Outcome):
    """The endpoint as it now is."""

    endpoint: WebhookEndpoint | None = None


@dataclass(kw_only=True)
class EndpointDeleted(Outcome):
    """The id of the deleted endpoint."""

    deleted_id: str | None = None


@dataclass(kw_only=True)
class SigningSecretRotated(Outcome):
    """The new secret, never shown again, and when the former one ends."""

    signing_secret: Shown | None = None
    previous_expires_at: datetime | None = None


@dataclass(kw_only=True)
class SampleSent(Outcome):
    """The request, and the body it carried."""

    attempt: Attempt | None = None
    body: str | None = None


@dataclass(kw_only=True)
class Redelivered(Outcome):
    """The request."""

    attempt: Attempt | None = None


@dataclass(frozen=True)
class EventDelivery:
    """An event that an endpoint was due, how far it has come, and every request made for it."""

    event: EventRow
    status: DeliveryStatus
    next_attempt_at: datetime | None
    attempts: list[Attempt]


@dataclass(frozen=True)
class DeliveryPage(Page[Any]):
    """A part of the list of deliveries; its cursors are those of the events."""

    def cursors(self) -> list[str]:
        return [row.event.cursor for row in self.rows]


@dataclass(frozen=True)
class Health:
    """How an endpoint fares: the share of its last hundred requests that succeeded."""

    success_rate: float | None
    last_success_at: datetime | None
    failing_since: datetime | None


@dataclass(frozen=True)
class Lag:
    """How far an endpoint is behind: events not delivered yet, and the age of the oldest."""

    events: int
    seconds: int


@operation(*EVERYBODY)
async def create_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    input: CreateWebhookEndpointInput,
    now: datetime,
    *,
    secrets: Secrets,
    allow_insecure: bool,
    is_rest_hook: bool = False,
) -> EndpointCreated:
    """Make a webhook endpoint: it is sent what happens, signed with the secret shown here."""
    if input.document is not None:
        raise Invalid("A document for an endpoint is not offered yet.", "input", "document")
    if input.include_contact and actor.role not in (None, Role.OWNER):
        raise Forbidden("Only an owner may have contact data sent.")
    if await tx.one(_COUNT) >= MOST_ENDPOINTS:
        raise LimitReached(f"At most {MOST_ENDPOINTS} endpoints.", "input", retry_at=None)
    endpoint_id, at = new_id("we"), actor.business.real_time(now)
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        business_id=actor.business_id,
        url=_url(input.url, allow_insecure=allow_insecure),
        name=short_text(input.name, "input", "name") if input.name else None,
        types=_types(input.types),
        vocabulary=input.vocabulary or actor.business.vocabulary,
        ordering=input.ordering or Ordering.NONE,
        headers=_headers(secrets, endpoint_id, input.headers),
        include_contact=bool(input.include_contact),
        is_rest_hook=is_rest_hook,
        cursor_sequence=await _start(tx, input.start_at),
        created_at=at,
        created_by_id=actor.staff_id,
        next_attempt_at=at,
        lease_until=at,
    )
    await tx.add(endpoint)
    secret = await _add_secret(tx, endpoint, secrets, at)
    return EndpointCreated(endpoint=endpoint, signing_secret=secret)


@operation(*EVERYBODY)
async def update_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    given: Mapping[str, Any],
    now: datetime,
    *,
    secrets: Secrets,
    allow_insecure: bool,
) -> EndpointOutcome:
    """Change the given fields of a webhook endpoint.

    What is under way still goes to the old URL, with the old words.
    """
    endpoint = await find_endpoint(tx, actor, given["id"], "input", "id")
    at = actor.business.real_time(now)
    values: dict[str, Any] = {}
    if "url" in given:
        url = _url(given["url"] or "", allow_insecure=allow_insecure)
        if url != endpoint.url:
            values |= {"url": url, **_well_again(at)}
    if "name" in given:
        values["name"] = short_text(given["name"], "input", "name") if given["name"] else None
    if "types" in given:
        values["types"] = _types(given["types"])
    if "vocabulary" in given:
        values["vocabulary"] = given["vocabulary"] or actor.business.vocabulary
    if "ordering" in given:
        values["ordering"] = given["ordering"] or Ordering.NONE
    if "headers" in given:
        values["headers"] = _headers(secrets, endpoint.id, given["headers"])
    if values.get("ordering", endpoint.ordering) is not Ordering.CARD:
        values |= await _retry_now(tx, endpoint, DeliveryState.PARKED, at)
    if values:
        endpoint = await tx.change(endpoint, **values)
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def pause_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    input: PauseWebhookEndpointInput,
    now: datetime,  # noqa: ARG001 -- every operation is given the time
) -> EndpointOutcome:
    """Send nothing to a webhook endpoint until it is resumed; nothing is lost meanwhile."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    if endpoint.status is EndpointStatus.ACTIVE:
        endpoint = await tx.change(endpoint, status=EndpointStatus.PAUSED)
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def resume_webhook_endpoint(
    tx: Transaction, actor: Actor, input: ResumeWebhookEndpointInput, now: datetime
) -> EndpointOutcome:
    """Go on with a webhook endpoint that was paused or disabled, from where it stopped."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    if endpoint.status is not EndpointStatus.ACTIVE:
        at = actor.business.real_time(now)
        endpoint = await tx.change(
            endpoint,
            status=EndpointStatus.ACTIVE,
            disabled_reason=None,
            **_well_again(at),
            **await _retry_now(tx, endpoint, DeliveryState.RETRY, at),
        )
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def delete_webhook_endpoint(
    tx: Transaction, actor: Actor, input: DeleteWebhookEndpointInput, now: datetime
) -> EndpointDeleted:
    """Delete a webhook endpoint. Its attempts are kept as long as others'."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    await tx.change(endpoint, deleted_at=actor.business.real_time(now))
    return EndpointDeleted(deleted_id=endpoint.id)


@operation(*EVERYBODY)
async def rotate_signing_secret(
    tx: Transaction,
    actor: Actor,
    input: RotateSigningSecretInput,
    now: datetime,
    *,
    secrets: Secrets,
) -> SigningSecretRotated:
    """Give a webhook endpoint a new signing secret; the former one signs beside it for a while."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    hours = 24 if input.overlap_hours is None else input.overlap_hours
    if not 0 <= hours <= _MOST_OVERLAP:
        raise Invalid(f"An overlap has 0 to {_MOST_OVERLAP} hours.", "input", "overlapHours")
    at = actor.business.real_time(now)
    ends_at = at + timedelta(hours=hours)
    former = await tx.many(SIGNING, endpoint_id=endpoint.id, now=at)
    if len(former) >= _MOST_SECRETS and hours:
        raise LimitReached(
            f"{_MOST_SECRETS} secrets are live already.",
            "input",
            retry_at=min(secret.expires_at for secret in former if secret.expires_at),
        )
    for secret in former:
        if secret.expires_at is None or secret.expires_at > ends_at:
            await tx.change(secret, expires_at=ends_at)
    await tx.run(_EXPIRE, endpoint_id=endpoint.id, now=at)
    shown = await _add_secret(tx, endpoint, secrets, at)
    return SigningSecretRotated(signing_secret=shown, previous_expires_at=ends_at)


@operation(*EVERYBODY)
async def send_test_event(
    tx: Transaction, actor: Actor, input: SendTestEventInput, now: datetime
) -> SampleSent:
    """Send a sample of any event type to a webhook endpoint, now, marked as a test.

    It is in no log: its sequence is 0. An attempt that is still PENDING had no answer within 15
    seconds.
    """
    # First step of three: the attempt is stored before anything is sent (`send_prepared`).
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    english = sample_body(event_types()[input.type], actor.business_id, now)
    body = payload(english, endpoint.vocabulary)
    attempt = _prepared(endpoint, AttemptKind.TEST, orjson.loads(english)["id"], 0, 1, actor, now)
    await tx.add(attempt)
    return SampleSent(attempt=attempt, body=body)


@operation(*EVERYBODY)
async def redeliver(
    tx: Transaction, actor: Actor, input: RedeliverInput, now: datetime
) -> Redelivered:
    """Send an event to a webhook endpoint once more, now, whatever became of it before.

    An attempt that is still PENDING had no answer within 15 seconds.
    """
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    event = await tx.maybe(_EVENT, id=input.event_id)
    if event is None:
        raise NotFound("event", "input", "eventId")
    tries = await tx.one(_TRIES, endpoint_id=endpoint.id, sequence=event.sequence) or 0
    kind = AttemptKind.REDELIVERY
    attempt = _prepared(endpoint, kind, event.id, event.sequence, tries + 1, actor, now)
    await tx.add(attempt)
    return Redelivered(attempt=attempt)


async def send_prepared(
    database: Database,
    sender: Sender,
    secrets: Secrets,
    actor: Actor,
    *,
    attempt: Attempt,
    now: datetime,
    body: str | None = None,
) -> Attempt:
    """The second and third step of a test or redelivery: send, for at most 15 seconds, and record.

    To be awaited outside of any transaction, once the attempt is committed. Hands back the
    attempt as it then is. Of several calls for one attempt, as a repeat by idempotency key makes
    them, only one sends.
    """
    business = actor.business_id

    async def take(tx: Transaction) -> Parcel | None:
        return await take_parcel(tx, actor, attempt, secrets=secrets, now=now, body=body)

    parcel = await database.write(business, take)
    if parcel is None:
        known = await database.read(business, lambda tx: tx.get(Attempt, attempt.id))
        return known or attempt
    answer = await _send_in_time(sender, parcel, actor.business.real_time(now))
    return await database.write(business, lambda tx: record_answer(tx, actor, attempt, answer, now))


async def _send_in_time(sender: Sender, parcel: Parcel, at: datetime) -> Answer:
    """Send under the endpoint's cap; waiting for a turn counts into the fifteen seconds."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), sender.turn(parcel.to.endpoint_id):
            return await sender.send(parcel)
    except TimeoutError:
        return Answer(at, round(DEADLINE_SECONDS * 1000), error="timeout")


async def take_parcel(
    tx: Transaction,
    actor: Actor,
    attempt: Attempt,
    *,
    secrets: Secrets,
    now: datetime,
    body: str | None = None,
) -> Parcel | None:
    """What a prepared attempt sends; None if somebody else sends it, or it cannot be sent."""
    if not await tx.run(_TAKE, id=attempt.id):
        return None
    endpoint = await tx.get(WebhookEndpoint, attempt.endpoint_id)
    event = await tx.maybe(_EVENT, id=attempt.event_id)
    if endpoint is None or (body is None and event is None):
        return None
    if body is None and event is not None:
        body = payload(event.body, endpoint.vocabulary)
        customer = await tx.get(Customer, event.customer_id)
        if endpoint.include_contact and customer is not None:
            consents = await tx.many(_CONSENTS, customer_id=customer.id)
            body = with_contact(body, customer, consents)
    at = actor.business.real_time(now)
    signing = await tx.many(SIGNING, endpoint_id=endpoint.id, now=at)
    to = address_of(endpoint, signing, secrets)
    return Parcel(to, attempt.event_id or "", (body or "").encode(), kind=attempt.kind)


async def record_answer(
    tx: Transaction, actor: Actor, attempt: Attempt, answer: Answer, now: datetime
) -> Attempt:
    """Store what came of a prepared attempt; one that ran out of time stays PENDING.

    An event that is redelivered with success is delivered: it is not tried any more.
    """
    values = answer_values(answer)
    if answer.error == "timeout":
        values["status"] = AttemptStatus.PENDING
    recorded = await tx.change(attempt, **values)
    if answer.is_taken and attempt.kind is AttemptKind.REDELIVERY:
        row = await tx.maybe(_ROW, endpoint_id=attempt.endpoint_id, sequence=attempt.sequence)
        if row is not None:
            await settle(tx, attempt.endpoint_id, row, actor.business.real_time(now))
    return recorded


async def refuse_forbidden_host(url: str, *, allow_insecure: bool) -> None:
    """Refuse a URL whose name leads to an address where webhooks may not go.

    Looks the name up, so it is to be awaited before the transaction. A name that cannot be looked
    up now is not refused, nor is what the operation itself will refuse by its looks.
    """
    try:
        checked = check_url(url, allow_insecure=allow_insecure)
    except ValueError:
        return
    if await leads_astray(checked, allow_insecure=allow_insecure):
        raise _not_allowed("This name leads to an address where webhooks may not be sent.")


async def find_endpoint(tx: Transaction, actor: Actor, id: str, *path: str) -> WebhookEndpoint:
    """The endpoint of this id; NotFound if it is deleted, or a scanner's that made another one."""
    endpoint = await tx.get(WebhookEndpoint, id)
    if endpoint is None or not endpoint.is_visible_to(actor):
        raise NotFound("webhook endpoint", *path)
    return endpoint


async def deliveries_of(tx: Transaction, endpoint: WebhookEndpoint, args: PageArgs) -> DeliveryPage:
    """The events that an endpoint was due, newest first, with every request made for them.

    What is at or below its cursor and was tried, what became an exception, and what is yet to
    come. Read forwards only (`first`, `after`).
    """
    if args.last is not None or args.before is not None:
        raise BadUserInput("This list is read by first and after.")
    size = args.size()
    scope = {
        "endpoint_id": endpoint.id,
        "below": min(decode_cursor(args.after), _BEYOND) if args.after else _BEYOND,
        "most": size + 1,
    }
    types = due_types(endpoint)
    found: dict[int, str] = {}
    for statement in (_UNSENT, _TRIED, _EXCEPTED):
        values = {**scope, "cursor": endpoint.cursor_sequence, "types": types}
        found.update(await tx.many(statement, **values))
    places = sorted(found, reverse=True)
    shown = places[:size]
    return DeliveryPage(
        await _deliveries(tx, endpoint, {place: found[place] for place in shown}),
        has_next=len(places) > size,
        has_previous=args.after is not None,
        count=lambda tx: tx.one(_COUNT_TRIED, endpoint_id=endpoint.id),
    )


async def health_of(tx: Transaction, endpoint: WebhookEndpoint) -> Health:
    """How an endpoint fares."""
    recent = await tx.many(_RECENT, endpoint_id=endpoint.id, most=_HEALTH_OF)
    good = sum(attempt.status is AttemptStatus.SUCCEEDED for attempt in recent)
    return Health(
        good / len(recent) if recent else None, endpoint.last_success_at, endpoint.failing_since
    )


async def lag_of(tx: Transaction, endpoint: WebhookEndpoint, now: datetime) -> Lag:
    """How far an endpoint is behind, within the next 10 000 events of the log.

    `now` is the programme's time, as that of the events is.
    """
    cursor = endpoint.cursor_sequence
    count, oldest = await tx.one(
        _AHEAD, cursor=cursor, reach=cursor + _MOST_LAG, types=due_types(endpoint)
    )
    held, oldest_held = await tx.one(_HELD, endpoint_id=endpoint.id)
    moments = [moment for moment in (oldest, oldest_held) if moment is not None]
    age = (now - min(moments)).total_seconds() if moments else 0
    return Lag(count + held, max(0, int(age)))


async def _deliveries(
    tx: Transaction, endpoint: WebhookEndpoint, found: Mapping[int, str]
) -> list[EventDelivery]:
    if not found:
        return []
    reach = {"first": min(found), "last": max(found)}
    events = await tx.many(_EVENTS, ids=sorted(found.values()))
    rows = {row.sequence: row for row in await tx.many(_ROWS, endpoint_id=endpoint.id, **reach)}
    attempts: dict[int, list[Attempt]] = {}
    for attempt in await tx.many(_ATTEMPTS, endpoint_id=endpoint.id, **reach):
        attempts.setdefault(attempt.sequence, []).append(attempt)
    return [
        _delivery(endpoint, event, rows.get(event.sequence), attempts.get(event.sequence, []))
        for event in events
    ]


def _delivery(
    endpoint: WebhookEndpoint, event: EventRow, row: Delivery | None, attempts: list[Attempt]
) -> EventDelivery:
    next_at: datetime | None = None
    if row is not None:
        status, next_at = _STATUS_OF[row.state], row.next_attempt_at
        if row.state is DeliveryState.RETRY and not row.tries:
            status = DeliveryStatus.PENDING
    elif any(attempt.status is AttemptStatus.SUCCEEDED for attempt in attempts):
        status = DeliveryStatus.SUCCEEDED
    elif event.sequence > endpoint.cursor_sequence:
        tried = any(attempt.kind is AttemptKind.DELIVERY for attempt in attempts)
        status = DeliveryStatus.RETRYING if tried else DeliveryStatus.PENDING
        next_at = endpoint.next_attempt_at
    else:
        pending = bool(attempts) and attempts[-1].status is AttemptStatus.PENDING
        status = DeliveryStatus.PENDING if pending else DeliveryStatus.DEAD
    return EventDelivery(event, status, next_at, attempts)


_STATUS_OF = {
    DeliveryState.RETRY: DeliveryStatus.RETRYING,
    DeliveryState.PARKED: DeliveryStatus.PARKED,
    DeliveryState.DEAD: DeliveryStatus.DEAD,
}


def _url(text: str, *, allow_insecure: bool) -> str:
    try:
        return check_url(text.strip(), allow_insecure=allow_insecure)
    except ValueError as error:
        raise _not_allowed(str(error)) from None


def _not_allowed(message: str) -> Refused:
    return Refused(Code.ADDRESS_NOT_ALLOWED, message, "input", "url")


def _types(types: Sequence[str] | None) -> list[str] | None:
    if types is None:
        return None
    if not types:
        raise Invalid("Name at least one event type, or none for all.", "input", "types")
    return [name for name in event_types() if name in types]


def _headers(secrets: Secrets, id: str, headers: Sequence[HeaderInput] | None) -> str | None:
    told = [
        (clean(header.name, "input", "headers"), clean(header.value, "input", "headers"))
        for header in headers or ()
    ]
    try:
        return seal_headers(secrets, id, check_headers(told))
    except ValueError as error:
        raise Invalid(str(error), "input", "headers") from None


async def _start(tx: Transaction, start: StartAtInput | None) -> int:
    """The cursor of a new endpoint."""
    head = (await head_of(tx)).sequence
    if start is None or start.now is not None:
        if start is not None and not start.now:
            raise Invalid("Only true has a meaning here.", "input", "startAt", "now")
        return head
    if start.beginning is not None:
        if not start.beginning:
            raise Invalid("Only true has a meaning here.", "input", "startAt", "beginning")
        return 0
    if start.since is not None:
        first = await tx.one(_SINCE, since=start.since)
        return head if first is None else first - 1
    return min(decode_cursor(start.cursor or encode_cursor(head)), head)


async def _add_secret(
    tx: Transaction, endpoint: WebhookEndpoint, secrets: Secrets, at: datetime
) -> Shown:
    secret = new_signing_secret()
    await tx.add(
        SigningSecret(
            id=new_id("sec"),
            business_id=endpoint.business_id,
            endpoint_id=endpoint.id,
            ciphertext=seal(secrets, endpoint.id, secret),
            created_at=at,
        )
    )
    return Shown(secret)


def _well_again(at: datetime) -> dict[str, Any]:
    return {"failures": 0, "failing_since": None, "next_attempt_at": at}


async def _retry_now(
    tx: Transaction, endpoint: WebhookEndpoint, was: DeliveryState, at: datetime
) -> dict[str, Any]:
    """Try the exceptions of a state now; hands back what the endpoint must know of it."""
    touched = await tx.run(_RETRY_NOW, endpoint_id=endpoint.id, was=was, now=at)
    return {"retry_due_at": at} if touched else {}


def _prepared(
    endpoint: WebhookEndpoint,
    kind: AttemptKind,
    event_id: str,
    sequence: int,
    number: int,
    actor: Actor,
    now: datetime,
) -> Attempt:
    return Attempt(
        id=new_id("att"),
        business_id=endpoint.business_id,
        endpoint_id=endpoint.id,
        event_id=event_id,
        sequence=sequence,
        number=number,
        kind=kind,
        status=AttemptStatus.PENDING,
        started_at=actor.business.real_time(now),
    )
