"""Workers that are killed, frozen and stopped: nothing is lost, and little is sent twice.

Proves cases 3, 15, 16, 17 and 22 of research/webhooks.md §6, with real processes. The bound on
repeats is the one that docs/webhooks.md states: eight per endpoint that a dead worker had leased.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from sqlmodel import select

from cafes import Cafe, a_known_card, an_opening, findings, found_cafe
from core.clock import SystemClock
from core.secrets import Secrets
from core.settings import Settings
from db import Database, query
from faults import pusher_process
from forks import Forked
from models import AttemptStatus, EventRow, LogHead, Ordering, WebhookEndpoint
from patience import until
from webhooks.pusher import SAFETY_SECONDS

LEASE = 3.0
DEADLINE = 1.5
LEASES = 16
"""So few that no worker has all endpoints to itself."""
_ENDPOINTS = query(select(WebhookEndpoint))


class Worker:
    """A pusher in a process of its own."""

    def __init__(self, settings: Settings, place: int) -> None:
        self.log = settings.data_dir / f"pusher-{place}.log"
        names = ("data_dir", "secret_key", "allow_insecure_webhooks")
        given = {name: getattr(settings, name) for name in names}
        given |= {"database_url": settings.database, "broadcast_url": settings.broadcast}
        said = {"settings": given, "lease": LEASE, "deadline": DEADLINE, "leases": LEASES}
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.process = Forked(
            pusher_process.main, [json.dumps(said, default=str)], {}, out=self.log
        )

    @property
    def said(self) -> str:
        """Everything it has written."""
        return self.log.read_text() if self.log.exists() else ""

    async def is_ready(self) -> None:
        """Wait until it works."""
        await until(lambda: "ready" in self.said or self.process.poll() is not None, 30)
        assert self.process.poll() is None, self.said
        self.owner = self.said.partition("ready: ")[2].split()[0]

    def send(self, what: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(what)

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        return await asyncio.to_thread(self.process.wait, 30)

    def remove(self) -> None:
        """End it, whatever became of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Partner:
    """Receives for many endpoints: notes who was sent what, in its order."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.delay = 0.0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Note it, and take it."""
        await request.read()
        self.got.append((request.match_info["endpoint"], request.headers["webhook-id"]))
        if self.delay:
            await asyncio.sleep(self.delay)
        return web.Response()

    @property
    def repeats(self) -> int:
        """Requests beyond the first of each event to each endpoint."""
        return len(self.got) - len(set(self.got))


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    """A receiver for every endpoint of a test."""
    made = Partner()
    app = web.Application()
    app.router.add_post("/{endpoint}", made.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], Worker]]:
    """Start a worker."""
    workers: list[Worker] = []

    def make() -> Worker:
        workers.append(Worker(settings, len(workers)))
        return workers[-1]

    yield make
    for worker in workers:
        worker.remove()


@pytest.fixture
async def cafe(database: Database, secrets: Secrets) -> AsyncIterator[Cafe]:
    """A business with an empty log; the auditor looks at it in the end."""
    yield await found_cafe(database, secrets, SystemClock())
    assert await findings(database) == []


async def endpoints(cafe: Cafe, partner: Partner, count: int, **values: Any) -> list[Any]:
    values = {"types": ["card_opened"], **values}
    return [await cafe.endpoint(f"{partner.url}/{place}", **values) for place in range(count)]


async def openings(cafe: Cafe, count: int = 1) -> list[EventRow]:
    """So many events happen."""
    card = await a_known_card(cafe)
    return await cafe.happens(*(an_opening(card) for _ in range(count)))


async def leases(cafe: Cafe) -> Counter[str]:
    """How many endpoints each worker has leased now."""
    rows = await cafe.database.read(None, lambda tx: tx.many(_ENDPOINTS))
    return Counter(row.lease_owner for row in rows if row.lease_until > datetime.now(UTC))


async def is_all_recorded(cafe: Cafe, patience: float) -> None:
    """Wait until every endpoint's cursor is at the head of the log."""
    async with asyncio.timeout(patience):
        while True:
            [head] = await cafe.rows(LogHead)
            rows = await cafe.database.read(None, lambda tx: tx.many(_ENDPOINTS))
            if all(row.cursor_sequence == head.sequence for row in rows):
                return
            await asyncio.sleep(0.05)


@pytest.mark.on("postgres")
@pytest.mark.parametrize(
    "each", [50, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(400)])]
)
async def test_of_three_workers_two_are_killed_and_nothing_is_lost(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker], figure: Any, each: int
) -> None:
    """Case 15: SIGKILL of two of three within the deliveries."""
    made = await endpoints(cafe, partner, 40)
    partner.delay = 0.01
    workers = [start() for _ in range(3)]
    for worker in workers:
        await worker.is_ready()
    events = await openings(cafe, each)
    wanted = len(made) * each

    held = []
    for share in (0.25, 0.5):
        await until(lambda share=share: len(partner.got) >= share * wanted, 60)  # type: ignore[misc]
        busy = await leases(cafe)
        victim = max(workers, key=lambda worker: busy[worker.owner])
        victim.send(signal.SIGKILL)
        await victim.ended()
        workers.remove(victim)
        held.append((await leases(cafe))[victim.owner])
    await is_all_recorded(cafe, 120)

    assert set(partner.got) == {
        (str(place), event.id) for place in range(len(made)) for event in events
    }
    assert all(held), "who was killed had nothing to do"
    assert partner.repeats <= 8 * sum(held)
    attempts = await cafe.attempts()
    assert len(attempts) == wanted
    assert len({(row.endpoint_id, row.sequence) for row in attempts}) == wanted
    assert {row.status for row in attempts} == {AttemptStatus.SUCCEEDED}
    assert await cafe.exceptions() == []
    figure(f"{wanted} deliveries, {partner.repeats} repeats (bound {8 * sum(held)})")


@pytest.mark.on("sqlite")
async def test_the_only_worker_is_killed_and_its_successor_goes_on_at_once(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker], figure: Any
) -> None:
    """Case 15 on one process: nobody waits for the lease of the dead one."""
    made = await endpoints(cafe, partner, 10)
    partner.delay = 0.01
    first = start()
    await first.is_ready()
    events = await openings(cafe, 50)
    await until(lambda: len(partner.got) >= 100, 30)
    first.send(signal.SIGKILL)
    await first.ended()

    await start().is_ready()
    await is_all_recorded(cafe, 30)

    assert set(partner.got) == {
        (str(place), event.id) for place in range(len(made)) for event in events
    }
    assert partner.repeats <= 8 * len(made)
    assert len(await cafe.attempts()) == len(made) * len(events)
    figure(f"{partner.repeats} repeats (bound {8 * len(made)})")


@pytest.mark.on("postgres")
async def test_who_is_frozen_past_the_lease_stores_nothing_when_it_wakes(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker], figure: Any
) -> None:
    """Case 16: SIGSTOP. The epoch refuses what is stale; strict order holds at the receiver."""
    made = await endpoints(cafe, partner, 10, ordering=Ordering.STRICT)
    partner.delay = 0.02
    frozen = start()
    await frozen.is_ready()
    events = await openings(cafe, 40)
    await until(lambda: len(partner.got) >= 100, 30)
    frozen.send(signal.SIGSTOP)
    other = start()
    await other.is_ready()
    await asyncio.sleep(LEASE)
    await until(lambda: len(partner.got) >= 200, 30)
    frozen.send(signal.SIGCONT)
    await is_all_recorded(cafe, 30)
    await until(lambda: "webhook lease lost" in frozen.said, 10)

    attempts = Counter((row.endpoint_id, row.sequence) for row in await cafe.attempts())
    assert len(attempts) == len(made) * len(events)
    assert set(attempts.values()) == {1}
    assert 0 < partner.repeats <= 8 * len(made)
    for place in range(len(made)):
        mine = [event for endpoint, event in partner.got if endpoint == str(place)]
        assert list(dict.fromkeys(mine)) == [event.id for event in events]
    lost = frozen.said.count("webhook lease lost")
    figure(f"{lost} stale rounds refused, {partner.repeats} repeats")


async def test_who_is_stopped_politely_repeats_nothing(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker]
) -> None:
    """Case 17: SIGTERM. What is in flight is finished and recorded, every lease released."""
    made = await endpoints(cafe, partner, 10)
    partner.delay = 0.5
    worker = start()
    await worker.is_ready()
    events = await openings(cafe, 12)
    await until(lambda: len(partner.got) >= 40, 30)

    worker.send(signal.SIGTERM)
    code = await worker.ended()

    assert code == 0, worker.said
    assert len(await cafe.attempts()) == len(partner.got) < len(made) * len(events)
    assert not await leases(cafe)

    partner.delay = 0
    await start().is_ready()
    await is_all_recorded(cafe, 20)
    assert len(partner.got) == len(made) * len(events)
    assert partner.repeats == 0


@pytest.mark.calm
async def test_what_was_committed_without_a_ring_is_sent_within_the_poll_period(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker], figure: Any
) -> None:
    """Case 3: who committed was killed before it could ring."""
    await endpoints(cafe, partner, 1)
    await start().is_ready()
    await asyncio.sleep(0.3)
    assert cafe.database.on_commit is None

    await openings(cafe)
    took = await until(lambda: len(partner.got) == 1, SAFETY_SECONDS + 2)

    figure(f"sent after {took:.1f} s, promised {SAFETY_SECONDS} s")
    assert took < SAFETY_SECONDS + 1


@pytest.mark.on("postgres")
async def test_two_workers_that_start_at_once_lease_each_endpoint_once(
    cafe: Cafe, partner: Partner, start: Callable[[], Worker]
) -> None:
    """Case 22."""
    await endpoints(cafe, partner, 40)
    await openings(cafe)

    for worker in [start(), start()]:
        await worker.is_ready()
    await is_all_recorded(cafe, 20)

    assert partner.repeats == 0
    rows = await cafe.database.read(None, lambda tx: tx.many(_ENDPOINTS))
    assert {row.lease_epoch for row in rows} == {1}
    assert len({row.lease_owner for row in rows}) in (1, 2)
