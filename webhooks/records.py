"""Records: what came of a round, stored under the epoch of its lease."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, func, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from core.ids import new_id
from db import BUSINESS, Query, Transaction, command, param, query
from models import (
    Attempt,
    AttemptStatus,
    Delivery,
    DeliveryState,
    EndpointStatus,
    Rendering,
    WebhookEndpoint,
)
from webhooks.notices import notice_of_disabling
from webhooks.sender import Answer
from webhooks.verdicts import Disabled, Due, Verdict

_HOLD: Query[WebhookEndpoint] = query(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS,
        col(WebhookEndpoint.id) == param("endpoint"),
        col(WebhookEndpoint.lease_epoch) == param("epoch"),
    )
    .values(lease_until=param("until"))
    .returning(WebhookEndpoint)
)
_RECORD: Query[WebhookEndpoint] = query(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS,
        col(WebhookEndpoint.id) == param("endpoint"),
        col(WebhookEndpoint.lease_epoch) == param("epoch"),
    )
    .values(
        cursor_sequence=param("new_cursor"),
        last_due_id=param("new_last_due_id"),
        failures=param("new_failures"),
        failing_since=param("new_failing_since"),
        last_success_at=param("new_last_success_at"),
        next_attempt_at=param("new_next_attempt_at"),
        pace=param("new_pace"),
        recent=param("new_recent"),
        lease_owner=param("owner"),
        lease_until=param("until"),
    )
    .returning(WebhookEndpoint)
)
_HELD: Query[str] = query(
    select(WebhookEndpoint.id)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("endpoint")
    )
    .with_for_update()
)
_DISABLE = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("endpoint")
    )
    .values(
        status=EndpointStatus.DISABLED, disabled_reason=param("reason"), deleted_at=param("gone_at")
    )
)
_FORGET = command(
    delete(Delivery).where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint"),
        col(Delivery.sequence) == param("place"),
    )
)
_FORGET_RENDERING = command(
    delete(Rendering).where(
        col(Rendering.business_id) == BUSINESS,
        col(Rendering.endpoint_id) == param("endpoint"),
        col(Rendering.sequence) == param("place"),
    )
)
_FORGET_RENDERINGS = command(
    delete(Rendering).where(
        col(Rendering.business_id) == BUSINESS,
        col(Rendering.endpoint_id) == param("endpoint"),
        col(Rendering.sequence) > param("after"),
        col(Rendering.sequence) <= param("upto"),
        ~exists().where(
            col(Delivery.business_id) == BUSINESS,
            col(Delivery.endpoint_id) == param("endpoint"),
            col(Delivery.sequence) == col(Rendering.sequence),
        ),
    )
)
_parked = aliased(Delivery)
_earlier = aliased(Delivery)
_FREE_NEXT = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint"),
        col(Delivery.sequence)
        == select(func.min(_parked.sequence))
        .where(
            col(_parked.business_id) == BUSINESS,
            col(_parked.endpoint_id) == param("endpoint"),
            col(_parked.card_id) == param("card"),
            col(_parked.state) == DeliveryState.PARKED,
        )
        .scalar_subquery(),
        ~exists().where(
            col(_earlier.business_id) == BUSINESS,
            col(_earlier.endpoint_id) == param("endpoint"),
            col(_earlier.card_id) == param("card"),
            col(_earlier.state) == DeliveryState.RETRY,
        ),
    )
    .values(state=DeliveryState.RETRY, next_attempt_at=param("now"))
)
_NOTE_RETRY = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("endpoint")
    )
    .values(
        retry_due_at=select(func.min(_parked.next_attempt_at))
        .where(
            col(_parked.business_id) == BUSINESS,
            col(_parked.endpoint_id) == param("endpoint"),
            col(_parked.state) == DeliveryState.RETRY,
        )
        .scalar_subquery()
    )
)


class Fenced(Exception):
    """Somebody else holds the lease now."""


async def hold(
    tx: Transaction, endpoint: WebhookEndpoint, until: datetime, renderings: Sequence[Rendering]
) -> None:
    """Store what an endpoint's document came to, before the first of it is sent."""
    if await tx.maybe(_HOLD, endpoint=endpoint.id, epoch=endpoint.lease_epoch, until=until) is None:
        raise Fenced
    await tx.add(*renderings)


async def disable(
    tx: Transaction, endpoint: WebhookEndpoint, disabled: Disabled, now: datetime
) -> WebhookEndpoint:
    """Disable an endpoint and let its lease go; the owner is told. Fenced if the lease is lost."""
    held = await tx.maybe(_HOLD, endpoint=endpoint.id, epoch=endpoint.lease_epoch, until=now)
    if held is None:
        raise Fenced
    await _disable(tx, held, disabled, now)
    return held.with_values(status=EndpointStatus.DISABLED)


async def record(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    round_: Sequence[Due],
    said: Verdict,
    now: datetime,
    until: datetime,
) -> WebhookEndpoint:
    """Store a verdict, and how long the lease is held now. Fenced if it is lost."""
    new = {f"new_{name}": value for name, value in said.endpoint.items()}
    new["owner"] = endpoint.lease_owner if until > now else None
    recorded = await tx.maybe(
        _RECORD, endpoint=endpoint.id, epoch=endpoint.lease_epoch, until=until, **new
    )
    if recorded is None:
        raise Fenced
    if said.disabled is not None:
        await _disable(tx, recorded, said.disabled, now)
    await tx.add(*(attempt_of(endpoint, due) for due in round_ if due.answer))
    for sequence in said.settled:
        await tx.run(_FORGET, endpoint=endpoint.id, place=sequence)
    retried = {due.event.sequence for due in round_ if due.delivery is not None}
    for row in said.exceptions:
        was_there = await tx.run(_FORGET, endpoint=endpoint.id, place=row.sequence)
        if was_there or row.sequence not in retried:  # somebody redelivered it meanwhile
            await tx.add(row)
    # What one of them waited for may have been redelivered meanwhile, too.
    waiting = [row.card_id for row in said.exceptions if row.state is DeliveryState.PARKED]
    for card in dict.fromkeys([*said.freed_cards, *waiting]):
        await tx.run(_FREE_NEXT, endpoint=endpoint.id, card=card, now=now)
    if said.rendered:
        for sequence in said.settled:
            await tx.run(_FORGET_RENDERING, endpoint=endpoint.id, place=sequence)
        reach = {"after": endpoint.cursor_sequence, "upto": recorded.cursor_sequence}
        await tx.run(_FORGET_RENDERINGS, endpoint=endpoint.id, **reach)
    if said.exceptions or said.settled or (recorded.retry_due_at and not round_):
        await tx.run(_NOTE_RETRY, endpoint=endpoint.id)
    return recorded


async def settle(tx: Transaction, endpoint_id: str, row: Delivery, now: datetime) -> None:
    """An exception is done with; the next event of its card may follow."""
    # Held first, as whoever records a round does: one comes after the other, and sees what it did.
    await tx.maybe(_HELD, endpoint=endpoint_id)
    await tx.run(_FORGET, endpoint=endpoint_id, place=row.sequence)
    await tx.run(_FORGET_RENDERING, endpoint=endpoint_id, place=row.sequence)
    await _follow_up(tx, endpoint_id, row, now)


async def give_up(
    tx: Transaction, endpoint_id: str, row: Delivery, reason: str, now: datetime
) -> None:
    """An exception is dead, and kept with its text for who redelivers it; the next may follow."""
    await tx.change(row, state=DeliveryState.DEAD, next_attempt_at=None, last_error=reason)
    await _follow_up(tx, endpoint_id, row, now)


async def _follow_up(tx: Transaction, endpoint_id: str, row: Delivery, now: datetime) -> None:
    if row.card_id is not None:
        await tx.run(_FREE_NEXT, endpoint=endpoint_id, card=row.card_id, now=now)
    await tx.run(_NOTE_RETRY, endpoint=endpoint_id)


def attempt_of(endpoint: WebhookEndpoint, due: Due) -> Attempt:
    """The line of history for a request that was answered, or was not."""
    assert due.answer is not None  # noqa: S101 -- only what was sent is asked for
    return Attempt(
        id=new_id("att"),
        business_id=endpoint.business_id,
        endpoint_id=endpoint.id,
        event_id=due.event.id,
        sequence=due.event.sequence,
        number=due.number,
        **answer_values(due.answer),
    )


def answer_values(answer: Answer) -> dict[str, Any]:
    """What an attempt keeps of its answer."""
    return {
        "status": AttemptStatus.SUCCEEDED if answer.is_taken else AttemptStatus.FAILED,
        "started_at": answer.started_at,
        "duration_ms": answer.duration_ms,
        "response_status": answer.status,
        "response_head": answer.head,
        "error": answer.error,
        "remote_address": answer.remote_address,
    }


async def _disable(
    tx: Transaction, endpoint: WebhookEndpoint, disabled: Disabled, now: datetime
) -> None:
    gone_at = disabled.deleted_at or endpoint.deleted_at
    await tx.run(_DISABLE, endpoint=endpoint.id, reason=disabled.reason, gone_at=gone_at)
    if gone_at is None:
        await tx.add_if_new(notice_of_disabling(endpoint, disabled.reason, now))
