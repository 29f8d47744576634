"""What the server's protocols do beside ASGI: whole frames at once, deadlines, farewells.

ASGI cannot write one frame to a thousand sockets without a thousand awaits, cannot see that a
reader has stopped reading, and cannot say why a socket closes at shutdown. These subclasses of
uvicorn's protocols can, and put what they offer into the scope's extensions. They touch private
details of uvicorn, which is pinned exactly; `fits` tells whether they are as they were.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "stampwire"
SEND_SECONDS = 5.0
"""How long a receiver may keep us waiting before it is cut off."""
_GOING_AWAY = 1012
_LET_GO_SECONDS = 1.0
_ONE_BYTE, _TWO_BYTES = 126, 65_536

log = structlog.get_logger("stampwire.sockets")


class Blocked(Exception):
    """The receiver takes nothing any more; its connection was cut."""


class Socket(WebSocketsSansIOProtocol):
    """A websocket that takes ready-made frames, and is cut off when it blocks."""

    farewell: Callable[[], str] | None = None
    """What to say as the reason when the server goes away."""

    def handle_connect(self, event: Any) -> None:
        """Offer ourselves to the application."""
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    @property
    def is_open(self) -> bool:
        """Whether frames can still be sent."""
        return not (self.disconnected or self.close_sent or self.transport.is_closing())

    @property
    def is_writable(self) -> bool:
        """Whether the receiver keeps up."""
        return self.writable.is_set()

    def write(self, frames: bytes) -> None:
        """Send whole frames, at once; the caller looks at `is_writable` first."""
        if self.is_open:
            self.transport.write(frames)

    async def drained(self) -> None:
        """Wait until the receiver keeps up again. Blocked if it does not, or has gone."""
        if not self.writable.is_set():
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self.writable.wait()
            except TimeoutError:
                self.cut()
        if not self.is_open:
            raise Blocked

    def cut(self) -> None:
        """End the connection without waiting for what is not taken."""
        if not self.disconnected:
            log.info("socket cut: it takes nothing")
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """As ASGI has it, but within a deadline."""
        if not self.writable.is_set():
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self.writable.wait()
            except TimeoutError:
                self.cut()
        await super().send(message)

    def keepalive_timeout(self) -> None:
        """Nobody answered a ping: a close that waits for the buffer would wait for ever."""
        super().keepalive_timeout()
        self.loop.call_later(_LET_GO_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        """The server goes away: say so, and where to go on from."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
        else:
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": _GOING_AWAY})
            self.conn.send_close(_GOING_AWAY, self.farewell() if self.farewell else "")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self.loop.call_later(_LET_GO_SECONDS, self.transport.abort)


class Exchange(HttpToolsProtocol):
    """A connection of HTTP that tells the application when the server goes away."""

    def on_message_begin(self) -> None:
        """Offer ourselves to the application."""
        super().on_message_begin()
        self.scope.setdefault("extensions", {})[EXTENSION] = self  # type: ignore[assignment]

    def cut(self) -> None:
        """End the connection without waiting for what is not taken."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Answers that would never end by themselves are told to end."""
        going_away = self.app_state.get("going_away")
        if going_away is not None:
            going_away.set()
        super().shutdown()


def fits() -> bool:
    """Whether uvicorn's protocols still have what these classes rely on."""
    socket = {"handle_connect", "send", "shutdown", "keepalive_timeout", "stop_keepalive"}
    exchange = {"on_message_begin", "shutdown"}
    return socket <= set(vars(WebSocketsSansIOProtocol)) and exchange <= set(
        vars(HttpToolsProtocol)
    )


def head_of(length: int) -> bytes:
    """The head of an unmasked text frame of so many bytes (RFC 6455, 5.2)."""
    if length < _ONE_BYTE:
        return bytes((0x81, length))
    if length < _TWO_BYTES:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def frames_of(prefix: bytes, payloads: Iterable[bytes]) -> bytes:
    """One text frame per payload: `prefix`, the payload, a closing brace."""
    parts: list[bytes] = []
    around = len(prefix) + 1
    for payload in payloads:
        parts += (head_of(around + len(payload)), prefix, payload, b"}")
    return b"".join(parts)
