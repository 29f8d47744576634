"""WhatsApp: the Cloud API of Meta, by which a business writes to phone numbers.

Who has not written to the business within a day gets approved templates only, so every message is
one: its body takes the text and the card's address. About 80 messages a second.
"""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from integrations.channels import seam
from integrations.http import Reply
from models import ChannelKind, Messenger

_TOO_FAST = {4, 80007, 130429, 131048, 131056}
_GONE = {131026, 131050}
"""Not on WhatsApp, or wants no marketing messages."""
_NOT_OURS = {10, 102, 190, 200, 131005}


class Provider:
    """A phone number of the business."""

    kind: ClassVar[ChannelKind] = ChannelKind.WHATSAPP
    wants: ClassVar[Mapping[str, str]] = {
        "phoneNumberId": "The id of the phone number that sends.",
        "accessToken": "A permanent token of a system user.",
        "appSecret": "The app's secret, with which callbacks are signed.",
        "verifyToken": "Any words; type the same ones where Meta asks for the verify token.",
        "template": "The name of an approved template whose body has two variables.",
        "templateLanguage": "Optional: the template's language code; `en` if absent.",
    }
    most_letters: ClassVar[int] = 20
    most_text: ClassVar[int] = 700
    per_second: ClassVar[float] = 50.0
    needs_template: ClassVar[bool] = True

    def __init__(self, settings: Mapping[str, str], parts: seam.Parts) -> None:
        base, number = parts.settings.whatsapp_url.rstrip("/"), settings["phoneNumberId"]
        self._url = f"{base}/{quote(number, safe='')}"
        self._headers = {"authorization": f"Bearer {settings['accessToken']}"}
        self._settings = settings
        self._outgoing = parts.outgoing
        self._line = seam.Line(self.per_second)

    async def connect(self, callback_url: str) -> seam.Account:  # noqa: ARG002 -- it is typed at Meta
        return await self.check()

    async def check(self) -> seam.Account:
        url = f"{self._url}?fields=display_phone_number,verified_name"
        try:
            reply = await self._outgoing.request("GET", url, headers=self._headers)
        except (OSError, ValueError):
            raise seam.NotConnected("WhatsApp cannot be reached.") from None
        if not reply.is_good:
            reason = str(_error(reply).get("message", reply.status))[:200]
            raise seam.NotConnected(f"WhatsApp says: {reason}")
        said = seam.said(reply)
        phone = str(said.get("display_phone_number", ""))
        digits = "".join(char for char in phone if char.isdecimal() and char.isascii())
        link = f"https://wa.me/{digits}?text=START%20{{token}}"
        return seam.Account(
            name=str(said.get("verified_name") or phone),
            links={Messenger.WHATSAPP: link},
            phone_messenger=Messenger.WHATSAPP,
        )

    async def leave(self) -> None:
        """Callbacks are ended at Meta; what still comes is refused."""

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        return await self._line.carry(letters, self._send)

    def hear(self, callback: seam.Callback) -> seam.Heard:
        if callback.method == "GET":
            given, known = callback.query.get("hub.verify_token", ""), self._settings["verifyToken"]
            if not hmac.compare_digest(given.encode(), known.encode()):
                raise seam.Forged
            return seam.Heard(challenge=callback.query.get("hub.challenge", ""))
        given = callback.headers.get("x-hub-signature-256", "")
        if not seam.is_signed(self._settings["appSecret"], callback.body, given):
            raise seam.Forged
        number = self._settings["phoneNumberId"]
        return seam.read_reports(callback, lambda told: _reports(told, number))

    def reply(self, address: str, text: str) -> None:
        """It takes no answer this way."""

    async def _send(self, letter: seam.Letter) -> seam.Answer:
        # A parameter is one line: Meta refuses line breaks in it.
        words = [" ".join(letter.text.split()), letter.url or letter.business]
        template = {
            "name": self._settings["template"],
            "language": {"code": self._settings.get("templateLanguage") or "en"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": word} for word in words]}
            ],
        }
        told = {
            "messaging_product": "whatsapp",
            "to": letter.address.removeprefix("+"),
            "type": "template",
            "template": template,
        }
        url = f"{self._url}/messages"
        return _answer(await self._outgoing.request("POST", url, headers=self._headers, json=told))


def _error(reply: Reply) -> dict[str, Any]:
    error = seam.said(reply).get("error")
    return error if isinstance(error, dict) else {}


def _answer(reply: Reply) -> seam.Answer:
    match seam.said(reply).get("messages"):
        case [{"id": str(reference)}, *_] if reply.is_good:
            return seam.Accepted(reference)
    code = _error(reply).get("code")
    if code in _TOO_FAST:
        return seam.asked_to_wait(reply.retry_after)
    if code in _NOT_OURS:
        return seam.Rejected(seam.REFUSED_US)
    if code in _GONE:
        return seam.Rejected(f"refused with {code}", is_permanent=True)
    return seam.answer_of(reply)


def _reports(said: Mapping[str, Any], number: str) -> Iterator[seam.Report]:
    """What a notification says of our number; of others of the same account, nothing."""
    for change in (change for entry in said["entry"] for change in entry["changes"]):
        value = change["value"]
        if value.get("metadata", {}).get("phone_number_id") != number:
            continue
        for status in value.get("statuses", ()):
            if status["status"] in ("delivered", "read"):
                yield seam.Delivered(reference=str(status["id"]))
            elif status["status"] == "failed":
                codes = [error.get("code") for error in status.get("errors", ())]
                problem = f"failed with {codes}"[:100]
                yield seam.Delivered(reference=str(status["id"]), problem=problem)
        for message in value.get("messages", ()):
            words = str((message.get("text") or {}).get("body") or "").split()
            address = f"+{message['from']}"
            if len(words) == 2 and words[0].upper() == "START":
                yield seam.Started(messenger=Messenger.WHATSAPP, address=address, token=words[1])
            elif seam.is_stop(" ".join(words)):
                yield seam.Stopped(messenger=Messenger.WHATSAPP, address=address)
