"""Webhook endpoints: from a field to its operation; names are looked up outside."""

from collections.abc import Mapping
from typing import Any

from core.errors import Refused
from models import WebhookEndpoint
from resolvers.charges import charge_reading
from resolvers.context import Context
from resolvers.perform import perform, performs, resolves
from services import signing_secrets, webhook_endpoints, webhook_health
from services.operation import Outcome
from services.webhook_endpoints import CreateWebhookEndpointInput
from services.webhook_health import Health, Lag

pause_webhook_endpoint = performs(webhook_endpoints.pause_webhook_endpoint)
resume_webhook_endpoint = performs(webhook_endpoints.resume_webhook_endpoint)
delete_webhook_endpoint = performs(webhook_endpoints.delete_webhook_endpoint)


def _secrets(context: Context) -> dict[str, Any]:
    return {"secrets": context.deployment.secrets}


rotate_signing_secret = performs(signing_secrets.rotate_signing_secret, _secrets)


def saving(context: Context) -> dict[str, Any]:
    """What an operation that saves an endpoint needs of the deployment."""
    deployment = context.deployment
    return {
        **_secrets(context),
        "documents": deployment.documents,
        "allow_insecure": deployment.settings.allow_insecure_webhooks,
    }


@resolves(webhook_endpoints.create_webhook_endpoint)
async def create_webhook_endpoint(
    context: Context, input: CreateWebhookEndpointInput, *, is_rest_hook: bool = False
) -> Outcome:
    """Make an endpoint, unless its name leads where webhooks may not go."""
    await charge_reading(context, len(input.document or ""))
    try:
        await _look_up(context, input.url)
    except Refused as refusal:
        return webhook_endpoints.EndpointCreated(user_errors=[refusal])
    return await perform(
        context,
        webhook_endpoints.create_webhook_endpoint,
        input,
        **saving(context),
        is_rest_hook=is_rest_hook,
    )


@resolves(webhook_endpoints.update_webhook_endpoint)
async def update_webhook_endpoint(context: Context, given: Mapping[str, Any]) -> Outcome:
    """Change an endpoint, unless its new name leads where webhooks may not go."""
    await charge_reading(context, len(given.get("document") or ""))
    try:
        if given.get("url"):
            await _look_up(context, given["url"])
    except Refused as refusal:
        return webhook_endpoints.EndpointOutcome(user_errors=[refusal])
    update = webhook_endpoints.update_webhook_endpoint
    return await perform(context, update, given, **saving(context))


async def health(context: Context, endpoint: WebhookEndpoint) -> Health:
    """How an endpoint fares."""
    return await context.read(lambda tx: webhook_health.health_of(tx, endpoint))


async def lag(context: Context, endpoint: WebhookEndpoint) -> Lag:
    """How far an endpoint is behind."""
    now = context.now
    return await context.read(lambda tx: webhook_health.lag_of(tx, endpoint, now))


async def _look_up(context: Context, url: str) -> None:
    allow_insecure = context.deployment.settings.allow_insecure_webhooks
    await webhook_endpoints.refuse_forbidden_host(url, allow_insecure=allow_insecure)
