"""Google Wallet: takes classes and objects, rings telephones, and calls back, as Google does.

It checks assertions, save links and tokens with `cryptography` alone, not with the library that
signed them, and refuses fields that the REST reference does not have.
"""

import base64
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fakes.providers import Provider

ISSUER = "3388000000012345678"
EMAIL = "stamps@kopi.iam.gserviceaccount.example"
SCOPE = "https://www.googleapis.com/auth/wallet_object.issuer"
SAVE = "https://pay.google.com/gp/v/save/"
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_ID = re.compile(r"[0-9]+\.[A-Za-z0-9._-]+")
_CLASS = {
    "id", "issuerName", "programName", "programLogo", "hexBackgroundColor", "accountIdLabel",
    "localizedAccountIdLabel", "multipleDevicesAndHoldersAllowedStatus", "reviewStatus",
    "callbackOptions",
}  # fmt: skip
_OBJECT = {
    "id", "classId", "state", "accountId", "loyaltyPoints", "secondaryLoyaltyPoints", "barcode",
    "textModulesData", "linksModuleData", "messages",
}  # fmt: skip


@cache
def account_key() -> rsa.RSAPrivateKey:
    """The key of the service account; one is enough for all tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def unb64(text: str) -> bytes:
    """The bytes of base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def lengthened(*parts: str) -> bytes:
    """Each part after its length in bytes."""
    signed = b""
    for part in parts:
        raw = part.encode()
        signed += bytes([len(raw) & 255, len(raw) >> 8 & 255, len(raw) >> 16 & 255, 0]) + raw
    return signed


class Refusal(Exception):
    """An answer that is not a good one."""

    def __init__(self, status: int, reason: str, message: str = "no") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def answer(self) -> Response:
        """As Google says it."""
        told = {"message": str(self), "domain": "walletobjects", "reason": self.reason}
        error = {"code": self.status, "message": str(self), "errors": [told]}
        return JSONResponse({"error": error}, status_code=self.status)


@dataclass
class Google(Provider):
    """Google, and the telephones of all who saved a card there."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    classes: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, datetime] = field(default_factory=dict)
    given: int = 0
    """Access tokens given."""
    rung: dict[str, list[datetime]] = field(default_factory=dict)
    """When an object made its telephone ring."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    unfetchable: set[str] = field(default_factory=set)
    """Logos that Google cannot fetch."""
    is_trusting: bool = True
    """Whether it believes the service account."""
    is_plain: bool = True
    """Whether it says that a pass rang often enough as it is seen to say it, not as documented."""
    has_keys: bool = True
    root: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    keys_asked: int = 0

    @property
    def account(self) -> str:
        """The key file of the service account."""
        pem = account_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        told = {
            "type": "service_account",
            "client_email": EMAIL,
            "private_key_id": "k1",
            "private_key": pem.decode(),
            "token_uri": f"{self.url}/token",
        }
        return json.dumps(told)

    @property
    def settings(self) -> dict[str, str]:
        """What a deployment is set to, so that it asks here."""
        return {
            "google_wallet_issuer": ISSUER,
            "google_wallet_account": self.account,
            "google_wallet_url": f"{self.url}/walletobjects/v1",
            "google_wallet_keys_url": f"{self.url}/keys",
        }

    def object(self, serial: str) -> dict[str, Any]:
        """The object of a pass."""
        return self.objects[f"{ISSUER}.{serial}"]

    def rings(self, serial: str) -> int:
        """How often a pass made its telephone ring."""
        return len(self.rung.get(f"{ISSUER}.{serial}", ()))

    def messages(self, serial: str) -> list[tuple[str, str]]:
        """The messages of a pass: their ids and kinds."""
        return [(one["id"], one["messageType"]) for one in self.object(serial).get("messages", ())]

    async def take(self, request: Request) -> Response:
        path, method = request.url.path, request.method
        if path == "/keys":
            return self._publish()
        answer = await self.in_its_mood()
        if answer is not None:
            return answer
        try:
            body = await request.body()
            if path == "/token":
                return self._give_token(body)
            self._check_token(request)
            kind, _, rest = path.removeprefix("/walletobjects/v1/").partition("/")
            id, _, verb = rest.partition("/")
            self.calls.append((method, kind + (f"/{verb}" if verb else "")))
            return JSONResponse(self._done(method, kind, id, verb, json.loads(body or b"{}")))
        except Refusal as refusal:
            return refusal.answer()

    def _done(self, method: str, kind: str, id: str, verb: str, told: Any) -> dict[str, Any]:
        rows, fields = (self.classes, _CLASS) if kind == "loyaltyClass" else (self.objects, _OBJECT)
        if verb == "addMessage":
            return {"resource": self._add_message(id, told["message"])}
        if unknown := set(told) - fields:
            raise Refusal(400, "badRequest", f"Unknown name {sorted(unknown)}")
        if method == "POST":
            if told["id"] in rows:
                raise Refusal(409, "existingResource")
            if not _ID.fullmatch(told["id"]) or not told["id"].startswith(f"{ISSUER}."):
                raise Refusal(400, "invalidResource", "Invalid resource id")
            id = told["id"]
        elif id not in rows:
            raise Refusal(404, "resourceNotFound" if rows is self.objects else "classNotFound")
        made = _merged(rows.get(id, {}), told)
        self._check_class(made, told) if rows is self.classes else self._check_object(made)
        rows[id] = made
        return made

    def _check_class(self, made: dict[str, Any], told: dict[str, Any]) -> None:
        for name in ("issuerName", "programName", "programLogo"):
            if not made.get(name):
                raise Refusal(400, "required", f"{name} is required")
        if told.get("reviewStatus") not in ("UNDER_REVIEW", "DRAFT"):
            raise Refusal(400, "invalidReviewStatus")
        if made["programLogo"]["sourceUri"]["uri"] in self.unfetchable:
            raise Refusal(400, "imageFetchFailed", "Image cannot be loaded")
        callback = made.get("callbackOptions", {"url": "https:"})["url"]
        if not callback.startswith("https:"):
            raise Refusal(400, "invalidCallback")
        if not re.fullmatch(r"#[0-9a-f]{6}", made["hexBackgroundColor"]):
            raise Refusal(400, "invalidColor")

    def _check_object(self, made: dict[str, Any]) -> None:
        if made["classId"] not in self.classes:
            raise Refusal(404, "classNotFound")
        if made["state"] not in ("ACTIVE", "COMPLETED", "EXPIRED", "INACTIVE"):
            raise Refusal(400, "invalidState")
        if made["barcode"]["type"] not in ("QR_CODE", "TEXT_ONLY"):
            raise Refusal(400, "invalidBarcode")
        if not all(one["uri"] for one in made["linksModuleData"]["uris"]):
            raise Refusal(400, "invalidUri")
        if len(made.get("messages", ())) > 10:
            raise Refusal(400, "tooManyMessages")

    def _add_message(self, id: str, message: dict[str, Any]) -> dict[str, Any]:
        """A message more. Its id may be there already: Google does not look."""
        if id not in self.objects:
            raise Refusal(404, "resourceNotFound")
        assert set(message) == {"id", "header", "body", "messageType"}
        held, now = self.objects[id].setdefault("messages", []), self.now()
        if len(held) >= 10:
            raise Refusal(400, "tooManyMessages")
        if message["messageType"] == "TEXT_AND_NOTIFY":
            rung = self.rung.setdefault(id, [])
            if sum(at > now - _DAY for at in rung) >= 3:
                words = f"Quota exceeded for issuer {ISSUER} when adding TEXT_AND_NOTIFY message."
                raise (
                    Refusal(403, "quotaExceeded", words)
                    if self.is_plain
                    else Refusal(429, "tooManyRequests", "QuotaExceededException")
                )
            rung.append(now)
        held.append(message)
        return self.objects[id]

    def _give_token(self, body: bytes) -> Response:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = self._opened(form["assertion"])
        now = self.now().timestamp()
        is_good = (
            claims["iss"] == EMAIL
            and claims["scope"] == SCOPE
            and claims["aud"] == f"{self.url}/token"
            and claims["iat"] <= now + 5
            and now < claims["exp"] <= claims["iat"] + 3_600
        )
        if not (is_good and self.is_trusting):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        token = secrets.token_urlsafe()
        self.given += 1
        self.tokens[token] = self.now() + _HOUR
        return JSONResponse({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"})

    def _check_token(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, self.now()) <= self.now():
            raise Refusal(401, "authError")

    @staticmethod
    def _opened(token: str) -> dict[str, Any]:
        """The claims of a JWT that the service account signed (RS256)."""
        head, claims, signature = token.split(".")
        assert json.loads(unb64(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        signed, scheme = f"{head}.{claims}".encode(), padding.PKCS1v15()
        try:
            account_key().public_key().verify(unb64(signature), signed, scheme, hashes.SHA256())
        except InvalidSignature:
            raise AssertionError("the account did not sign this") from None
        said: dict[str, Any] = json.loads(unb64(claims))
        return said

    # -- What a customer does. ------------------------------------------------------------------

    def save(self, link: str) -> dict[str, str]:
        """Follow the link of a button, and put what it names into a wallet."""
        assert link.startswith(SAVE)
        assert len(link) < 1_800
        claims = self._opened(link.removeprefix(SAVE))
        assert (claims["iss"], claims["aud"], claims["typ"]) == (EMAIL, "google", "savetowallet")
        [told] = claims["payload"]["loyaltyObjects"]
        assert self.objects[told["id"]]["classId"] == told["classId"]
        saved: dict[str, str] = told
        return saved

    # -- How it calls back. ---------------------------------------------------------------------

    def called(self, told: dict[str, str], kind: str, **changes: Any) -> dict[str, Any]:
        """What it posts when a card is saved (`save`) or taken out again (`del`).

        `changes` are to the message, but for `sender`, `issuer`, `root` and `key_lasts`.
        """
        sender, issuer = changes.pop("sender", "GooglePayPasses"), changes.pop("issuer", ISSUER)
        root, lasts = changes.pop("root", self.root), changes.pop("key_lasts", _DAY)
        message = {
            "classId": told["classId"],
            "objectId": told["id"],
            "expTimeMillis": self._milliseconds(_HOUR),
            "eventType": kind,
            "nonce": secrets.token_hex(8),
            "count": 1,
        } | changes
        key = ec.generate_private_key(ec.SECP256R1())
        signed_key = json.dumps(
            {"keyValue": _der(key), "keyExpiration": str(self._milliseconds(lasts))}
        )
        signed_message = json.dumps(message, ensure_ascii=False)
        version = "ECv2SigningOnly"
        return {
            "signature": _signed(key, sender, issuer, version, signed_message),
            "intermediateSigningKey": {
                "signedKey": signed_key,
                "signatures": [_signed(root, sender, version, signed_key)],
            },
            "protocolVersion": version,
            "signedMessage": signed_message,
        }

    def _milliseconds(self, later: timedelta) -> int:
        return int((self.now() + later).timestamp() * 1_000)

    def _publish(self) -> Response:
        self.keys_asked += 1
        if not self.has_keys:
            return Response(status_code=503)
        told = {
            "keyValue": _der(self.root),
            "protocolVersion": "ECv2SigningOnly",
            "keyExpiration": str(self._milliseconds(365 * _DAY)),
        }
        ended = {**told, "keyExpiration": str(self._milliseconds(-_DAY))}
        other = {**told, "protocolVersion": "ECv1"}
        return JSONResponse({"keys": [ended, other, {"keyValue": "?"}, told]})


def _merged(held: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """A PATCH: what is told takes the place of what was held, lists as a whole."""
    made = dict(held)
    for name, value in told.items():
        both = isinstance(value, dict) and isinstance(held.get(name), dict)
        made[name] = _merged(held[name], value) if both else value
    return made


def _der(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def _signed(key: ec.EllipticCurvePrivateKey, *parts: str) -> str:
    signature = key.sign(lengthened(*parts), ec.ECDSA(hashes.SHA256()))
    return base64.b64encode(signature).decode()
