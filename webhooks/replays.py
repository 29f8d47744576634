"""The replayer: sends parts of the log once more, beside what is live and never in its way.

A replay is a cursor of its own, leased and fenced as an endpoint is. It has a lane of its own:
it waits for none of the turns of live requests, and takes none. It rests while its endpoint is
paused, disabled or failing. An event that fails is tried a few times by its own schedule.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import and_, exists, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from core.clock import Clock
from core.ids import new_id
from core.metrics import passed
from core.secrets import Secrets
from db import Database, Query, Transaction, command, param, query
from models import AttemptKind, EndpointStatus, Replay, ReplayStatus, WebhookEndpoint
from webhooks.documents import Documents
from webhooks.pace import Bucket, rate_of
from webhooks.parcels import Parcel
from webhooks.records import Fenced
from webhooks.replay_records import let_go, record
from webhooks.replay_rounds import Due, Round, look, tally
from webhooks.schedule import CONCERNS_ENDPOINT
from webhooks.sender import DEADLINE_SECONDS, Answer, Sender

PACE = 10.0
"""Requests a second of one replay."""
SHARE = 0.2
"""The part of an endpoint's own rate that a replay may have on top of it."""
IN_FLIGHT = 2
"""Requests under way at once where the order does not matter; else one."""
AT_ONCE = 16
"""Replays that one process sends at once."""
LEASE = timedelta(seconds=30)
QUANTUM_SECONDS = 5.0
POLL_SECONDS = 1.0
DRAIN_SECONDS = DEADLINE_SECONDS + 2.0
"""Longer than any request: who stops politely has every answer, and repeats nothing."""

log = structlog.get_logger("stampwire.replays")
Sleep = Callable[[float], Awaitable[None]]

# -- Across all businesses: these run in the name of the system. ----------------------------------

_earlier = aliased(Replay)
_WAITING = (
    select(Replay.id)
    .join(WebhookEndpoint, col(WebhookEndpoint.id) == col(Replay.endpoint_id))
    .where(
        col(Replay.status) == ReplayStatus.RUNNING,
        col(Replay.lease_until) <= param("now"),
        col(Replay.next_attempt_at) <= param("now"),
        or_(
            col(WebhookEndpoint.deleted_at).is_not(None),
            and_(
                col(WebhookEndpoint.status) == EndpointStatus.ACTIVE,
                col(WebhookEndpoint.failures) == 0,
            ),
        ),
        # One after the other, but past one that only waits to try its last ones again.
        ~exists().where(
            col(_earlier.endpoint_id) == col(Replay.endpoint_id),
            col(_earlier.id) < col(Replay.id),
            col(_earlier.status) == ReplayStatus.RUNNING,
            or_(
                col(_earlier.lease_until) > param("now"),
                col(_earlier.next_attempt_at) <= param("now"),
            ),
        ),
    )
)
_ANY_DUE: Query[str] = query(_WAITING.limit(1))
_DUE = (
    _WAITING.order_by(col(Replay.lease_until))
    .limit(param("most"))
    .with_for_update(of=Replay, skip_locked=True)
    .cte("due")
)
_CLAIM: Query[Replay] = query(
    update(Replay)
    .where(col(Replay.id).in_(select(_DUE.c.id)))
    .values(
        lease_owner=param("owner"),
        lease_epoch=col(Replay.lease_epoch) + 1,
        lease_until=param("until"),
    )
    .returning(Replay)
)
_GIVE_BACK = command(
    update(Replay)
    .where(col(Replay.lease_owner) == param("owner"), col(Replay.lease_until) > param("now"))
    .values(lease_until=param("now"), lease_epoch=col(Replay.lease_epoch) + 1)
)
_TAKE_OVER = command(
    update(Replay)
    .where(col(Replay.lease_until) > param("now"))
    .values(lease_until=param("now"), lease_epoch=col(Replay.lease_epoch) + 1)
)


class Replayer:
    """One per process; any number of them may run: whoever lost a lease stores nothing more."""

    def __init__(
        self,
        database: Database,
        sender: Sender,
        secrets: Secrets,
        documents: Documents,
        clock: Clock,
        *,
        pace: float = PACE,
        chance: Callable[[], float] = random.random,
        time: Callable[[], float] | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._sender = sender
        self._secrets = secrets
        self._documents = documents
        self._clock = clock
        self._pace = pace
        self._chance = chance
        self._time = time or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._owner = new_id("rplr")
        self._serving: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Replay until told to stop, or cancelled: then finish what is in flight, and let go."""
        try:
            while not self._stopping:
                self._news.clear()
                try:
                    await self.claim()
                except Exception as error:  # noqa: BLE001 -- the next claim may succeed
                    log.warning("replays not claimed", error=type(error).__name__)
                await self._wait()
        finally:
            await self.drain()

    async def take_over(self) -> None:
        """Release every lease: for the only worker there is, whoever held one is dead."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: tx.run(_TAKE_OVER, now=now))

    def stop(self) -> None:
        """Begin nothing more; `run` ends when what is in flight has ended."""
        self._stopping = True
        self._news.set()

    async def claim(self) -> int:
        """Lease replays that are due, and begin to send them; says how many."""
        passed("replayer")
        room, now = AT_ONCE - len(self._serving), self._clock.now()
        any_due = self._database.read(None, lambda tx: tx.maybe(_ANY_DUE, now=now))
        if await any_due is None or room <= 0:
            return 0

        async def work(tx: Transaction) -> list[Replay]:
            return await tx.many(_CLAIM, now=now, most=room, owner=self._owner, until=now + LEASE)

        claimed = await self._database.write(None, work)
        for replay in claimed:
            task = asyncio.create_task(self._serve(replay), name=f"replay-{replay.id}")
            self._serving.add(task)
            task.add_done_callback(self._served)
        return len(claimed)

    async def sweep(self) -> int:
        """Claim what is due, and wait until its time is up; says how many replays."""
        claimed = await self.claim()
        await asyncio.gather(*self._serving)
        return claimed

    async def drain(self) -> None:
        """Finish what is in flight, and release every lease."""
        self._stopping = True
        if self._serving:
            await asyncio.wait(self._serving, timeout=DRAIN_SECONDS)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        now = self._clock.now()
        await self._database.write(None, lambda tx: tx.run(_GIVE_BACK, owner=self._owner, now=now))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._news.set()

    async def _serve(self, replay: Replay) -> None:
        """Send for five seconds, then to the back of the line."""
        time = self._time
        end, bucket, more = time() + QUANTUM_SECONDS, None, True
        try:
            while more:
                now = self._clock.now()
                round_ = await self._database.read(
                    replay.business_id, partial(look, replay=replay, secrets=self._secrets, now=now)
                )
                if round_ is None:
                    await self._database.write(
                        replay.business_id, partial(let_go, replay=replay, now=now)
                    )
                    return
                bucket = bucket or Bucket(self._rate(round_.endpoint), 0, time, self._sleep)
                await self._render(round_, end)
                await self._send(round_, bucket, end)
                keep = not self._stopping and time() + bucket.wait < end
                replay, more = await self._record(replay, round_, bucket.wait, keep=keep)
        except Fenced:
            log.info("replay lease lost", replay=replay.id)
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("replay broken off", replay=replay.id, error=type(error).__name__)

    def _rate(self, endpoint: WebhookEndpoint) -> float:
        rate = rate_of(endpoint)
        return self._pace if rate is None else min(self._pace, rate * SHARE)

    async def _render(self, round_: Round, end: float) -> None:
        """Write the bodies; one that cannot be written has failed.

        In half of the time that is left: the other half is for sending them.
        """
        until = (self._time() + end) / 2
        for due in round_.due:
            if due.is_passed or self._time() >= until:
                continue
            try:
                due.body = await due.draft.written(self._documents)
                due.is_passed = due.body is None
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is of this event alone
                log.warning("document not executed", id=due.event.id, error=type(error).__name__)
                due.answer = Answer(self._clock.now(), 0, error="document")

    async def _send(self, round_: Round, bucket: Bucket, end: float) -> None:
        """Send a round; after an answer that concerns the endpoint, nothing more of it."""
        room = asyncio.Semaphore(1 if round_.in_order else IN_FLIGHT)
        halted = False

        async def send(due: Due, body: str) -> None:
            nonlocal halted
            async with room:
                # Nothing begins after the quantum's time: so a round ends within its lease.
                is_over = halted or self._stopping or self._time() >= end
                if is_over or not await bucket.slot(end) or halted:
                    halted = True
                    return
                parcel = Parcel(round_.address, due.event.id, body.encode(), AttemptKind.REPLAY)
                due.answer = await self._sender.send(parcel)
            failed = round_.in_order and not due.is_taken and not due.is_lost
            halted = halted or failed or due.outcome in CONCERNS_ENDPOINT

        async with asyncio.TaskGroup() as group:
            for due in round_.due:
                if round_.in_order and due.answer is not None and not due.is_lost:
                    return
                if due.body is not None and not due.is_passed:
                    group.create_task(send(due, due.body))

    async def _record(
        self, replay: Replay, round_: Round, wait: float, *, keep: bool
    ) -> tuple[Replay, bool]:
        """Store what a round came to, and renew the lease or let it go. Fenced if it is lost."""
        now = self._clock.now()
        said = tally(replay, round_, now, self._chance())
        next_at = said.values["next_attempt_at"]
        keep = keep and said.ends is None and next_at <= now
        if not keep:
            said.values["next_attempt_at"] = max(next_at, now + timedelta(seconds=wait))
        until = now + LEASE if keep else now
        recorded = await self._database.write(
            replay.business_id, lambda tx: record(tx, replay, round_, said, now, until)
        )
        return recorded, keep and recorded.status is ReplayStatus.RUNNING
