"""A partner's webhook receiver: keeps every request, verifies it, and answers as it is told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from partners import Told


@dataclass(frozen=True)
class Delivered:
    """A request that came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    """When it came, on the loop's clock."""

    @property
    def id(self) -> str:
        """The id by which repeats are told."""
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        """The body as JSON."""
        said: dict[str, Any] = orjson.loads(self.body)
        return said

    def verified_by(self, secret: str) -> dict[str, Any]:
        """The body, its signature checked by the public library; raises if it is not ours."""
        said: dict[str, Any] = Webhook(secret).verify(self.body, dict(self.headers))
        return said


class Receiver(Told):
    """Everything a receiver at `url` has been sent; set `answers` to let it answer."""

    all: list[Delivered]

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.status = 204
        self.answers = asyncio.Event()
        self.answers.set()

    def at(self, path: str) -> str:
        """The URL of one of its paths: an endpoint each."""
        return f"{self.url}{path}"

    def to(self, path: str) -> list[Delivered]:
        """What came to one of its paths."""
        return [request for request in self.all if request.path == path]

    async def take(self, request: Request) -> Response:
        """Keep a request; answer it once `answers` is set."""
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        at = asyncio.get_running_loop().time()
        await self.add(Delivered(request.url.path, dict(request.headers), body, at))
        await self.answers.wait()
        return Response(status_code=self.status)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        receiver = Receiver(f"http://127.0.0.1:{door.getsockname()[1]}")
        app = Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])
        host = _Quiet(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(host.serve(sockets=[door]))
        try:
            yield receiver
        finally:
            receiver.answers.set()
            host.should_exit = host.force_exit = True
            await task


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
