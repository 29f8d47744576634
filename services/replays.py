"""Replays: a part of the log, sent to a webhook endpoint once more, beside what is live."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import Invalid, LimitReached, NotFound
from core.ids import Id, new_id
from db import BUSINESS, Query, Transaction, among, command, param, query
from events import event_types
from events.base import event_type_enum
from events.log import head_of
from models import Actor, EventRow, Replay, ReplayStatus, WebhookEndpoint
from models.base import UtcTimestamp
from services.endpoint_refs import find_endpoint, hold_endpoint
from services.operation import EVERYBODY, Input, Outcome, operation
from webhooks.parcels import due_types

MOST_REPLAYS = 10
"""Replays of one endpoint that may be running: they are sent one after the other."""
_FAR = datetime(9999, 1, 1, tzinfo=UTC)

EventType = event_type_enum()

_RUNNING = query(
    select(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.endpoint_id) == param("endpoint_id"),
        col(Replay.status) == ReplayStatus.RUNNING,
    )
    .order_by(col(Replay.id))
)
_RANGE: Query[tuple[int, int, int]] = query(
    select(func.count(), func.min(EventRow.sequence), func.max(EventRow.sequence)).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
        col(EventRow.occurred_at) < param("until", UtcTimestamp()),
        col(EventRow.sequence) > param("after"),
        col(EventRow.sequence) <= param("upto"),
        among(col(EventRow.type), "types"),
    )
)
_STOP: Query[Replay] = query(
    update(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.id) == param("id"),
        col(Replay.status) == ReplayStatus.RUNNING,
    )
    .values(status=ReplayStatus.STOPPED, finished_at=param("now", UtcTimestamp()))
    .returning(Replay)
)
_STOP_ALL = command(
    update(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.endpoint_id) == param("endpoint_id"),
        col(Replay.status) == ReplayStatus.RUNNING,
    )
    .values(status=ReplayStatus.STOPPED, finished_at=param("now", UtcTimestamp()))
)


@dataclass(kw_only=True)
class ReplayEventsInput(Input):
    """Which part of the log to send again, and to which endpoint."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    since: Annotated[datetime, Doc("Events that happened then or later.")]
    until: Annotated[
        datetime | None, Doc("Events that happened before then; absent: up to now.")
    ] = None
    types: Annotated[
        list[EventType] | None,  # type: ignore[valid-type]
        Doc("Of these types; absent: all that the endpoint is due."),
    ] = None


@dataclass(kw_only=True)
class StopReplayInput(Input):
    """The replay to stop."""

    id: Annotated[Id, Doc("The replay's id.")]


@dataclass(kw_only=True)
class ReplayOutcome(Outcome):
    """The replay, and how far it has come."""

    replay: Replay | None = None


@operation(*EVERYBODY)
async def replay_events(
    tx: Transaction, actor: Actor, input: ReplayEventsInput, now: datetime
) -> ReplayOutcome:
    """Send a part of the log to a webhook endpoint once more, in the background.

    It goes beside what is live, at most 10 requests a second, each marked
    `webhook-attempt-kind: replay`, and rests while the endpoint is paused, disabled or failing.
    What the endpoint has yet to get is not part of it: that is delivered anyway. Asking again
    for what is running already is answered with the replay that runs.
    """
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    if input.until is not None and input.until <= input.since:
        raise Invalid("This is not after `since`.", "input", "until")
    types = _types(endpoint, input.types)
    # Counted before the log is held, for every change of the business would wait for that.
    known_head = await head_of(tx)
    found = await _range(tx, endpoint, input, types, known_head.pruned_sequence)
    head = await head_of(tx, hold=True)
    if head.pruned_sequence != known_head.pruned_sequence:
        found = await _range(tx, endpoint, input, types, head.pruned_sequence)
    await hold_endpoint(tx, actor, input.id, "input", "id")
    running = await tx.many(_RUNNING, endpoint_id=endpoint.id)
    for known in running:
        if (known.since, known.until, known.types) == (input.since, input.until, types):
            return ReplayOutcome(replay=known)
    if len(running) >= MOST_REPLAYS:
        raise LimitReached(
            f"At most {MOST_REPLAYS} replays of an endpoint at a time.", "input", retry_at=None
        )
    total, first, last = found
    at = actor.business.real_time(now)
    replay = Replay(
        id=new_id("rpl"),
        business_id=endpoint.business_id,
        endpoint_id=endpoint.id,
        status=ReplayStatus.RUNNING if total else ReplayStatus.DONE,
        since=input.since,
        until=input.until,
        types=types,
        cursor_sequence=(first or 1) - 1,
        last_sequence=last or 0,
        total=total,
        created_at=at,
        created_by_id=actor.staff_id,
        finished_at=None if total else at,
        next_attempt_at=at,
        lease_until=at,
    )
    await tx.add(replay)
    return ReplayOutcome(replay=replay)


@operation(*EVERYBODY)
async def stop_replay(
    tx: Transaction, actor: Actor, input: StopReplayInput, now: datetime
) -> ReplayOutcome:
    """Stop a replay; what was sent was sent. One that has ended stays as it is."""
    replay = await find_replay(tx, actor, input.id, "input", "id")
    stopped = await tx.maybe(_STOP, id=replay.id, now=actor.business.real_time(now))
    return ReplayOutcome(replay=stopped or replay)


async def stop_replays(tx: Transaction, endpoint: WebhookEndpoint, at: datetime) -> None:
    """Stop every replay of an endpoint; `at` is real time."""
    await tx.run(_STOP_ALL, endpoint_id=endpoint.id, now=at)


async def find_replay(tx: Transaction, actor: Actor, id: str, *path: str) -> Replay:
    """The replay of this id; NotFound where the actor does not see its endpoint."""
    replay = await tx.get(Replay, id)
    endpoint = await tx.get(WebhookEndpoint, replay.endpoint_id) if replay else None
    if replay is None or endpoint is None or not endpoint.is_visible_to(actor):
        raise NotFound("replay", *path)
    return replay


async def _range(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    input: ReplayEventsInput,
    types: list[str],
    after: int,
) -> tuple[int, int, int]:
    """How many events it is, and the places of the first and the last."""
    return await tx.one(
        _RANGE,
        since=input.since,
        until=input.until or _FAR,
        after=after,
        upto=endpoint.cursor_sequence,
        types=types,
    )


def _types(endpoint: WebhookEndpoint, asked: Sequence[str] | None) -> list[str]:
    """The types that are asked for, in the order of the catalogue."""
    due = due_types(endpoint)
    if asked is None:
        return due
    if not asked:
        raise Invalid("Name at least one event type, or none for all.", "input", "types")
    if any(name not in due for name in asked):
        raise Invalid("The endpoint is not due all of these types.", "input", "types")
    return [name for name in event_types() if name in asked]
