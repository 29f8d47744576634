"""Poster as its documentation tells of it: receipts, clients, an install, and signed webhooks."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ACCOUNT = "cafe"
SECRET = "d0b1cbd2f5b1a4c9e7f3"
TOKEN = "687409:4164553abf6a031302898da7800b59fb"
CODE = "b0a8a5c8e7d14f7e9b5ad0c1f2e3d4c5"


@dataclass
class Poster:
    """An account. All its values are texts, and its sums are in hundredths."""

    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    error: int | None = None
    """Answer everything with this error."""
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    """Until then no call is answered; it is set unless a test clears it."""

    def __post_init__(self) -> None:
        self.speaks.set()

    def sell(self, number: str, total: str, phone: str = "", card: str = "") -> None:
        """Close a receipt of this total, in whole units; for a client with a phone or a card."""
        client_id = number if phone or card else "0"
        self.receipts[number] = {
            "transaction_id": number,
            "status": "2",
            "sum": str(int(float(total) * 100)),
            "client_id": client_id,
        }
        if client_id != "0":
            self.clients[client_id] = {
                "client_id": client_id,
                "phone": phone,
                "phone_number": phone.lstrip("+"),
                "card_number": card,
            }

    @property
    def app(self) -> Starlette:
        """What answers its calls."""
        return Starlette(
            routes=[
                Route("/api/v2/auth/access_token", self._install, methods=["POST"]),
                Route("/api/{method}", self._answer),
            ]
        )

    async def _install(self, request: Request) -> Response:
        assert request.headers["content-type"].startswith("multipart/form-data")
        async with request.form() as form:
            told = dict(form)
        wanted = {"application_id": "1234", "application_secret": SECRET, "code": CODE}
        if any(told.get(name) != value for name, value in wanted.items()):
            return JSONResponse({"code": 400, "error_type": "OAuthException"}, 400)
        return JSONResponse({"access_token": TOKEN, "account_number": "687409"})

    async def _answer(self, request: Request) -> Response:
        asked, method = request.query_params, request.path_params["method"]
        self.asked.append(method)
        await self.speaks.wait()
        if self.error is not None:
            return JSONResponse({"error": {"code": self.error, "message": "no"}})
        if asked.get("token") != TOKEN:
            return JSONResponse({"error": {"code": 10, "message": "Invalid token"}})
        if method == "dash.getTransaction":
            receipt = self.receipts.get(asked["transaction_id"])
            return JSONResponse({"response": [receipt] if receipt else []})
        if method == "clients.getClient":
            client = self.clients.get(asked["client_id"])
            return JSONResponse({"response": [client] if client else []})
        return JSONResponse({"response": []})


def webhook(
    number: str | int,
    action: str = "closed",
    *,
    object: str = "transaction",
    data: Any = None,
    account: str = ACCOUNT,
    secret: str = SECRET,
    time: str = "1772452800",
) -> bytes:
    """A webhook, signed as Poster's own example does it."""
    if data is None and action == "closed":
        data = {"transactions_history": {"type_history": "close", "value2": 99_999_900}}
    told: dict[str, Any] = {
        "account": account,
        "account_number": "687409",
        "object": object,
        "object_id": number,
        "action": action,
        "time": time,
    }
    words = [account, object, str(number), action]
    if data is not None:
        told["data"] = data if isinstance(data, str) else orjson.dumps(data).decode()
        words.append(told["data"])
    words += [time, secret]
    told["verify"] = hashlib.md5(";".join(words).encode(), usedforsecurity=False).hexdigest()
    return orjson.dumps(told)


def app_headers(url: str, body: bytes, time: str, secret: str = SECRET) -> dict[str, str]:
    """The headers of a call of the till app, as Poster's server passes it on."""
    signed = url.encode() + body + time.encode() + secret.encode()
    return {
        "X-Poster-Signature": hashlib.md5(signed, usedforsecurity=False).hexdigest(),
        "X-Poster-Time": time,
        "X-Poster-Url": ACCOUNT,
    }
