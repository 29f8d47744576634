"""Dry runs of endpoints, as GraphQL shows them."""

from typing import Annotated

import strawberry

import resolvers.webhook_dry_run
from schema.base import resolved
from schema.errors import user_errors
from schema.inputs import register
from services.webhook_dry_run import WebhookDryRunInput

register(WebhookDryRunInput)


@strawberry.type(description="What an endpoint would be sent for a past event; nothing was sent.")
class WebhookDryRun:
    """By the same code that would send it."""

    matches: bool | None = strawberry.field(
        description="Whether it would be sent the event: by its types, and by its document."
    )
    body: str | None = strawberry.field(
        description="The exact text of the body; null where nothing would be sent."
    )
    user_errors = user_errors("Why there is no telling; empty if there is.")


webhook_dry_run = resolved(
    lambda root, info, input: resolvers.webhook_dry_run.webhook_dry_run(  # noqa: ARG005
        info.context, input
    ),
    WebhookDryRun,
    "What an endpoint would be sent for a past event, by the standard body or by a document; "
    "nothing is delivered. Also for an endpoint, or a document, that is yet to be saved.",
    input=Annotated[WebhookDryRunInput, strawberry.argument(description="What to try out.")],
)
