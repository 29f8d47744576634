"""What messengers call: chats that begin and end, and what became of messages.

What is unknown and what is forged are answered alike, and counted against the address.
"""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from core.errors import Unauthenticated
from core.ids import is_id
from db import Transaction
from endpoints.answers import HEADERS, BadRequest, body_of, json_answer, stranger, telling
from integrations.channels.seam import (
    Callback,
    ChannelProvider,
    Delivered,
    Forged,
    Malformed,
    Report,
    Started,
)
from models import Actor, Business, ChannelConnection
from resolvers.charges import charge_stranger
from resolvers.context import Deployment
from services import channels
from services.channels import connection_by_id

BODY_LIMIT = 1_000_000
_WORDS = {
    "en": {
        "bound": "From now on you get news of {business} here. Write STOP to end it.",
        "late": "This link was used before, or is too old. Open your card for a new one.",
        "stopped": "You get no more news of {business} here. Your card stays as it is.",
    },
    "id": {
        "bound": "Anda kini menerima kabar {business} di sini. Tulis STOP untuk berhenti.",
        "late": "Tautan ini sudah dipakai atau terlalu lama. Buka kartu Anda untuk yang baru.",
        "stopped": "Anda tidak lagi menerima kabar {business} di sini. Kartu Anda tetap ada.",
    },
}


@telling
async def hear_channel(request: Request) -> Response:
    """Take what a provider tells; 200 says that it is stored."""
    deployment: Deployment = request.app.state.deployment
    connection, business, provider = await _connection(request, deployment)
    callback = Callback(
        method=request.method,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=dict(request.query_params),
        body=await body_of(request, BODY_LIMIT, "A callback"),
    )
    try:
        heard = provider.hear(callback)
    except Forged:
        raise await _unknown(request) from None
    except Malformed as error:
        raise BadRequest(400, f"This is {error}.") from None
    if heard.challenge is not None:
        return PlainTextResponse(heard.challenge, headers=HEADERS)
    now = business.time(deployment.clock.now())

    async def work(tx: Transaction) -> list[tuple[Report, bool]]:
        return await channels.hear(
            tx, Actor(business), connection, heard.reports, now, secrets=deployment.secrets
        )

    told = await deployment.database.write(business.id, work) if heard.reports else []
    return json_answer(_reply(provider, business, told) or {}, 200)


def _reply(
    provider: ChannelProvider, business: Business, told: list[tuple[Report, bool]]
) -> object:
    """What whoever wrote to us reads: only one person writes in a callback that is answered."""
    words = _WORDS["id" if business.default_language.startswith("id") else "en"]
    for report, is_so in told[:1]:
        if isinstance(report, Delivered) or (not isinstance(report, Started) and report.is_block):
            return None
        known = "bound" if isinstance(report, Started) else "stopped"
        text = words[known if is_so else "late"] if known == "bound" or is_so else None
        if text is not None:
            return provider.reply(report.address, text.format(business=business.name))
    return None


async def _connection(
    request: Request, deployment: Deployment
) -> tuple[ChannelConnection, Business, ChannelProvider]:
    id = request.path_params["id"]
    found = None
    if is_id(id):
        found = await deployment.database.read(None, lambda tx: connection_by_id(tx, id))
    if found is None:
        raise await _unknown(request)
    try:
        return *found, deployment.channels.provider(found[0])
    except ValueError:
        raise await _unknown(request) from None


async def _unknown(request: Request) -> Unauthenticated:
    await charge_stranger(stranger(request))
    return Unauthenticated("This call is not signed by a provider we know.")
