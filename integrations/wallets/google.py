"""Google Wallet: a class for each card template, an object for each card, told over Google's API.

Google's own client libraries bring ways out of their own, past the guard; what is needed of them
is one signature (PyJWT) and four requests. Facts: developers.google.com/wallet/reference/rest.
"""

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from core.clock import Clock
from core.settings import Settings
from integrations.http import NoAnswer, NotReached, Outgoing, Reply
from integrations.wallets.google_callback import GoogleCallbacks
from integrations.wallets.google_documents import class_document, object_document
from integrations.wallets.seam import AskAgain, Device, News, Outcome, PassFace, Refused, Told
from models import Platform

SAVE_URL = "https://pay.google.com/gp/v/save/"
CALLBACK_PATH = "/passes/google"
LOGO_PATH = "/passes/logo.png"
"""The logo of a business that has none, or one that Google does not take; Google wants one."""
_SCOPE = "https://www.googleapis.com/auth/wallet_object.issuer"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTED = timedelta(hours=1)
_EARLY = timedelta(minutes=1)
"""So long before its end an access token is used no more."""
PER_SECOND = 20.0
"""Requests, as Google wishes; a second's worth may go at once."""
_MOST_CLASSES = 1_000
_MOST_MESSAGES = 10
"""Messages that an object may hold, by Google's reference."""
_SOON, _LATER, _MUCH_LATER = 5.0, 30.0, 600.0


@dataclass(frozen=True, kw_only=True)
class Account:
    """Google's service account, as its key file says it."""

    email: str
    key_id: str
    token_url: str
    key: RSAPrivateKey = field(repr=False)


class _Stopped(Exception):
    """There is no use in going on with a pass."""

    def __init__(self, outcome: AskAgain | Refused) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def account_of(setting: str) -> Account:
    """The account in a key file of Google, or in its text. ValueError where it is none."""
    try:
        text = setting if setting.lstrip().startswith("{") else Path(setting).read_text()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({type(error).__name__})") from None
    try:
        said = orjson.loads(text)
        key = load_pem_private_key(said["private_key"].encode(), None)
        named = {"email": said["client_email"], "key_id": said["private_key_id"]}
        token_url = said["token_uri"]
    except (AttributeError, KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        raise ValueError("it is not the JSON key file of a service account") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the key of a service account is an RSA key")  # noqa: TRY004 -- of a setting
    return Account(key=key, token_url=token_url, **named)


class GoogleWallet:
    """The operator's issuer account. Keeps an access token, and what it told of each class."""

    platform: ClassVar[Platform] = Platform.GOOGLE

    def __init__(
        self,
        outgoing: Outgoing,
        clock: Clock,
        account: Account,
        callbacks: GoogleCallbacks,
        *,
        issuer: str,
        url: str,
        our_url: str,
    ) -> None:
        self.issuer = issuer
        self.callbacks = callbacks
        self._api, self._our_url = url.rstrip("/"), our_url
        self._requests = _Requests(outgoing, clock, account)
        self._account, self._clock = account, clock
        self._classes: dict[str, dict[str, Any]] = {}
        self._is_telling = asyncio.Lock()

    @classmethod
    def of(cls, settings: Settings, outgoing: Outgoing, clock: Clock) -> "GoogleWallet | None":
        """The one of the settings, None without an issuer. ValueError where they are bad."""
        issuer = settings.google_wallet_issuer
        if not issuer:
            return None
        if not (issuer.isascii() and issuer.isdecimal()):
            raise ValueError("the issuer of Google Wallet is a number")
        return cls(
            outgoing,
            clock,
            account_of(settings.google_wallet_account),
            GoogleCallbacks(outgoing, settings.google_wallet_keys_url, issuer, clock),
            issuer=issuer,
            url=settings.google_wallet_url,
            our_url=settings.url,
        )

    async def show(
        self,
        face: PassFace,
        devices: Sequence[Device],  # noqa: ARG002 -- Google keeps them
        news: News | None = None,
    ) -> Outcome:
        """Have the object show this, silently; with news, add those as a message.

        A message that the object has already is not added again: Google would.
        """
        try:
            held = await self._tell_object(face)
            if news is None or held is None:
                return Told()
            return Told(rang=await self._bring(face, news, held))
        except _Stopped as stopped:
            return stopped.outcome

    async def save_link(self, face: PassFace) -> str | AskAgain | Refused:
        """Where its holder puts the card into Google Wallet; it is made there before."""
        try:
            await self._tell_object(face)
        except _Stopped as stopped:
            return stopped.outcome
        told = {"id": self.object_id(face.serial), "classId": self.class_id(face.template_id)}
        claims = {
            "iss": self._account.email,
            "aud": "google",
            "typ": "savetowallet",
            "iat": int(self._clock.now().timestamp()),
            "origins": [urlsplit(self._our_url)._replace(path="").geturl()],
            "payload": {"loyaltyObjects": [told]},
        }
        return SAVE_URL + _signed(self._account, claims)

    async def close(self) -> None:
        """The way out belongs to the process."""

    def class_id(self, template_id: str) -> str:
        """Google's name for a card template."""
        return f"{self.issuer}.{template_id}"

    def object_id(self, serial: str) -> str:
        """Google's name for a card's pass."""
        return f"{self.issuer}.{serial}"

    async def _tell_object(self, face: PassFace) -> dict[str, Any] | None:
        """Have the object be like this; as it is then. None for a void one that is not there."""
        if not face.is_void:
            await self._tell_class(face)
        document = object_document(
            face, self.object_id(face.serial), self.class_id(face.template_id)
        )
        path = f"{self._api}/loyaltyObject/{document['id']}"
        reply = await self._requests.ask("PATCH", path, document, but=(404,))
        if reply.status != 404:
            return _said(reply)
        if face.is_void:
            return None
        insert = f"{self._api}/loyaltyObject"
        reply = await self._requests.ask("POST", insert, document, but=(404, 409))
        if reply.status == 404:  # the class is not there, whatever we remember
            self._classes.pop(document["classId"], None)
            raise _Stopped(AskAgain(seconds=_SOON, reason="the class is not there"))
        if reply.status == 409:  # somebody else was faster
            reply = await self._requests.ask("PATCH", path, document)
        return _said(reply)

    async def _tell_class(self, face: PassFace) -> None:
        id, logo = self.class_id(face.template_id), face.logo_url or self._logo
        document = class_document(face, id, logo, self._callback_url)
        if self._classes.get(id) == document:
            return
        async with self._is_telling:
            if self._classes.get(id) == document:
                return
            reply = await self._put_class(document, () if logo == self._logo else (400,))
            if reply.status == 400:  # a logo that Google cannot fetch keeps nobody's card away
                own = class_document(face, id, self._logo, self._callback_url)
                await self._put_class(own, ())
            if len(self._classes) >= _MOST_CLASSES:
                self._classes.clear()
            self._classes[id] = document

    async def _put_class(self, document: dict[str, Any], but: tuple[int, ...]) -> Reply:
        insert = f"{self._api}/loyaltyClass"
        reply = await self._requests.ask("POST", insert, document, but=(409, *but))
        if reply.status == 409:
            path = f"{insert}/{document['id']}"
            reply = await self._requests.ask("PATCH", path, document, but=but)
        return reply

    async def _bring(self, face: PassFace, news: News, held: dict[str, Any]) -> bool:
        """Add the news to the object's messages; whether the telephone rings."""
        path = f"{self._api}/loyaltyObject/{self.object_id(face.serial)}"
        messages = [one for one in held.get("messages") or () if isinstance(one, dict)]
        for message in messages:
            if message.get("id") == news.id:
                return message.get("messageType") == "TEXT_AND_NOTIFY"
        if len(messages) >= _MOST_MESSAGES:  # the new one is added at the end
            kept = {"messages": messages[1 - _MOST_MESSAGES :]}
            await self._requests.ask("PATCH", path, kept)
        for kind in ("TEXT_AND_NOTIFY", "TEXT") if news.rings else ("TEXT",):
            message = {"id": news.id, "header": news.title, "body": news.text, "messageType": kind}
            added = {"message": message}
            reply = await self._requests.ask("POST", f"{path}/addMessage", added, but=(403, 429))
            if reply.is_good:
                return kind == "TEXT_AND_NOTIFY"
            if kind == "TEXT" or not _is_out_of_notifications(reply):
                raise _Stopped(_outcome_of(reply))
        return False

    @property
    def _logo(self) -> str:
        return self._our_url + LOGO_PATH

    @property
    def _callback_url(self) -> str | None:
        """Google calls by https alone."""
        return self._our_url + CALLBACK_PATH if self._our_url.startswith("https:") else None


class _Requests:
    """Paced requests in the account's name."""

    def __init__(self, outgoing: Outgoing, clock: Clock, account: Account) -> None:
        self._outgoing, self._clock, self._account = outgoing, clock, account
        self.per_second = PER_SECOND
        self._token = ""
        self._token_until: datetime | None = None
        self._is_asking = asyncio.Lock()
        self._next = 0.0

    async def ask(
        self, method: str, url: str, document: dict[str, Any], *, but: Container[int] = ()
    ) -> Reply:
        """Google's answer, if it is a good one or has one of these statuses; _Stopped if not."""
        for is_last in (False, True):
            token = await self._valid_token()
            headers = {"authorization": f"Bearer {token}"}
            reply = await self._send(method, url, headers=headers, json=document)
            if reply.status == 401 and not is_last:
                self._forget(token)
                continue
            if not (reply.is_good or reply.status in but):
                raise _Stopped(_outcome_of(reply))
            break
        return reply

    async def _valid_token(self) -> str:
        async with self._is_asking:
            if self._token_until is None or self._clock.now() >= self._token_until:
                self._token, self._token_until = await self._new_token()
            return self._token

    def _forget(self, token: str) -> None:
        if token == self._token:
            self._token_until = None

    async def _new_token(self) -> tuple[str, datetime]:
        """An access token and until when it is used (RFC 7523)."""
        account, now = self._account, self._clock.now()
        claims = {
            "iss": account.email,
            "scope": _SCOPE,
            "aud": account.token_url,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTED).timestamp()),
        }
        form = {"grant_type": _GRANT, "assertion": _signed(account, claims)}
        reply = await self._send("POST", account.token_url, form=form)
        if not reply.is_good:
            raise _Stopped(_outcome_of(reply, "access token refused"))
        said = _said(reply)
        token, lasts = said.get("access_token"), said.get("expires_in")
        if not isinstance(token, str) or not isinstance(lasts, int):
            raise _Stopped(AskAgain(seconds=_LATER, reason="no access token was given"))
        return token, now + timedelta(seconds=lasts) - _EARLY

    async def _send(self, method: str, url: str, **told: Any) -> Reply:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1) + 1 / self.per_second
        if self._next > now:
            await asyncio.sleep(self._next - now)
        try:
            return await self._outgoing.request(method, url, **told)
        except (NotReached, NoAnswer):
            raise _Stopped(AskAgain(seconds=_LATER, reason="Google does not answer")) from None
        except ValueError:
            raise _Stopped(Refused(reason="Google's address is not fit to be asked")) from None


def _signed(account: Account, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, account.key, "RS256", headers={"kid": account.key_id})


def _said(reply: Reply) -> dict[str, Any]:
    told = reply.json()
    return told if isinstance(told, dict) else {}


def _reasons(reply: Reply) -> set[str]:
    """The words by which Google tells refusals apart."""
    error = _said(reply).get("error")
    listed = error.get("errors") if isinstance(error, dict) else None
    found = [one.get("reason") for one in listed or () if isinstance(one, dict)]
    return {reason for reason in found if isinstance(reason, str) and reason.isalnum()}


def _is_out_of_notifications(reply: Reply) -> bool:
    """Whether the object has rung often enough for a day, in either of the forms Google gives."""
    return "quotaExceeded" in _reasons(reply) or b"QuotaExceededException" in reply.body


def _outcome_of(reply: Reply, reason: str = "") -> AskAgain | Refused:
    """What an answer means that is not a good one. Nothing that Google says of a person is kept."""
    reasons = _reasons(reply)
    words = " ".join([reason or "refused", "with", str(reply.status), *sorted(reasons)])[:100]
    if reply.status in (408, 429) or reply.status >= 500 or "rateLimitExceeded" in reasons:
        return AskAgain(seconds=reply.retry_after or _LATER, reason=words)
    if reply.status in (401, 403) or reason:  # the operator may mend it at Google's
        return AskAgain(seconds=_MUCH_LATER, reason=words)
    return Refused(reason=words)
