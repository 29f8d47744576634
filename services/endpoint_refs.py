"""Webhook endpoints by their id, as far as an actor may see them, and where they stand."""

from datetime import datetime
from typing import Any

from sqlmodel import col, select

from core.errors import NotFound
from db import BUSINESS, Transaction, among, param, query
from models import Actor, EventRow, Ordering, WebhookEndpoint
from webhooks.parcels import due_types

_HELD = query(
    select(WebhookEndpoint)
    .where(col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("id"))
    .with_for_update()
)
_NEXT = query(
    select(EventRow)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("cursor"),
        among(col(EventRow.type), "types"),
    )
    .order_by(col(EventRow.sequence))
    .limit(1)
)


async def find_endpoint(tx: Transaction, actor: Actor, id: str, *path: str) -> WebhookEndpoint:
    """The endpoint of this id; NotFound if it is deleted, or a scanner's that made another one."""
    return _visible(await tx.get(WebhookEndpoint, id), actor, *path)


async def hold_endpoint(tx: Transaction, actor: Actor, id: str, *path: str) -> WebhookEndpoint:
    """The same, held until the transaction ends: its cursor stands still meanwhile."""
    return _visible(await tx.maybe(_HELD, id=id), actor, *path)


async def stands_before(tx: Transaction, endpoint: WebhookEndpoint, event_id: str) -> bool:
    """Whether it is STRICT, and this is the event it sends next: nothing passes it."""
    if endpoint.ordering is not Ordering.STRICT:
        return False
    stop = await tx.maybe(_NEXT, cursor=endpoint.cursor_sequence, types=due_types(endpoint))
    return stop is not None and stop.id == event_id


async def pass_by(
    tx: Transaction, endpoint: WebhookEndpoint, event_id: str, sequence: int, at: datetime
) -> None:
    """Move the cursor over the event it stands before; whoever is sending it stores nothing."""
    await tx.change(
        endpoint,
        cursor_sequence=sequence,
        last_due_id=event_id,
        lease_epoch=endpoint.lease_epoch + 1,
        lease_until=at,
        **well_again(at),
    )


def well_again(at: datetime) -> dict[str, Any]:
    """The values of an endpoint that is tried again at once, as if it had never failed."""
    return {"failures": 0, "failing_since": None, "recent": 1, "next_attempt_at": at}


def _visible(endpoint: WebhookEndpoint | None, actor: Actor, *path: str) -> WebhookEndpoint:
    if endpoint is None or not endpoint.is_visible_to(actor):
        raise NotFound("webhook endpoint", *path)
    return endpoint
