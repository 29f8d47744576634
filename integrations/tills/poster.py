"""Poster (joinposter.com): webhooks per application, receipts fetched by the installed token.

Its facts are those of its public documentation and of its own application template. What it calls
a transaction is a receipt; its sums are in hundredths, and all its values are texts.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson
from pydantic import Field

from integrations.http import Outgoing
from integrations.tills import (
    Call,
    Installed,
    NoReceipt,
    Notice,
    Receipt,
    Redemption,
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
    redemption_of,
    same,
    text_of,
)

_NO_TOKEN = {"10", "11", "12", "20"}
_NOT_THERE = {"32", "404"}
_BUSY = "700"
_BUSY_SECONDS = 60.0
_CLOSED = "2"
_APP_SECONDS = 15 * 60
"""How old a call of the till app may be."""
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PosterSettings(TillSettings):
    """An account and the application that it installs."""

    address: ClassVar[str | None] = "api_url"
    keys: ClassVar[tuple[str, ...]] = ("application_secret", "access_token")
    account: str = Field(pattern=f"^{_ACCOUNT.pattern}$")
    application_secret: str = Field(repr=False)
    application_id: str | None = Field(default=None, pattern=r"^[0-9]{1,18}$")
    access_token: str | None = Field(default=None, repr=False)
    api_url: str | None = None
    """Instead of Poster's own hosts: for a stand-in of it."""

    @property
    def calls(self) -> str:
        """Where methods are called."""
        return f"{(self.api_url or 'https://joinposter.com').rstrip('/')}/api"

    @property
    def home(self) -> str:
        """The account's own host."""
        return (self.api_url or f"https://{self.account}.joinposter.com").rstrip("/")


class Poster(Till[PosterSettings]):
    """The till of cafés in many countries."""

    title = "Poster (joinposter.com)."
    settings = PosterSettings

    def account_of(self, settings: PosterSettings, id: str) -> str:  # noqa: ARG002 -- of others
        return settings.account

    def verify(self, settings: PosterSettings, call: Call, now: datetime) -> bool:
        if "x-poster-signature" in call.headers:
            return _is_of_app(settings, call, now)
        try:
            told = json_of(call)
        except Unreadable:
            return False
        verify = member(told, "verify")
        if not isinstance(verify, str) or member(told, "account") != settings.account:
            return False
        names = ["account", "object", "object_id", "action", "data", "time"]
        words = [told.get(name) for name in names if name != "data" or told.get("data") is not None]
        # `data` is a text inside the JSON: its own characters are signed, not what they mean.
        if any(isinstance(word, bool) or not isinstance(word, str | int) for word in words):
            return False
        return same(verify.lower(), _md5(";".join([*map(str, words), settings.application_secret])))

    def read_sales(self, settings: PosterSettings, call: Call) -> list[Notice]:  # noqa: ARG002
        told = json_of(call)
        what, action = member(told, "object"), member(told, "action")
        data = _data_of(told)
        if what == "application" and action == "added":
            token = text_of(member(data, "access_token"))
            return [Installed(settings={"access_token": token})] if token else []
        if what != "transaction":
            return []
        if action == "removed":
            return [Refund(sale_id=id_of(member(told, "object_id")))]
        # `changed` comes for each dish that is added; `closed` is not in the documentation, and
        # is what is sent.
        history = member(data, "transactions_history", "type_history")
        if action == "closed" or (action == "changed" and history == "close"):
            sale_id = id_of(member(told, "object_id"))
            return [Receipt(sale_id=sale_id, closed_at=_moment_of(member(told, "time")))]
        return []

    def account_in(self, call: Call) -> str | None:
        if "x-poster-signature" in call.headers:
            return None
        try:
            return text_of(member(json_of(call), "account"))
        except Unreadable:
            return None

    def redeem(self, settings: PosterSettings, call: Call) -> Redemption | None:  # noqa: ARG002
        # A webhook is signed in another way, and asks for nothing.
        return redemption_of(call) if "x-poster-signature" in call.headers else None

    def is_whole(self, receipt: Receipt) -> bool:  # noqa: ARG002 -- MD5 with a secret is weak
        return False

    async def fetch_receipt(
        self, outgoing: Outgoing, settings: PosterSettings, told: Receipt
    ) -> Receipt:
        if not told.sale_id.isdecimal():
            raise NoReceipt("Poster counts its receipts.")
        asked = {"transaction_id": told.sale_id, "include_products": "true"}
        found = await self._call(outgoing, settings, "dash.getTransaction", asked)
        receipt = found[0] if isinstance(found, list) and found else None
        if text_of(member(receipt, "status")) != _CLOSED:
            raise NoReceipt("Poster has no such closed receipt.")
        if text_of(member(receipt, "transaction_id")) not in (None, told.sale_id):
            raise NoReceipt("Poster gave another receipt.")
        try:
            total = amount_of(member(receipt, "sum")) / Decimal(100)
        except Unreadable:
            raise NoReceipt("Poster's receipt has no sum.") from None
        client_id = text_of(member(receipt, "client_id")) or "0"
        client = await self._client(outgoing, settings, client_id) if client_id != "0" else None
        digits = text_of(member(client, "phone_number")) or ""
        card = text_of(member(client, "card_number"))
        return Receipt(
            sale_id=told.sale_id,
            total=total,
            closed_at=told.closed_at,
            cards=(card,) if card else (),
            phone=f"+{digits.lstrip('+')}" if digits else None,
            email=text_of(member(client, "email")),
        )

    def is_ready(self, settings: PosterSettings) -> bool:
        return settings.access_token is not None

    def authorize_url(self, settings: PosterSettings, redirect_url: str) -> str | None:
        if settings.application_id is None:
            return None
        asked = {
            "application_id": settings.application_id,
            "redirect_uri": redirect_url,
            "response_type": "code",
        }
        return f"{settings.home}/api/auth?{urlencode(asked)}"

    async def authorize(
        self,
        outgoing: Outgoing,
        settings: PosterSettings,
        answer: Mapping[str, str],
        redirect_url: str,
    ) -> Installed:
        code = answer.get("code", "")
        if settings.application_id is None or not re.fullmatch(r"[0-9A-Za-z_-]{8,200}", code):
            raise TillRefuses("Poster gave no code.")
        if answer.get("account") != settings.account:
            raise TillRefuses("This is another account of Poster than the one to be connected.")
        form = {
            "application_id": settings.application_id,
            "application_secret": settings.application_secret,
            "grant_type": "authorization_code",
            "redirect_uri": redirect_url,
            "code": code,
        }
        url = f"{settings.home}/api/v2/auth/access_token"
        said = (await ask(outgoing, "POST", url, multipart=form)).json()
        token = text_of(member(said, "access_token"))
        if token is None:
            raise TillRefuses("Poster does not take this code: begin anew.")
        return Installed(settings={"access_token": token})

    async def test(self, outgoing: Outgoing, settings: PosterSettings, callback_url: str) -> str:
        if settings.access_token is None:
            raise TillRefuses("Nobody has let the application in yet: open authorizeUrl.")
        # Asks for a customer whom nobody has: it needs the right that receipts need, too.
        await self._call(outgoing, settings, "clients.getClients", {"phone": "+0"})
        return f"Poster lets us in. Its webhooks must go to {callback_url}"

    async def _client(self, outgoing: Outgoing, settings: PosterSettings, id: str) -> Any:
        """A client, None where it was deleted since."""
        try:
            found = await self._call(outgoing, settings, "clients.getClient", {"client_id": id})
        except NoReceipt:
            return None
        return found[0] if isinstance(found, list) and found else found

    async def _call(
        self, outgoing: Outgoing, settings: PosterSettings, method: str, asked: dict[str, str]
    ) -> Any:
        if settings.access_token is None:
            raise TillRefuses("Nobody has let the application in yet: open authorizeUrl.")
        params = {"token": settings.access_token, **asked}
        reply = await ask(outgoing, "GET", f"{settings.calls}/{method}", params=params)
        said = reply.json()
        error = member(said, "error")
        if error is not None:
            code = text_of(error if not isinstance(error, dict) else error.get("code")) or ""
            if code in _NO_TOKEN:
                raise TillRefuses(f"Poster does not accept the access token (error {code}).")
            if code in _NOT_THERE:
                raise NoReceipt(f"Poster has no such thing (error {code}).")
            raise TillAway(_BUSY_SECONDS if code == _BUSY else None)
        if not isinstance(said, dict) or "response" not in said or not reply.is_good:
            raise TillAway
        return said["response"]


def _is_of_app(settings: PosterSettings, call: Call, now: datetime) -> bool:
    """Whether Poster's server sends this for the till app (`Poster.makeRequest`)."""
    at = call.headers.get("x-poster-time", "")
    if not (at.isascii() and at.isdecimal() and len(at) <= 13):
        return False
    seconds = int(at) / (1_000 if len(at) > 11 else 1)
    if abs(now.timestamp() - seconds) > _APP_SECONDS:
        return False
    body = b"" if call.method == "GET" else call.body
    signed = call.url.encode() + body + at.encode() + settings.application_secret.encode()
    ours = hashlib.md5(signed, usedforsecurity=False).hexdigest()
    return same(call.headers["x-poster-signature"].lower(), ours)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _data_of(told: Any) -> Any:
    try:
        return orjson.loads(member(told, "data") or "null")
    except (orjson.JSONDecodeError, TypeError):
        return None


def _moment_of(value: Any) -> datetime | None:
    """A moment told in seconds since 1970."""
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


till = Poster()
