"""Apple Wallet's side of passes: the file of a pass, and what telephones ask about those they hold.

The paths below `/passes/apple/v1` and their answers are Apple's: its PassKit Web Service.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import Response

from db import Transaction
from endpoints.answers import (
    HEADERS,
    BadRequest,
    json_answer,
    object_of,
    problem,
    stranger,
    telling,
)
from integrations.wallets.seam import Device, PassFace
from models import Business, Platform, WalletPass
from resolvers.charges import charge_holder, charge_stranger
from resolvers.context import Deployment
from services.logos import logo_of
from services.pass_faces import pass_face
from services.passes import add_device, add_pass, changed_on, drop_device, find_pass
from services.tokens import card_by_token

if TYPE_CHECKING:
    from integrations.wallets.apple import AppleWallet

_MEDIA_TYPE = "application/vnd.apple.pkpass"
_MOST_BYTES = 2_000
_MOST_LOG_BYTES = 10_000
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PUSH_TOKEN = re.compile(r"[0-9A-Fa-f]{8,200}")
_LATE = timedelta(seconds=10)
"""What changed so long ago is surely stored, whoever was storing it."""
_LOGGED_EVERY = 10.0
_DRAWN_AT_ONCE = 2
_drawing = asyncio.Semaphore(_DRAWN_AT_ONCE)
log = structlog.get_logger("stampwire.wallets")

Handler = Callable[[Request, "AppleWallet"], Awaitable[Response]]


def with_wallet(handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler, where the operator has a certificate of Apple; 404 where not."""

    @telling
    async def answer(request: Request) -> Response:
        deployment: Deployment = request.app.state.deployment
        wallet = deployment.wallets.apple
        if wallet is None:
            return problem(404, "NOT_FOUND", "Not Found")
        return await handle(request, wallet)

    return answer


@with_wallet
async def fetch_pass(request: Request, wallet: "AppleWallet") -> Response:
    """The card as a pass, for whoever has the card's address."""
    deployment: Deployment = request.app.state.deployment
    await charge_stranger(stranger(request))
    token, now = request.path_params["token"], deployment.clock.now()
    found = await deployment.database.read(None, lambda tx: card_by_token(tx, token))
    if found is None:
        return problem(404, "NOT_FOUND", "There is no such card.")
    card, business = found
    made = await deployment.database.read(
        None, lambda tx: find_pass(tx, card.wallet_pass_id, Platform.APPLE)
    )

    async def work(tx: Transaction) -> PassFace:
        held = made[0] if made else await add_pass(tx, business, card, Platform.APPLE, now)
        return await pass_face(tx, business, held, business.time(now), deployment.settings.url)

    do = deployment.database.read if made else deployment.database.write
    face = await do(business.id, work)
    file = {"Content-Disposition": 'attachment; filename="card.pkpass"'}
    return await _as_file(deployment, wallet, business, face, file)


@with_wallet
async def register_device(request: Request, wallet: "AppleWallet") -> Response:
    """A telephone holds a pass and wants to be told of it: 201 the first time, then 200."""
    deployment: Deployment = request.app.state.deployment
    held, business = await _shown(request, wallet)
    said = await object_of(request, _MOST_BYTES, "A registration")
    device, push_token = request.path_params["device"], said.get("pushToken")
    if not _DEVICE.fullmatch(device):
        raise BadRequest(400, "This is no device.")
    if not isinstance(push_token, str) or not _PUSH_TOKEN.fullmatch(push_token):
        raise BadRequest(400, "This is no push token.")
    told, now = Device(device=device, push_token=push_token), deployment.clock.now()
    is_new = await deployment.database.write(
        business.id, lambda tx: add_device(tx, business, held.serial, told, now)
    )
    return Response(status_code=201 if is_new else 200, headers=HEADERS)


@with_wallet
async def unregister_device(request: Request, wallet: "AppleWallet") -> Response:
    """A telephone holds a pass no more, or wants to hear no more of it: 200."""
    deployment: Deployment = request.app.state.deployment
    held, business = await _shown(request, wallet)
    device = request.path_params["device"]
    if _DEVICE.fullmatch(device):
        await deployment.database.write(
            business.id, lambda tx: drop_device(tx, held.serial, device)
        )
    return Response(status_code=200, headers=HEADERS)


@with_wallet
async def changed_passes(request: Request, wallet: "AppleWallet") -> Response:
    """Which passes on a telephone changed since it last asked; 204 for none.

    It has no secret to show: what it learns is serials that it holds. The tag lies a little in the
    past, so that what is being stored at this moment is told the next time.
    """
    deployment: Deployment = request.app.state.deployment
    device = request.path_params["device"]
    if request.path_params["type"] != wallet.pass_type or not _DEVICE.fullmatch(device):
        return Response(status_code=204, headers=HEADERS)
    after = _moment(request.query_params.get("passesUpdatedSince", ""))
    passes = await deployment.database.read(None, lambda tx: changed_on(tx, device, after))
    if not passes:
        return Response(status_code=204, headers=HEADERS)
    until = min(passes[-1].changed_at, deployment.clock.now() - _LATE)
    told = {
        "serialNumbers": [held.serial for held in passes],
        "lastUpdated": str(int(until.timestamp())),
    }
    return json_answer(told, 200)


@with_wallet
async def send_pass(request: Request, wallet: "AppleWallet") -> Response:
    """The pass as it is now; 304 if the telephone has it."""
    deployment: Deployment = request.app.state.deployment
    held, business = await _shown(request, wallet)
    changed = {"Last-Modified": format_datetime(held.changed_at.astimezone(UTC), usegmt=True)}
    if _has(request, held.changed_at):
        return Response(status_code=304, headers=HEADERS | changed)
    now = business.time(deployment.clock.now())
    url = deployment.settings.url
    face = await deployment.database.read(
        business.id, lambda tx: pass_face(tx, business, held, now, url)
    )
    return await _as_file(deployment, wallet, business, face, changed)


_logged_at = 0.0


@with_wallet
async def take_log(request: Request, wallet: "AppleWallet") -> Response:  # noqa: ARG001 -- its door
    """What a telephone did not like. That is logged; what it says, which may name a person, not."""
    global _logged_at  # noqa: PLW0603 -- of this process
    await charge_stranger(stranger(request))
    said = await object_of(request, _MOST_LOG_BYTES, "A log")
    lines, at = said.get("logs"), asyncio.get_running_loop().time()
    if isinstance(lines, list) and at - _logged_at >= _LOGGED_EVERY:
        _logged_at = at
        log.warning("a telephone complains of a pass", lines=len(lines))
    return Response(status_code=200, headers=HEADERS)


async def _shown(request: Request, wallet: "AppleWallet") -> tuple[WalletPass, Business]:
    """The pass whose token is shown. BadRequest with 401 for any other, whatever is wrong."""
    deployment: Deployment = request.app.state.deployment
    kind, serial = request.path_params["type"], request.path_params["serial"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    is_good = scheme == "ApplePass" and wallet.is_token(serial, token.strip())
    if is_good and kind == wallet.pass_type:
        # Thousands of telephones may share an address: each pass pays for itself.
        await charge_holder(stranger(request), serial)
        found = await deployment.database.read(
            None, lambda tx: find_pass(tx, serial, Platform.APPLE)
        )
        if found is not None:
            return found
    await charge_stranger(stranger(request))
    raise BadRequest(401, "This is no pass that you hold.")


async def _as_file(
    deployment: Deployment,
    wallet: "AppleWallet",
    business: Business,
    face: PassFace,
    headers: dict[str, str],
) -> Response:
    logo = await logo_of(deployment.database, business, deployment.settings.url)
    async with _drawing:
        made = await asyncio.to_thread(wallet.pass_file, face, logo)
    return Response(
        made,
        media_type=_MEDIA_TYPE,
        headers=HEADERS | {"Cache-Control": "private, no-store"} | headers,
    )


def _has(request: Request, changed_at: datetime) -> bool:
    try:
        known = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
    except (ValueError, OverflowError):
        return False
    return known.replace(tzinfo=known.tzinfo or UTC) >= changed_at


def _moment(tag: str) -> datetime:
    """The moment of a tag of ours; before all of them for anything else."""
    if tag.isascii() and tag.isdecimal() and len(tag) < 12:
        return datetime.fromtimestamp(int(tag), UTC)
    return datetime.fromtimestamp(0, UTC)
