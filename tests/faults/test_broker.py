"""The doorbell's contract, on Redis and on PostgreSQL: a broken broker costs latency, no event.

Proves cases 3 and 7 to 11 of research/webhooks.md §6, and of research/reliability.md §3 the rows of
a Redis killed, restarted, cut off, frozen or absent at start, and of half-open. In each, every
follower in every process hears of every event, at most a poll later, and no writer waits.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
import structlog

from core.settings import Settings
from db import Database, database_of
from events.lines import CHANNEL
from events.log import bump_access, events_after, head_of
from events.stream import Stream
from factories import Cafe, a_business, a_card, stamps
from faults.proxy import FaultProxy
from faults.servers import Broken, Postgres, Redis
from patience import until

pytestmark = [pytest.mark.on("postgres"), pytest.mark.calm]

POLL = 0.4
PACE = {"poll": POLL, "heartbeat": 0.3, "silence": 1.0}
MARGIN = 0.5
"""What a busy machine is forgiven."""
BACK = 2.0
"""A line is there again so soon after its broker is."""
_RARELY = 600.0


@pytest.fixture(params=["redis", "postgres"])
def broker(request: pytest.FixtureRequest) -> Redis | Postgres:
    """A broker that nobody but this test uses."""
    found: Redis | Postgres = request.getfixturevalue(request.param)
    return found


@dataclass
class Listener:
    """A follower that reads the log beyond its place whenever it hears of news."""

    database: Database
    stream: Stream
    business: str
    seen: list[int] = field(default_factory=list)
    at: dict[int, float] = field(default_factory=dict)

    async def listen(self, place: int) -> None:
        with self.stream.follow(self.business) as follower:
            while True:
                await follower.news(place)
                place = await self._read_beyond(place)

    async def _read_beyond(self, place: int) -> int:
        rows = await self.database.read(self.business, lambda tx: events_after(tx, place, 500))
        for row in rows:
            self.seen.append(row.sequence)
            self.at[row.sequence] = time.monotonic()
        return self.seen[-1] if rows else place


class Deployment:
    """Two processes' worth of streams on one database: one writes, followers listen at both."""

    def __init__(self, databases: list[Database], streams: list[Stream], cafe: Cafe) -> None:
        self.databases, self.streams, self.cafe = databases, streams, cafe
        self.written: dict[int, float] = {}
        self.slowest = 0.0

    async def until_healthy(self, patience: float = 10) -> float:
        """Wait until both lines carry; how long it took."""
        return await until(lambda: all(stream.healthy for stream in self.streams), patience)

    async def write(self, card: object) -> None:
        """Write events without a pause, as fast as a till would; never waits for the broker."""
        while True:
            began = time.monotonic()
            await stamps(self.databases[0], self.cafe.owner, card)  # type: ignore[arg-type]
            ended = time.monotonic()
            self.slowest = max(self.slowest, ended - began)
            head = await self.databases[0].read(self.cafe.business.id, head_of)
            for sequence in range(
                max(self.written, default=head.sequence - 1) + 1, head.sequence + 1
            ):
                self.written[sequence] = ended
            await asyncio.sleep(0.03)

    async def through(self, fault: Callable[[], Awaitable[None]]) -> list[Listener]:
        """Write and listen all through a fault, and until everybody has heard of everything."""
        card = await a_card(self.databases[0], self.cafe.owner)
        business = self.cafe.business.id
        start = (await self.databases[0].read(business, head_of)).sequence
        self.written, self.slowest = {}, 0.0
        listeners = [
            Listener(database, stream, business)
            for database, stream in zip(self.databases, self.streams, strict=True)
            for _ in range(2)
        ]
        tasks = [asyncio.create_task(listener.listen(start)) for listener in listeners]
        writer = asyncio.create_task(self.write(card))
        try:
            await asyncio.sleep(0.2)
            await fault()
            await asyncio.sleep(0.2)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            last = (await self.databases[0].read(business, head_of)).sequence
            await until(lambda: all(listener.seen[-1:] == [last] for listener in listeners))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for listener in listeners:
            assert listener.seen == list(range(start + 1, last + 1))
        return listeners

    def latency(self, listeners: list[Listener]) -> float:
        """How late the latest event was heard of by anybody."""
        return max(
            listener.at[sequence] - at
            for listener in listeners
            for sequence, at in self.written.items()
        )


@contextlib.asynccontextmanager
async def deployed(settings: Settings, url: str, **pace: float) -> AsyncIterator[Deployment]:
    """Two streams, as in two processes."""
    databases = [database_of(settings) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        for database in databases:
            await database.open()
            stack.push_async_callback(database.close)
        cafe = await a_business(databases[0])
        streams = [Stream(database, url, **{**PACE, **pace}) for database in databases]
        for stream in streams:
            await stream.open()
            stack.push_async_callback(stream.close)
        yield Deployment(databases, streams, cafe)


async def _promise(
    deployment: Deployment,
    fault: Callable[[], Awaitable[None]],
    figure: Callable[[str], None],
) -> None:
    """Nobody misses an event, and each is heard of within a poll; told again once if it is late."""
    for _ in range(2):
        listeners = await deployment.through(fault)
        late = deployment.latency(listeners)
        figure(
            f"{len(deployment.written)} events, the latest heard of after {1000 * late:.0f} ms, "
            f"the slowest write {1000 * deployment.slowest:.0f} ms"
        )
        if late <= POLL + MARGIN and deployment.slowest <= MARGIN:
            return
    raise AssertionError


async def _rings_again(deployment: Deployment) -> None:
    """Without any poll, an event is heard of in the other process."""
    heard = deployment.streams[1].rings_heard
    await a_card(deployment.databases[0], deployment.cafe.owner)
    await until(lambda: deployment.streams[1].rings_heard > heard, 2)


async def test_a_broker_that_is_away_for_a_moment(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    async def outage() -> None:
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(broker.start)
        figure(f"lines back {await deployment.until_healthy():.2f} s after the broker")

    async with deployed(settings, broker.url) as deployment:
        await deployment.until_healthy()
        await _promise(deployment, outage, figure)
        await _rings_again(deployment)
        assert all(stream.rebuilds >= 1 for stream in deployment.streams)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_broker_that_is_away_for_a_minute(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    async def outage() -> None:
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(60)
        await asyncio.to_thread(broker.start)
        await deployment.until_healthy()

    async with deployed(settings, broker.url) as deployment:
        await deployment.until_healthy()
        await _promise(deployment, outage, figure)
        await _rings_again(deployment)


async def test_connections_that_the_broker_ends(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    """CLIENT KILL, pg_terminate_backend: noticed at once, by the line itself."""

    async def cut() -> None:
        rebuilds = [stream.rebuilds for stream in deployment.streams]
        began = time.monotonic()
        await asyncio.to_thread(broker.cut)
        await _rebuilt(deployment, rebuilds)
        took.append(time.monotonic() - began)
        figure(f"lines back after {took[-1]:.2f} s")

    took: list[float] = []
    async with deployed(settings, broker.url, silence=_RARELY) as deployment:
        await deployment.until_healthy()
        await _promise(deployment, cut, figure)
        await _rings_again(deployment)
    assert min(took) <= BACK


async def test_a_broker_that_is_frozen(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    """Its connections stay and say nothing: publishing hangs, and only the heartbeat tells."""

    async def freeze() -> None:
        with broker.frozen():
            await asyncio.sleep(1.5)
            assert not any(stream.healthy for stream in deployment.streams)
        figure(f"lines back {await deployment.until_healthy():.2f} s after the broker")

    async with deployed(settings, broker.url) as deployment:
        await deployment.until_healthy()
        await _promise(deployment, freeze, figure)
        await _rings_again(deployment)


async def test_a_broker_that_is_absent_at_start(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    broker.kill()

    async def appears() -> None:
        assert not any(stream.healthy for stream in deployment.streams)
        await asyncio.to_thread(broker.start)
        figure(f"lines back {await deployment.until_healthy():.2f} s after the broker")

    async with deployed(settings, broker.url) as deployment:
        await asyncio.sleep(0.3)
        await deployment.through(appears)
        await _rings_again(deployment)


async def test_a_way_to_the_broker_that_goes_silent(
    settings: Settings, broker: Broken, figure: Callable[[str], None]
) -> None:
    """Half-open: what is published goes nowhere, and the connection does not end."""

    async def silence() -> None:
        async with proxy.silent():
            await asyncio.sleep(1.5)
            assert not any(stream.healthy for stream in deployment.streams)
        await deployment.until_healthy()

    async with FaultProxy(broker.port) as proxy:
        url = broker.url.replace(str(broker.port), str(proxy.port))
        async with deployed(settings, url) as deployment:
            await deployment.until_healthy()
            await _promise(deployment, silence, figure)
            await _rings_again(deployment)


async def test_a_publish_that_hangs_makes_nobody_wait(settings: Settings, redis: Redis) -> None:
    """The line is called lost when its broker does not take a ring within two seconds."""
    async with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with deployed(settings, url, silence=_RARELY) as deployment:
            await deployment.until_healthy()
            await asyncio.sleep(0.05)
            stream = deployment.streams[0]
            proxy.silence()
            began = time.monotonic()
            await a_card(deployment.databases[0], deployment.cafe.owner)
            assert time.monotonic() - began < MARGIN
            await until(lambda: not stream.healthy, 4)
            assert stream.rings_lost > 0
            sent = stream.rings_sent
            proxy.resume()
            await until(lambda: stream.rings_sent > sent, 4)  # it goes out after all


POISON = [
    b"",
    b"garbage",
    b"null",
    b"7",
    b'"text"',
    b"{}",
    b'{"business": "b_1"}',
    b"[1, 2, 3]",
    b"[[]]",
    b'[["b_1"]]',
    b'[["b_1", "1", 1]]',
    b'[["b_1", 1.5, 1]]',
    b'[["b_1", true, 1]]',
    b'[["b_1", null, null]]',
    b'[["b_1", 1, 1, 1]]',
    b'[[["b_1"], 1, 1]]',
    b"[" * 2_000,
    b'[["b_1", 1' + b"0" * 400 + b", 1]]",
    b"[" + b'["b_1", 1, 1],' * 500 + b"1]",
]
BYTES = [b"\xff\xfe\x00", b'[["b_\xc3", 1, 1]]', b"x" * 8_000_000]


async def test_what_others_say_on_the_channel_is_ignored(
    settings: Settings, broker: Redis | Postgres, figure: Callable[[str], None]
) -> None:
    """Counted, told in the log once, and the line stays as it is."""
    said = [*POISON, *BYTES] if isinstance(broker, Redis) else POISON

    async def poison() -> None:
        for message in said:
            await shout(message)

    async with (
        deployed(settings, broker.url) as deployment,
        _shouting(broker) as shout,
    ):
        await deployment.until_healthy()
        with structlog.testing.capture_logs() as logs:
            await deployment.through(poison)
        assert [stream.messages_ignored for stream in deployment.streams] == [len(said)] * 2
        warned = [line for line in logs if line["event"].startswith("not ours")]
        assert len(warned) == 2
        assert [stream.rebuilds for stream in deployment.streams] == [0, 0]
        figure(f"{len(said)} messages of others ignored")


async def test_false_rings_are_a_reason_to_look_and_nothing_more(
    settings: Settings, broker: Redis | Postgres
) -> None:
    """Nobody spins on them, and nobody who rang falsely hides a true change of rights."""
    async with (
        deployed(settings, broker.url) as deployment,
        _shouting(broker) as shout,
    ):
        await deployment.until_healthy()
        business, stream = deployment.cafe.business.id, deployment.streams[1]
        head = await deployment.databases[1].read(business, head_of)
        changes: list[float] = []
        with (
            stream.follow(business) as follower,
            stream.watch_access(business, lambda: changes.append(time.monotonic())),
        ):
            await asyncio.sleep(POLL + 0.2)  # by now it knows the true state
            changes.clear()
            await shout(json.dumps([[business, 2**53, 2**53]]).encode())
            assert await follower.news(head.sequence, 2)
            assert not await follower.news(head.sequence, 2 * POLL)
            assert len(changes) == 1

            await deployment.databases[0].write(business, bump_access)
            await until(lambda: len(changes) >= 2, POLL + MARGIN)
            await a_card(deployment.databases[0], deployment.cafe.owner)
            assert await follower.news(head.sequence, POLL + MARGIN)


async def test_a_ring_that_was_never_sent_costs_a_poll(
    settings: Settings, redis: Redis, figure: Callable[[str], None]
) -> None:
    """The process died between its commit and the ring: the event is heard of all the same."""
    async with deployed(settings, redis.url) as deployment:
        await deployment.until_healthy()
        business = deployment.cafe.business.id
        deployment.databases[0].on_commit = None
        took = 0.0
        for _ in range(2):
            head = await deployment.databases[0].read(business, head_of)
            with deployment.streams[1].follow(business) as follower:
                await a_card(deployment.databases[0], deployment.cafe.owner)
                began = time.monotonic()
                assert await follower.news(head.sequence, 5)
                took = time.monotonic() - began
            figure(f"heard of after {1000 * took:.0f} ms")
            if took <= POLL + MARGIN:
                break
        assert took <= POLL + MARGIN


@pytest.mark.parametrize("mode", ["cut", "silent"])
async def test_nothing_is_left_behind_by_lines_that_were_lost(
    settings: Settings, broker: Broken, mode: str, figure: Callable[[str], None]
) -> None:
    """Several lost lines later there are as many tasks and open files as before."""
    async with FaultProxy(broker.port) as proxy:
        url = broker.url.replace(str(broker.port), str(proxy.port))
        async with deployed(settings, url) as deployment:
            await deployment.until_healthy()
            tasks, files = _tasks(), _files()
            for _ in range(1 if mode == "silent" else 5):
                rebuilds = [stream.rebuilds for stream in deployment.streams]
                if mode == "silent":
                    async with proxy.silent():
                        await asyncio.sleep(1.2)
                proxy.cut()
                await _rebuilt(deployment, rebuilds)
            await until(lambda: _tasks() <= tasks and _files() <= files, 5)
            lost = sum(stream.rebuilds for stream in deployment.streams)
            figure(f"{lost} lines lost, {_tasks() - tasks} tasks and {_files() - files} files more")


async def _rebuilt(deployment: Deployment, rebuilds: list[int]) -> None:
    """Wait until every line was built anew since then, and carries."""
    pairs = [*zip(deployment.streams, rebuilds, strict=True)]
    await until(lambda: all(stream.rebuilds > before for stream, before in pairs))
    await deployment.until_healthy()


def _tasks() -> int:
    return len(asyncio.all_tasks())


def _files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@contextlib.asynccontextmanager
async def _shouting(
    broker: Redis | Postgres,
) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """Somebody else on our channel."""
    if isinstance(broker, Redis):
        client = redis.asyncio.Redis.from_url(broker.url)
        try:
            yield lambda message: client.publish(CHANNEL, message)
        finally:
            await client.aclose()
    else:
        wire = await asyncpg.connect(broker.url)
        try:
            yield lambda message: wire.execute(
                "SELECT pg_notify($1, $2)", CHANNEL, message.decode()
            )
        finally:
            await wire.close()
