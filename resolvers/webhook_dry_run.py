"""Dry runs of endpoints: a draft is read, and its document executed outside."""

from core.errors import Refused
from db import Transaction
from resolvers.charges import charge_reading
from resolvers.context import Context
from services import webhook_dry_run as service
from services.webhook_dry_run import WebhookDryRunInput, WebhookRehearsed
from webhooks.bodies import Draft


async def webhook_dry_run(context: Context, input: WebhookDryRunInput) -> WebhookRehearsed:
    """What an endpoint would be sent for a past event."""
    actor, documents = context.actor, context.deployment.documents
    await charge_reading(context, len(input.document or ""))

    async def work(tx: Transaction) -> Draft | None:
        return await service.rehearse_delivery(tx, actor, input, documents=documents)

    try:
        draft = await context.read(work)
    except Refused as refusal:
        return WebhookRehearsed(user_errors=[refusal])
    return await service.rehearsed(draft, documents)
