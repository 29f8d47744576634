"""What is refused before a route is looked for, in the same JSON as everything else."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from execution.transport import refusal

_BAD = 400


class OurOrigins(CORSMiddleware):
    """CORS, as Starlette has it."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether a page of this origin may ask so."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < _BAD:
            return answer
        told = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("content-length", "content-type")
        }
        return refusal(answer.status_code, bytes(answer.body).decode(), "BAD_REQUEST", told)


class OurHosts:
    """Requests for our own names only, as Starlette has it; nobody is led to another."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._names = list(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or refuse it."""
        is_refused = False

        async def go_on(*_: object) -> None:
            await self._app(scope, receive, send)

        async def refuse(_: Message) -> None:
            nonlocal is_refused
            is_refused = True

        door = TrustedHostMiddleware(go_on, self._names, www_redirect=False)
        await door(scope, receive, refuse)
        if is_refused:
            said = "We do not answer to this host name."
            await refusal(_BAD, said, "BAD_REQUEST")(scope, receive, send)


async def our_fault(_: Request, __: Exception) -> Response:
    """What is told where a handler broke; uvicorn logs why."""
    return refusal(500, "Something went wrong on our side.", "INTERNAL_SERVER_ERROR")
