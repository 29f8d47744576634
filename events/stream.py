"""The doorbell: which business has news, carried between processes. Only here is broadcaster known.

It carries `[business, sequence, access version]` and nothing else; whoever hears it reads the
log. broadcaster was measured to lose messages silently, and for ever, after a short outage of
its broker, so nothing depends on it: our own heartbeat tells a dead line, which is then built
anew, and once a second one small query covers every ring that was lost. A dead broker costs
latency, never an event.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import orjson
import structlog
from broadcaster import Broadcast
from sqlmodel import col, select

from db import Database, Transaction, among, query
from models import LogHead

CHANNEL = "stampwire"
POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 12.0
_RINGS_PER_MESSAGE = 80
"""PostgreSQL takes 8 000 bytes in one notification."""

log = structlog.get_logger("stampwire.stream")
# Every business somebody here follows: this runs in the name of the system.
_HEADS = query(select(LogHead).where(among(col(LogHead.business_id), "businesses")))


@dataclass(eq=False)
class Follower:
    """Somebody who wants to know of a business's news; remembers only the latest."""

    business: str
    sequence: int = 0
    access_version: int | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self, beyond: int, patience: float = 30.0) -> bool:
        """Wait until the log reaches beyond a place, or patience ends; says which."""
        while self.sequence <= beyond:
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return False
        return True

    def hear(self, sequence: int) -> None:
        """The log reaches to here, at least."""
        if sequence > self.sequence:
            self.sequence = sequence
            self._news.set()


class Stream:
    """One per process: hears of news from its own commits, from the doorbell, and by looking."""

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url
        self._followers: dict[str, set[Follower]] = defaultdict(set)
        self._access: dict[str, dict[Callable[[], None], int | None]] = defaultdict(dict)
        self._bells: set[asyncio.Event] = set()
        self._unsent: dict[str, tuple[int, int]] = {}
        self._something = asyncio.Event()
        self._broadcast: Broadcast | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.healthy = False

    async def open(self) -> None:
        """Start listening, ringing and looking; a broker that is absent is no error."""
        self._database.on_commit = self.ring
        self._closing = False
        self._tasks = [
            asyncio.create_task(task, name=f"stream-{name}")
            for name, task in {
                "listen": self._listen(),
                "publish": self._publish(),
                "heartbeat": self._beat(),
                "poll": self._poll(),
            }.items()
        ]

    async def close(self) -> None:
        """Stop everything."""
        self._database.on_commit = None
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ring(self, heads: dict[str, tuple[int, int]]) -> None:
        """Tell everybody, in this process and in the others, how far these logs reach."""
        self._hear(heads)
        self._unsent.update(heads)
        self._something.set()

    @contextmanager
    def follow(self, business: str) -> Iterator[Follower]:
        """Hear of a business's news for as long as the block lasts."""
        follower = Follower(business)
        self._followers[business].add(follower)
        try:
            yield follower
        finally:
            self._followers[business].discard(follower)
            if not self._followers[business]:
                del self._followers[business]

    @contextmanager
    def watch_access(self, business: str, callback: Callable[[], None]) -> Iterator[None]:
        """Call back when somebody's rights in the business changed."""
        self._access[business][callback] = None
        try:
            yield
        finally:
            del self._access[business][callback]
            if not self._access[business]:
                del self._access[business]

    @contextmanager
    def bell(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever any business has news; for the workers."""
        event = asyncio.Event()
        self._bells.add(event)
        try:
            yield event
        finally:
            self._bells.discard(event)

    def _hear(self, heads: dict[str, tuple[int, int]]) -> None:
        for business, (sequence, access_version) in heads.items():
            for follower in self._followers.get(business, ()):
                follower.hear(sequence)
            watchers = self._access.get(business, {})
            for callback, known in list(watchers.items()):
                # At the first news it is not known what changed since rights were looked at.
                if known is None or access_version > known:
                    watchers[callback] = access_version
                    callback()
        for bell in self._bells:
            bell.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._line() as broadcast, broadcast.subscribe(CHANNEL) as subscriber:
                    self._broadcast = broadcast
                    while True:
                        async with asyncio.timeout(SILENCE_SECONDS):
                            message = await subscriber.get()
                        self.healthy = True
                        if message is not None:
                            rings = orjson.loads(message.message)
                            self._hear({ring[0]: (ring[1], ring[2]) for ring in rings})
            except Exception as error:  # noqa: BLE001 -- whatever the broker does, we go on
                log.warning("doorbell lost", error=type(error).__name__)
            self._broadcast, self.healthy = None, False
            if self._closing:  # a dead broker's error takes the place of our cancellation
                return
            await asyncio.sleep(1)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Broadcast]:
        broadcast = Broadcast(self._url)
        try:
            async with asyncio.timeout(5):
                await broadcast.connect()
            yield broadcast
        finally:
            with suppress(Exception):
                async with asyncio.timeout(2):
                    await broadcast.disconnect()
            # broadcaster 0.3.1 leaves its reader of a dead Redis behind: one a second in an outage.
            reader = getattr(broadcast._backend, "_listener", None)  # noqa: SLF001
            if isinstance(reader, asyncio.Task):
                reader.cancel()

    async def _publish(self) -> None:
        """The one task that publishes: what piles up meanwhile goes out together."""
        while True:
            await self._something.wait()
            self._something.clear()
            rings = [(business, *head) for business, head in self._unsent.items()]
            self._unsent.clear()
            for start in range(0, len(rings), _RINGS_PER_MESSAGE):
                await self._send(rings[start : start + _RINGS_PER_MESSAGE])

    async def _send(self, rings: list[tuple[str, int, int]]) -> None:
        broadcast = self._broadcast
        if broadcast is None:
            return
        try:
            async with asyncio.timeout(2):
                await broadcast.publish(CHANNEL, orjson.dumps(rings).decode())
        except Exception as error:  # noqa: BLE001 -- a lost ring is covered by the poll
            log.warning("ring lost", error=type(error).__name__)

    async def _beat(self) -> None:
        while True:
            await self._send([])
            await asyncio.sleep(HEARTBEAT_SECONDS if self.healthy else 0.2)

    async def _poll(self) -> None:
        """Look at the heads of the logs somebody here follows: no ring is needed to be told."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            businesses = sorted({*self._followers, *self._access})
            if not businesses:
                continue
            try:
                self._hear(await self._heads(businesses))
            except Exception as error:  # noqa: BLE001 -- the next look may succeed
                log.warning("log heads unread", error=type(error).__name__)

    async def _heads(self, businesses: list[str]) -> dict[str, tuple[int, int]]:
        async def look(tx: Transaction) -> list[LogHead]:
            return await tx.many(_HEADS, businesses=businesses)

        heads = await self._database.read(None, look)
        return {head.business_id: (head.sequence, head.access_version) for head in heads}
