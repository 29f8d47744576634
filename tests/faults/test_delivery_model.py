"""Deliveries against a model: whatever a receiver answers, whoever dies or loses its lease.

Proves case 6 of research/webhooks.md §6: cursor, exceptions and attempts as one state machine, in
virtual time. Hypothesis chooses what happens, what the receiver says to each request, which of a
worker's transactions fails before or after its commit, and when a worker is frozen past its lease
while another takes over. After every step what is stored must agree with what was on the wire.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import col, select

from cafes import Cafe, VirtualSender, a_known_card, an_opening, found_cafe
from core.clock import ManualClock
from core.ids import Id
from core.secrets import Secrets
from core.settings import Settings
from db import BUSINESS, Database, Query, Transaction, database_of, query
from events.log import head_of
from events.stream import Stream
from models import (
    Attempt,
    AttemptStatus,
    Delivery,
    DeliveryState,
    EndpointStatus,
    Ordering,
    WebhookEndpoint,
)
from services.audit import audit
from services.webhook_endpoints import (
    PauseWebhookEndpointInput,
    ResumeWebhookEndpointInput,
    pause_webhook_endpoint,
    resume_webhook_endpoint,
)
from webhooks.parcels import Parcel
from webhooks.pusher import Pusher
from webhooks.records import settle
from webhooks.sender import Answer

START = datetime(2026, 3, 4, 5, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)
STEPS = (5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""As design/events-and-webhooks.md has them, written down a second time."""
AT_RISK = 8
"""Requests whose record one death or one lost lease may cost."""
LONG = timedelta(days=30)
ANSWERS: list[Any] = [
    *[200] * 6, 500, 503, 404, 422, 307, 429, {"error": "timeout"}, {"error": "connect"},
    {"status": 429, "retry_after": 900.0}, {"status": 500, "control": "abort-message"},
]  # fmt: skip
answers = st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=12)
EXCEPTIONS: Query[Delivery] = query(select(Delivery).where(col(Delivery.business_id) == BUSINESS))
ATTEMPTS: Query[Attempt] = query(
    select(Attempt)
    .where(col(Attempt.business_id) == BUSINESS)
    .order_by(col(Attempt.started_at), col(Attempt.number))
)


class Died(Exception):
    """What the rest of a process sees of its death: nothing works any more."""


class Mortal:
    """A worker's way to the database: it ends before or after the commit of its n-th write."""

    def __init__(self, database: Database, ends_at: int | None, *, is_after: bool) -> None:
        self._database = database
        self._ends_at = ends_at
        self._is_after = is_after
        self._writes = 0
        self.is_dead = False

    async def read(self, business: str | None, work: Any) -> Any:
        self._look()
        return await self._database.read(business, work)

    async def write(self, business: str | None, work: Any) -> Any:
        self._look()
        self._writes += 1
        self.is_dead = self._writes == self._ends_at
        if self.is_dead and not self._is_after:
            raise Died
        done = await self._database.write(business, work)
        self._look()
        return done

    def _look(self) -> None:
        if self.is_dead:
            raise Died


class Wire(VirtualSender):
    """What is sent, and said to it; between the two, whatever is to happen `during` a request."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock, self._reply)
        self.script: list[Any] = []
        self.taken: list[str] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    async def send(self, parcel: Parcel) -> Answer:
        if self.during is not None:
            happens, self.during = self.during, None
            await happens()
        return await super().send(parcel)

    def _reply(self, parcel: Parcel, _: datetime) -> Any:
        said = self.script.pop(0) if self.script else 200
        if said == 200:
            self.taken.append(parcel.id)
        return said


class Deliveries(RuleBasedStateMachine):
    """One endpoint of one café, and everything that can befall its deliveries."""

    database: Database
    secrets: Secrets
    stream: Stream
    do: Callable[[Awaitable[Any]], Any]

    @initialize(ordering=st.sampled_from(Ordering), events=st.integers(1, 12))
    def open(self, ordering: Ordering, events: int) -> None:
        self.clock = ManualClock(START)
        self.wire = Wire(self.clock)
        self.ids: dict[int, str] = {}
        self.card_of: dict[str, str] = {}
        self.skipped: set[int] = set()
        self.given_up: set[int] = set()
        self.troubles = 0
        self.reached = 0
        self.resumed_at: set[datetime] = set()
        self.do(self._open(ordering))
        for number in range(events):
            self.a_card_is_opened(number % 3)

    # -- What happens in the café -------------------------------------------------------------

    @rule(card=st.integers(0, 2), times=st.integers(1, 4))
    def cards_are_opened(self, card: int, times: int) -> None:
        for _ in range(times):
            self.a_card_is_opened(card)

    def a_card_is_opened(self, card: int) -> None:
        [row] = self.do(self.cafe.happens(an_opening(self.cards[card])))
        self.ids[row.sequence] = row.id
        self.card_of[row.id] = self.cards[card]

    @rule()
    def something_else_happens(self) -> None:
        """The endpoint did not ask for it, and yet it has its place in the log."""
        self.do(a_known_card(self.cafe))

    # -- What workers and receivers do --------------------------------------------------------

    @rule(said=answers)
    def a_worker_serves(self, said: list[Any]) -> None:
        self.wire.script = said
        self.do(self.worker().sweep())

    @rule(said=answers, write=st.integers(1, 4), is_after=st.booleans())
    def a_worker_dies(self, said: list[Any], write: int, *, is_after: bool) -> None:
        """At the claim, or at one of its records; its lease stays until it runs out."""
        self.wire.script = said
        way = Mortal(self.database, write, is_after=is_after)
        self.do(self._sweep_and_die(self.worker(way)))
        self.troubles += way.is_dead

    @rule(said=answers, late=st.sampled_from([0, 1, 40]))
    def a_worker_is_frozen_past_its_lease(self, said: list[Any], late: int) -> None:
        """With a request under way; another serves meanwhile, and then it goes on."""
        self.wire.script = said

        async def meanwhile() -> None:
            self.troubles += 1
            self.clock.advance(LEASE + timedelta(seconds=late))
            await self.worker().sweep()

        self.wire.during = meanwhile
        self.do(self.worker().sweep())
        self.wire.during = None

    @rule(seconds=st.sampled_from([1, 5, 31, 130, 700, 9_000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def time_passes_until_something_is_due(self) -> None:
        self.clock.moment = max(self.clock.moment, self.due_at() or self.clock.moment)

    # -- What operators do --------------------------------------------------------------------

    @precondition(lambda self: self.exceptions())
    @rule(which=st.integers(0, 9))
    def an_operator_skips_an_event(self, which: int) -> None:
        rows = sorted(self.exceptions(), key=lambda row: row.sequence)
        row = rows[which % len(rows)]
        now = self.clock.now()
        self.do(self._write(lambda tx: settle(tx, self.endpoint.id, row, now)))
        self.skipped.add(row.sequence)

    @rule(is_paused=st.booleans())
    def an_operator_pauses_or_resumes(self, *, is_paused: bool) -> None:
        self.set_status(EndpointStatus.PAUSED if is_paused else EndpointStatus.ACTIVE)

    # -- What must hold -----------------------------------------------------------------------

    @invariant()
    def what_is_stored_agrees_with_itself_and_with_the_wire(self) -> None:
        endpoint, rows, attempts = self.now(), self.exceptions(), self.attempts()
        assert self.reached <= endpoint.cursor_sequence <= self.head()
        self.reached = endpoint.cursor_sequence

        tries = Counter(row.sequence for row in attempts)
        taken = {row.sequence for row in attempts if row.status is AttemptStatus.SUCCEEDED}
        excepted = {row.sequence: row for row in rows}
        passed = {place for place in self.ids if place <= endpoint.cursor_sequence}
        assert not taken & excepted.keys()
        assert excepted.keys() | taken | (self.skipped & passed) >= passed
        assert excepted.keys() <= passed
        for place, row in excepted.items():
            if endpoint.ordering is Ordering.STRICT:  # whoever resumes it begins to count anew
                assert 0 < row.tries <= tries[place]
            else:
                assert row.tries == tries[place]
            self.agrees_with_the_schedule(row, attempts)
        soonest = [row.next_attempt_at for row in rows if row.state is DeliveryState.RETRY]
        assert endpoint.retry_due_at == min(soonest, default=None)
        if endpoint.ordering is Ordering.STRICT:
            assert {row.state for row in rows} <= {DeliveryState.DEAD}

        sent = Counter(one.parcel.id for one in self.wire.sent)
        noted = Counter(row.event_id for row in attempts)
        assert noted <= sent
        assert (sent - noted).total() <= AT_RISK * self.troubles
        assert {self.ids[place] for place in taken} <= set(self.wire.taken)
        assert self.repeats() <= AT_RISK * self.troubles
        self.the_order_is_kept(endpoint, rows)

    def agrees_with_the_schedule(self, row: Delivery, attempts: list[Attempt]) -> None:
        """It is tried again when its step has passed, or somebody resumed; parked only by order."""
        if row.state is DeliveryState.PARKED:
            assert (row.tries, row.next_attempt_at) == (0, None)
        elif row.state is DeliveryState.DEAD:
            assert row.tries > 0
            assert row.next_attempt_at is None
        elif row.tries:
            last = max(one.started_at for one in attempts if one.sequence == row.sequence)
            step = STEPS[min(row.tries, len(STEPS)) - 1]
            assert row.next_attempt_at is not None
            is_in_time = row.next_attempt_at >= last + timedelta(seconds=step)
            assert is_in_time or row.next_attempt_at in self.resumed_at

    def the_order_is_kept(self, endpoint: WebhookEndpoint, rows: list[Delivery]) -> None:
        """The first time that each event was taken, by endpoint or by card.

        What was given up may have been on its way from a worker that was frozen.
        """
        self.given_up |= {row.sequence for row in rows if row.state is DeliveryState.DEAD}
        late = {self.ids[place] for place in self.given_up | self.skipped}
        first = [id for id in dict.fromkeys(self.wire.taken) if id not in late]
        place = {id: sequence for sequence, id in self.ids.items()}
        if endpoint.ordering is Ordering.STRICT:
            assert first == sorted(first, key=place.__getitem__)
        if endpoint.ordering is Ordering.CARD:
            for card in self.cards:
                mine = [id for id in first if self.card_of[id] == card]
                assert mine == sorted(mine, key=place.__getitem__)

    def teardown(self) -> None:
        """In the end the receiver is well: everything has arrived, but what was given up."""
        if not hasattr(self, "endpoint"):
            return
        self.wire.script = []
        self.set_status(EndpointStatus.ACTIVE)
        end = self.clock.now() + LONG
        while (moment := self.due_at()) is not None and moment < end:
            self.clock.moment = max(self.clock.moment, moment)
            self.do(self.worker().sweep())
        self.what_is_stored_agrees_with_itself_and_with_the_wire()
        rows = self.exceptions()
        assert {row.state for row in rows} <= {DeliveryState.DEAD}
        given_up = {self.ids[place] for place in {row.sequence for row in rows} | self.skipped}
        assert set(self.wire.taken) | given_up == set(self.ids.values())
        assert self.now().cursor_sequence >= max(self.ids)
        found: list[Any] = []
        self.do(audit(self.database, self.cafe.business, found.append))
        assert found == []
        self.set_status(EndpointStatus.PAUSED)  # the next walk is on the same database

    # -- At hand ------------------------------------------------------------------------------

    def worker(self, way: Mortal | None = None) -> Pusher:
        """A worker that has just started, without jitter."""

        async def sleep(seconds: float) -> None:
            self.clock.advance(timedelta(seconds=seconds))

        way = way or Mortal(self.database, None, is_after=False)
        return Pusher(
            way,  # type: ignore[arg-type]
            self.stream, self.wire, self.secrets, self.clock,
            lease=LEASE, chance=lambda: 0.5, sleep=sleep, time=lambda: self.clock.now().timestamp(),
        )  # fmt: skip

    def repeats(self) -> int:
        """How many requests brought what had been taken before."""
        return len(self.wire.taken) - len(set(self.wire.taken))

    def due_at(self) -> datetime | None:
        """When the endpoint may be leased next; None where nothing is left to be done."""
        now = self.now()
        free = max(now.lease_until, now.next_attempt_at)
        if now.cursor_sequence < self.head():
            return free
        return max(free, now.retry_due_at) if now.retry_due_at else None

    def set_status(self, status: EndpointStatus) -> None:
        """As the operations on endpoints do it."""
        id, actor, now = Id(self.endpoint.id), self.cafe.actor, self.clock.now()
        if status is EndpointStatus.ACTIVE:
            told = ResumeWebhookEndpointInput(id=id)
            self.resumed_at.add(now)
            self.do(self._write(lambda tx: resume_webhook_endpoint(tx, actor, told, now)))
        elif self.now().status is EndpointStatus.ACTIVE:
            told_to_pause = PauseWebhookEndpointInput(id=id)
            self.do(self._write(lambda tx: pause_webhook_endpoint(tx, actor, told_to_pause, now)))

    def head(self) -> int:
        """How far the log reaches."""
        found: int = self.do(self._read(head_of)).sequence
        return found

    def now(self) -> WebhookEndpoint:
        """The endpoint as it is stored."""
        found: WebhookEndpoint = self.do(self.cafe.now_of(self.endpoint))
        return found

    def exceptions(self) -> list[Delivery]:
        """The exceptions to its cursor."""
        found: list[Delivery] = self.do(self._read(lambda tx: tx.many(EXCEPTIONS)))
        return found

    def attempts(self) -> list[Attempt]:
        """All that was noted of its requests."""
        found: list[Attempt] = self.do(self._read(lambda tx: tx.many(ATTEMPTS)))
        return found

    async def _open(self, ordering: Ordering) -> None:
        self.cafe: Cafe = await found_cafe(self.database, self.secrets, self.clock)
        self.cards = [await a_known_card(self.cafe) for _ in range(3)]
        self.endpoint = await self.cafe.endpoint(
            "https://partner.example/", ordering=ordering, types=["card_opened"]
        )

    async def _sweep_and_die(self, worker: Pusher) -> None:
        try:
            await worker.sweep()
        except Died:
            return

    async def _read(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        return await self.database.read(self.cafe.business.id, work)

    async def _write(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        return await self.database.write(self.cafe.business.id, work)


def walk(settings: Settings, secrets: Secrets, **how: Any) -> None:
    """Let Hypothesis choose what happens, on one database; one café for each walk."""
    with asyncio.Runner() as runner:

        async def opened() -> Database:
            database = database_of(settings)
            await database.open()
            return database

        async def doing(work: Awaitable[Any]) -> Any:
            return await work

        database = runner.run(opened())
        here = {
            "database": database,
            "secrets": secrets,
            "stream": Stream(database, "memory://"),
            "do": staticmethod(lambda work: runner.run(doing(work))),
        }
        try:
            run_state_machine_as_test(
                type("Deliveries", (Deliveries,), here),
                settings=hypothesis.settings(
                    deadline=None,
                    database=None,
                    suppress_health_check=list(hypothesis.HealthCheck),
                    **how,
                ),
            )
        finally:
            runner.run(database.close())


def test_whatever_befalls_deliveries_none_is_lost_and_few_are_repeated(
    settings: Settings, secrets: Secrets
) -> None:
    walk(settings, secrets, max_examples=15, stateful_step_count=30, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_whatever_befalls_many_deliveries_none_is_lost_and_few_are_repeated(
    settings: Settings, secrets: Secrets
) -> None:
    walk(settings, secrets, max_examples=400, stateful_step_count=60)
