"""Rounds of a replay: what is to be sent next, and what came of it. No round is stored here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_
from sqlmodel import col, select

from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, among, param, query
from models import (
    Attempt,
    Delivery,
    DeliveryState,
    EndpointStatus,
    EventRow,
    Ordering,
    Replay,
    ReplayStatus,
    WebhookEndpoint,
)
from models.base import UtcTimestamp
from webhooks.bodies import Draft, draft_for
from webhooks.parcels import Address, address_of
from webhooks.rounds import SIGNING
from webhooks.schedule import CONCERNS_ENDPOINT, Outcome, judge, step
from webhooks.sender import Answer

ROUND = 8
"""Requests between two records."""
MOST_TRIES = 6
MOST_RETRIES = 64
"""Events that wait to be tried again; with so many, no other is begun."""
_OLD_ONES = 4

_FRESH = query(
    select(EventRow)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("after"),
        col(EventRow.sequence) <= param("upto"),
        col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
        or_(
            col(EventRow.occurred_at) < param("until", UtcTimestamp()),
            param("until", UtcTimestamp()).is_(None),
        ),
        among(col(EventRow.type), "types"),
    )
    .order_by(col(EventRow.sequence))
    .limit(param("most"))
)
_OLD = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, among(col(EventRow.id), "ids"))
    .order_by(col(EventRow.sequence))
)
_EXCEPTIONS = query(
    select(Delivery).where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.sequence) >= param("first"),
        col(Delivery.sequence) <= param("last"),
    )
)
_NUMBERS: Query[tuple[int, int]] = query(
    select(Attempt.sequence, func.max(Attempt.number))
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) >= param("first"),
        col(Attempt.sequence) <= param("last"),
        among(col(Attempt.event_id), "ids"),
    )
    .group_by(col(Attempt.sequence))
)


@dataclass(eq=False)
class Due:
    """An event of a replay, in a round: a fresh one, or one that failed before."""

    draft: Draft
    number: int
    """Which request for this event it is, from 1."""
    tries: int
    """Requests of this replay before."""
    is_passed: bool
    """It is on its way to the endpoint by itself, or its document leaves it out."""
    body: str | None = None
    answer: Answer | None = None

    @property
    def event(self) -> EventRow:
        """The event."""
        return self.draft.event

    @property
    def outcome(self) -> Outcome | None:
        """What its answer means; None if nothing was sent."""
        said = self.answer
        if said is None:
            return None
        return judge(said.status, said.error, said.retry_after, said.control)

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return self.answer is not None and self.answer.is_taken

    @property
    def is_lost(self) -> bool:
        """Whether it failed, and is not tried again."""
        if self.answer is None or self.is_taken:
            return False
        return self.outcome is Outcome.ABORTED or self.tries + 1 >= MOST_TRIES


@dataclass
class Round:
    """What is to be sent next, and how far in the log it reaches."""

    endpoint: WebhookEndpoint
    address: Address
    due: list[Due]
    """Those that failed before, then fresh ones in the order of the log."""
    upto: int
    gone: list[int]
    """Those that failed before, and have left the log meanwhile."""
    rows: dict[int, Delivery] = field(default_factory=dict)

    @property
    def in_order(self) -> bool:
        """Whether one that fails holds up those after it."""
        return self.endpoint.ordering is not Ordering.NONE


@dataclass
class Tally:
    """What is to be stored after a round."""

    values: dict[str, Any]
    """New values of the replay."""
    ends: ReplayStatus | None
    """How it ends, if it does."""
    again: list[Due]
    """Those that failed and are tried again."""


async def look(tx: Transaction, replay: Replay, secrets: Secrets, now: datetime) -> Round | None:
    """Read what is next; None where the endpoint takes nothing now."""
    endpoint = await tx.get(WebhookEndpoint, replay.endpoint_id)
    if endpoint is None or not _is_served(endpoint):
        return None
    signing = await tx.many(SIGNING, endpoint_id=endpoint.id, now=now)
    return await _look(tx, replay, endpoint, address_of(endpoint, signing, secrets), now)


def tally(replay: Replay, round_: Round, now: datetime, chance: float) -> Tally:
    """What a round means for its replay."""
    waiting = {retry["sequence"]: retry for retry in replay.retries}
    cursor, is_cut = replay.cursor_sequence, False
    again: list[Due] = []
    for due in round_.due:
        is_fresh = due.event.sequence not in waiting
        if due.answer is None and not due.is_passed:
            is_cut = is_cut or is_fresh
            continue
        waiting.pop(due.event.sequence, None)
        if is_fresh and not is_cut:
            cursor = due.event.sequence
        if due.answer is not None and not due.is_taken and not due.is_lost:
            again.append(due)
    for sequence in round_.gone:
        waiting.pop(sequence, None)
    cursor = cursor if is_cut else max(cursor, round_.upto)
    taken = sum(due.is_taken for due in round_.due)
    failures, rest_until = _failures(replay, round_.due, now, chance)
    for due in again:
        at = max(rest_until, now + step(due.tries + 1, chance))
        retry = {"id": due.event.id, "sequence": due.event.sequence, "tries": due.tries + 1}
        waiting[due.event.sequence] = {**retry, "at": at.isoformat()}
    retries = sorted(waiting.values(), key=lambda retry: int(retry["sequence"]))
    sent = replay.sent + taken
    failed = replay.failed + len(round_.gone) + sum(due.is_lost for due in round_.due)
    is_through = cursor >= replay.last_sequence
    ends = ReplayStatus.DONE if is_through and not retries else None
    if any(due.outcome is Outcome.OVER for due in round_.due):
        ends = ReplayStatus.STOPPED
    holds = is_through or round_.in_order or len(retries) >= MOST_RETRIES
    soonest = min((datetime.fromisoformat(retry["at"]) for retry in retries), default=now)
    total = replay.total - sum(due.is_passed for due in round_.due)
    values = {
        "cursor": cursor,
        "total": sent + failed if ends is ReplayStatus.DONE else total,
        "sent": sent,
        "failed": failed,
        "failures": failures,
        "retries": retries,
        "next_attempt_at": max(rest_until, soonest) if holds and retries else rest_until,
    }
    return Tally(values, ends, again)


def _is_served(endpoint: WebhookEndpoint) -> bool:
    is_active = endpoint.status is EndpointStatus.ACTIVE and endpoint.deleted_at is None
    return is_active and not endpoint.failures


async def _look(
    tx: Transaction, replay: Replay, endpoint: WebhookEndpoint, address: Address, now: datetime
) -> Round:
    in_order = endpoint.ordering is not Ordering.NONE
    waiting = {retry["id"]: retry for retry in replay.retries}
    ready = [id for id, retry in waiting.items() if datetime.fromisoformat(retry["at"]) <= now]
    ready = sorted(ready, key=lambda id: int(waiting[id]["sequence"]))[:_OLD_ONES]
    is_held_up = in_order and bool(waiting)
    most = 0 if is_held_up or len(waiting) >= MOST_RETRIES else ROUND - len(ready)
    if replay.failures:
        # One probe per step, and a fresh event before one that failed.
        most = min(most, 1)
    fresh = await tx.many(
        _FRESH,
        after=replay.cursor_sequence,
        upto=replay.last_sequence,
        since=replay.since,
        until=replay.until,
        types=replay.types,
        most=most,
    )
    if replay.failures:
        ready = [] if fresh else ready[:1]
    old = await tx.many(_OLD, ids=ready) if ready else []
    found = {event.id for event in old}
    upto = replay.cursor_sequence
    if most:
        upto = fresh[-1].sequence if len(fresh) == most else replay.last_sequence
    events = [*old, *fresh]
    round_ = Round(
        endpoint, address, [], upto, [waiting[id]["sequence"] for id in ready if id not in found]
    )
    if not events:
        return round_
    places = [event.sequence for event in events]
    reach = {"endpoint_id": endpoint.id, "first": min(places), "last": max(places)}
    numbers = dict(await tx.many(_NUMBERS, **reach, ids=[event.id for event in events]))
    round_.rows = {row.sequence: row for row in await tx.many(_EXCEPTIONS, **reach)}
    for event in events:
        row = round_.rows.get(event.sequence)
        round_.due.append(
            Due(
                await draft_for(tx, endpoint, event),
                number=numbers.get(event.sequence, 0) + 1,
                tries=waiting[event.id]["tries"] if event.id in waiting else 0,
                is_passed=row is not None and row.state is not DeliveryState.DEAD,
            )
        )
    return round_


def _failures(
    replay: Replay, round_: Sequence[Due], now: datetime, chance: float
) -> tuple[int, datetime]:
    """How many troubles in a row there now are, and until when the replay rests for them."""
    failures = 0 if any(due.is_taken for due in round_) else replay.failures
    troubles = [due for due in round_ if due.outcome in CONCERNS_ENDPOINT]
    if not troubles:
        return failures, now
    asked = max(due.answer.retry_after or 0 for due in troubles if due.answer)
    wait = max(step(failures + 1, chance), timedelta(seconds=asked))
    return failures + 1, now + wait
