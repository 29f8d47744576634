"""What the fakes of message providers share: a server on loopback, its moods, what it was sent."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class Provider:
    """A provider: `mood` says how it answers, `refused` whom it does not know."""

    url: str = ""
    mood: str = "good"
    """`good`, `too much`, `busy`, `broken`, `closed to us` or `silent`; or `broken after it was
    taken` or `broken, then closed to us`, the first time."""
    refused: set[str] = field(default_factory=set)
    asked: int = 0
    """How many requests to send it had."""
    got: list[Any] = field(default_factory=list)
    """What it took."""
    told: list[Any] = field(default_factory=list)
    """What it was told beside messages, such as where to call us."""
    wait: int = 7
    came: asyncio.Event = field(default_factory=asyncio.Event)
    speaks: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        """Answer a request."""
        raise AssertionError(request.url)

    async def in_its_mood(self) -> Response | None:
        """The answer that its mood gives; None where it is a good one."""
        self.asked += 1
        self.came.set()
        if self.mood == "silent":
            await self.speaks.wait()
        if self.mood == "too much":
            return self.too_much()
        mood = self.mood
        if mood == "broken, then closed to us":
            mood = "broken" if self.asked == 1 else "closed to us"
        status = {"busy": 503, "broken": 500, "closed to us": 401}.get(mood)
        return None if status is None else JSONResponse({}, status_code=status)

    def spoiled(self, answer: Response) -> Response:
        """An answer as it arrives; in one mood, the first one does not."""
        is_spoiled = self.mood == "broken after it was taken" and len(self.got) == self.asked == 1
        return JSONResponse({}, status_code=500) if is_spoiled else answer

    def too_much(self) -> Response:
        """How it says that it gets too many."""
        headers = {"retry-after": str(self.wait)}
        return JSONResponse({}, status_code=429, headers=headers)


@contextlib.asynccontextmanager
async def serving(provider: Provider) -> AsyncIterator[None]:
    """Run one for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        # Without, each answer waits 40 ms for an ACK.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        provider.url = f"http://127.0.0.1:{door.getsockname()[1]}"

        async def take(request: Request) -> Response:
            try:
                return provider.spoiled(await provider.take(request))
            except ClientDisconnect:
                return Response(status_code=400)

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", take, methods=methods)])
        host = _Quiet(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(host.serve(sockets=[door]))
        try:
            yield
        finally:
            provider.speaks.set()
            host.should_exit = host.force_exit = True
            host.is_over.set()
            await task


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests, and ends as soon as it may."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_over = asyncio.Event()

    async def main_loop(self) -> None:
        await self.is_over.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
