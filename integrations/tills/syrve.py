"""Syrve (iiko): webhooks as lists of events, set up by its Cloud API; guests looked up by id.

Own few calls over the client that is generated from its official description (iikocloudapi):
that one brings its own way out, without our address guard. It is the oracle of our tests. Sums
come in whole units of the organisation's currency; `whenClosed` in its local time, `eventTime` in
UTC, both without a zone.
"""

import base64
import re
import time
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo, available_timezones

import orjson
from pydantic import Field, field_validator, model_validator

from core.secrets import new_token
from integrations.http import Outgoing, Reply
from integrations.tills import (
    Call,
    Notice,
    Receipt,
    Refund,
    Till,
    TillAway,
    TillRefuses,
    TillSettings,
    Unreadable,
    amount_of,
    ask,
    id_of,
    json_of,
    member,
    read_each,
    same,
    text_of,
)
from models import Business

_HOST = "https://api-eu.iiko.services"
_FINISHED = {"TableOrderUpdate": {"Closed"}, "DeliveryOrderUpdate": {"Closed", "Delivered"}}
_TAKEN_BACK = {"TableOrderUpdate": {"Deleted"}, "DeliveryOrderUpdate": {"Cancelled"}}
_TOKEN_SECONDS = 14 * 60
"""How long a token is used that does not say when it ends."""
_TOKENS_KEPT = 1_000
_EARLY_SECONDS = 60
_TOKEN = re.compile(r"[!-~]{1,8000}")


class SyrveSettings(TillSettings):
    """An organisation, and the keys of an application that may call for it."""

    address: ClassVar[str | None] = "base_url"
    keys: ClassVar[tuple[str, ...]] = ("api_key", "client_secret", "api_login")
    organization_id: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    api_key: str | None = Field(default=None, repr=False)
    app_id: str | None = None
    client_secret: str | None = Field(default=None, repr=False)
    api_login: str | None = Field(default=None, repr=False)
    """The older key, which Syrve is giving up."""
    base_url: str = _HOST
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    timezone: str | None = None
    auth_token: str = Field(default="", min_length=0, repr=False)
    """What Syrve sends with each call; we make it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.api_login is None and None in (self.api_key, self.app_id, self.client_secret):
            raise ValueError("give apiKey, appId and clientSecret, or apiLogin")
        return self

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, told: str | None) -> str | None:
        if told is not None and told not in available_timezones():
            raise ValueError("a timezone, such as Asia/Jakarta")
        return told


class Syrve(Till[SyrveSettings]):
    """The till of restaurants, in some countries called iiko."""

    title = "Syrve, in some countries called iiko."
    settings = SyrveSettings
    needs_set_up = True

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def account_of(self, settings: SyrveSettings, id: str) -> str:  # noqa: ARG002 -- of others
        return settings.organization_id

    def prepared(
        self, settings: SyrveSettings, business: Business
    ) -> tuple[SyrveSettings, str | None]:
        made = {
            "auth_token": new_token() + new_token(),
            "currency": settings.currency or business.currency,
            "timezone": settings.timezone or business.timezone,
        }
        return settings.model_copy(update=made), None

    def changed(
        self, former: SyrveSettings, settings: SyrveSettings, business: Business
    ) -> tuple[SyrveSettings, str | None]:
        """Syrve calls with the token it knows, until it was told of the change."""
        made, shown = self.prepared(settings, business)
        return made.model_copy(update={"auth_token": former.auth_token}), shown

    def verify(self, settings: SyrveSettings, call: Call, now: datetime) -> bool:  # noqa: ARG002
        told = call.headers.get("authorization", "")
        bare = told[7:] if told[:7].lower() == "bearer " else told
        return bool(settings.auth_token) and same(bare.strip(), settings.auth_token)

    def read_sales(self, settings: SyrveSettings, call: Call) -> list[Notice]:
        told = json_of(call)
        if not isinstance(told, list):
            raise Unreadable("The body is not a list of events.")
        return read_each(told, lambda event: _notice_of(settings, event))

    def is_whole(self, receipt: Receipt) -> bool:
        # The guest of a table is often told by its id alone.
        return receipt.guest is None or receipt.phone is not None

    async def fetch_receipt(
        self, outgoing: Outgoing, settings: SyrveSettings, told: Receipt
    ) -> Receipt:
        asked = {
            "organizationId": settings.organization_id,
            "type": "id",
            "id": told.guest,
        }
        reply = await self._call(outgoing, settings, "/api/1/loyalty/iiko/customer/info", asked)
        if reply.status in (400, 404):  # a guest without a place in the loyalty programme
            return Receipt(sale_id=told.sale_id)
        guest = _said(reply)
        cards = member(guest, "cards")
        numbers = [text_of(member(card, "number")) for card in _listed(cards)]
        return Receipt(
            sale_id=told.sale_id,
            cards=tuple(number for number in numbers if number),
            phone=text_of(member(guest, "phone")),
            email=text_of(member(guest, "email")),
        )

    async def set_up(self, outgoing: Outgoing, settings: SyrveSettings, callback_url: str) -> None:
        asked = {
            "organizationId": settings.organization_id,
            "webHooksUri": callback_url,
            "authToken": settings.auth_token,
            "webHooksFilter": {
                "tableOrderFilter": {"orderStatuses": ["Closed", "Deleted"], "errors": False},
                "deliveryOrderFilter": {
                    "orderStatuses": ["Delivered", "Closed", "Cancelled"],
                    "errors": False,
                },
            },
        }
        _said(await self._call(outgoing, settings, "/api/1/webhooks/update_settings", asked))

    async def test(self, outgoing: Outgoing, settings: SyrveSettings, callback_url: str) -> str:
        asked = {"organizationId": settings.organization_id}
        said = _said(await self._call(outgoing, settings, "/api/1/webhooks/settings", asked))
        if member(said, "webHooksUri") != callback_url:
            await self.set_up(outgoing, settings, callback_url)
            return "Syrve lets us in. Its webhooks went elsewhere; now they come to us."
        return "Syrve lets us in, and its webhooks come to us."

    async def _call(
        self, outgoing: Outgoing, settings: SyrveSettings, path: str, asked: dict[str, Any]
    ) -> Reply:
        """Ask with a token; with a fresh one, once, where it is not taken."""
        url = f"{settings.base_url.rstrip('/')}{path}"
        for fresh in (False, True):
            token = await self._token(outgoing, settings, fresh=fresh)
            headers = {"authorization": f"Bearer {token}"}
            reply = await ask(outgoing, "POST", url, json=asked, headers=headers)
            if reply.status != 401:
                return reply
        raise TillRefuses("Syrve does not accept our token.")

    async def _token(self, outgoing: Outgoing, settings: SyrveSettings, *, fresh: bool) -> str:
        key = sha256(settings.model_dump_json().encode()).hexdigest()
        known, ends = self._tokens.get(key, ("", 0.0))
        if known and not fresh and time.monotonic() < ends:
            return known
        if settings.api_login is None:
            path = "/api/v2/access_token"
            asked = {
                "apiKey": settings.api_key,
                "appId": settings.app_id,
                "clientSecret": settings.client_secret,
            }
        else:
            path, asked = "/api/1/access_token", {"apiLogin": settings.api_login}
        reply = await ask(outgoing, "POST", f"{settings.base_url.rstrip('/')}{path}", json=asked)
        token = member(reply.json(), "token")
        if not reply.is_good or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise TillRefuses(f"Syrve does not accept these keys (status {reply.status}).")
        self._tokens[key] = token, time.monotonic() + _seconds_of(token)
        if len(self._tokens) > _TOKENS_KEPT:
            self._tokens.popitem(last=False)
        return token


def _notice_of(settings: SyrveSettings, event: Any) -> Notice | None:
    if member(event, "organizationId") != settings.organization_id:
        return None
    order = member(event, "eventInfo", "order")
    kind, status = text_of(member(event, "eventType")) or "", text_of(member(order, "status"))
    if status in _TAKEN_BACK.get(kind, ()):
        return Refund(sale_id=id_of(member(event, "eventInfo", "id")))
    if status in _FINISHED.get(kind, ()):
        return _receipt_of(settings, event, order)
    return None


def _receipt_of(settings: SyrveSettings, event: Any, order: Any) -> Receipt:
    total = member(order, "sum")
    return Receipt(
        sale_id=id_of(member(event, "eventInfo", "id")),
        total=None if total is None else amount_of(total),
        currency=settings.currency,
        closed_at=_local(settings, member(order, "whenClosed")) or _utc(member(event, "eventTime")),
        phone=text_of(member(order, "phone")) or text_of(member(order, "customer", "phone")),
        guest=text_of(member(order, "customer", "id")),
    )


def _said(reply: Reply) -> Any:
    """What Syrve answered; TillRefuses or TillAway where that is not good."""
    if reply.status in (401, 403):
        raise TillRefuses("Syrve does not let these keys do this.")
    said = reply.json()
    if not reply.is_good:
        raise TillRefuses(f"Syrve refused this (status {reply.status}).")
    if not isinstance(said, dict):
        raise TillAway
    return said


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _local(settings: SyrveSettings, value: Any) -> datetime | None:
    naive = _naive(value)
    return naive and naive.replace(tzinfo=ZoneInfo(settings.timezone or "UTC"))


def _utc(value: Any) -> datetime | None:
    naive = _naive(value)
    return naive and naive.replace(tzinfo=UTC)


def _naive(value: Any) -> datetime | None:
    """A moment as Syrve writes it, `2026-11-22 12:34:56.789`."""
    try:
        return datetime.fromisoformat(value).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None


def _seconds_of(token: str) -> float:
    """How long a token may be used, by what it says of itself (`exp`), which is not verified."""
    try:
        part = token.split(".")[1]
        ends = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"]
        return float(ends - time.time() - _EARLY_SECONDS)
    except (IndexError, KeyError, TypeError, ValueError):
        return _TOKEN_SECONDS


till = Syrve()
