"""Records of a replay: what came of a round, stored under the epoch of its lease."""

from datetime import datetime

from sqlalchemy import delete, update
from sqlmodel import col

from core.ids import new_id
from db import BUSINESS, Query, Transaction, command, param, query
from models import (
    Attempt,
    AttemptKind,
    Rendering,
    Replay,
    ReplayStatus,
    WebhookEndpoint,
)
from models.base import UtcTimestamp
from webhooks.records import Fenced, answer_values, settle
from webhooks.replay_rounds import Due, Round, Tally

_RECORD: Query[Replay] = query(
    update(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.id) == param("id"),
        col(Replay.lease_epoch) == param("epoch"),
    )
    .values(
        cursor_sequence=param("new_cursor"),
        total=param("new_total"),
        sent=param("new_sent"),
        failed=param("new_failed"),
        failures=param("new_failures"),
        retries=param("new_retries", Replay.__table__.c.retries.type),  # type: ignore[attr-defined]
        next_attempt_at=param("new_next_attempt_at"),
        lease_until=param("lease_until"),
    )
    .returning(Replay)
)
_LET_GO = command(
    update(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.id) == param("id"),
        col(Replay.lease_epoch) == param("epoch"),
    )
    .values(lease_until=param("now"))
)
_END: Query[Replay] = query(
    update(Replay)
    .where(
        col(Replay.business_id) == BUSINESS,
        col(Replay.id) == param("id"),
        col(Replay.status) == ReplayStatus.RUNNING,
    )
    .values(
        status=param("status", Replay.__table__.c.status.type),  # type: ignore[attr-defined]
        finished_at=param("now", UtcTimestamp()),
    )
    .returning(Replay)
)
_FORGET_RENDERING = command(
    delete(Rendering).where(
        col(Rendering.business_id) == BUSINESS,
        col(Rendering.endpoint_id) == param("endpoint_id"),
        col(Rendering.sequence) == param("sequence"),
    )
)


async def record(
    tx: Transaction, replay: Replay, round_: Round, said: Tally, now: datetime, until: datetime
) -> Replay:
    """Store what a round came to, and how long the lease is held now. Fenced if it is lost."""
    new = {f"new_{name}": value for name, value in said.values.items()}
    recorded = await tx.maybe(
        _RECORD, id=replay.id, epoch=replay.lease_epoch, lease_until=until, **new
    )
    if recorded is None:
        raise Fenced
    await tx.add(*(_attempt_of(round_.endpoint, due) for due in round_.due if due.answer))
    await _store(tx, round_, said, now)
    if said.ends is not None:
        recorded = await tx.maybe(_END, id=replay.id, status=said.ends, now=now) or recorded
    return recorded


async def let_go(tx: Transaction, replay: Replay, now: datetime) -> None:
    """End the lease of a replay whose endpoint takes nothing now; end it where there is none."""
    endpoint = await tx.get(WebhookEndpoint, replay.endpoint_id)
    if endpoint is None or endpoint.deleted_at is not None:
        await tx.maybe(_END, id=replay.id, status=ReplayStatus.STOPPED, now=now)
    await tx.run(_LET_GO, id=replay.id, epoch=replay.lease_epoch, now=now)


async def _store(tx: Transaction, round_: Round, said: Tally, now: datetime) -> None:
    """Store what a round means beside its replay."""
    endpoint = round_.endpoint
    for due in round_.due:
        row = round_.rows.get(due.event.sequence)
        if due.is_taken and row is not None:
            await settle(tx, endpoint.id, row, now)
        is_over = due.answer is not None and due not in said.again
        if is_over and row is None and due.tries and due.draft.is_kept:
            place = due.event.sequence
            await tx.run(_FORGET_RENDERING, endpoint_id=endpoint.id, sequence=place)
    for due in said.again:
        if due.draft.document is not None and due.body is not None:
            kept = Rendering(
                endpoint_id=endpoint.id,
                sequence=due.event.sequence,
                business_id=endpoint.business_id,
                body=due.body,
            )
            await tx.add_if_new(kept)


def _attempt_of(endpoint: WebhookEndpoint, due: Due) -> Attempt:
    assert due.answer is not None  # noqa: S101 -- only what was sent is asked for
    return Attempt(
        id=new_id("att"),
        business_id=endpoint.business_id,
        endpoint_id=endpoint.id,
        event_id=due.event.id,
        sequence=due.event.sequence,
        number=due.number,
        kind=AttemptKind.REPLAY,
        **answer_values(due.answer),
    )
