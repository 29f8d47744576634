"""Clients of the API as a program would write them: HTTP by aiohttp, sockets by websockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp
import websockets

from patience import PATIENCE
from processes import RunningServer

JSON_HEADERS = {"content-type": "application/json"}


@dataclass
class Answer:
    """An answer over HTTP: its status, and what its body says."""

    status: int
    body: Any

    @property
    def data(self) -> Any:
        """The data; fails where there are top-level errors."""
        assert self.status == 200, self.body
        assert "errors" not in self.body, self.body["errors"]
        return self.body["data"]

    @property
    def codes(self) -> list[str]:
        """The codes of the top-level errors."""
        return [error["extensions"]["code"] for error in self.body.get("errors", [])]

    @property
    def code(self) -> str | None:
        """The code of the only top-level error, None if there is none."""
        assert len(self.codes) <= 1, self.body
        return self.codes[0] if self.codes else None


@dataclass
class Client:
    """Calls one server with one key (or none)."""

    server: RunningServer
    session: aiohttp.ClientSession
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What says who calls."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}

    async def call(
        self,
        document: str,
        variables: dict[str, Any] | None = None,
        *,
        operation: str | None = None,
        **headers: str,
    ) -> Answer:
        """Run a document. Headers are given with `_` for `-`."""
        asked: dict[str, Any] = {"query": document, "variables": variables or {}}
        if operation is not None:
            asked["operationName"] = operation
        return await self.post(json.dumps(asked).encode(), **headers)

    async def do(self, document: str, variables: dict[str, Any] | None = None) -> Any:
        """The data of a document that has no top-level errors."""
        return (await self.call(document, variables)).data

    async def post(self, body: bytes, **headers: str) -> Answer:
        """Send a body as it stands."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(
            self.server.graphql, data=body, headers={**JSON_HEADERS, **self.headers, **told}
        ) as answer:
            said = await answer.json(content_type=None)
            if isinstance(said, dict):  # but for the cost, which differs from call to call
                said.pop("extensions", None)
            return Answer(answer.status, said)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator["Socket"]:
        """A socket that was let in with this client's key."""
        async with bare_socket(self.server) as wire:
            payload = {"Authorization": f"Bearer {self.key}"}
            await wire.send(json.dumps({"type": "connection_init", "payload": payload}))
            assert json.loads(await wire.recv()) == {"type": "connection_ack"}
            socket = Socket(wire)
            reader = asyncio.create_task(socket.read())
            try:
                yield socket
            finally:
                reader.cancel()


@asynccontextmanager
async def bare_socket(server: RunningServer) -> AsyncIterator[websockets.ClientConnection]:
    """A socket that has said nothing yet."""
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with websockets.connect(
        server.socket, subprotocols=[protocol], compression=None, max_queue=None
    ) as wire:
        yield wire


@dataclass
class Socket:
    """Runs operations over graphql-transport-ws, any number side by side."""

    wire: websockets.ClientConnection
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _inboxes: dict[str, asyncio.Queue[Any]] = field(default_factory=dict)
    _ids: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    async def subscribe(self, document: str, variables: dict[str, Any] | None = None) -> "Told":
        """Start an operation."""
        own = str(self._ids())
        inbox = self._inboxes[own] = asyncio.Queue()
        payload = {"query": document, "variables": variables or {}}
        await self.wire.send(json.dumps({"id": own, "type": "subscribe", "payload": payload}))
        return Told(inbox)

    async def read(self) -> None:
        """Sort what comes into the inboxes, until the socket closes."""
        try:
            async for frame in self.wire:
                message = json.loads(frame)
                if "id" in message:
                    self._inboxes[message["id"]].put_nowait(message)
        except websockets.ConnectionClosedError:
            pass
        finally:
            self.closed.set()

    async def close_code(self, patience: float = PATIENCE) -> int | None:
        """The code with which the server closes the socket."""
        async with asyncio.timeout(patience):
            await self.closed.wait()
            await self.wire.wait_closed()
        return self.wire.close_code


@dataclass
class Told:
    """What an operation over a socket is told."""

    inbox: asyncio.Queue[Any]

    async def next(self, patience: float = PATIENCE) -> Any:
        """The data of the next answer."""
        message = await self.message(patience)
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        return message["payload"]["data"]

    async def take(self, count: int, patience: float = PATIENCE) -> list[Any]:
        """The data of the next answers."""
        return [await self.next(patience) for _ in range(count)]

    async def message(self, patience: float = PATIENCE) -> Any:
        """The next message as it came."""
        async with asyncio.timeout(patience):
            return await self.inbox.get()

    async def is_silent(self, span: float = 0.15) -> bool:
        """Whether nothing more comes for a while."""
        await asyncio.sleep(span)
        return self.inbox.empty()
