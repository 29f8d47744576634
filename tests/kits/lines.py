"""A line between a subscriber and the server, which a test may close, cut and freeze."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection

PROTOCOL = websockets.Subprotocol("graphql-transport-ws")


class Line:
    """Carries whole messages both ways; what the server closes with, the subscriber sees."""

    def __init__(self, server: str) -> None:
        self.url = ""
        self.connections = 0
        """How often a subscriber came."""
        self._server = server
        self._open: set[ServerConnection] = set()
        self._frozen: set[ServerConnection] = set()
        self._door = asyncio.Event()
        self._door.set()

    async def close(self, code: int, reason: str) -> None:
        """As the server would close."""
        await asyncio.gather(*(one.close(code, reason) for one in [*self._open]))

    def cut(self) -> None:
        """No word of farewell."""
        for one in self._open:
            one.transport.abort()

    def freeze(self) -> None:
        """What is open stays open, and carries nothing any more: the line of one who sleeps."""
        self._frozen |= self._open

    def shut(self) -> None:
        """Let nobody in until `let_in`."""
        self._door.clear()
        self.cut()

    def let_in(self) -> None:
        """Let those who wait in."""
        self._door.set()

    async def carry(self, subscriber: ServerConnection) -> None:
        """Serve one connection."""
        await self._door.wait()
        self.connections += 1
        self._open.add(subscriber)
        try:
            async with websockets.connect(
                self._server, subprotocols=[PROTOCOL], compression=None, close_timeout=1
            ) as server:
                there = asyncio.create_task(self._pump(subscriber, server, subscriber))
                back = asyncio.create_task(self._pump(server, subscriber, subscriber))
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
                if subscriber not in self._frozen and server.close_code not in (None, 1006):
                    await subscriber.close(server.close_code, server.close_reason or "")
        finally:
            self._open.discard(subscriber)
            self._frozen.discard(subscriber)

    async def _pump(self, source: Any, target: Any, subscriber: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in source:
                if subscriber not in self._frozen:
                    await target.send(message)


@contextlib.asynccontextmanager
async def line_to(server: str) -> AsyncIterator[Line]:
    """A line to a server's socket."""
    line = Line(server)
    async with websockets.serve(
        line.carry, "127.0.0.1", 0, subprotocols=[PROTOCOL], compression=None, ping_interval=None
    ) as door:
        port = next(iter(door.sockets)).getsockname()[1]
        line.url = f"ws://127.0.0.1:{port}/graphql"
        yield line
