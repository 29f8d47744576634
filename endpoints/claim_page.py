"""The page behind the QR code of a receipt: what it is worth, and how it is claimed."""

from datetime import datetime
from math import ceil
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from core.errors import RateLimited
from core.money import major_units
from core.secrets import read_crockford
from endpoints.answers import HEADERS, stranger
from endpoints.card_page import logo_of, page
from endpoints.codes import picture_answer, picture_of
from models import Business, CardTemplate, ClaimCode
from resolvers.charges import address_key
from resolvers.context import Deployment
from services.tokens import claim_code_by_code

_WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "stamp": "1 stamp",
        "stamps": "{count} stamps",
        "amount": "Stamps for {amount} {currency}",
        "show": "Show this at the counter together with your card",
        "used": "This code was used",
        "expired": "This code has expired",
        "gone": "This code is not here",
        "why": "The link is incomplete. Ask where you got it.",
    },
    "id": {
        "stamp": "1 stempel",
        "stamps": "{count} stempel",
        "amount": "Stempel untuk {amount} {currency}",
        "show": "Tunjukkan ini di kasir bersama kartu Anda",
        "used": "Kode ini sudah dipakai",
        "expired": "Kode ini sudah kedaluwarsa",
        "gone": "Kode ini tidak ada",
        "why": "Tautan tidak lengkap. Tanyakan di tempat Anda mendapatkannya.",
    },
}


async def show_claim_code(request: Request) -> Response:
    """The page of a claim code. Opening it claims nothing: whoever stamps the card does."""
    deployment: Deployment = request.app.state.deployment
    asked = request.headers.get("accept-language", "")
    try:
        found = await _found(request)
    except RateLimited as error:
        return _too_often(error)
    if found is None:
        return page("no_card.html", {"logo": None}, asked, _WORDS, status=404)
    claim_code, business, template = found
    now = business.time(deployment.clock.now())
    language = asked or business.default_language
    told = _told(claim_code, business, template, now, _url(deployment, claim_code))
    return page("claim.html", told, language, _WORDS)


async def show_claim_picture(request: Request) -> Response:
    """The page's address as a QR code, for whoever shows or prints it."""
    try:
        found = await _found(request)
    except RateLimited as error:
        return _too_often(error)
    if found is None:
        return PlainTextResponse("There is no such picture.", status_code=404, headers=HEADERS)
    url = _url(request.app.state.deployment, found[0])
    return await picture_answer(request, url, request.path_params["kind"])


async def _found(request: Request) -> tuple[ClaimCode, Business, CardTemplate] | None:
    """The code that the address names. RateLimited for whoever missed too often."""
    deployment: Deployment = request.app.state.deployment
    code = read_crockford(request.path_params["code"])
    async with deployment.guesses.guess([address_key(stranger(request))]) as guess:
        found = await deployment.database.read(None, lambda tx: claim_code_by_code(tx, code))
        guess.is_miss = found is None
    return found


def _url(deployment: Deployment, code: ClaimCode) -> str:
    return f"{deployment.settings.url}/claim/{code.code}"


def _too_often(error: RateLimited) -> Response:
    headers = {**HEADERS, "Retry-After": str(ceil(error.retry_after_ms / 1_000))}
    return PlainTextResponse(str(error), status_code=429, headers=headers)


def _told(
    code: ClaimCode, business: Business, template: CardTemplate, now: datetime, url: str
) -> dict[str, Any]:
    state = None
    if code.claimed_at is not None:
        state = "used"
    elif code.expires_at is not None and code.expires_at <= now:
        state = "expired"
    amount, currency = code.amount, business.currency
    return {
        "business": business.name,
        "logo": logo_of(business),
        "template": template.name,
        "stamps": code.stamps,
        "amount": None if amount is None else major_units(amount, currency),
        "currency": currency,
        "code": code.code,
        "state": state,
        "qr_code": picture_of(url, "svg").decode(),
    }
