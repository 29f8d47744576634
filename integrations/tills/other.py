"""Any other till that can post signed JSON: where things stand in it, its settings say.

Signed as Standard Webhooks has it, or by an HMAC of the body in a header of its own. Without a
mapping it reads our own form, `{saleId, status, total, currency, closedAt, card, phone, email}`.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from core.money import major_units
from core.secrets import new_signing_secret
from integrations.http import Outgoing
from integrations.tills import (
    Call,
    Notice,
    Receipt,
    Redemption,
    Refund,
    Till,
    TillSettings,
    Unreadable,
    amount_of,
    id_of,
    json_of,
    member,
    read_each,
    redemption_of,
    same,
    text_of,
)
from models import Business

_TOLERANCE_SECONDS = 5 * 60
_PREFIX = "whsec_"
_LEAST_SECRET = 16


class Algorithm(StrEnum):
    """Which HMAC signs."""

    SHA256 = "SHA256"
    SHA512 = "SHA512"
    SHA1 = "SHA1"


class Encoding(StrEnum):
    """How a signature is written."""

    HEX = "HEX"
    BASE64 = "BASE64"


class Units(StrEnum):
    """In what a total is told: 42.50, or 4250."""

    MAJOR = "MAJOR"
    MINOR = "MINOR"


class HmacSettings(TillSettings):
    """A signature of the body in a header of the till's own."""

    header: str = Field(pattern=r"^[A-Za-z0-9-]{1,100}$")
    algorithm: Algorithm = Algorithm.SHA256
    encoding: Encoding = Encoding.HEX
    prefix: str = Field(default="", min_length=0, max_length=20)


def _path(name: str) -> Any:
    return Field(default=name, pattern=r"^[^.\s][^\s]{0,199}$")


class OtherSettings(TillSettings):
    """How a till signs, and where things stand in what it posts: names joined by points."""

    secret: str = Field(default="", min_length=0, repr=False)
    hmac: HmacSettings | None = None
    sales: str | None = None
    sale_id: str = _path("saleId")
    status: str = _path("status")
    finished: tuple[str, ...] = ("closed", "finished", "paid")
    refunded: tuple[str, ...] = ("refunded", "voided", "cancelled")
    total: str = _path("total")
    total_in: Units = Units.MAJOR
    currency: str = _path("currency")
    closed_at: str = _path("closedAt")
    card: str = _path("card")
    phone: str = _path("phone")
    email: str = _path("email")
    timezone: str | None = None
    """Of times that name none."""
    counts_in: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    """The currency of totals beside which none is told."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.secret and len(self.secret) < _LEAST_SECRET:
            raise ValueError("a secret has at least 16 characters")
        if self.secret and self.hmac is None:
            _key_of(self.secret)
        return self

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, told: str | None) -> str | None:
        if told is not None and told not in available_timezones():
            raise ValueError("a timezone, such as Asia/Jakarta")
        return told


class Other(Till[OtherSettings]):
    """A till that was told of us."""

    title = "Any other till that can post signed JSON."
    settings = OtherSettings

    def account_of(self, settings: OtherSettings, id: str) -> str:  # noqa: ARG002 -- of others
        return id

    def prepared(
        self, settings: OtherSettings, business: Business
    ) -> tuple[OtherSettings, str | None]:
        shown = None if settings.secret else new_signing_secret()
        made = {
            "secret": shown or settings.secret,
            "counts_in": settings.counts_in or business.currency,
            "timezone": settings.timezone or business.timezone,
        }
        return settings.model_copy(update=made), shown

    def verify(self, settings: OtherSettings, call: Call, now: datetime) -> bool:
        if settings.hmac is not None:
            return _is_hmac(settings.hmac, settings.secret, call)
        return _is_standard(_key_of(settings.secret), call, now)

    def read_sales(self, settings: OtherSettings, call: Call) -> list[Notice]:
        told = json_of(call)
        if settings.sales is not None:
            told = _at(told, settings.sales)
        listed = told if isinstance(told, list) else [told]
        return read_each(listed, lambda sale: _notice_of(settings, sale))

    def redeem(self, settings: OtherSettings, call: Call) -> Redemption | None:  # noqa: ARG002
        return redemption_of(call)

    async def test(
        self,
        outgoing: Outgoing,  # noqa: ARG002 -- of tills that are called
        settings: OtherSettings,
        callback_url: str,
    ) -> str:
        how = f"an HMAC in {settings.hmac.header}" if settings.hmac else "Standard Webhooks"
        return f"Waits for what the till posts to {callback_url}, signed by {how}."


def _notice_of(settings: OtherSettings, sale: Any) -> Notice | None:
    status = text_of(_at(sale, settings.status))
    if status is None:
        raise Unreadable("A sale has no status.")
    if status.casefold() in map(str.casefold, settings.refunded):
        return Refund(sale_id=id_of(_at(sale, settings.sale_id)))
    if status.casefold() not in map(str.casefold, settings.finished):
        return None
    currency = text_of(_at(sale, settings.currency)) or settings.counts_in
    card = text_of(_at(sale, settings.card))
    return Receipt(
        sale_id=id_of(_at(sale, settings.sale_id)),
        total=_total_of(settings, _at(sale, settings.total), currency or ""),
        currency=currency,
        closed_at=_moment_of(settings, _at(sale, settings.closed_at)),
        cards=(card,) if card else (),
        phone=text_of(_at(sale, settings.phone)),
        email=text_of(_at(sale, settings.email)),
    )


def _at(told: Any, path: str) -> Any:
    return member(told, *path.split("."))


def _total_of(settings: OtherSettings, value: Any, currency: str) -> Decimal | None:
    if value is None:
        return None
    number = amount_of(value)
    if settings.total_in is Units.MAJOR:
        return number
    if number != number.to_integral_value():
        raise Unreadable("A total in minor units is a whole number.")
    return major_units(int(number), currency)


def _moment_of(settings: OtherSettings, value: Any) -> datetime | None:
    """A moment in RFC 3339 or in seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value)
        zone = ZoneInfo(settings.timezone or "UTC")
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _key_of(secret: str) -> bytes:
    """The key of Standard Webhooks; ValueError where a text is no such secret."""
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret of Standard Webhooks is whsec_ and base64") from None


def _is_standard(key: bytes, call: Call, now: datetime) -> bool:
    """By the rule of Standard Webhooks, its five minutes among them."""
    id, at = call.headers.get("webhook-id", ""), call.headers.get("webhook-timestamp", "")
    if not (id and at.isascii() and at.isdecimal() and len(at) <= 12):
        return False
    if abs(now.timestamp() - int(at)) > _TOLERANCE_SECONDS:
        return False
    signed = f"{id}.{at}.".encode("utf-8", "replace") + call.body
    ours = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    words = call.headers.get("webhook-signature", "").split(" ")[:10]
    return any(same(word, f"v1,{ours}") for word in words)


def _is_hmac(told: HmacSettings, secret: str, call: Call) -> bool:
    written = call.headers.get(told.header.lower(), "").strip()
    if not written.startswith(told.prefix):
        return False
    digest = hmac.digest(secret.encode(), call.body, getattr(hashlib, told.algorithm.lower()))
    bare = written.removeprefix(told.prefix)
    if told.encoding is Encoding.HEX:
        return same(bare.lower(), digest.hex())
    return same(bare, base64.b64encode(digest).decode())


till = Other()
