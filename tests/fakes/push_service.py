"""A push service with its browsers: opens what it is sent with each browser's own keys.

It checks who pushes (RFC 8292) and opens the message (RFC 8291) with `cryptography` alone, not
with the libraries that made them.
"""

import base64
import hmac
import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fakes.providers import Provider


def b64(raw: bytes) -> str:
    """As browsers write keys."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    """The bytes again."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Browser:
    """Somebody's browser, with the keys of its subscription."""

    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    secret: bytes = field(default_factory=lambda: os.urandom(16))
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def public(self) -> bytes:
        """The public key, as a point."""
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def keys(self) -> dict[str, str]:
        """What its PushSubscription says."""
        return {"p256dh": b64(self.public), "auth": b64(self.secret)}

    def open(self, body: bytes) -> dict[str, Any]:
        """What was pushed, opened as in RFC 8291, section 3.4."""
        salt, size, sender = body[:16], body[20], body[21 : 21 + body[20]]
        assert size == 65
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        shared = self.private.exchange(ec.ECDH(), point)
        info = b"WebPush: info\x00" + self.public + sender
        ikm = _hkdf(self.secret, shared, info, 32)
        key = _hkdf(salt, ikm, b"Content-Encoding: aes128gcm\x00", 16)
        nonce = _hkdf(salt, ikm, b"Content-Encoding: nonce\x00", 12)
        padded = AESGCM(key).decrypt(nonce, body[21 + size :], None)
        said: dict[str, Any] = json.loads(padded.rstrip(b"\x00").removesuffix(b"\x02"))
        return said


class PushService(Provider):
    """One push service with any number of browsers."""

    def __init__(self) -> None:
        super().__init__()
        self.browsers: dict[str, Browser] = {}

    def subscribe(self, name: str = "one") -> tuple[str, Browser]:
        """A browser's new subscription: its endpoint and the browser."""
        self.browsers[name] = Browser()
        return f"{self.url}/push/{name}", self.browsers[name]

    async def take(self, request: Request) -> Response:
        name = request.path_params["path"].removeprefix("push/")
        body = await request.body()
        answer = await self.in_its_mood()
        if answer is not None:
            return answer
        if name in self.refused:
            return JSONResponse({}, status_code=410)
        headers = request.headers
        assert headers["content-encoding"] == "aes128gcm"
        assert headers["ttl"].isdecimal()
        assert len(body) <= 4_096 + 100
        claims = _claims(headers["authorization"])
        assert claims["aud"] == self.url
        assert claims["sub"].startswith("mailto:")
        self.told.append(claims)
        said = self.browsers[name].open(body)
        self.browsers[name].shown.append(said)
        self.got.append(said)
        return Response(status_code=201)


def _claims(authorization: str) -> dict[str, Any]:
    kind, _, rest = authorization.partition(" ")
    assert kind == "vapid"
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    head, claims, signature = parts["t"].split(".")
    raw, half = unb64(signature), 32
    signed = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(parts["k"]))
    key.verify(signed, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    said: dict[str, Any] = json.loads(unb64(claims))
    return said


def _hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    first = hmac.digest(salt, ikm, sha256)
    return hmac.digest(first, info + b"\x01", sha256)[:length]
