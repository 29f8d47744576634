"""Hooks for tools that do not speak GraphQL: subscribe, unsubscribe, and a sample of each event."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.errors import Invalid, NotFound
from core.ids import Id, is_id
from endpoints.answers import HEADERS, answering, json_answer, object_of
from events import event_types, payload
from events.log import sample_body
from events.vocabulary import EVENTS, type_named
from models import Vocabulary
from resolvers.context import Context
from resolvers.perform import perform
from resolvers.watching import watched
from services.webhook_endpoints import (
    CreateWebhookEndpointInput,
    DeleteWebhookEndpointInput,
    EventType,
    create_webhook_endpoint,
    delete_webhook_endpoint,
    refuse_forbidden_host,
)
from webhooks.parcels import due_types


@answering
async def create_hook(request: Request, context: Context) -> Response:
    """Send events to a URL from now on: `{url, types?, vocabulary?}`.

    Types are words of either vocabulary, or the names GraphQL has for them; absent: the thirteen.
    201 with the id to unsubscribe by and the signing secret, which is shown this once.
    """
    deployment = context.deployment
    said = await object_of(request, deployment.settings.body_bytes, "A request")
    allow_insecure = deployment.settings.allow_insecure_webhooks
    asked = CreateWebhookEndpointInput(
        idempotency_key=request.headers.get("idempotency-key"),
        url=_text(said.get("url"), "url"),
        types=_types(said.get("types")),
        vocabulary=_vocabulary(said.get("vocabulary")),
    )
    await refuse_forbidden_host(asked.url, allow_insecure=allow_insecure)
    call = perform(
        context,
        create_webhook_endpoint,
        asked,
        secrets=deployment.secrets,
        documents=deployment.documents,
        allow_insecure=allow_insecure,
        is_rest_hook=True,
    )
    outcome: Any = await watched(context, "createWebhookEndpoint", call)
    endpoint = outcome.endpoint
    if endpoint is None:
        raise outcome.user_errors[0]
    made = {
        "id": endpoint.id,
        "url": endpoint.url,
        "types": [_word(name, endpoint.vocabulary) for name in due_types(endpoint)],
        # A repeat with the same Idempotency-Key is told everything but the secret.
        "signingSecret": outcome.signing_secret and str(outcome.signing_secret),
    }
    return json_answer(made, 201)


@answering
async def delete_hook(request: Request, context: Context) -> Response:
    """Send no more events there: 204, or 404 for a hook that is not the caller's."""
    endpoint_id = request.path_params["id"]
    if not is_id(endpoint_id):
        raise NotFound("webhook endpoint")
    key = request.headers.get("idempotency-key")
    asked = DeleteWebhookEndpointInput(id=Id(endpoint_id), idempotency_key=key)
    call = perform(context, delete_webhook_endpoint, asked)
    outcome = await watched(context, "deleteWebhookEndpoint", call)
    if outcome.user_errors:
        raise outcome.user_errors[0]
    return Response(status_code=204)


@answering
async def sample_hook(request: Request, context: Context) -> Response:
    """A list of one sample of the type, exactly as a webhook's body has it."""
    name = type_named(request.path_params["type"])
    if name is None:
        raise NotFound("event type", "type")
    vocabulary = _vocabulary(request.query_params.get("vocabulary"))
    business = context.actor.business
    body = sample_body(event_types()[name], business.id, context.now)
    text = payload(body, vocabulary or business.vocabulary)
    return Response(f"[{text}]", media_type="application/json", headers=HEADERS)


def _text(told: Any, name: str) -> str:
    if not isinstance(told, str):
        raise Invalid(f"`{name}` is a text.", name)
    return told


def _types(told: Any) -> list[Any] | None:
    if told is None:
        return None
    if not isinstance(told, list):
        raise Invalid("`types` is a list of event types.", "types")
    return [EventType(_type(word)) for word in told]


def _type(word: Any) -> str:
    name = type_named(word) if isinstance(word, str) else None
    if name is None:
        raise Invalid("`types` names an event type that does not exist.", "types")
    return name


def _vocabulary(told: Any) -> Vocabulary | None:
    if told is None:
        return None
    words = {word.value: word for word in Vocabulary}
    if not isinstance(told, str) or told.lower() not in words:
        raise Invalid("`vocabulary` is EN or ID.", "vocabulary")
    return words[told.lower()]


def _word(name: str, vocabulary: Vocabulary) -> str:
    return name if vocabulary is Vocabulary.EN else EVENTS.get(name, name)
