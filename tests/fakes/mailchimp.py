"""Mailchimp's Marketing API 3.0, as far as a tag goes: members by the MD5 of their address."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class Mailchimp:
    """An account with one audience; the API key is the password of basic authentication."""

    key: str = "0123456789abcdef-us6"
    audience: str = "a1b2c3"
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the MD5 of the address in lower case, as their paths name them."""

    def tags_of(self, email: str) -> list[str]:
        """The tags on an address."""
        return list(self.members[hash_of(email)]["tags"])

    @property
    def app(self) -> Starlette:
        """The two calls."""
        path = "/3.0/lists/{audience}/members/{hash}"
        return Starlette(
            routes=[
                Route(path, self._put, methods=["PUT"]),
                Route(f"{path}/tags", self._tag, methods=["POST"]),
            ]
        )

    async def _put(self, request: Request) -> Response:
        """Add or update a member: 400 where the path's hash is not the address's."""
        said = await request.json()
        if refused := self._refused(request):
            return refused
        email = said.get("email_address", "")
        if "@" not in email or hash_of(email) != request.path_params["hash"]:
            return problem(400, "Invalid Resource")
        known = self.members.setdefault(
            hash_of(email), {"email_address": email, "status": said["status_if_new"], "tags": []}
        )
        return JSONResponse(known)

    async def _tag(self, request: Request) -> Response:
        """Add and remove tags: 204, or 404 for an address that is no member."""
        said = await request.json()
        if refused := self._refused(request):
            return refused
        member = self.members.get(request.path_params["hash"])
        if member is None:
            return problem(404, "Resource Not Found")
        for tag in said["tags"]:
            name, tags = tag["name"], member["tags"]
            if tag["status"] == "active" and name not in tags:
                tags.append(name)
            elif tag["status"] == "inactive" and name in tags:
                tags.remove(name)
        return Response(status_code=204)

    def _refused(self, request: Request) -> Response | None:
        scheme, _, told = request.headers.get("authorization", "").partition(" ")
        by_basic = base64.b64decode(told).decode().partition(":")[2] if scheme == "Basic" else ""
        if self.key not in (by_basic, told if scheme == "Bearer" else ""):
            return problem(401, "API Key Invalid")
        if request.path_params["audience"] != self.audience:
            return problem(404, "Resource Not Found")
        return None


def hash_of(email: str) -> str:
    """How their paths name an address."""
    return hashlib.md5(email.lower().encode()).hexdigest()


def problem(status: int, title: str) -> Response:
    """An error as they answer it."""
    return JSONResponse({"title": title, "status": status}, status)
