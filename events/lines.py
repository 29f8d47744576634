"""The doorbell's line: to Redis, to PostgreSQL, or within the process. Only it knows broadcaster.

broadcaster passes the messages on; the connections beneath it are ours. Its own go silent for ever
when their server does, leave tasks and connections behind, and end at a message that is no UTF-8
(figures: docs/decisions/0005). Ours wait for no server that does not answer, and say when they
are lost.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
from broadcaster import Broadcast, BroadcastBackend, Event

CHANNEL = "stampwire"
CONNECT_SECONDS = 2.0
PUBLISH_SECONDS = 2.0
_CLOSE_SECONDS = 2.0


class LineLost(Exception):
    """The line is dead; a new one is needed."""


class Line:
    """What one process says and hears on the one channel, for as long as its connection lives."""

    def __init__(self, broadcast: Broadcast, heard: Any, wire: "_Wire | None") -> None:
        self._broadcast = broadcast
        self._heard = heard
        self._wire = wire

    async def publish(self, text: str) -> None:
        """Say it to every process, this one too. LineLost if the broker does not take it."""
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._broadcast.publish(CHANNEL, text)
        except Exception as error:
            raise LineLost(type(error).__name__) from error

    async def hear(self) -> str:
        """What is said next. LineLost when nothing more will come."""
        event = await self._heard.get()
        if isinstance(event, _End):
            raise LineLost(event.message)
        message: str = event.message
        return message

    def give_up(self, reason: str) -> None:
        """Call the line lost, whatever its connection believes."""
        if self._wire is not None:
            self._wire.end(reason)


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Line]:
    """A line for as long as the block lasts. Raises if the broker cannot be reached in time."""
    wire = _wire_to(url)
    broadcast = Broadcast(url) if wire is None else Broadcast(backend=wire)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await broadcast.connect()
    except BaseException:
        if wire is not None:
            await wire.disconnect()
        raise
    try:
        async with broadcast.subscribe(CHANNEL) as heard:
            yield Line(broadcast, heard, wire)
    finally:
        await broadcast.disconnect()


class _End(Event):
    """The last that comes from a lost connection; its message says why."""


class _Wire(BroadcastBackend):
    """A connection that hears the one channel from the moment it is there."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[Event] = asyncio.Queue()

    async def subscribe(self, group: str) -> None:
        """Nothing: it has heard the channel since it was connected."""

    async def unsubscribe(self, group: str) -> None:
        """Nothing: that ends with the connection."""

    async def next_published(self) -> Event:
        return await self._came.get()

    @abstractmethod
    async def disconnect(self) -> None: ...

    def _hear(self, message: str) -> None:
        self._came.put_nowait(Event(CHANNEL, message))

    def end(self, reason: str) -> None:
        """Nothing more will come."""
        self._came.put_nowait(_End(CHANNEL, reason))


class _RedisWire(_Wire):
    """Publish and subscribe of a Redis: one connection says, one hears."""

    def __init__(self, url: str) -> None:
        # Loading it takes a tenth of a second, which a server without Redis need not wait for.
        from redis.asyncio import Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        super().__init__()
        # It would reconnect by itself, quietly; what was said meanwhile must be looked up.
        never = Retry(NoBackoff(), 0)
        self._client: Any = cast("Any", Redis).from_url(
            url, retry=never, socket_connect_timeout=CONNECT_SECONDS
        )
        self._heard: Any = self._client.pubsub()
        self._reader: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self._heard.subscribe(CHANNEL)
        self._reader = asyncio.create_task(self._read(), name="doorbell-redis")

    async def publish(self, channel: str, message: Any) -> None:
        await self._client.publish(channel, message)

    async def disconnect(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for close in (self._heard.aclose, self._client.aclose):
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await close()

    async def _read(self) -> None:
        try:
            async for message in self._heard.listen():
                if message["type"] == "message":
                    self._hear(message["data"].decode(errors="surrogateescape"))
            reason = "Unsubscribed"
        except Exception as error:  # noqa: BLE001 -- whatever it was, nothing more comes
            reason = type(error).__name__
        self.end(reason)


class _PostgresWire(_Wire):
    """LISTEN and NOTIFY of a PostgreSQL, on one connection."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._wire: asyncpg.Connection[Any] | None = None

    async def connect(self) -> None:
        settings = {"application_name": "stampwire doorbell"}
        wire = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, server_settings=settings, statement_cache_size=0
        )
        self._wire = wire
        wire.add_termination_listener(lambda _: self.end("ConnectionClosed"))
        await wire.add_listener(CHANNEL, lambda *said: self._hear(said[3]))

    async def publish(self, channel: str, message: Any) -> None:
        if self._wire is None:
            raise ConnectionError
        await self._wire.execute("SELECT pg_notify($1, $2)", channel, message)

    async def disconnect(self) -> None:
        if self._wire is not None:  # politely it would wait for a server that does not answer
            self._wire.terminate()


def _wire_to(url: str) -> _Wire | None:
    """Our connection to a broker; none is needed within a process."""
    scheme = url.partition(":")[0]
    if scheme in ("redis", "rediss"):
        return _RedisWire(url)
    if scheme in ("postgres", "postgresql"):
        return _PostgresWire(url)
    return None
