"""Notifications of a browser: the page's script, the worker that shows them, and who wants them."""

from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.errors import LimitReached, Refused
from endpoints.answers import HEADERS, BadRequest, object_of, problem
from models import Actor, Business, Card
from resolvers.context import Deployment
from services.contacts import subscribe_push, unsubscribe_push
from services.tokens import card_by_token

_MOST_BYTES = 5_000
_FILES = {
    "push.js": "text/javascript",
    "push-worker.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


async def show_file(request: Request) -> Response:
    """The script of the card's page, the worker that a browser keeps for it, or the icon."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "public, max-age=3600",
        "Content-Security-Policy": "default-src 'none'",
    }
    name = request.url.path.rpartition("/")[2]
    return Response(_read(name), media_type=_FILES[name], headers=headers)


async def change_notifications(request: Request) -> Response:
    """What a browser's PushSubscription says, as JSON: POST to be notified, DELETE to be no more.

    204; 404 for a card that is not there, 400 for no subscription, 422 after ten browsers.
    """
    deployment: Deployment = request.app.state.deployment
    token = request.path_params["token"]
    found = await deployment.database.read(None, lambda tx: card_by_token(tx, token))
    if found is None:
        return problem(404, "NOT_FOUND", "There is no such card.")
    try:
        said = await _said(request)
        await _keep(deployment, *found, said, is_wanted=request.method == "POST")
    except BadRequest as error:
        return problem(error.status, "BAD_REQUEST", str(error))
    except LimitReached as refusal:
        return problem(422, refusal.code.name, refusal.message)
    except Refused as refusal:
        return problem(400, refusal.code.name, refusal.message)
    return Response(status_code=204, headers=HEADERS)


async def _keep(
    deployment: Deployment, card: Card, business: Business, said: dict[str, Any], *, is_wanted: bool
) -> None:
    now = business.time(deployment.clock.now())
    endpoint, keys = said.get("endpoint"), said.get("keys")
    if not isinstance(endpoint, str) or (is_wanted and not isinstance(keys, dict)):
        raise BadRequest(400, "This is no subscription of a browser.")

    async def work(tx: Any) -> None:
        if is_wanted:
            allow_insecure = deployment.settings.allow_insecure_webhooks
            actor = Actor(business)
            await subscribe_push(
                tx, actor, card, endpoint, keys or {}, now, allow_insecure=allow_insecure
            )
        else:
            await unsubscribe_push(tx, card, endpoint)

    await deployment.database.write(business.id, work)


async def _said(request: Request) -> dict[str, Any]:
    # Only a script of our own page sends this type without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadRequest(415, "Send the subscription as JSON.")
    return await object_of(request, _MOST_BYTES, "A subscription")


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()
