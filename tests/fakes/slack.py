"""Slack, as far as a message goes: `chat.postMessage`, which answers 200 even where it refuses."""

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class Slack:
    """A workspace with its channels and a bot token."""

    token: str = "xoxb-1-2-three"
    channels: dict[str, list[str]] = field(default_factory=lambda: {"#loyalty": []})
    """The messages in each."""

    @property
    def app(self) -> Starlette:
        """The one call."""
        return Starlette(routes=[Route("/api/chat.postMessage", self._post, methods=["POST"])])

    async def _post(self, request: Request) -> Response:
        said: dict[str, Any] = await request.json()
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return self._no("invalid_auth")
        if said.get("channel") not in self.channels:
            return self._no("channel_not_found")
        if not said.get("text"):
            return self._no("no_text")
        self.channels[said["channel"]].append(said["text"])
        return JSONResponse({"ok": True, "channel": said["channel"]})

    def _no(self, error: str) -> Response:
        return JSONResponse({"ok": False, "error": error})
