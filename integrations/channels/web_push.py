"""Web Push: notifications in browsers, encrypted for each and signed with the deployment's key.

http-ece encrypts (RFC 8291), py-vapid signs (RFC 8292); pywebpush would send by a client of its
own, past the guard. A push service that answers 404 or 410 knows the browser no more.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import ClassVar

import http_ece
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from yarl import URL

from core.base64url import base64_bytes
from integrations.channels import seam
from models import Channel, ChannelKind

_TTL = 86_400
_VALID = 12 * 3_600
_SIZE = 4_096


def senders(parts: seam.Parts) -> list[seam.ChannelSender]:
    """One, where the deployment has its key."""
    return [] if parts.push_key is None else [WebPushSender(parts, parts.push_key)]


class WebPushSender:
    """Serves every business; each push service is paced and left alone by itself."""

    kind: ClassVar[ChannelKind] = ChannelKind.WEB_PUSH
    channel: ClassVar[Channel] = Channel.PUSH
    prefix: ClassVar[str] = "psub_"
    most_letters: ClassVar[int] = 20
    most_text: ClassVar[int] = 500
    is_stand_in: ClassVar[bool] = False

    def __init__(self, parts: seam.Parts, push_key: Callable[[], Awaitable[str]]) -> None:
        settings = parts.settings
        host = URL(settings.url).host or "localhost"
        self._contact = f"mailto:{settings.mail_from or f'push@{host}'}"
        self._outgoing = parts.outgoing
        self._push_key = push_key
        self._vapid: Vapid02 | None = None
        self._line = seam.Line(50.0, lambda letter: URL(letter.address).host or "")

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        vapid = self._vapid = self._vapid or Vapid02.from_pem((await self._push_key()).encode())
        return await self._line.carry(letters, lambda letter: self._send(letter, vapid))

    async def forget(self, customer_id: str) -> None:
        """It keeps nothing."""

    async def _send(self, letter: seam.Letter, vapid: Vapid02) -> seam.Answer:
        url = URL(letter.address)
        claims = {"sub": self._contact, "aud": str(url.origin()), "exp": int(time()) + _VALID}
        headers = {
            **vapid.sign(claims),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(_TTL),
            "urgency": "normal",
            "topic": letter.id.partition("_")[2][:32],
        }
        body = encrypted(letter)
        # By its topic it takes the place of one that waits, by its tag of one that is shown.
        reply = await seam.repeated(
            lambda: self._outgoing.request("POST", letter.address, headers=headers, body=body)
        )
        if reply.status in (404, 410):
            return seam.Rejected("the browser is gone", is_permanent=True)
        return seam.answer_of(reply)


def encrypted(letter: seam.Letter) -> bytes:
    """What the page's worker shows, for the keys of the letter's browser alone."""
    p256dh, auth = (base64_bytes(key) for key in letter.keys or ("", ""))
    told = {"title": letter.subject, "text": letter.text, "url": letter.url, "id": letter.id}
    sealed: bytes = http_ece.encrypt(
        orjson.dumps(told),
        salt=os.urandom(16),
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=p256dh,
        auth_secret=auth,
        rs=_SIZE,
        version="aes128gcm",
    )
    return sealed
