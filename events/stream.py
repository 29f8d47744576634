"""The doorbell: which business has news, carried between processes.

It carries `[business, sequence, access version]` and nothing else; whoever hears it reads the
log. Nothing depends on it: a ring is only a reason to look, a heartbeat of our own tells a dead
line, which is then built anew, and about once a second one small query covers every ring that was
lost. A dead broker costs latency, never an event.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from sqlmodel import col, select

from core.ids import new_id, prefix_of
from db import Database, Transaction, among, query
from events.lines import Line, LineLost, line_to
from models import LogHead

POLL_SECONDS = 0.8
"""What a lost ring costs at most, so that whoever lost their rights is let go within a second."""
HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 12.0
_LOOK_SECONDS = 5.0
_RINGS_PER_MESSAGE = 80
"""PostgreSQL takes 8 000 bytes in one notification."""
_LONGEST = 16_384
"""More characters than any message of ours has."""
_BEAT = "bell"
"""The prefix of what stands in a heartbeat for the business: the process that rings."""

Heads = dict[str, tuple[int, int]]
"""How far the log of each business reaches, and the version of its access rights."""

log = structlog.get_logger("stampwire.stream")
# Every business somebody here follows: this runs in the name of the system.
_HEADS = query(select(LogHead).where(among(col(LogHead.business_id), "businesses")))


@dataclass(eq=False)
class Follower:
    """Somebody who wants to know of a business's news; remembers only the latest."""

    business: str
    sequence: int = 0
    _hint: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self, beyond: int, patience: float = 30.0) -> bool:
        """Wait until the log seems to reach beyond a place, or patience ends; says which."""
        while max(self.sequence, self._hint) <= beyond:
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return False
        self._hint = 0  # believed once: anybody may ring
        return True

    def know(self, sequence: int) -> None:
        """The log reaches to here, at least."""
        if sequence > self.sequence:
            self.sequence = sequence
            self._news.set()

    def hear(self, sequence: int) -> None:
        """Somebody says so: reason enough to look once."""
        if sequence > self.sequence:
            self._hint = sequence
            self._news.set()


@dataclass(eq=False)
class _Watcher:
    """Somebody who wants to know when rights in a business changed."""

    callback: Callable[[], None]
    known: int | None = None
    _hint: int = 0

    def know(self, version: int) -> None:
        """So it is; at the first news it is not known what changed before."""
        if self.known is None or version > self.known:
            self.known = version
            self.callback()

    def hear(self, version: int) -> None:
        """Somebody says so: reason enough to look, and looked up by the poll all the same."""
        if version > max(self.known or 0, self._hint):
            self._hint = version
            self.callback()


class Stream:
    """One per process: hears of news from its own commits, from the doorbell, and by looking."""

    def __init__(
        self,
        database: Database,
        url: str,
        *,
        poll: float = POLL_SECONDS,
        heartbeat: float = HEARTBEAT_SECONDS,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._database = database
        self._url = url
        self._pauses = {"poll": poll, "heartbeat": heartbeat, "silence": silence}
        self._own = new_id(_BEAT)
        self._followers: dict[str, set[Follower]] = defaultdict(set)
        self._watchers: dict[str, set[_Watcher]] = defaultdict(set)
        self._bells: set[asyncio.Event] = set()
        self._unsent: Heads = {}
        self._something = asyncio.Event()
        self._look = asyncio.Event()
        self._line: Line | None = None
        self._connected = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.healthy = False
        """Whether the last heartbeat of our own came back."""
        self.rings_sent = 0
        self.rings_lost = 0
        """Rings that the broker did not take; they go out when it is back."""
        self.rings_heard = 0
        self.messages_ignored = 0
        """What was on the channel, but was none of ours."""
        self.rebuilds = 0
        """Lines built anew after the first."""

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

    def ring(self, heads: Heads) -> None:
        """Tell everybody, in this process and in the others, how far these logs reach."""
        self._know(heads)
        self._ring_bells()
        self._unsent.update(heads)
        self._something.set()

    @contextmanager
    def follow(self, business: str) -> Iterator[Follower]:
        """Hear of a business's news for as long as the block lasts."""
        follower = Follower(business)
        with _member_of(self._followers, business, follower):
            yield follower

    @contextmanager
    def watch_access(self, business: str, callback: Callable[[], None]) -> Iterator[None]:
        """Call back when somebody's rights in the business changed."""
        with _member_of(self._watchers, business, _Watcher(callback)):
            yield

    @contextmanager
    def bell(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever any business has news; for the workers."""
        event = asyncio.Event()
        self._bells.add(event)
        try:
            yield event
        finally:
            self._bells.discard(event)

    # -- What is known, and what is only said -----------------------------------------------------

    def _know(self, heads: Heads) -> None:
        """From our own commits and from the database: so it is."""
        for business, (sequence, access_version) in heads.items():
            for follower in self._followers.get(business, ()):
                follower.know(sequence)
            for watcher in [*self._watchers.get(business, ())]:
                watcher.know(access_version)

    def _hear(self, rings: list[tuple[str, int, int]]) -> None:
        """From the line, where anybody could ring: reasons to look, nothing more."""
        for business, sequence, access_version in rings:
            for follower in self._followers.get(business, ()):
                follower.hear(sequence)
            for watcher in [*self._watchers.get(business, ())]:
                watcher.hear(access_version)
        if rings:
            self._ring_bells()

    def _ring_bells(self) -> None:
        for bell in self._bells:
            bell.set()

    # -- The line ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hold a line to the broker; whenever it is lost, build a new one."""
        lines, is_lost = 0, False
        while True:
            pause = 1.0
            try:
                async with line_to(self._url) as self._line:
                    self._connected.set()
                    pause = 0.2
                    self.rebuilds += lines > 0
                    lines += 1
                    if is_lost:
                        log.info("doorbell back")
                    is_lost = False
                    self._look.set()  # what was rung meanwhile
                    self._ring_own()
                    try:
                        await self._hear_all(self._line)
                    finally:
                        self._lose_line()
            except Exception as error:  # noqa: BLE001 -- whatever the broker does, we go on
                if not is_lost:
                    log.warning("doorbell lost", error=_reason(error))
                is_lost = True
            if self._closing:  # a dead broker's error takes the place of our cancellation
                return
            # Not all at the same moment, and not at once where nobody answers.
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 -- no secret

    async def _hear_all(self, line: Line) -> None:
        """Hear until the line is lost, or our own heartbeat is missing for too long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pauses["silence"]
        while True:
            async with asyncio.timeout_at(until):
                text = await line.hear()
            rings = _read(text)
            if rings is None:
                if not self.messages_ignored:
                    log.warning("not ours on the doorbell's channel", length=len(text))
                self.messages_ignored += 1
                continue
            if any(business == self._own for business, _, _ in rings):
                until = loop.time() + self._pauses["silence"]
                self.healthy = True
            rings = [ring for ring in rings if prefix_of(ring[0]) != _BEAT]
            self.rings_heard += len(rings)
            self._hear(rings)

    async def _publish(self) -> None:
        """The one task that publishes: what piles up meanwhile goes out together."""
        while True:
            await self._something.wait()
            await self._connected.wait()
            self._something.clear()
            unsent, self._unsent = self._unsent, {}
            rings = [(business, *head) for business, head in unsent.items()]
            for start in range(0, len(rings), _RINGS_PER_MESSAGE):
                await self._send(rings[start : start + _RINGS_PER_MESSAGE])

    async def _send(self, rings: list[tuple[str, int, int]]) -> None:
        count = sum(business != self._own for business, _, _ in rings)
        if await self._is_taken(orjson.dumps(rings).decode()):
            self.rings_sent += count
            return
        self.rings_lost += count
        for business, sequence, access_version in rings:
            self._unsent.setdefault(business, (sequence, access_version))
        self._something.set()

    async def _is_taken(self, message: str) -> bool:
        line = self._line
        if line is None:
            return False
        try:
            await line.publish(message)
        except LineLost as error:
            line.give_up(str(error))
            self._lose_line()
            return False
        return True

    def _lose_line(self) -> None:
        self._line, self.healthy = None, False
        self._connected.clear()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pauses["heartbeat"])
            self._ring_own()

    def _ring_own(self) -> None:
        self._unsent[self._own] = (0, 0)
        self._something.set()

    # -- Looking ----------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Look at the heads of the logs somebody here follows: no ring is needed to be told."""
        seen: Heads = {}
        is_unread = False
        while True:
            try:
                async with asyncio.timeout(self._pauses["poll"]):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            businesses = sorted({*self._followers, *self._watchers})
            if not businesses:
                continue
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    heads = await self._heads(businesses)
            except Exception as error:  # noqa: BLE001 -- the next look may succeed
                if not is_unread:
                    log.warning("log heads unread", error=type(error).__name__)
                is_unread = True
                continue
            is_unread = False
            self._know(heads)
            if heads != seen:
                self._ring_bells()
            seen = heads

    async def _heads(self, businesses: list[str]) -> Heads:
        async def look(tx: Transaction) -> list[LogHead]:
            return await tx.many(_HEADS, businesses=businesses)

        heads = await self._database.read(None, look)
        return {head.business_id: (head.sequence, head.access_version) for head in heads}


@contextmanager
def _member_of(groups: dict[str, set[Any]], name: str, member: Any) -> Iterator[None]:
    """Be one of a group; it is gone with its last member."""
    groups[name].add(member)
    try:
        yield
    finally:
        groups[name].discard(member)
        if not groups[name]:
            del groups[name]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, LineLost) else type(error).__name__


def _read(text: str) -> list[tuple[str, int, int]] | None:
    """The rings of a message, None if it is none of ours."""
    if len(text) > _LONGEST:
        return None
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    is_ours = isinstance(said, list) and all(
        isinstance(ring, list) and [type(part) for part in ring] == [str, int, int] for ring in said
    )
    return [(ring[0], ring[1], ring[2]) for ring in said] if is_ours else None
