"""Deliveries: what an endpoint was due, how far it has come, and what people do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import exists, func, update
from sqlmodel import col, select

from core.errors import BadUserInput, Invalid, NotFound
from core.ids import Id
from db import BUSINESS, Query, Transaction, among, command, param, query
from models import (
    Actor,
    Attempt,
    AttemptKind,
    AttemptStatus,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    EventRow,
    Ordering,
    WebhookEndpoint,
    decode_cursor,
)
from services.endpoint_refs import hold_endpoint, pass_by, stands_before
from services.operation import EVERYBODY, Input, Outcome, operation
from services.pages import Page, PageArgs
from services.webhook_endpoints import EndpointOutcome
from webhooks.parcels import due_types
from webhooks.records import give_up

MOST_REVIVED = 1_000
REVIVED_A_SECOND = 10
SKIPPED = "skipped"
"""What the row of an event says that somebody stepped over."""
_BEYOND = 2**31 - 1
"""Beyond every sequence: what PostgreSQL takes for an integer."""
_STATE: Any = Delivery.__table__.c.state.type  # type: ignore[attr-defined]
_IN_STATE = (
    col(Delivery.state) == param("state", _STATE),
    col(Delivery.tries) >= param("least"),
    col(Delivery.tries) <= param("greatest"),
)
_WAS_TRIED = exists().where(
    col(Attempt.business_id) == BUSINESS,
    col(Attempt.endpoint_id) == param("endpoint_id"),
    col(Attempt.sequence) == col(EventRow.sequence),
    col(Attempt.kind) == AttemptKind.DELIVERY,
)
_IS_TAKEN = (
    col(Attempt.sequence) > 0,
    col(Attempt.status) == AttemptStatus.SUCCEEDED,
    ~exists().where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) == col(Attempt.sequence),
    ),
)

_EVENT = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS, col(EventRow.id) == param("id"))
)
_EVENTS = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, among(col(EventRow.id), "ids"))
    .order_by(col(EventRow.sequence).desc())
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
# Those of one status alone, and how many there are.
_IN_STATE_BELOW: Query[tuple[int, str]] = query(
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
        *_IN_STATE,
    )
    .order_by(col(Delivery.sequence).desc())
    .limit(param("most"))
)
_COUNT_IN_STATE = query(
    select(func.count())
    .select_from(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        *_IN_STATE,
    )
)
_TAKEN: Query[tuple[int, str]] = query(
    select(Attempt.sequence, func.min(Attempt.event_id))
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) < param("below"),
        *_IS_TAKEN,
    )
    .group_by(col(Attempt.sequence))
    .order_by(col(Attempt.sequence).desc())
    .limit(param("most"))
)
_COUNT_TAKEN = query(
    select(func.count(Attempt.sequence.distinct())).where(  # type: ignore[attr-defined]
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        *_IS_TAKEN,
    )
)
_UNTRIED: Query[tuple[int, str]] = query(
    select(EventRow.sequence, EventRow.id)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        col(EventRow.sequence) < param("below"),
        among(col(EventRow.type), "types"),
        ~_WAS_TRIED,
    )
    .order_by(col(EventRow.sequence).desc())
    .limit(param("most"))
)
_COUNT_UNTRIED = query(
    select(func.count())
    .select_from(EventRow)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        among(col(EventRow.type), "types"),
        ~_WAS_TRIED,
    )
)
_STOPPED_AT: Query[tuple[int, str]] = query(
    select(EventRow.sequence, EventRow.id)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        col(EventRow.sequence) < param("below"),
        among(col(EventRow.type), "types"),
        _WAS_TRIED,
    )
    .order_by(col(EventRow.sequence).desc())
    .limit(param("most"))
)
_ATTEMPTS = query(
    select(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) >= param("first"),
        col(Attempt.sequence) <= param("last"),
        among(col(Attempt.event_id), "ids"),
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
# What skipping and redelivering need.
_TRIES = query(
    select(func.count())
    .select_from(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) == param("sequence"),
        col(Attempt.kind) == AttemptKind.DELIVERY,
    )
)
_DEAD = query(
    select(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) == DeliveryState.DEAD,
        func.coalesce(col(Delivery.last_error), "") != SKIPPED,
    )
    .order_by(col(Delivery.sequence))
    .limit(MOST_REVIVED)
)
_WAITING_CARDS: Query[str] = query(
    select(Delivery.card_id)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) != DeliveryState.DEAD,
        col(Delivery.card_id).is_not(None),
    )
    .distinct()
)
_REVIVE = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) >= param("first"),
        col(Delivery.sequence) <= param("last"),
        col(Delivery.state) == DeliveryState.DEAD,
        func.coalesce(col(Delivery.last_error), "") != SKIPPED,
    )
    .values(state=DeliveryState.RETRY, tries=1, next_attempt_at=param("at"))
)
_PARK = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) == param("sequence"),
    )
    .values(state=DeliveryState.PARKED, tries=1)
)


@dataclass(kw_only=True)
class SkipEventInput(Input):
    """The event to step over."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    event_id: Annotated[Id, Doc("The event's id.")]


@dataclass(kw_only=True)
class RedeliverDeadInput(Input):
    """The endpoint whose dead events are tried again."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class DeadRedelivered(Outcome):
    """The endpoint, and how many events are tried again."""

    endpoint: WebhookEndpoint | None = None
    count: Annotated[int | None, Doc("How many events are tried again.")] = None


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


@operation(*EVERYBODY)
async def skip_event(
    tx: Transaction, actor: Actor, input: SkipEventInput, now: datetime
) -> EndpointOutcome:
    """Step over an event that a webhook endpoint will never take: it is dead, others follow.

    It is the event that a STRICT endpoint stops at, or one that is being retried, or waits for
    an earlier one of its card. `redeliver` can still send it. To skip what was delivered, or
    skipped before, changes nothing.
    """
    endpoint = await hold_endpoint(tx, actor, input.id, "input", "id")
    event = await tx.maybe(_EVENT, id=input.event_id)
    if event is None:
        raise NotFound("event", "input", "eventId")
    at, place = actor.business.real_time(now), event.sequence
    reach = {"endpoint_id": endpoint.id, "first": place, "last": place}
    row = await tx.maybe(_ROWS, **reach)
    if row is not None and row.state is DeliveryState.DEAD:
        await tx.change(row, last_error=SKIPPED)
    elif row is not None:
        await give_up(tx, endpoint.id, row, SKIPPED, at)
        # Whoever is sending it just now is refused when it comes to store what came of it.
        values: dict[str, Any] = {"lease_epoch": endpoint.lease_epoch + 1, "lease_until": at}
        await tx.change(endpoint, **values)
    elif place > endpoint.cursor_sequence:
        await _step_over(tx, endpoint, event, at)
    endpoint = await hold_endpoint(tx, actor, input.id)
    return EndpointOutcome(endpoint=endpoint)


async def _step_over(
    tx: Transaction, endpoint: WebhookEndpoint, event: EventRow, at: datetime
) -> None:
    """Move the cursor over the event that it stands before."""
    if not await stands_before(tx, endpoint, event.id):
        raise Invalid("The endpoint does not stop at this event.", "input", "eventId")
    row = Delivery(
        endpoint_id=endpoint.id,
        sequence=event.sequence,
        business_id=endpoint.business_id,
        card_id=event.card_id,
        previous_id=endpoint.last_due_id,
        state=DeliveryState.DEAD,
        tries=await tx.one(_TRIES, endpoint_id=endpoint.id, sequence=event.sequence),
        last_error=SKIPPED,
    )
    await tx.add(row)
    await pass_by(tx, endpoint, event.id, event.sequence, at)


@operation(*EVERYBODY)
async def redeliver_dead(
    tx: Transaction, actor: Actor, input: RedeliverDeadInput, now: datetime
) -> DeadRedelivered:
    """Try all dead events of a webhook endpoint again, from now on, ten a second.

    Each has its schedule before it once more. At most a thousand at a call, the oldest first;
    what somebody skipped is left alone.
    """
    endpoint = await hold_endpoint(tx, actor, input.id, "input", "id")
    dead = await tx.many(_DEAD, endpoint_id=endpoint.id)
    if not dead:
        return DeadRedelivered(endpoint=endpoint, count=0)
    waiting: set[str] = set()
    if endpoint.ordering is Ordering.CARD:
        waiting = set(await tx.many(_WAITING_CARDS, endpoint_id=endpoint.id))
    first_ones = []
    for row in dead:
        if row.card_id is not None and row.card_id in waiting:
            await tx.run(_PARK, endpoint_id=endpoint.id, sequence=row.sequence)
            continue
        first_ones.append(row.sequence)
        if endpoint.ordering is Ordering.CARD and row.card_id is not None:
            waiting.add(row.card_id)
    at = actor.business.real_time(now)
    for second, place in enumerate(range(0, len(first_ones), REVIVED_A_SECOND)):
        part = first_ones[place : place + REVIVED_A_SECOND]
        reach = {"endpoint_id": endpoint.id, "first": part[0], "last": part[-1]}
        await tx.run(_REVIVE, **reach, at=at + timedelta(seconds=second))
    if first_ones:
        endpoint = await tx.change(endpoint, retry_due_at=at)
    return DeadRedelivered(endpoint=endpoint, count=len(dead))


async def deliveries_of(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    args: PageArgs,
    status: DeliveryStatus | None = None,
) -> DeliveryPage:
    """The events that an endpoint was due, newest first, with every request made for them.

    What is at or below its cursor and was tried, what became an exception, and what is yet to
    come; or those of one status alone. Read forwards only (`first`, `after`).
    """
    if args.last is not None or args.before is not None:
        raise BadUserInput("This list is read by first and after.")
    size = args.size()
    scope = {
        "endpoint_id": endpoint.id,
        "below": min(decode_cursor(args.after), _BEYOND) if args.after else _BEYOND,
        "most": size + 1,
        "cursor": endpoint.cursor_sequence,
        "types": due_types(endpoint),
    }
    lists, counts, asked = _STATEMENTS[status]
    found: dict[int, str] = {}
    for statement in lists:
        found.update(await tx.many(statement, **scope, **asked))
    places = sorted(found, reverse=True)
    shown = places[:size]

    async def count(tx: Transaction) -> int:
        return sum([await tx.one(statement, **scope, **asked) for statement in counts])

    return DeliveryPage(
        await _deliveries(tx, endpoint, {place: found[place] for place in shown}),
        has_next=len(places) > size,
        has_previous=args.after is not None,
        count=count,
    )


_Statements = tuple[list[Query[tuple[int, str]]], list[Query[int]], dict[str, Any]]
_STATEMENTS: Mapping[DeliveryStatus | None, _Statements] = {
    None: ([_UNSENT, _TRIED, _EXCEPTED], [_COUNT_TRIED], {}),
    DeliveryStatus.PENDING: (
        [_UNTRIED, _IN_STATE_BELOW],
        [_COUNT_UNTRIED, _COUNT_IN_STATE],
        {"state": DeliveryState.RETRY, "least": 0, "greatest": 0},
    ),
    DeliveryStatus.SUCCEEDED: ([_TAKEN], [_COUNT_TAKEN], {}),
    DeliveryStatus.RETRYING: (
        [_STOPPED_AT, _IN_STATE_BELOW],
        [_COUNT_IN_STATE],
        {"state": DeliveryState.RETRY, "least": 1, "greatest": _BEYOND},
    ),
    DeliveryStatus.PARKED: (
        [_IN_STATE_BELOW],
        [_COUNT_IN_STATE],
        {"state": DeliveryState.PARKED, "least": 0, "greatest": _BEYOND},
    ),
    DeliveryStatus.DEAD: (
        [_IN_STATE_BELOW],
        [_COUNT_IN_STATE],
        {"state": DeliveryState.DEAD, "least": 0, "greatest": _BEYOND},
    ),
}
"""How each list is read and counted, and with which values."""


async def _deliveries(
    tx: Transaction, endpoint: WebhookEndpoint, found: Mapping[int, str]
) -> list[EventDelivery]:
    if not found:
        return []
    ids = sorted(found.values())
    reach = {"endpoint_id": endpoint.id, "first": min(found), "last": max(found)}
    events = await tx.many(_EVENTS, ids=ids)
    rows = {row.sequence: row for row in await tx.many(_ROWS, **reach)}
    attempts: dict[int, list[Attempt]] = {}
    for attempt in await tx.many(_ATTEMPTS, **reach, ids=ids):
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
