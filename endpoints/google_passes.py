"""Google Wallet's side of a card: the way there, and what Google calls back with."""

import asyncio
from functools import cache
from io import BytesIO

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from core.errors import Unauthenticated
from endpoints.answers import HEADERS, body_of, json_answer, stranger, telling
from endpoints.card_page import page
from integrations.wallets.google_callback import Forged
from models import Platform
from resolvers.charges import charge_stranger
from resolvers.context import Deployment
from services.google_passes import hear, offer
from services.passes import find_pass, tell_again
from services.tokens import card_by_token

MOST_BYTES = 50_000
_WORDS = {
    "en": {
        "gone": "Google Wallet does not answer",
        "why": "Try again in a few minutes. Your card is good as it is.",
    },
    "id": {
        "gone": "Google Wallet tidak menjawab",
        "why": "Coba lagi beberapa menit lagi. Kartu Anda tetap berlaku.",
    },
}
_LOGO_SIDE = 660
_STAR = (
    (0, -7.4), (2.2, -2.7), (7.3, -2), (3.6, 1.6), (4.5, 6.7), (0, 4.2),
    (-4.5, 6.7), (-3.6, 1.6), (-7.3, -2), (-2.2, -2.7),
)  # fmt: skip
"""The star of our icon, around its middle; the icon's side is 24."""

log = structlog.get_logger("stampwire.google_passes")


@telling
async def save_to_google(request: Request) -> Response:
    """Send the holder of a card to Google, where it is put into her wallet.

    It is made there first: a link that carries it all would be too long for some browsers.
    """
    deployment: Deployment = request.app.state.deployment
    google, database = deployment.wallets.google, deployment.database
    if google is None:
        raise HTTPException(404)
    await charge_stranger(stranger(request))
    token = request.path_params["token"]
    found = await database.read(None, lambda tx: card_by_token(tx, token))
    if found is None:
        raise HTTPException(404)
    (card, business), now, url = found, deployment.clock.now(), deployment.settings.url
    held, face = await database.write(business.id, lambda tx: offer(tx, business, card, now, url))
    link = await google.save_link(face)
    if not isinstance(link, str):
        log.warning("no way to Google Wallet", why=link.reason)
        told = {"root": "../../", "logo": None}
        return page("no_card.html", told, face.language, _WORDS, status=503)
    # What happened to the card meanwhile, Google may have been told before this.
    await database.write(business.id, lambda tx: tell_again(tx, held, deployment.clock.now()))
    headers = {**HEADERS, "Referrer-Policy": "no-referrer"}
    return RedirectResponse(link, status_code=303, headers=headers)


@telling
async def hear_google(request: Request) -> Response:
    """Take down that a card was put into a wallet, or taken out. 401 for whoever is not Google.

    What is signed is answered well, also where we know no such pass: else it would come again.
    """
    deployment: Deployment = request.app.state.deployment
    google, database = deployment.wallets.google, deployment.database
    if google is None:
        raise HTTPException(404)
    await charge_stranger(stranger(request))
    try:
        called = await google.callbacks.read(await body_of(request, MOST_BYTES, "A callback"))
    except Forged:
        raise Unauthenticated("This is not signed by Google.") from None
    found = await database.read(None, lambda tx: find_pass(tx, called.serial, Platform.GOOGLE))
    if found is None:
        log.warning("a pass that we do not know")
    else:
        _, business = found
        now = deployment.clock.now()
        await database.write(business.id, lambda tx: hear(tx, business, called, now))
    return json_answer({}, 200)


async def show_logo(_: Request) -> Response:
    """The logo of businesses that have none, as Google wants it: a square that it makes round."""
    headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
    return Response(await asyncio.to_thread(_logo), media_type="image/png", headers=headers)


@cache
def _logo() -> bytes:
    from PIL import Image, ImageDraw  # noqa: PLC0415 -- the first picture loads it

    side = 2 * _LOGO_SIDE
    image = Image.new("RGB", (side, side), "#b4472e")
    star = [(side / 2 + x * side / 24, side / 2 + y * side / 24) for x, y in _STAR]
    ImageDraw.Draw(image).polygon(star, fill="#fbf5ea")
    file = BytesIO()
    image.resize((_LOGO_SIDE, _LOGO_SIDE), Image.Resampling.LANCZOS).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()
