"""Where scanners of public code tell of keys of ours that they found, signed by them.

As GitHub's partners have it: a list of `{token, type, url, source}`, answered by a list of labels
with the digest of each token, never with the token.
"""

import base64
from hashlib import sha256
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from core.errors import Unauthenticated
from endpoints.answers import BadRequest, body_of, json_answer, stranger, telling
from resolvers.charges import charge_stranger
from resolvers.context import Deployment
from services.leaked_keys import disable_leaked

_NOT_SIGNED = "This is not signed by the scanner."
MOST_BYTES = 1_000_000
_LONGEST = 200
"""Of an identifier, a signature, or a token that could be ours."""


@telling
async def take_leaked_keys(request: Request) -> Response:
    """Disable what was found. 401 for whoever is not the scanner; then nothing happens."""
    deployment: Deployment = request.app.state.deployment
    if deployment.scanner is None:
        raise HTTPException(404)
    await charge_stranger(stranger(request))
    identifier = _header(request, "github-public-key-identifier")
    signature = _header(request, "github-public-key-signature")
    body = await body_of(request, MOST_BYTES, "A report")
    if not await deployment.scanner.has_signed(body, identifier, signature):
        raise Unauthenticated(_NOT_SIGNED)
    return json_answer([await _label(deployment, one) for one in _findings(body)], 200)


async def _label(deployment: Deployment, finding: dict[str, Any]) -> dict[str, str]:
    token, where = str(finding.get("token", "")), str(finding.get("url") or "")
    is_ours = len(token) <= _LONGEST and await disable_leaked(
        deployment.database, deployment.secrets, token, where, deployment.clock.now()
    )
    digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
    return {
        "token_hash": base64.b64encode(digest).decode(),
        "token_type": str(finding.get("type", ""))[:_LONGEST],
        "label": "true_positive" if is_ours else "false_positive",
    }


def _header(request: Request, name: str) -> str:
    told = request.headers.getlist(name)
    if len(told) != 1 or len(told[0]) > _LONGEST:
        raise Unauthenticated(_NOT_SIGNED)
    return told[0]


def _findings(body: bytes) -> list[dict[str, Any]]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest(400, "The report is not JSON.") from None
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise BadRequest(400, 'A report is a list, such as [{"token": "7loc_sc_…"}].')
    return said
