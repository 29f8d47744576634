"""Telegram's Bot API: getMe, setWebhook, deleteWebhook and sendMessage, for one bot.

429 says in `parameters.retry_after` how long the whole bot must wait; 403 is a block.
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fakes.providers import Provider

TOKEN = "123456:AAtelegram-bot-token-of-tests"
SETTINGS = {"botToken": TOKEN}


class Telegram(Provider):
    """One bot."""

    async def take(self, request: Request) -> Response:
        bot, _, method = request.path_params["path"].partition("/")
        if bot != f"bot{TOKEN}":
            return _no(401, "Unauthorized")
        said = orjson.loads(await request.body() or b"{}")
        if method == "getMe":
            return _ok({"id": 1, "is_bot": True, "username": "kopi_bot"})
        if method in ("setWebhook", "deleteWebhook"):
            self.told.append((method, said))
            return _ok(True)
        assert method == "sendMessage"
        answer = await self.in_its_mood()
        if answer is not None:
            return answer
        if said["chat_id"] in self.refused:
            return _no(403, "Forbidden: bot was blocked by the user")
        self.got.append(said)
        return _ok({"message_id": len(self.got), "text": said["text"]})

    def too_much(self) -> Response:
        told = {"retry_after": self.wait}
        return _no(429, f"Too Many Requests: retry after {self.wait}", parameters=told)


def start(chat: int, token: str) -> dict[str, Any]:
    """The update of a start link that was pressed."""
    return _message(chat, f"/start {token}")


def stop(chat: int, word: str = "Stop") -> dict[str, Any]:
    """The update of somebody who wants no more."""
    return _message(chat, word)


def block(chat: int) -> dict[str, Any]:
    """The update of a block."""
    told = {"chat": {"id": chat, "type": "private"}, "new_chat_member": {"status": "kicked"}}
    return {"update_id": 3, "my_chat_member": told}


def _message(chat: int, text: str) -> dict[str, Any]:
    sender = {"id": chat, "is_bot": False, "first_name": "Ana"}
    message = {"message_id": 5, "from": sender, "chat": {"id": chat, "type": "private"}}
    return {"update_id": 1, "message": {**message, "date": 1_772_452_800, "text": text}}


def _ok(result: Any) -> Response:
    return JSONResponse({"ok": True, "result": result})


def _no(status: int, description: str, **more: Any) -> Response:
    told = {"ok": False, "error_code": status, "description": description, **more}
    return JSONResponse(told, status_code=status)
