"""Syrve's Cloud API as its description tells of it: tokens, settings, guests; and its events."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ORGANIZATION = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9"
KEYS = {"apiKey": "key-of-the-cafe", "appId": "stampwire", "clientSecret": "secret-of-the-app"}
ID = "00000000-0000-4000-8000-00000000000"


@dataclass
class Syrve:
    """An organisation."""

    webhooks: dict[str, Any] = field(default_factory=dict)
    """What was set up."""
    guests: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = "token-1"
    logins: int = 0
    busy: int = 0
    """So many set-ups are answered 429 first."""

    @property
    def app(self) -> Starlette:
        """What answers its calls."""
        return Starlette(
            routes=[
                Route("/api/v2/access_token", self._log_in, methods=["POST"]),
                Route("/api/1/webhooks/update_settings", self._set_up, methods=["POST"]),
                Route("/api/1/webhooks/settings", self._settings, methods=["POST"]),
                Route("/api/1/loyalty/iiko/customer/info", self._guest, methods=["POST"]),
            ]
        )

    async def _log_in(self, request: Request) -> Response:
        self.logins += 1
        if await request.json() != KEYS:
            return JSONResponse({"errorDescription": "Login is not authorized."}, 401)
        return JSONResponse({"correlationId": ID + "9", "token": self.token})

    async def _told(self, request: Request) -> Any:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return None
        told = await request.json()
        assert told["organizationId"] == ORGANIZATION
        return told

    async def _set_up(self, request: Request) -> Response:
        if self.busy:
            self.busy -= 1
            return Response(status_code=429, headers={"Retry-After": "1"})
        told = await self._told(request)
        if told is None:
            return JSONResponse({}, 401)
        self.webhooks = told
        return JSONResponse({"correlationId": ID + "9"})

    async def _settings(self, request: Request) -> Response:
        if await self._told(request) is None:
            return JSONResponse({}, 401)
        return JSONResponse({"correlationId": ID + "9", "apiLoginName": "cafe", **self.webhooks})

    async def _guest(self, request: Request) -> Response:
        told = await self._told(request)
        if told is None:
            return JSONResponse({}, 401)
        guest = self.guests.get(told["id"])
        return JSONResponse(guest or {"message": "no such guest"}, 200 if guest else 400)


def event(
    number: str,
    status: str = "Closed",
    total: float = 0,
    *,
    phone: str = "",
    guest: str = "",
    organization: str = ORGANIZATION,
) -> dict[str, Any]:
    """An event of an order at a table."""
    order: dict[str, Any] = {"status": status, "sum": total, "number": 7, "items": []}
    order |= {"tableIds": [f"{ID}5"], "terminalGroupId": f"{ID}6"}
    order |= {"whenClosed": "2026-03-02 18:59:30.120"}
    order |= {"phone": phone} if phone else {}
    order |= {"customer": {"id": guest, "name": "Ana"}} if guest else {}
    return _told("TableOrderUpdate", number, order, organization)


def delivery(number: str, status: str = "Delivered", total: float = 0, *, phone: str) -> Any:
    """An event of an order that is brought to the guest."""
    order = {
        "status": status,
        "sum": total,
        "number": 8,
        "items": [],
        "phone": phone,
        "customer": {"type": "one-time", "name": "Ana"},
        "terminalGroupId": f"{ID}6",
        "completeBefore": "2026-03-02 19:30:00.000",
        "cookingStartTime": "2026-03-02 18:30:00.000",
        "whenCreated": "2026-03-02 18:20:00.000",
        "whenClosed": "2026-03-02 18:59:30.120",
    }
    return _told("DeliveryOrderUpdate", number, order, ORGANIZATION)


def _told(kind: str, number: str, order: dict[str, Any], organization: str) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": "2026-03-02 11:59:31.000",
        "organizationId": organization,
        "correlationId": ID + "8",
        "eventInfo": {
            "id": f"{ID}{number}",
            "organizationId": organization,
            "timestamp": 1772452771000,
            "creationStatus": "Success",
            "order": order,
        },
    }


def webhook(*events: dict[str, Any]) -> bytes:
    """A call: a list of events."""
    return orjson.dumps(list(events))
