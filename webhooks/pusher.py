"""The pusher: leases endpoints, serves each for a moment, and records what came of it.

An endpoint is a cursor over the log, leased as a whole. Whoever lost a lease is refused by its
epoch: nothing of a stale round is stored. Between sending and recording lies the one window in
which a crash repeats a request: what was in flight, plus eight per leased endpoint.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

import structlog

from core.clock import Clock
from core.ids import new_id
from core.metrics import DELIVERIES, LEASES_HELD, LEASES_LOST, passed
from core.secrets import Secrets
from db import Database, Transaction
from events.stream import Stream
from models import (
    Delivery,
    DeliveryState,
    EndpointStatus,
    Ordering,
    WebhookEndpoint,
)
from webhooks.documents import Documents
from webhooks.leases import LEASE, Leases
from webhooks.pace import Bucket, Sleep, in_flight_of, rate_of
from webhooks.parcels import Parcel
from webhooks.records import Fenced, disable, hold, record
from webhooks.rounds import Round, is_ready, look, name_previous
from webhooks.sender import DEADLINE_SECONDS, Sender
from webhooks.texts import Texts
from webhooks.verdicts import Disabled, Due, Verdict, verdict

LEASES = 1_024
"""Endpoints served at once: many, for each that never answers holds one until its time is up."""
QUANTUM_EVENTS = 64
QUANTUM_SECONDS = 5.0
"""With the deadline of a request that begins at its very end, well within a lease."""
SAFETY_SECONDS = 2.0
CALM_SECONDS = 0.01
"""After a look that found nothing: each endpoint that has been served asks for another one."""
DRAIN_SECONDS = DEADLINE_SECONDS + 2.0
"""Longer than any request: who stops politely has every answer, and repeats nothing."""
AUTHOR_LEFT = "Whoever saved its document has no login any more. Save the document anew."

log = structlog.get_logger("stampwire.webhooks")


class Pusher:
    """One per process: as many endpoints at once as it has leases, none waiting for another.

    Without `documents`, endpoints with a document of their own cannot be served.
    """

    def __init__(
        self,
        database: Database,
        stream: Stream,
        sender: Sender,
        secrets: Secrets,
        clock: Clock,
        *,
        documents: Documents | None = None,
        leases: int = LEASES,
        lease: timedelta = LEASE,
        chance: Callable[[], float] = random.random,
        time: Callable[[], float] = monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._stream = stream
        self._sender = sender
        self._secrets = secrets
        self._clock = clock
        self._texts = Texts(documents, clock)
        self.owner = new_id("push")
        """Whose its leases are."""
        self._leases = Leases(database, self.owner, leases, lease)
        self._chance = chance
        self._time = time
        self._sleep = sleep
        self._serving: dict[asyncio.Task[None], bool] = {}
        """What is served now, and whether it was failing when it was leased."""
        self._news = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Push until told to stop, or cancelled: then finish what is in flight, and let go."""
        with self._stream.bell() as self._news:
            try:
                while not self._stopping:
                    self._news.clear()
                    try:
                        if not await self.claim():
                            await asyncio.sleep(CALM_SECONDS)
                    except Exception as error:  # noqa: BLE001 -- the next claim may succeed
                        log.warning("webhooks not claimed", error=type(error).__name__)
                    await self._wait_for_news()
            finally:
                await self.drain()

    async def take_over(self) -> None:
        """Release every lease: for the only worker there is, whoever held one is dead."""
        await self._leases.take_over(self._clock.now())

    def stop(self) -> None:
        """Begin nothing more; `run` ends when what is in flight has ended."""
        self._stopping = True
        self._news.set()

    async def claim(self) -> int:
        """Lease what has something due, and begin to serve it; says how many endpoints."""
        passed("pusher")
        failing = sum(self._serving.values())
        claimed = await self._leases.claim(len(self._serving), failing, self._clock.now())
        for endpoint in claimed:
            task = asyncio.create_task(self._serve(endpoint), name=f"webhooks-{endpoint.id}")
            self._serving[task] = endpoint.failures > 0
            task.add_done_callback(self._served)
        LEASES_HELD.set(len(self._serving), "endpoints")
        return len(claimed)

    async def sweep(self) -> int:
        """Claim what is due, and wait until it is served; says how many endpoints."""
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
        await self._leases.give_back(self._clock.now())

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(SAFETY_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    def _served(self, task: asyncio.Task[None]) -> None:
        del self._serving[task]
        LEASES_HELD.set(len(self._serving), "endpoints")
        # What rang while this endpoint was leased was not for the taking then: look again.
        self._news.set()

    async def _serve(self, endpoint: WebhookEndpoint) -> None:
        """Serve one lease: a quantum of events, then to the back of the line."""
        end = self._time() + QUANTUM_SECONDS
        late = (self._clock.now() - endpoint.next_attempt_at).total_seconds()
        bucket = Bucket(rate_of(endpoint), late, self._time, self._sleep)
        left, more = QUANTUM_EVENTS, True
        try:
            while more:
                round_ = await self._look(endpoint)
                if endpoint.document is not None and round_.author is None:
                    await self._disable(endpoint, AUTHOR_LEFT)
                    return
                await self._write_bodies(endpoint, round_)
                await self._send(endpoint, round_, bucket, end)
                said = self._verdict(endpoint, round_, bucket)
                left -= round_.read
                more = not (
                    round_.is_last
                    or self._stopping
                    or left <= 0
                    or self._time() >= end
                    or said.rests
                    or any(due.is_held for due in round_.due)
                )
                endpoint = await self._record(endpoint, round_, said, bucket, keep=more)
                for due in round_.due:
                    DELIVERIES.count(due.became)
                is_served = endpoint.status is EndpointStatus.ACTIVE and not endpoint.deleted_at
                more = more and is_served
                bucket.rate = rate_of(endpoint)
            self._wake_in((endpoint.next_attempt_at - self._clock.now()).total_seconds())
        except Fenced:
            LEASES_LOST.count()
            log.info("webhook lease lost", endpoint=endpoint.id)
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("webhooks not served", endpoint=endpoint.id, error=type(error).__name__)

    def _wake_in(self, seconds: float) -> None:
        """Look again as soon as an endpoint's pace lets it go on."""
        if 0 < seconds < SAFETY_SECONDS:
            asyncio.get_running_loop().call_later(seconds, self._news.set)

    async def _look(self, endpoint: WebhookEndpoint) -> Round:
        now = self._clock.now()
        return await self._database.read(
            endpoint.business_id, lambda tx: look(tx, endpoint, self._secrets, now)
        )

    async def _write_bodies(self, endpoint: WebhookEndpoint, round_: Round) -> None:
        """Make what is sent; what a document came to is stored before the first of it is sent."""
        made = await self._texts.write(endpoint, round_)
        if endpoint.failures:
            round_.narrow(endpoint)
        name_previous(endpoint, round_)
        if any(rendering.body is not None for rendering in made):
            until = self._clock.now() + self._leases.length
            await self._database.write(
                endpoint.business_id, lambda tx: hold(tx, endpoint, until, made)
            )

    async def _send(
        self, endpoint: WebhookEndpoint, round_: Round, bucket: Bucket, end: float
    ) -> None:
        """Send a round: side by side, card by card, or one by one.

        After an answer that concerns the endpoint, and after the quantum's time, nothing more
        of it is sent: so a round ends within its lease.
        """
        one_by_one = endpoint.ordering is Ordering.STRICT
        last_of_card: dict[str, asyncio.Task[bool]] = {}
        before: asyncio.Task[bool] | None = None
        halted = False

        def is_over() -> bool:
            return halted or self._stopping or self._time() >= end

        async def send(due: Due, after: asyncio.Task[bool] | None) -> bool:
            """Whether the next one in line may follow."""
            nonlocal halted
            if after is not None and not await after:
                due.waits_for_card = not one_by_one
                due.answer = None  # its turn has not come, whatever is known of it already
                return False
            if not is_ready(due):
                return due.is_dead
            if is_over() or not await bucket.slot(end):
                return False
            async with self._sender.turn(endpoint.id, in_flight_of(endpoint)):
                if is_over():
                    bucket.give_back()
                    return False
                bucket.sent += 1
                due.answer = await self._sender.send(_parcel(round_, due))
            halted = halted or due.concerns_endpoint
            return due.is_taken or due.is_dead

        async with asyncio.TaskGroup() as group:
            for due in round_.due:
                card = due.event.card_id if endpoint.ordering is Ordering.CARD else None
                after = before if one_by_one else last_of_card.get(card or "")
                task = before = group.create_task(send(due, after))
                if card is not None:
                    last_of_card[card] = task

    def _verdict(self, endpoint: WebhookEndpoint, round_: Round, bucket: Bucket) -> Verdict:
        said = verdict(
            endpoint,
            round_.due,
            round_.upto,
            self._clock.now(),
            self._chance(),
            speed=bucket.speed,
            blocks=round_.blocks,
        )
        said.rendered = bool(round_.renderings)
        said.exceptions += [_gone(row) for row in round_.lost]
        said.settled += [row.sequence for row in round_.passed_over]
        over = [*round_.lost, *round_.passed_over]
        said.freed_cards += [row.card_id for row in over if row.card_id]
        return said

    async def _record(
        self,
        endpoint: WebhookEndpoint,
        round_: Round,
        said: Verdict,
        bucket: Bucket,
        *,
        keep: bool,
    ) -> WebhookEndpoint:
        """Store what a round came to, and renew the lease or let it go.

        Who lets it go leaves its bucket to the next one: until when no request may leave.
        """
        now = self._clock.now()
        keep = keep and said.disabled is None
        if not keep:
            free_at: datetime = now + timedelta(seconds=bucket.wait)
            said.endpoint["next_attempt_at"] = max(said.endpoint["next_attempt_at"], free_at)
        until = now + self._leases.length if keep else now

        async def work(tx: Transaction) -> WebhookEndpoint:
            return await record(tx, endpoint, round_.due, said, now, until)

        return await self._database.write(endpoint.business_id, work)

    async def _disable(self, endpoint: WebhookEndpoint, reason: str) -> None:
        now = self._clock.now()
        await self._database.write(
            endpoint.business_id, lambda tx: disable(tx, endpoint, Disabled(reason), now)
        )


def _parcel(round_: Round, due: Due) -> Parcel:
    assert due.body is not None  # noqa: S101 -- who has none is not ready
    return Parcel(round_.address, due.event.id, due.body, previous_id=due.previous_id)


def _gone(row: Delivery) -> Delivery:
    return row.with_values(state=DeliveryState.DEAD, next_attempt_at=None, last_error="event gone")
