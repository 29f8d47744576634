"""Webhook endpoints: from a field to its operation; names are looked up and tests sent outside."""

from collections.abc import Mapping
from typing import Any, cast

from core.errors import NotFound, Refused
from db import Transaction
from models import WebhookEndpoint
from resolvers.context import Context
from resolvers.perform import perform, performs, resolves
from services import webhooks
from services.operation import Outcome
from services.pages import PageArgs
from services.webhooks import (
    CreateWebhookEndpointInput,
    DeliveryPage,
    Health,
    Lag,
    RedeliverInput,
    SendTestEventInput,
)

pause_webhook_endpoint = performs(webhooks.pause_webhook_endpoint)
resume_webhook_endpoint = performs(webhooks.resume_webhook_endpoint)
delete_webhook_endpoint = performs(webhooks.delete_webhook_endpoint)


def _secrets(context: Context) -> dict[str, Any]:
    return {"secrets": context.deployment.secrets}


rotate_signing_secret = performs(webhooks.rotate_signing_secret, _secrets)


def _saving(context: Context) -> dict[str, Any]:
    allow_insecure = context.deployment.settings.allow_insecure_webhooks
    return {**_secrets(context), "allow_insecure": allow_insecure}


@resolves(webhooks.create_webhook_endpoint)
async def create_webhook_endpoint(
    context: Context, input: CreateWebhookEndpointInput, *, is_rest_hook: bool = False
) -> Outcome:
    """Make an endpoint, unless its name leads where webhooks may not go."""
    try:
        await _look_up(context, input.url)
    except Refused as refusal:
        return webhooks.EndpointCreated(user_errors=[refusal])
    return await perform(
        context,
        webhooks.create_webhook_endpoint,
        input,
        **_saving(context),
        is_rest_hook=is_rest_hook,
    )


@resolves(webhooks.update_webhook_endpoint)
async def update_webhook_endpoint(context: Context, given: Mapping[str, Any]) -> Outcome:
    """Change an endpoint, unless its new name leads where webhooks may not go."""
    try:
        if given.get("url"):
            await _look_up(context, given["url"])
    except Refused as refusal:
        return webhooks.EndpointOutcome(user_errors=[refusal])
    return await perform(context, webhooks.update_webhook_endpoint, given, **_saving(context))


@resolves(webhooks.send_test_event)
async def send_test_event(context: Context, input: SendTestEventInput) -> Outcome:
    """Send a sample now."""
    sent = cast("webhooks.SampleSent", await perform(context, webhooks.send_test_event, input))
    if sent.attempt is not None:
        sent.attempt = await _send(context, sent.attempt, sent.body)
    return sent


@resolves(webhooks.redeliver)
async def redeliver(context: Context, input: RedeliverInput) -> Outcome:
    """Send an event once more, now."""
    sent = cast("webhooks.Redelivered", await perform(context, webhooks.redeliver, input))
    if sent.attempt is not None:
        sent.attempt = await _send(context, sent.attempt, None)
    return sent


async def deliveries(context: Context, endpoint_id: str, args: PageArgs) -> DeliveryPage | None:
    """What an endpoint was due; None if there is no such endpoint."""
    actor = context.actor

    async def work(tx: Transaction) -> DeliveryPage | None:
        try:
            endpoint = await webhooks.find_endpoint(tx, actor, endpoint_id)
        except NotFound:
            return None
        return await webhooks.deliveries_of(tx, endpoint, args)

    return await context.read(work)


async def health(context: Context, endpoint: WebhookEndpoint) -> Health:
    """How an endpoint fares."""
    return await context.read(lambda tx: webhooks.health_of(tx, endpoint))


async def lag(context: Context, endpoint: WebhookEndpoint) -> Lag:
    """How far an endpoint is behind."""
    now = context.now
    return await context.read(lambda tx: webhooks.lag_of(tx, endpoint, now))


async def _look_up(context: Context, url: str) -> None:
    allow_insecure = context.deployment.settings.allow_insecure_webhooks
    await webhooks.refuse_forbidden_host(url, allow_insecure=allow_insecure)


async def _send(context: Context, attempt: Any, body: str | None) -> Any:
    deployment = context.deployment
    return await webhooks.send_prepared(
        deployment.database,
        deployment.sender,
        deployment.secrets,
        context.actor,
        attempt=attempt,
        now=context.now,
        body=body,
    )
