"""GraphiQL, from files of our own: what a browser is shown at /graphql, and nothing without a key.

The files under console/graphiql/ are made by its source/build.mjs; see the page there.
"""

import secrets
from functools import cache
from hashlib import sha256
from pathlib import Path
from string import Template

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core.settings import Settings
from resolvers.context import Deployment

_FOLDER = Path(__file__).parent.parent / "console" / "graphiql"
_KINDS = {"graphiql.js": "text/javascript", "graphiql.css": "text/css"}
_PLAIN = ("json", "text/event-stream", "multipart/")
_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex"}


def is_for_people(request: Request, settings: Settings) -> bool:
    """Whether this is a browser that opens /graphql, and not a program that asks something.

    A browser asks for `text/html`; who names a type of data too, or a query, wants its answer.
    """
    if request.method != "GET" or not settings.has_graphiql:
        return False
    accept = request.headers.get("accept", "").lower()
    return (
        "text/html" in accept
        and not any(word in accept for word in _PLAIN)
        and "query" not in request.query_params
    )


def explorer() -> Response:
    """The page. It loads nothing but what `show_file` serves, and talks to this server alone."""
    nonce = secrets.token_urlsafe(16)
    addresses = {name.rpartition(".")[2]: f"/console/{_mark(name)}/{name}" for name in _KINDS}
    html = Template(_read("page.html").decode()).substitute(addresses, nonce=nonce)
    headers = {
        **_HEADERS,
        "Cache-Control": "no-store",
        "Vary": "Accept, Authorization",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
            f"style-src 'self' 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
    }
    return HTMLResponse(html, headers=headers)


async def show_file(request: Request) -> Response:
    """A file of the page. Its address has a mark of what is in it, so it never changes."""
    deployment: Deployment = request.app.state.deployment
    name = request.path_params["name"]
    is_ours = name in _KINDS and request.path_params["mark"] == _mark(name)
    if not (deployment.settings.has_graphiql and is_ours):
        raise HTTPException(404)
    headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_read(name), media_type=_KINDS[name], headers=headers)


@cache
def _mark(name: str) -> str:
    return sha256(_read(name)).hexdigest()[:16]


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
