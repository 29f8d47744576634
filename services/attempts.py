"""Attempts by hand: a sample sent to an endpoint, and an event sent to it once more."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import orjson
import structlog
from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import NotFound
from core.ids import Id, new_id
from core.secrets import Secrets
from db import BUSINESS, Database, Transaction, command, param, query
from events import event_types, payload
from events.base import event_type_enum
from events.log import sample_body
from models import (
    Actor,
    Attempt,
    AttemptKind,
    AttemptStatus,
    Delivery,
    EventRow,
    WebhookEndpoint,
)
from services.endpoint_refs import find_endpoint, hold_endpoint, pass_by, stands_before
from services.operation import EVERYBODY, Input, Outcome, operation
from webhooks.bodies import Draft, draft_for
from webhooks.documents import Documents
from webhooks.pace import in_flight_of
from webhooks.parcels import Parcel, address_of
from webhooks.records import answer_values, settle
from webhooks.rounds import SIGNING
from webhooks.sender import DEADLINE_SECONDS, Answer, Sender

EventType = event_type_enum()

log = structlog.get_logger("stampwire.webhooks")

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
class SampleSent(Outcome):
    """The request, and the body it carried."""

    attempt: Attempt | None = None
    body: str | None = None


@dataclass(kw_only=True)
class Redelivered(Outcome):
    """The request."""

    attempt: Attempt | None = None


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

    An endpoint with a document is sent what that makes of the event; one that it leaves out is
    not sent, and the attempt says so.

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
    documents: Documents,
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
    business, at = actor.business_id, actor.business.real_time(now)
    if not await database.write(business, lambda tx: tx.run(_TAKE, id=attempt.id)):
        known = await database.read(business, lambda tx: tx.get(Attempt, attempt.id))
        return known or attempt
    answer: Answer | None = None
    if body is None:
        try:
            body = await _body(database, documents, attempt)
        except Exception as error:  # noqa: BLE001 -- whatever it is, nothing can be sent
            log.warning("webhook body not made", id=attempt.event_id, error=type(error).__name__)
            answer = Answer(at, 0, error="document")
    if body is not None:
        text = body.encode()
        parcel, most = await database.read(
            business, lambda tx: _parcel(tx, attempt, text, secrets=secrets, at=at)
        )
        answer = await _send_in_time(sender, parcel, most, at)
    answer = answer or Answer(at, 0, error="left out")
    return await database.write(business, lambda tx: record_answer(tx, actor, attempt, answer, now))


async def _body(database: Database, documents: Documents, attempt: Attempt) -> str | None:
    """What the endpoint is sent for the attempt's event; None where its document leaves it out."""

    async def work(tx: Transaction) -> Draft | None:
        endpoint = await tx.get(WebhookEndpoint, attempt.endpoint_id)
        event = await tx.maybe(_EVENT, id=attempt.event_id)
        if endpoint is None or event is None:
            return None
        return await draft_for(tx, endpoint, event)

    draft = await database.read(attempt.business_id, work)
    return None if draft is None else await draft.written(documents)


async def _parcel(
    tx: Transaction, attempt: Attempt, body: bytes, *, secrets: Secrets, at: datetime
) -> tuple[Parcel, int]:
    """The request, and how many may be under way at once."""
    endpoint = await tx.get(WebhookEndpoint, attempt.endpoint_id)
    if endpoint is None:
        raise LookupError(attempt.endpoint_id)
    signing = await tx.many(SIGNING, endpoint_id=endpoint.id, now=at)
    to = address_of(endpoint, signing, secrets)
    parcel = Parcel(to, attempt.event_id or "", body, kind=attempt.kind)
    return parcel, in_flight_of(endpoint)


async def _send_in_time(sender: Sender, parcel: Parcel, most: int, at: datetime) -> Answer:
    """Send under the endpoint's cap; waiting for a turn counts into the fifteen seconds."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), sender.turn(parcel.to.endpoint_id, most):
            return await sender.send(parcel)
    except TimeoutError:
        return Answer(at, round(DEADLINE_SECONDS * 1000), error="timeout")


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
        at = actor.business.real_time(now)
        if row is not None:
            await settle(tx, attempt.endpoint_id, row, at)
        elif attempt.event_id is not None:
            await _let_go_on(tx, actor, attempt.endpoint_id, attempt.event_id, attempt.sequence, at)
    return recorded


async def _let_go_on(
    tx: Transaction, actor: Actor, endpoint_id: str, event_id: str, sequence: int, at: datetime
) -> None:
    """A STRICT endpoint that stopped at an event which its receiver now has goes on behind it."""
    with suppress(NotFound):  # it was deleted meanwhile
        endpoint = await hold_endpoint(tx, actor, endpoint_id)
        if await stands_before(tx, endpoint, event_id):
            await pass_by(tx, endpoint, event_id, sequence, at)


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
