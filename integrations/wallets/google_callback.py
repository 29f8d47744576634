"""What Google calls back with when a card is put into a wallet or taken out, signed by Google.

`{signature, intermediateSigningKey: {signedKey, signatures}, protocolVersion, signedMessage}`:
a published root key signs an intermediate key, and that signs the message (ECDSA over SHA-256).
What is signed is each part after its length in bytes (32 bits, little-endian). Tink verifies such
messages in Java alone.
"""

import asyncio
import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from core.clock import Clock
from core.errors import Unavailable
from integrations.http import NoAnswer, NotReached, Outgoing

KEPT = timedelta(hours=1)
"""So long a root key is good that is published no more."""
ASKED_AGAIN_AFTER = timedelta(minutes=1)
"""Whoever makes signatures up does not make us ask at once, each time."""
_SENDER, _PROTOCOL = "GooglePayPasses", "ECv2SigningOnly"
_MOST_KEYS = 20
_MOST_SIGNATURES = 5


class Forged(Exception):
    """It is not Google who calls, or not for us, or not any more."""


@dataclass(frozen=True, kw_only=True)
class Called:
    """What became of a pass. `nonce` is the same when Google repeats itself, until `expires_at`."""

    serial: str
    is_saved: bool
    nonce: str = field(repr=False)
    expires_at: datetime


class GoogleCallbacks:
    """Reads what Google calls back with. Its root keys are looked up when they are needed."""

    def __init__(self, outgoing: Outgoing, url: str, issuer: str, clock: Clock) -> None:
        self._outgoing, self._url, self._clock = outgoing, url, clock
        self._issuer = issuer
        self._roots: list[EllipticCurvePublicKey] = []
        self._asked_at: datetime | None = None
        self._is_asking = asyncio.Lock()

    async def read(self, body: bytes) -> Called:
        """What Google says. Forged where it is not Google, Unavailable without Google's keys."""
        try:
            said = orjson.loads(body)
            between = said["intermediateSigningKey"]
            signed_key = str(between["signedKey"])
            signatures = [_bytes(one) for one in between["signatures"][:_MOST_SIGNATURES]]
            message, signature = str(said["signedMessage"]), _bytes(said["signature"])
            key = _key_of(orjson.loads(signed_key), self._clock.now())
            told = orjson.loads(message)
            called = self._called(told)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise Forged from None
        if said.get("protocolVersion") != _PROTOCOL or called.expires_at <= self._clock.now():
            raise Forged
        if not _is_signed(key, [signature], _SENDER, self._issuer, _PROTOCOL, message):
            raise Forged
        await self._check_root(signatures, signed_key)
        return called

    async def _check_root(self, signatures: list[bytes], signed_key: str) -> None:
        """Forged unless one of Google's present keys signed this."""
        for age in (KEPT, ASKED_AGAIN_AFTER):
            roots = await self._present_roots(age)
            if any(_is_signed(r, signatures, _SENDER, _PROTOCOL, signed_key) for r in roots):
                return
        raise Forged

    def _called(self, told: Any) -> Called:
        issuer, _, serial = str(told["objectId"]).partition(".")
        kind = told["eventType"]
        if issuer != self._issuer or kind not in ("save", "del"):
            raise ValueError(kind)
        return Called(
            serial=serial,
            is_saved=kind == "save",
            nonce=str(told["nonce"]),
            expires_at=_moment(told["expTimeMillis"]),
        )

    async def _present_roots(self, age: timedelta) -> list[EllipticCurvePublicKey]:
        """The published keys, looked up unless that was done within this age."""
        async with self._is_asking:
            now = self._clock.now()
            if self._asked_at is None or now - self._asked_at >= age:
                self._roots = await self._ask(now)
                self._asked_at = now
            return self._roots

    async def _ask(self, now: datetime) -> list[EllipticCurvePublicKey]:
        try:
            reply = await self._outgoing.request("GET", self._url)
        except (NotReached, NoAnswer, ValueError):
            raise Unavailable("Google's keys cannot be looked up now; try again.") from None
        told = reply.json() if reply.is_good else None
        published = told.get("keys") if isinstance(told, dict) else None
        if not isinstance(published, list):
            raise Unavailable("Google's keys cannot be read now; try again.")
        roots = []
        for one in published[:_MOST_KEYS]:
            try:
                if one["protocolVersion"] == _PROTOCOL:
                    roots.append(_key_of(one, now))
            except (KeyError, TypeError, ValueError):
                continue  # one that we cannot read does not take the others with it
        return roots


def signed_bytes(*parts: str) -> bytes:
    """What is signed of these parts: each after its length in bytes."""
    raw = [part.encode() for part in parts]
    return b"".join(len(one).to_bytes(4, "little") + one for one in raw)


def _is_signed(key: EllipticCurvePublicKey, signatures: list[bytes], *parts: str) -> bool:
    signed = signed_bytes(*parts)
    for signature in signatures:
        try:
            key.verify(signature, signed, ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return True
    return False


def _key_of(told: Any, now: datetime) -> EllipticCurvePublicKey:
    """`{keyValue, keyExpiration}` as a key. ValueError for one that has ended, or is none."""
    if _moment(told["keyExpiration"]) <= now:
        raise ValueError("ended")
    try:
        key = load_der_public_key(_bytes(told["keyValue"]))
    except UnsupportedAlgorithm:
        raise ValueError("of another kind") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("of another kind")  # noqa: TRY004 -- of what was told
    return key


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _moment(milliseconds: Any) -> datetime:
    """A moment that Google tells in milliseconds, as a number or in digits."""
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1_000, UTC)
    except (OverflowError, OSError):
        raise ValueError("no moment") from None
