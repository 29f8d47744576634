"""Telegram: a bot of the business writes to whoever pressed its start link.

About 30 messages a second for a bot and one for a chat; who sends more is told to wait by 429, and
then the whole bot waits. A bot cannot write first: a chat begins with a link to it.
"""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from integrations.channels import seam
from integrations.http import Reply
from models import ChannelKind, Messenger

_HEADER = "x-telegram-bot-api-secret-token"
_GONE = ("chat not found", "user is deactivated", "bot was blocked", "peer_id_invalid")


class Provider:
    """A bot, by the token that BotFather gave."""

    kind: ClassVar[ChannelKind] = ChannelKind.TELEGRAM
    wants: ClassVar[Mapping[str, str]] = {"botToken": "The token that @BotFather gave."}
    most_letters: ClassVar[int] = 20
    most_text: ClassVar[int] = 3_500
    per_second: ClassVar[float] = 25.0
    needs_template: ClassVar[bool] = False

    def __init__(self, settings: Mapping[str, str], parts: seam.Parts) -> None:
        self._url = f"{parts.settings.telegram_url.rstrip('/')}/bot{settings['botToken']}"
        self._secret = settings["callbackSecret"]
        self._outgoing = parts.outgoing
        self._line = seam.Line(self.per_second)

    async def connect(self, callback_url: str) -> seam.Account:
        account = await self.check()
        await self._ask(
            "setWebhook",
            url=callback_url,
            secret_token=self._secret,
            allowed_updates=["message", "my_chat_member"],
        )
        return account

    async def check(self) -> seam.Account:
        bot = await self._ask("getMe")
        name = str(bot.get("username", ""))
        link = f"https://t.me/{name}?start={{token}}"
        return seam.Account(name=f"@{name}", links={Messenger.TELEGRAM: link})

    async def leave(self) -> None:
        await self._ask("deleteWebhook")

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        return await self._line.carry(letters, self._send)

    def hear(self, callback: seam.Callback) -> seam.Heard:
        given = callback.headers.get(_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._secret.encode()):
            raise seam.Forged
        return seam.read_reports(callback, _reports)

    def reply(self, address: str, text: str) -> Any:
        return {"method": "sendMessage", "chat_id": address, "text": text}

    async def _send(self, letter: seam.Letter) -> seam.Answer:
        text = f"{letter.text}\n\n{letter.url}" if letter.url else letter.text
        told = {
            "chat_id": letter.address,
            "text": text,
            "link_preview_options": {"is_disabled": True},
        }
        return _answer(await self._outgoing.request("POST", f"{self._url}/sendMessage", json=told))

    async def _ask(self, method: str, **told: Any) -> dict[str, Any]:
        try:
            reply = await self._outgoing.request("POST", f"{self._url}/{method}", json=told)
        except (OSError, ValueError):
            raise seam.NotConnected("Telegram cannot be reached.") from None
        said = seam.said(reply)
        if not reply.is_good or said.get("ok") is not True:
            reason = str(said.get("description", reply.status))[:200]
            raise seam.NotConnected(f"Telegram says: {reason}")
        result = said.get("result")
        return result if isinstance(result, dict) else {}


def _answer(reply: Reply) -> seam.Answer:
    told = seam.said(reply)
    wait, words = told.get("parameters"), str(told.get("description", "")).lower()
    match wait:
        case {"retry_after": int(seconds)} if reply.status == 429:
            return seam.asked_to_wait(seconds)
    if reply.status == 404:  # the token opens nothing
        return seam.Rejected(seam.REFUSED_US)
    if reply.status == 403 or (reply.status == 400 and any(gone in words for gone in _GONE)):
        return seam.Rejected("blocked, or no such chat", is_permanent=True)
    return seam.answer_of(reply)


def _reports(update: Mapping[str, Any]) -> Iterator[seam.Report]:
    """What an update says: only chats with one person count."""
    told = update.get("message") or update.get("my_chat_member") or {}
    chat = told.get("chat") or {}
    if chat.get("type") != "private":
        return
    address, words = str(chat["id"]), str(told.get("text") or "").split()
    if "new_chat_member" in told:
        if told["new_chat_member"]["status"] == "kicked":
            yield seam.Stopped(messenger=Messenger.TELEGRAM, address=address, is_block=True)
    elif len(words) == 2 and words[0] == "/start":
        yield seam.Started(messenger=Messenger.TELEGRAM, address=address, token=words[1])
    elif seam.is_stop(" ".join(words)):
        yield seam.Stopped(messenger=Messenger.TELEGRAM, address=address)
