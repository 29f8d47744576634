"""What tills call: their sales, vouchers to redeem, and the way back of the person who let us in.

Strangers learn nothing here: what is unknown and what is forged are answered alike.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from math import ceil
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from core.errors import Code, Overloaded, RateLimited, Unauthenticated
from core.ids import is_id, prefix_of
from db import Transaction
from endpoints.answers import HEADERS, BadRequest, body_of, json_answer, problem
from integrations.tills import (
    Call,
    Installed,
    Notice,
    Redemption,
    TillAway,
    TillRefuses,
    Unreadable,
)
from models import Actor, Business, PointOfSale, PointOfSaleStatus, RedeemedVia
from resolvers.charges import address_key
from resolvers.context import Context, Deployment
from resolvers.guesses import counted
from resolvers.perform import perform
from services.points_of_sale import (
    Connection,
    let_in,
    point_by_id,
    point_of_account,
    redirect_url,
)
from services.sales import card_ref_of, take
from services.undo import ReverseRedemptionInput, reverse_redemption
from services.vouchers import (
    RedeemVoucherInput,
    VoucherCodeRef,
    VoucherRef,
    redeem_voucher,
)

BODY_LIMIT = 1_000_000
_TAKEN = {"status": "accept"}
_STATUSES = {Code.NOT_FOUND: 404, Code.IDEMPOTENCY_KEY_IN_PROGRESS: 409}
Handler = Callable[[Request, Deployment], Awaitable[Response]]


def _answering(handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    @wraps(handle)
    async def answer(request: Request) -> Response:
        try:
            return await handle(request, request.app.state.deployment)
        except BadRequest as error:
            return problem(error.status, "BAD_REQUEST", str(error))
        except Unreadable as error:
            return problem(400, "BAD_REQUEST", str(error))
        except Unauthenticated:
            return problem(401, "UNAUTHENTICATED", "This call is not signed by a till we know.")
        except RateLimited as error:
            status = 503 if isinstance(error, Overloaded) else 429
            headers = {"Retry-After": str(max(1, ceil(error.retry_after_ms / 1_000)))}
            return problem(status, error.code, str(error), headers)

    return answer


@_answering
async def take_sales(request: Request, deployment: Deployment) -> Response:
    """Store what a till tells; 200 says that it is stored, and anything else that it is not."""
    connection, business, call = await _verified(request, deployment)
    try:
        notices, wrong = connection.till.read_sales(connection.settings, call), None
    except Unreadable as error:
        # What could be read is stored all the same; the till repeats the rest until a person looks.
        notices, wrong = error.read, error
    if notices:
        await _store(deployment, connection, business, notices)
    if wrong is not None:
        raise wrong
    return json_answer(_TAKEN, 200)


@_answering
async def redeem(request: Request, deployment: Deployment) -> Response:
    """Redeem a voucher at a till, or take that back: `{id, voucher or code, card?, undo?}`.

    200 with the voucher; 404, 409 or 422 with why not. The same `id` is answered as the first time.
    """
    connection, business, call = await _verified(request, deployment)
    asked = connection.till.redeem(connection.settings, call)
    if asked is None:
        raise Unauthenticated
    actor = Actor(business, point_of_sale=connection.point)
    context = Context(deployment, caller=actor, remote_address=_address(request))
    ref = await deployment.database.read(business.id, lambda tx: _voucher_of(tx, asked))
    key = asked.id
    if asked.undo:
        reverse = ReverseRedemptionInput(idempotency_key=key, voucher=ref, reason="At the till.")
        done: Any = await counted(context, lambda: perform(context, reverse_redemption, reverse))
    else:
        told = RedeemVoucherInput(idempotency_key=key, voucher=ref, via=RedeemedVia.POS)
        done = await counted(context, lambda: perform(context, redeem_voucher, told))
    if done.user_errors:
        refusal = done.user_errors[0]
        return problem(_STATUSES.get(refusal.code, 422), refusal.code.name, refusal.message)
    voucher = done.voucher
    shown = {
        "id": voucher.id,
        "title": voucher.title,
        "description": voucher.description,
        "redeemCode": voucher.redeem_code,
        "status": voucher.status.name,
    }
    return json_answer({"voucher": shown}, 200)


async def authorized(request: Request) -> Response:
    """The way back of the person who let us in, with what the till gave her for us."""
    deployment: Deployment = request.app.state.deployment
    whose = [_key(request, deployment)]
    try:
        async with deployment.guesses.guess(whose) as guess:
            guess.is_miss = True
            said = await _let_in(request, deployment)
            guess.is_miss = said is None
    except RateLimited as error:
        headers = {**HEADERS, "Retry-After": str(max(1, ceil(error.retry_after_ms / 1_000)))}
        return PlainTextResponse(str(error), status_code=429, headers=headers)
    text = "Connected. You can close this page." if said is None else said
    return PlainTextResponse(text, status_code=200 if said is None else 400, headers=HEADERS)


async def _verified(request: Request, deployment: Deployment) -> tuple[Connection, Business, Call]:
    """Whose call it is, proven. Unauthenticated for anybody else; RateLimited after too many."""
    query = f"?{request.url.query}" if request.url.query else ""
    call = Call(
        method=request.method,
        url=f"{deployment.settings.url}{request.url.path}{query}",
        headers={name.lower(): text for name, text in request.headers.items()},
        body=await body_of(request, BODY_LIMIT, "A call"),
    )
    async with deployment.guesses.guess([_key(request, deployment)]) as guess:
        guess.is_miss = True
        found = await _point_of(request, deployment)
        if found is None:
            raise Unauthenticated
        point, business = found
        connection = Connection.of(point, deployment.secrets)
        # An application has one address for all its accounts: the call may be for another of ours.
        account = connection.till.account_in(call)
        if account is not None and account != point.account:
            connection = await _sibling(deployment, connection, account)
        if not connection.till.verify(connection.settings, call, deployment.clock.now()):
            raise Unauthenticated
        guess.is_miss = False
    return connection, business, call


async def _point_of(
    request: Request, deployment: Deployment
) -> tuple[PointOfSale, Business] | None:
    id = request.path_params["id"]
    if not is_id(id) or prefix_of(id) != "pos":
        return None
    return await deployment.database.read(None, lambda tx: point_by_id(tx, id))


async def _sibling(deployment: Deployment, known: Connection, account: str) -> Connection:
    """The same business's connection of another account."""
    kind, business_id = known.point.kind, known.point.business_id
    point = await deployment.database.read(
        business_id, lambda tx: point_of_account(tx, kind, account)
    )
    if point is None:
        raise Unauthenticated
    return Connection.of(point, deployment.secrets)


async def _store(
    deployment: Deployment, connection: Connection, business: Business, notices: list[Notice]
) -> None:
    now = deployment.clock.now()

    async def work(tx: Transaction) -> None:
        await take(tx, connection, business, notices, deployment.secrets, now)

    await deployment.database.write(business.id, work)


async def _voucher_of(tx: Transaction, asked: Redemption) -> VoucherRef:
    if asked.code is None:
        return VoucherRef(token=asked.token)
    card = await card_ref_of(tx, asked.card) if asked.card else None
    return VoucherRef(code=VoucherCodeRef(redeem_code=asked.code, card=card))


async def _let_in(request: Request, deployment: Deployment) -> str | None:
    """Keep what the till gave; what to tell the person where that was no use, else None."""
    found = await _point_of(request, deployment)
    stale = "This page is not expected. Begin anew at authorizeUrl."
    if found is None or found[0].status is PointOfSaleStatus.ACTIVE:
        return stale
    point, business = found
    connection = Connection.of(point, deployment.secrets)
    redirect, answer = redirect_url(deployment.settings.url, point), dict(request.query_params)
    try:
        installed: Installed = await connection.till.authorize(
            deployment.outgoing, connection.settings, answer, redirect
        )
    except TillRefuses as error:
        return str(error)
    except TillAway:
        return "The till did not answer. Begin anew at authorizeUrl."
    now = deployment.clock.now()

    async def work(tx: Transaction) -> None:
        await let_in(tx, connection, installed, deployment.secrets, now)

    await deployment.database.write(business.id, work)
    return None


def _key(request: Request, deployment: Deployment) -> str:
    """Whose misses these are: an address's at one connection, so that none is in another's way."""
    address = address_key(Context(deployment, remote_address=_address(request)))
    return f"till:{request.path_params['id'][:64]}:{address}"


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
