"""WhatsApp Cloud API: one phone number, its messages by template, and its signed notifications."""

import hmac
from hashlib import sha256
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fakes.providers import Provider

NUMBER, TOKEN, APP_SECRET = "106540352242922", "EAAGtoken", "the app's secret"
SETTINGS = {
    "phoneNumberId": NUMBER,
    "accessToken": TOKEN,
    "appSecret": APP_SECRET,
    "verifyToken": "my own words",
    "template": "news",
}


class WhatsApp(Provider):
    """One phone number."""

    async def take(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _no(401, 190, "Invalid OAuth access token.")
        if path == NUMBER:
            shown = {"display_phone_number": "+62 811-1000-200", "verified_name": "Kopi"}
            return JSONResponse({**shown, "id": NUMBER})
        assert path == f"{NUMBER}/messages"
        said = orjson.loads(await request.body())
        answer = await self.in_its_mood()
        if answer is not None:
            return answer
        assert said["messaging_product"] == "whatsapp"
        assert said["type"] == "template", "outside of 24 hours only templates are taken"
        [body] = said["template"]["components"]
        if any("\n" in one["text"] for one in body["parameters"]):
            return _no(400, 132018, "Param text cannot have new-line/tab characters")
        if said["to"] in self.refused:
            return _no(400, 131026, "Message undeliverable")
        self.got.append(said)
        id = f"wamid.{len(self.got)}"
        contact = {"input": said["to"], "wa_id": said["to"]}
        return JSONResponse(
            {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": id}]}
        )

    def too_much(self) -> Response:
        return _no(400, 130429, "Rate limit hit")


def signed(told: Any) -> tuple[bytes, dict[str, str]]:
    """A notification as it is sent: its bytes and headers."""
    body = orjson.dumps(told)
    digest = hmac.new(APP_SECRET.encode(), body, sha256).hexdigest()
    return body, {"x-hub-signature-256": f"sha256={digest}", "content-type": "application/json"}


def notification(number: str = NUMBER, **value: Any) -> dict[str, Any]:
    """What a notification says of a phone number."""
    metadata = {"display_phone_number": "628111000200", "phone_number_id": number}
    change = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    entry = {"id": "1", "changes": [{"value": change, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def text(sender: str, words: str) -> dict[str, Any]:
    """The notification of a message that somebody wrote."""
    message = {"from": sender, "id": "wamid.in", "type": "text", "text": {"body": words}}
    return notification(messages=[message])


def status(id: str, word: str) -> dict[str, Any]:
    """The notification of what became of a message."""
    told: dict[str, Any] = {"id": id, "status": word, "recipient_id": "62811"}
    if word == "failed":
        told["errors"] = [{"code": 131026, "title": "Message undeliverable"}]
    return notification(statuses=[told])


def _no(status: int, code: int, message: str) -> Response:
    error = {"message": message, "type": "OAuthException", "code": code}
    return JSONResponse({"error": error}, status_code=status)
