"""Deliveries: from a field to what it shows, and to its operation."""

from core.errors import NotFound
from db import Transaction
from models import DeliveryStatus
from resolvers.context import Context
from resolvers.perform import performs
from services import deliveries as service
from services.deliveries import DeliveryPage
from services.endpoint_refs import find_endpoint
from services.pages import PageArgs

skip_event = performs(service.skip_event)
redeliver_dead = performs(service.redeliver_dead)


async def deliveries(
    context: Context, endpoint_id: str, args: PageArgs, status: DeliveryStatus | None
) -> DeliveryPage | None:
    """What an endpoint was due; None if there is no such endpoint."""
    actor = context.actor

    async def work(tx: Transaction) -> DeliveryPage | None:
        try:
            endpoint = await find_endpoint(tx, actor, endpoint_id)
        except NotFound:
            return None
        return await service.deliveries_of(tx, endpoint, args, status)

    return await context.read(work)
