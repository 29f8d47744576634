"""Webhook endpoints by their id, as far as an actor may see them."""

from sqlmodel import col, select

from core.errors import NotFound
from db import BUSINESS, Transaction, param, query
from models import Actor, WebhookEndpoint

_HELD = query(
    select(WebhookEndpoint)
    .where(col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("id"))
    .with_for_update()
)


async def find_endpoint(tx: Transaction, actor: Actor, id: str, *path: str) -> WebhookEndpoint:
    """The endpoint of this id; NotFound if it is deleted, or a scanner's that made another one."""
    return _visible(await tx.get(WebhookEndpoint, id), actor, *path)


async def hold_endpoint(tx: Transaction, actor: Actor, id: str, *path: str) -> WebhookEndpoint:
    """The same, held until the transaction ends: its cursor stands still meanwhile."""
    return _visible(await tx.maybe(_HELD, id=id), actor, *path)


def _visible(endpoint: WebhookEndpoint | None, actor: Actor, *path: str) -> WebhookEndpoint:
    if endpoint is None or not endpoint.is_visible_to(actor):
        raise NotFound("webhook endpoint", *path)
    return endpoint
