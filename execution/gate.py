"""The gate: how much a process takes on at once, so that no crowd makes it hold more than it can.

Connections are counted where they are accepted, in all and by address; requests and the bytes of
bodies from their first byte until they are answered. When there is no more room, whoever has kept
a body waiting for longest makes some: who sends what was asked for is done in milliseconds, and
never the oldest. Only where all have sent everything is a newcomer refused.
"""

import asyncio
import resource
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from core.settings import Settings
from execution.transport import Outcome, refusal
from services.places import Place

_OTHER_FILES = 128
"""What a process opens beside the connections it accepts."""
_FEWEST = 16
AGAIN_SECONDS = 1
"""When those who are refused may try again."""

log = structlog.get_logger("stampwire.gate")


class Holder(Protocol):
    """A connection that makes us hold something."""

    def give_up(self) -> None:
        """Make room: say so, and end the connection."""
        ...


class Gate:
    """What the connections of one process make it hold."""

    def __init__(self, settings: Settings) -> None:
        self._most_connections = settings.connections
        self._most_per_address = settings.connections_per_address
        self._most_requests = settings.requests_at_once
        self._most_bytes = settings.receiving_bytes
        self._proxies = Proxies(settings.trusted_proxies)
        self._sources: dict[asyncio.BaseTransport, str | None] = {}
        self._by_source: dict[str, int] = defaultdict(int)
        self._requests: set[Holder] = set()
        self._held: dict[Holder, int] = {}
        self._unfinished: dict[Holder, None] = {}
        """Whoever has not sent everything; the oldest first."""
        self.bytes_held = 0
        self.bytes_most = 0
        """What was held at most."""
        self.given_up = 0
        """How many had to make room."""
        self._is_full = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._sources)

    # -- Connections ------------------------------------------------------------------------------

    def enter(
        self, transport: asyncio.BaseTransport, client: tuple[str, int] | None
    ) -> HTTPStatus | None:
        """Count a connection, once; the status with which it is refused, None if it is not."""
        if transport in self._sources:
            return None
        if len(self._sources) >= min(self._most_connections, _files_left()):
            self._tell_full()
            return HTTPStatus.SERVICE_UNAVAILABLE
        source = None if client is None or client[0] in self._proxies else source_of(client[0])
        if source is not None:
            if self._by_source[source] >= self._most_per_address:
                return HTTPStatus.TOO_MANY_REQUESTS
            self._by_source[source] += 1
        self._sources[transport] = source
        return None

    def leave(self, transport: asyncio.BaseTransport) -> None:
        """It has ended, if it was counted."""
        source = self._sources.pop(transport, None)
        if source is not None:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    # -- Requests and their bytes -----------------------------------------------------------------

    def begin(self, request: Holder) -> bool:
        """A request has come; False where there is no room for it."""
        if request not in self._requests:
            if len(self._requests) >= self._most_requests and not self._make_room(
                other for other in self._unfinished if other in self._requests
            ):
                return False
            self._requests.add(request)
        self._unfinished[request] = None
        return True

    def hold(self, holder: Holder, size: int) -> bool:
        """So many more bytes are held for it, or fewer; False where there is no room for them."""
        self._unfinished.setdefault(holder)
        self._held[holder] = self._held.get(holder, 0) + size
        self.bytes_held += size
        while self.bytes_held > self._most_bytes:
            if not self._make_room(
                other for other in self._unfinished if other is not holder and self._held.get(other)
            ):
                return False
        self.bytes_most = max(self.bytes_most, self.bytes_held)
        return True

    def finish(self, request: Holder) -> None:
        """All of it has come: that it is held is nobody's fault any more but ours."""
        self._unfinished.pop(request, None)

    def release(self, holder: Holder) -> None:
        """It was answered, or its connection has ended."""
        self._requests.discard(holder)
        self._unfinished.pop(holder, None)
        self.bytes_held -= self._held.pop(holder, 0)

    def _make_room(self, others: Iterable[Holder]) -> bool:
        self._tell_full()
        oldest = next(iter(others), None)
        if oldest is None:
            return False
        self.given_up += 1
        self.release(oldest)
        oldest.give_up()
        return True

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            log.warning("no room: newcomers, or the slowest, are told to come again")
            with suppress(RuntimeError):
                asyncio.get_running_loop().call_later(60, self._forget_full)

    def _forget_full(self) -> None:
        self._is_full = False


class Proxies:
    """The proxies that are trusted: many callers share the address of one."""

    def __init__(self, named: Sequence[str]) -> None:
        self._names = frozenset(named)
        self._networks: list[IPv4Network | IPv6Network] = []
        for name in named:
            with suppress(ValueError):
                self._networks.append(ip_network(name))

    def __contains__(self, host: str) -> bool:
        if not self._names:
            return False
        if "*" in self._names or host in self._names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class Turnstile:
    """Behind trusted proxies: how many requests and sockets one forwarded address may have open.

    The connections there are the proxies' own; whose request they carry is known only here.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._open: dict[str, int] = defaultdict(int)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it pass, or refuse it with 429."""
        if scope["type"] not in ("http", "websocket") or not scope.get("client"):
            await self._app(scope, receive, send)
            return
        source = source_of(scope["client"][0])
        if self._open[source] >= self._most:
            outcome = Outcome.TOO_MANY_CONNECTIONS
            said = "There are too many connections from this address."
            again = {"Retry-After": str(AGAIN_SECONDS)}
            await refusal(outcome.status, said, outcome.code, again)(scope, receive, send)
            return
        self._open[source] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]


def source_of(host: str) -> str:
    """Whose connections are counted together."""
    return Place(host).source


def _files_left() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return 2**31
    return max(_FEWEST, allowed - _OTHER_FILES)
