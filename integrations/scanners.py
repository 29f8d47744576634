"""Scanners of public code: the keys with which one signs what it found, as GitHub publishes them.

`{"public_keys": [{"key_identifier": "…", "key": "-----BEGIN PUBLIC KEY-----…", "is_current":
true}]}`; a signature is ECDSA over SHA-256 of the raw body, in DER and base64.
"""

import asyncio
import base64
import binascii
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from core.clock import Clock
from core.errors import Unavailable
from integrations.http import NoAnswer, NotReached, Outgoing

KEPT = timedelta(hours=1)
"""So long a key is good that is published no more."""
ASKED_AGAIN_AFTER = timedelta(minutes=1)
"""Whoever makes key identifiers up does not make us ask at once, each time."""
_MOST_KEYS = 20


class ScannerKeys:
    """The present keys of a scanner, by their identifiers; looked up when they are needed."""

    def __init__(self, outgoing: Outgoing, url: str, clock: Clock) -> None:
        self.url = url
        self._outgoing = outgoing
        self._clock = clock
        self._keys: dict[str, EllipticCurvePublicKey] = {}
        self._asked_at: datetime | None = None
        self._is_asking = asyncio.Lock()

    async def has_signed(self, body: bytes, identifier: str, signature: str) -> bool:
        """Whether the scanner signed this. Unavailable if its keys cannot be looked up now."""
        key = await self._key(identifier)
        if key is None:
            return False
        try:
            key.verify(base64.b64decode(signature, validate=True), body, ECDSA(SHA256()))
        except (binascii.Error, InvalidSignature, ValueError):
            return False
        return True

    async def _key(self, identifier: str) -> EllipticCurvePublicKey | None:
        async with self._is_asking:
            if self._is_due(KEPT) or (
                identifier not in self._keys and self._is_due(ASKED_AGAIN_AFTER)
            ):
                self._keys = await self._ask()
                self._asked_at = self._clock.now()
            return self._keys.get(identifier)

    def _is_due(self, after: timedelta) -> bool:
        return self._asked_at is None or self._clock.now() - self._asked_at >= after

    async def _ask(self) -> dict[str, EllipticCurvePublicKey]:
        try:
            reply = await self._outgoing.request("GET", self.url)
        except (NotReached, NoAnswer, ValueError):
            raise Unavailable("The scanner's keys cannot be looked up now; try again.") from None
        told = reply.json() if reply.is_good else None
        published = told.get("public_keys") if isinstance(told, dict) else None
        if not isinstance(published, list):
            raise Unavailable("The scanner's keys cannot be read now; try again.")
        keys = {}
        for one in published[:_MOST_KEYS]:
            key = _key_in(one)
            if key is not None:
                keys[str(one["key_identifier"])] = key
        return keys


def _key_in(published: Any) -> EllipticCurvePublicKey | None:
    """The key of an entry; None for one that is not current, or of another kind."""
    if not isinstance(published, dict) or published.get("is_current") is False:
        return None
    try:
        key = load_pem_public_key(str(published["key"]).encode())
    except (KeyError, ValueError, UnsupportedAlgorithm):
        return None
    is_good = isinstance(key, EllipticCurvePublicKey) and "key_identifier" in published
    return key if is_good else None  # type: ignore[return-value]
