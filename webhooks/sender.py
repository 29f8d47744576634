"""The sender: one request, bounded in time, size and reach, and what came of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from core.clock import Clock
from core.guard import ForbiddenAddress, GuardedResolver, SocketFactory, socket_factory
from core.metrics import ATTEMPT_SECONDS, ATTEMPTS
from webhooks.pace import IN_FLIGHT
from webhooks.parcels import Parcel
from webhooks.schedule import TAKEN, seconds_to_wait

DEADLINE_SECONDS = 15.0
_CROWDED = 256
"""From so many requests under way in this process on, each endpoint has one at a time."""
_MOST_HEADERS = 8_192
"""Bytes before the body of an answer, all its interim answers (1xx) among them."""
_READ = 4_096
_KEPT = 1_024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request. `error` is None, or the kind of failure in a word."""

    started_at: datetime
    duration_ms: int
    status: int | None = None
    head: str | None = None
    error: str | None = None
    remote_address: str | None = None
    retry_after: float | None = None
    control: str | None = None
    """The header `webhook-delivery`, by which a receiver says `disable` or `abort-message`."""

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has the event."""
        return self.error is None and self.status in TAKEN


class Sender:
    """One per process: keeps connections alive, follows nothing, goes nowhere forbidden."""

    def __init__(
        self,
        clock: Clock,
        *,
        allow_insecure: bool = False,
        deadline: float = DEADLINE_SECONDS,
        make_socket: SocketFactory | None = None,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clock = clock
        self._allow_insecure = allow_insecure
        self._deadline = deadline
        self._make_socket = make_socket or socket_factory(allow_insecure=allow_insecure)
        self._resolver = resolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._under_way = 0
        self._gates: dict[str, _Gate] = {}

    async def open(self) -> None:
        """Be ready to send."""
        connector = _Connector(
            limit=0,
            socket_factory=self._make_socket,
            resolver=GuardedResolver(allow_insecure=self._allow_insecure, inner=self._resolver),
            use_dns_cache=False,
            ssl=True if self._tls is None else self._tls,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            auto_decompress=False,
            response_class=_Response,
            trace_configs=[_noting_reuse()],
            headers={"user-agent": "Stampwire-Webhooks/1", "accept-encoding": "identity"},
        )

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def turn(self, endpoint_id: str, most: int = IN_FLIGHT) -> AsyncIterator[None]:
        """Wait until a request may be under way to this endpoint, beside at most so many others.

        Its first never waits: where much is under way to others, it is the further ones that do.
        """
        gate = self._gates.setdefault(endpoint_id, _Gate())
        gate.users += 1
        try:
            async with gate.changed:
                await gate.changed.wait_for(lambda: self._has_room(gate, most))
                gate.under_way += 1
                self._under_way += 1
            try:
                yield
            finally:
                self._under_way -= 1
                gate.under_way -= 1
                async with gate.changed:
                    gate.changed.notify_all()
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[endpoint_id]

    def _has_room(self, gate: "_Gate", most: int) -> bool:
        is_crowded = self._under_way >= _CROWDED
        return gate.under_way < (1 if is_crowded else max(1, most))

    async def send(self, parcel: Parcel) -> Answer:
        """Make one request, at most 15 s from here to the end of the answer; never raises."""
        loop = asyncio.get_running_loop()
        at, start = self._clock.now(), loop.time()
        seen = _Seen()
        try:
            async with asyncio.timeout(self._deadline):
                try:
                    await self._exchange(parcel, at, seen)
                except aiohttp.ServerDisconnectedError:
                    # The receiver closed a kept-alive connection just as we used it (RFC 9112,
                    # 9.5): that says nothing of the receiver, so it is asked again, once.
                    if not seen.reused:
                        raise
                    await self._exchange(parcel, at, seen)
        except Exception as error:  # noqa: BLE001 -- whatever a receiver does is its answer
            seen.error = _kind_of(error)
        ATTEMPTS.count(seen.error or f"{(seen.status or 0) // 100}xx")
        ATTEMPT_SECONDS.observe(loop.time() - start)
        return Answer(
            started_at=at,
            duration_ms=round((loop.time() - start) * 1000),
            status=seen.status,
            head=seen.head,
            error=seen.error,
            remote_address=seen.remote_address,
            retry_after=seconds_to_wait(seen.retry_after, at),
            control=seen.control,
        )

    async def _exchange(self, parcel: Parcel, at: datetime, seen: "_Seen") -> None:
        if self._session is None:
            raise RuntimeError("The sender is not open.")
        seen.reused = False
        async with self._session.post(
            URL(parcel.to.url),
            data=parcel.body,
            headers=parcel.headers(at),
            allow_redirects=False,
            trace_request_ctx=seen,
        ) as response:
            seen.status = response.status
            seen.remote_address = getattr(response, "remote_address", None)
            seen.retry_after = response.headers.get("retry-after")
            seen.control = response.headers.get("webhook-delivery", "").strip().lower() or None
            read = bytearray()
            while len(read) < _READ and (part := await response.content.read(_READ - len(read))):
                read += part
            seen.head = read[:_KEPT].decode(errors="replace").replace("\x00", "\ufffd") or None
            if not response.content.at_eof():
                response.close()


@dataclass(slots=True)
class _Seen:
    """What is known of an exchange so far; it may end at any point."""

    status: int | None = None
    head: str | None = None
    error: str | None = None
    remote_address: str | None = None
    retry_after: str | None = None
    control: str | None = None
    reused: bool = False


@dataclass(slots=True)
class _Gate:
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    under_way: int = 0
    users: int = 0


class _Response(aiohttp.ClientResponse):
    """A response that remembers who really answered: a short one has no connection any more."""

    remote_address: str | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        self.remote_address = str(peer[0]) if peer else None
        started = await super().start(connection)
        if sum(len(name) + len(value) + 4 for name, value in started.raw_headers) > _MOST_HEADERS:
            raise ValueError("The headers are too long.")
        return started


class _Wire(ResponseHandler):
    """A connection that is cut where an answer goes on and on before its body.

    aiohttp bounds a line and the number of lines, but not the whole, and takes any number of
    interim answers.
    """

    _before_body = 0

    def set_response_params(self, **params: Any) -> None:
        self._before_body = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._payload is not None and self._payload is not EMPTY_PAYLOAD:
            return
        self._before_body += len(data)
        if self._before_body > _MOST_HEADERS and self.transport is not None:
            self.transport.close()
            self.set_exception(HttpProcessingError(message="The headers are too long."))


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(_Wire, loop=asyncio.get_running_loop())


def _noting_reuse() -> aiohttp.TraceConfig:
    async def note(_: Any, context: Any, __: Any) -> None:
        context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


def _kind_of(error: Exception) -> str:
    """The kind of a failure in a word; what an exception says may hold a URL's secrets."""
    inner = getattr(error, "os_error", None)
    if isinstance(error, ForbiddenAddress) or isinstance(inner, ForbiddenAddress):
        return "address"
    kinds: dict[str, Any] = {
        "timeout": TimeoutError,
        "dns": aiohttp.ClientConnectorDNSError,
        "tls": (aiohttp.ClientSSLError, ssl.SSLError),
        "url": aiohttp.InvalidURL,
        "connect": aiohttp.ClientConnectorError,
        "disconnected": (aiohttp.ServerDisconnectedError, ConnectionError, OSError),
    }
    return next((kind for kind, raised in kinds.items() if isinstance(error, raised)), "protocol")
