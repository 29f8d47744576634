"""7loc by our own contract (docs/integrations/seven-loc.md): not the real service."""

import hmac
from hashlib import sha256
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fakes.providers import Provider

TOKEN = "a token of 7loc"


class SevenLoc(Provider):
    """One account."""

    def __init__(self) -> None:
        super().__init__()
        self.broadcasts: dict[str, str] = {}
        """By their idempotency keys."""

    @property
    def settings(self) -> dict[str, str]:
        """What connects it."""
        return {"baseUrl": f"{self.url}/v1", "apiToken": TOKEN}

    async def take(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({}, status_code=401)
        said = orjson.loads(await request.body() or b"{}")
        if path == "v1/account":
            links = {
                "viber": "viber://pa?chatURI=kopi&context={token}",
                "whatsapp": "https://wa.me/62811?text=START%20{token}",
            }
            return JSONResponse({"name": "Kopi", "links": links, "phone_messenger": "viber"})
        if path == "v1/callback":
            self.told.append((request.method, said))
            return Response(status_code=204)
        assert path == "v1/broadcasts"
        answer = await self.in_its_mood()
        if answer is not None:
            return answer
        key = request.headers["idempotency-key"]
        if key not in self.broadcasts:
            self.broadcasts[key] = f"brd_{len(self.broadcasts)}"
            self.got += [one for one in said["recipients"] if one["phone"] not in self.refused]
        rejected = [
            {"ref": one["ref"], "reason": "no such number", "permanent": True}
            for one in said["recipients"]
            if one["phone"] in self.refused
        ]
        return JSONResponse({"id": self.broadcasts[key], "rejected": rejected}, status_code=202)


def signed(secret: str, *reports: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A callback as it is sent: its bytes and headers."""
    body = orjson.dumps({"reports": list(reports)})
    digest = hmac.new(secret.encode(), body, sha256).hexdigest()
    return body, {"x-signature": f"sha256={digest}", "content-type": "application/json"}
