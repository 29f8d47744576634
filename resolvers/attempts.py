"""Attempts by hand: from a field to its operation; the request is made outside."""

from typing import Any, cast

from resolvers.context import Context
from resolvers.perform import perform, resolves
from services import attempts
from services.attempts import RedeliverInput, SendTestEventInput
from services.operation import Outcome


@resolves(attempts.send_test_event)
async def send_test_event(context: Context, input: SendTestEventInput) -> Outcome:
    """Send a sample now."""
    sent = cast("attempts.SampleSent", await perform(context, attempts.send_test_event, input))
    if sent.attempt is not None:
        sent.attempt = await _send(context, sent.attempt, sent.body)
    return sent


@resolves(attempts.redeliver)
async def redeliver(context: Context, input: RedeliverInput) -> Outcome:
    """Send an event once more, now."""
    sent = cast("attempts.Redelivered", await perform(context, attempts.redeliver, input))
    if sent.attempt is not None:
        sent.attempt = await _send(context, sent.attempt, None)
    return sent


async def _send(context: Context, attempt: Any, body: str | None) -> Any:
    deployment = context.deployment
    return await attempts.send_prepared(
        deployment.database,
        deployment.sender,
        deployment.secrets,
        deployment.documents,
        context.actor,
        attempt=attempt,
        now=context.now,
        body=body,
    )
