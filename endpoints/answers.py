"""Answers of the plain routes: JSON, also where something goes wrong."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from core.errors import Code, Denied, Overloaded, RateLimited, Refused
from resolvers.callers import caller_of, secret_of
from resolvers.charges import charge_stranger
from resolvers.context import Context, Deployment
from services.operation import EVERYBODY, allow

_STATUSES = {"UNAUTHENTICATED": 401, "FORBIDDEN": 403, "BAD_USER_INPUT": 400}
_REFUSALS = {Code.NOT_FOUND: 404, Code.IDEMPOTENCY_KEY_IN_PROGRESS: 409}
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[Request, Context], Awaitable[Response]]


class BadRequest(Exception):
    """The request cannot be read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def answering(handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler for callers with a key; what goes wrong is told as JSON."""

    @telling
    @functools.wraps(handle)
    async def answer(request: Request) -> Response:
        deployment: Deployment = request.app.state.deployment
        secret = secret_of(request.headers.getlist("authorization"))
        context = Context(
            deployment,
            caller=await caller_of(deployment, secret),
            remote_address=request.client.host if request.client else "",
        )
        await charge_stranger(context)
        # Refuses strangers, and access tokens, before anything is read.
        allow(context.actor, EVERYBODY)
        return await handle(request, context)

    return answer


def stranger(request: Request) -> Context:
    """Whoever calls, known by the address alone."""
    deployment: Deployment = request.app.state.deployment
    return Context(deployment, remote_address=request.client.host if request.client else "")


def telling(
    handle: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """The handler, but that what goes wrong is told as JSON."""

    @functools.wraps(handle)
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except Refused as refusal:
            status = _REFUSALS.get(refusal.code, 422)
            return problem(status, refusal.code.name, refusal.message)
        except RateLimited as error:
            status = 503 if isinstance(error, Overloaded) else 429
            seconds = max(1, round(error.retry_after_ms / 1000))
            return problem(status, error.code, str(error), {"Retry-After": str(seconds)})
        except Denied as error:
            status = _STATUSES.get(error.code, 403)
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            return problem(status, error.code, str(error), headers)
        except BadRequest as error:
            return problem(error.status, "BAD_REQUEST", str(error))

    return answer


async def pieces_of(request: Request, most: int, what: str) -> AsyncIterator[bytes]:
    """The body, which is `what`, as it comes: what its sender says of its length is not believed.

    BadRequest with 413 where it has more than `most` bytes, with 400 where it breaks off.
    """
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                raise BadRequest(413, f"{what} has at most {most} bytes.")
            yield piece
    except ClientDisconnect:
        raise BadRequest(400, f"{what} did not come in whole.") from None


async def body_of(request: Request, most: int, what: str) -> bytes:
    """The whole body; BadRequest as with pieces_of."""
    return b"".join([piece async for piece in pieces_of(request, most, what)])


async def object_of(request: Request, most: int, what: str) -> dict[str, Any]:
    """The body, as body_of has it, that is a JSON object; BadRequest with 400 for any other."""
    try:
        said = orjson.loads(await body_of(request, most, what))
    except orjson.JSONDecodeError:
        raise BadRequest(400, "The body is not JSON.") from None
    if not isinstance(said, dict):
        raise BadRequest(400, f"{what} is an object.")
    return said


async def no_route(_: Request, error: Exception) -> Response:
    """What is told where no route leads, or another method does."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    code = {404: "NOT_FOUND"}.get(status, "BAD_REQUEST")
    return problem(status, code, HTTPStatus(status).phrase, dict(headers or {}))


def json_answer(said: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """What is said, as JSON."""
    return Response(
        orjson.dumps(said),
        status_code=status,
        media_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )


def problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """What went wrong, as JSON."""
    return json_answer({"error": {"code": code, "message": message}}, status, headers)
