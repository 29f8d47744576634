"""What the server's protocols do beside ASGI: whole frames at once, deadlines, farewells.

ASGI cannot write one frame to a thousand sockets without a thousand awaits, cannot see that a
reader has stopped reading or that a request never ends, and cannot say why a socket closes at
shutdown. These subclasses of uvicorn's protocols can, and put what they offer into the scope's
extensions. They touch private details of uvicorn, which is pinned exactly; `fits` tells whether
they are as they were.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from core.settings import Settings
from execution.gate import AGAIN_SECONDS, Gate

EXTENSION = "stampwire"
_GOING_AWAY = 1012
_NOT_TEXT = 1007
TOO_MANY = 4429
TRY_AGAIN = 1013
_LET_GO_SECONDS = 1.0
_PIECE = 4_096
"""Bytes of a socket that are read before others get a turn."""
_TURN = 8
"""Messages of a socket that are answered before others get a turn."""
_STILL_TALKING = 262_144
"""Bytes that may come after our close, before the connection is cut."""
_ON_ITS_WAY = 400_000
"""What is held of a body that is taken away as it comes."""
_ONE_BYTE, _TWO_BYTES = 126, 65_536

log = structlog.get_logger("stampwire.sockets")


class Blocked(Exception):
    """The receiver takes nothing any more; its connection was cut."""


@dataclass(frozen=True)
class Patience:
    """How long a connection is waited for, and how much is taken from it."""

    head_seconds: float = 10.0
    """From the first byte of a request (or from connecting) to the end of its headers."""
    body_seconds: float = 30.0
    """From there to the end of its body."""
    body_rate: int = 32_000
    """Bytes per second that earn a long body more time."""
    answer_seconds: float = 30.0
    """How long an answer may wait for somebody who reads nothing."""
    send_seconds: float = 5.0
    """The same for sockets and streams."""
    leftover_seconds: float = 5.0
    """How long the rest of a body is thrown away after the request was answered."""
    leftover_bytes: int = 1_000_000
    """How much of it."""
    url_bytes: int = 8_192
    head_bytes: int = 16_384
    headers: int = 100
    requests_waiting: int = 16
    """Requests that may have come on a connection before those ahead of them are answered."""
    pieces: int = 1_000
    """Parts in which a body may come, and one more for each hundred bytes of it."""
    messages_at_once: int = 400
    """Frames of any kind that a socket may send in a burst."""
    messages_per_second: float = 100.0
    """Frames that it may send all the time."""

    def under(self, settings: Settings) -> "Patience":
        """The same, with what the settings say."""
        return replace(
            self,
            head_seconds=settings.head_seconds,
            body_seconds=settings.body_seconds,
            answer_seconds=settings.answer_seconds,
            send_seconds=settings.send_seconds,
            messages_at_once=settings.socket_messages_at_once,
            messages_per_second=settings.socket_messages_per_second,
        )


class Socket(WebSocketsSansIOProtocol):
    """A websocket that takes ready-made frames, and is cut off when it blocks or floods."""

    patience: ClassVar[Patience] = Patience()
    gate: ClassVar[Gate]
    farewell: Callable[[], str] | None = None
    """What to say as the reason when the server goes away."""
    _unread = b""
    _is_due = False
    _taken = 0
    _credit = 0.0
    _credited_at = 0.0
    _held = 0
    _message = 0
    """Bytes of the message that is coming in."""
    _delivered: deque[int]
    """The sizes of those that the application has not taken."""

    # -- What comes in ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection whose handshake was received, and is to be answered in time."""
        super().connection_made(transport)
        self.gate.enter(transport, self.client)
        self._delivered = deque()
        self._credit, self._credited_at = self.patience.messages_at_once, self.loop.time()
        self.close_timeout = _LET_GO_SECONDS
        self.loop.call_later(self.patience.head_seconds, self._cut_without_handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is held for it any more."""
        self.gate.release(self)
        self.gate.leave(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, a piece at a time: others get their turn between the pieces."""
        if not self.handshake_initiated:
            super().data_received(data)
            return
        self._unread += data
        self._weigh()
        if self.close_sent and len(self._unread) > _STILL_TALKING:
            self.transport.abort()
        self._read_on()

    def _read_on(self) -> None:
        """Go on as far as the application and the peer keep up."""
        if self._is_due or self.disconnected or self.transport.is_closing():
            return
        keeps_up = self.queue.qsize() < self.config.ws_max_queue and self.writable.is_set()
        if not (keeps_up or self.close_sent):
            return
        if self._unread:
            self._is_due = True
            self.loop.call_soon(self._read_piece)
        elif self.read_paused and (self.close_sent or self.queue.empty()):
            self.read_paused = False
            self.transport.resume_reading()

    def _read_piece(self) -> None:
        self._is_due = False
        if self.disconnected or self.transport.is_closing():
            return
        piece, self._unread = self._unread[:_PIECE], self._unread[_PIECE:]
        super().data_received(piece)
        if self._unread and not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()
        self._weigh()
        self._read_on()

    def _weigh(self) -> None:
        """Tell the gate what is held of messages that nobody has taken yet."""
        coming = len(self._unread) + len(self.conn.reader.buffer) + self._message
        held = 0 if self.disconnected else coming + sum(self._delivered)
        if held == self._held:
            return
        more, self._held = held - self._held, held
        if not held:
            self.gate.release(self)
        elif not self.gate.hold(self, more):
            self.give_up()

    def give_up(self) -> None:
        """There is no room for what it sends."""
        self.gate.release(self)
        self._held = 0
        if not self.close_sent and self.handshake_complete:
            self._end(TRY_AGAIN, "Try again later")
        else:
            self.transport.abort()

    async def receive(self) -> Any:
        """As ASGI has it, but in turns."""
        message = await self.queue.get()
        if message["type"] == "websocket.receive":
            self._delivered.popleft()
            self._weigh()
        self._taken += 1
        if self._taken % _TURN == 0:
            await asyncio.sleep(0)
        self._read_on()
        return message

    def resume_writing(self) -> None:
        """The receiver keeps up again, so what it says is heard again."""
        super().resume_writing()
        self._read_on()

    def handle_text(self, event: Any) -> None:
        """A message, or the beginning of one."""
        if self._is_within_rate():
            self._message += len(event.data)
            super().handle_text(event)

    def handle_bytes(self, event: Any) -> None:
        """A message that is not text, or the beginning of one."""
        if self._is_within_rate():
            self._message += len(event.data)
            super().handle_bytes(event)

    def handle_cont(self, event: Any) -> None:
        """More of a message."""
        if self._is_within_rate():
            self._message += len(event.data)
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """A ping of the websocket itself."""
        if self._is_within_rate():
            super().handle_ping()

    def handle_pong(self, event: Any) -> None:
        """An answer to our ping, or an idle word."""
        if self._is_within_rate():
            super().handle_pong(event)

    def _is_within_rate(self) -> bool:
        """Whether a frame is one too many; the socket that sent it is closed with 4429."""
        if self.close_sent:
            return False
        now, patience = self.loop.time(), self.patience
        gained = (now - self._credited_at) * patience.messages_per_second
        self._credited_at = now
        self._credit = min(patience.messages_at_once, self._credit + gained) - 1
        if self._credit < 0:
            log.info("socket closed: it floods")
            self._end(TOO_MANY, "Too many messages")
            return False
        return True

    def send_receive_event_to_app(self) -> None:
        """A whole message; one that is not UTF-8 is the caller's mistake, not logged as ours."""
        size, self._message = self._message, 0
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                if not self.close_sent:
                    self._end(_NOT_TEXT, "A message is UTF-8")
                return
        if not self.close_sent:
            self._delivered.append(size)
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Frames that break the rules of websockets: said so, then the connection is let go."""
        if self.close_sent:
            return
        said = self.conn.close_sent
        if said is None:
            self.transport.abort()
            return
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": said.code, "reason": said.reason}
        )
        self._say_and_let_go()

    def _end(self, code: int, reason: str) -> None:
        """Close the socket from this side; the application hears of it."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self._say_and_let_go()

    def _say_and_let_go(self) -> None:
        """Send the close, and wait a moment: data unread at once would reset what is on its way."""
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(_LET_GO_SECONDS, self.transport.abort)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _cut_without_handshake(self) -> None:
        if not self.handshake_complete and not self.disconnected:
            self.transport.abort()

    # -- What goes out ----------------------------------------------------------------------------

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
                async with asyncio.timeout(self.patience.send_seconds):
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
        """As ASGI has it, but within a deadline, and silent once we have closed."""
        if self.close_sent:
            if message["type"] == "websocket.close":
                return
            raise ClientDisconnected
        if not self.writable.is_set():
            try:
                async with asyncio.timeout(self.patience.send_seconds):
                    await self.writable.wait()
            except TimeoutError:
                self.cut()
        await super().send(message)
        if message["type"] == "websocket.close" and not self.disconnected:
            # A close that waits for a blocked buffer would wait for ever.
            self.loop.call_later(2 * _LET_GO_SECONDS, self.transport.abort)

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


class _Part(Enum):
    """What of a request is being received."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class _Unfit(Exception):
    """The head of a request is over a limit."""


class Exchange(HttpToolsProtocol):
    """A connection of HTTP whose requests and answers are waited for only so long.

    uvicorn waits for ever for the headers and the body of a request, and for a reader. It tells
    the application when the server goes away, too.
    """

    patience: ClassVar[Patience] = Patience()
    gate: ClassVar[Gate]
    long_bodies: ClassVar[frozenset[str]] = frozenset({"/uploads"})
    """Paths whose bodies get more time for as long as they come quickly enough.

    What takes them keeps no more of them in memory than is on its way.
    """
    on_leaving: Callable[[], None] | None = None
    """What to do if the caller leaves before it is answered."""
    _part = _Part.NOTHING
    _number = 0
    _awaited: tuple[_Part, int] | None = None
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _body_bytes = 0
    _pieces = 0
    _wrapping = 0
    """Bytes around the body: sizes of chunks, and what comes behind them."""
    _body_began = 0.0
    _leftover = 0
    _held = 0
    _fault = HTTPStatus.BAD_REQUEST

    # -- Receipt ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected, and is expected to ask for something."""
        super().connection_made(transport)
        status = self.gate.enter(transport, self.client)
        if status is None:
            self._await_rest()
        else:
            transport.write(_refusal(status))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._forget_deadlines()
        self.gate.release(self)
        self.gate.leave(self.transport)
        super().connection_lost(exc)
        if self.on_leaving is not None:
            self.on_leaving()

    def data_received(self, data: bytes) -> None:
        """More of a request; what is over a limit or no HTTP is refused."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._part is not _Part.BODY:
            self._head_bytes += len(data)
        part, number, had = self._part, self._number, self._body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._upgrade()
                return
        except httptools.HttpParserError:
            self._refuse(self._fault)
            return
        if self._part is _Part.HEAD and self._head_bytes > self.patience.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        if part is self._part is _Part.BODY and number == self._number:
            self._wrapping += len(data) - (self._body_bytes - had)
            if self._wrapping > self.patience.head_bytes + self._body_bytes // 2:
                self._end_body()
        if not self.transport.is_closing():
            self._await_rest()

    def on_message_begin(self) -> None:
        """A request begins: offer ourselves to the application."""
        super().on_message_begin()
        self._part, self._number = _Part.HEAD, self._number + 1
        self.scope.setdefault("extensions", {})[EXTENSION] = self  # type: ignore[assignment]

    def on_url(self, url: bytes) -> None:
        """More of the address."""
        super().on_url(url)
        if len(self.url) > self.patience.url_bytes:
            self._fault = HTTPStatus.REQUEST_URI_TOO_LONG
            raise _Unfit

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes as one behind the body is thrown away."""
        if self._part is not _Part.BODY:
            super().on_header(name, value)
            if len(self.headers) > self.patience.headers:
                self._fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise _Unfit
            return
        self._pieces += 1
        if self._pieces > self.patience.pieces:
            self._end_body()
            raise _Unfit

    def on_headers_complete(self) -> None:
        """The head is complete; the body may follow."""
        size = sum(len(name) + len(value) for name, value in self.headers)
        if size > self.patience.head_bytes:
            self._fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _Unfit
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise _Unfit  # whatever stands before us may have looked at the other one
        if len(self.pipeline) >= self.patience.requests_waiting:
            raise _Unfit  # and the connection is cut
        if not self.gate.begin(self):
            self._fault = HTTPStatus.SERVICE_UNAVAILABLE
            raise _Unfit
        self._part, self._head_bytes = _Part.BODY, 0
        self._body_bytes = self._leftover = self._pieces = self._wrapping = 0
        self._body_began = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More of the body; what follows the answer is thrown away, but not without end."""
        super().on_body(body)
        self._body_bytes += len(body)
        self._pieces += 1
        if self._pieces > self.patience.pieces + self._body_bytes // 100:
            self._end_body()
            raise _Unfit
        if not self.cycle.response_complete:
            self._hold(len(body))
        else:
            self._leftover += len(body)
            if self._leftover > self.patience.leftover_bytes:
                self._end_body()
                raise _Unfit

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._part = _Part.NOTHING
        self.gate.finish(self)

    def _end_body(self) -> None:
        """Too much of it, or around it: said so, unless the request was answered."""
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def _hold(self, size: int) -> None:
        """More of a body is held, unless it is taken away as quickly as it comes."""
        if self.scope["path"] in self.long_bodies:
            size = max(0, min(size, _ON_ITS_WAY - self._held))
        self._held += size
        if not self.gate.hold(self, size):
            self._fault = HTTPStatus.SERVICE_UNAVAILABLE
            raise _Unfit

    def _let_go_of_it(self) -> None:
        self._held = 0
        self.gate.release(self)

    def streams(self) -> None:
        """The answer will take as long as it likes; what was asked is not held any more."""
        self._let_go_of_it()

    def give_up(self) -> None:
        """There is no room for a body that is so long on its way."""
        self._held = 0
        self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def _await_rest(self) -> None:
        """Set the deadline for what is missing, once for each part of each request."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self._part is _Part.NOTHING and is_answering:
            awaited = None
        else:
            awaited = (self._part, self._number)
        if awaited == self._awaited and self._deadline is not None:
            return
        self._forget_deadline()
        self._awaited = awaited
        if awaited is None:
            return
        if self._part is _Part.BODY:
            self._wait(self.patience.body_seconds, self._body_is_late)
        elif self._part is _Part.HEAD or self.timeout_keep_alive_task is None:
            self._wait(self.patience.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        elif not self.transport.is_closing():
            self.transport.close()

    def _body_is_late(self) -> None:
        patience = self.patience
        spent = self.loop.time() - self._body_began
        granted = patience.body_seconds + self._body_bytes / patience.body_rate
        if self.flow.read_paused:  # it is we who keep it waiting
            self._wait(patience.body_seconds, self._body_is_late)
        elif self.scope["path"] in self.long_bodies and granted > spent:
            self._wait(granted - spent, self._body_is_late)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _wait(self, seconds: float, late: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(seconds, late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_deadlines(self) -> None:
        self._forget_deadline()
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _refuse(self, status: HTTPStatus) -> None:
        """Say what is wrong, unless another answer is under way, and end the connection."""
        self._forget_deadlines()
        if self.transport.is_closing():
            return
        cycle = self.cycle if self.cycle and not self.cycle.response_complete else None
        is_next = cycle is not None and not cycle.response_started and not self.pipeline
        if cycle is not None and not (is_next and self._part is _Part.BODY):
            self.transport.abort()
            return
        self.transport.write(_refusal(status))
        self.transport.close()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()

    def _upgrade(self) -> None:
        self._forget_deadlines()
        self.gate.release(self)
        self.gate.leave(self.transport)  # a socket counts itself
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self.handle_websocket_upgrade()

    # -- Answers ----------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Answered: what is left of the request is thrown away for a while."""
        if not self.pipeline:
            self._let_go_of_it()
        super().on_response_complete()
        if self.transport.is_closing():
            self._let_go()
        elif self._part is _Part.BODY and self.cycle.response_complete:
            self._forget_deadline()
            self._wait(self.patience.leftover_seconds, self.transport.close)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more was asked."""
        super().timeout_keep_alive_handler()
        self._let_go()

    def pause_writing(self) -> None:
        """The receiver does not keep up."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.patience.answer_seconds, self.cut)

    def resume_writing(self) -> None:
        """The receiver keeps up again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _let_go(self) -> None:
        """A connection that is closing, but whose last answer is not taken, is cut."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.patience.answer_seconds, self.transport.abort)

    def cut(self) -> None:
        """End the connection without waiting for what is not taken."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Answers that would never end by themselves are told to end."""
        going_away = self.app_state.get("going_away")
        if going_away is not None:
            going_away.set()
        super().shutdown()


def _refusal(status: HTTPStatus) -> bytes:
    """A whole answer to what never reached the application."""
    is_full = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    code = "RATE_LIMITED" if is_full else "BAD_REQUEST"
    again = f"retry-after: {AGAIN_SECONDS}\r\n" if is_full else ""
    body = orjson.dumps({"errors": [{"message": _SAID[status], "extensions": {"code": code}}]})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: application/json; charset=utf-8\r\n"
        f"{again}content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


_SAID = {
    HTTPStatus.BAD_REQUEST: "This is not a request of HTTP.",
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"An address has at most {Patience.url_bytes} bytes.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"The headers have at most {Patience.head_bytes} bytes, and are at most {Patience.headers}."
    ),
    HTTPStatus.TOO_MANY_REQUESTS: "There are too many connections from this address.",
    HTTPStatus.SERVICE_UNAVAILABLE: "There is no room at the moment; try again shortly.",
}


def protocols_of(settings: Settings) -> tuple[type[Exchange], type[Socket]]:
    """The protocols of one process: what they do is in the settings, and they share one gate."""
    gate = Gate(settings)

    class ThisExchange(Exchange):
        """A connection of this process."""

    class ThisSocket(Socket):
        """A websocket of this process."""

    for protocol in (ThisExchange, ThisSocket):
        protocol.patience = protocol.patience.under(settings)
        protocol.gate = gate
    return ThisExchange, ThisSocket


def fits() -> bool:
    """Whether uvicorn's protocols still have what these classes rely on."""
    has_socket = _SOCKET.issubset(vars(WebSocketsSansIOProtocol))
    return has_socket and _EXCHANGE.issubset(vars(HttpToolsProtocol))


_SOCKET = {
    "data_received", "handle_bytes", "handle_connect", "handle_cont", "handle_parser_exception",
    "handle_ping", "handle_pong", "handle_text", "keepalive_timeout", "receive", "resume_writing",
    "send", "send_receive_event_to_app", "shutdown", "stop_keepalive",
}  # fmt: skip
_EXCHANGE = {
    "_should_upgrade", "_unset_keepalive_if_required", "connection_lost", "data_received",
    "handle_websocket_upgrade", "on_body", "on_header", "on_headers_complete", "on_message_begin",
    "on_message_complete", "on_response_complete", "on_url", "pause_writing", "resume_writing",
    "shutdown", "timeout_keep_alive_handler",
}  # fmt: skip


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
