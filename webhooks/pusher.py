"""The pusher: leases endpoints, serves each for a moment, and records what came of it.

An endpoint is a cursor over the log, leased as a whole. Whoever lost a lease is refused by its
epoch: nothing of a stale round is stored. Between sending and recording lies the one window in
which a crash repeats a request: what was in flight, plus eight per leased endpoint.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, exists, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from core.clock import Clock
from core.ids import new_id
from core.secrets import Secrets
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from events import payload
from events.log import head_of
from events.stream import Stream
from models import (
    Attempt,
    AttemptKind,
    AttemptStatus,
    Consent,
    Customer,
    Delivery,
    DeliveryState,
    EndpointStatus,
    EventRow,
    LogHead,
    Ordering,
    SigningSecret,
    WebhookEndpoint,
)
from webhooks.notices import notice_of_disabling
from webhooks.parcels import Address, Parcel, address_of, due_types, with_contact
from webhooks.sender import Answer, Sender
from webhooks.verdicts import Due, Verdict, verdict

LEASE = timedelta(seconds=30)
LEASES = 256
QUANTUM_EVENTS = 64
QUANTUM_SECONDS = 5.0
ROUND = 8
"""Requests between two records."""
_OLD_ONES = 4
"""Exceptions among them at most, so that fresh events go on beside a pile of old ones."""
SAFETY_SECONDS = 2.0
DRAIN_SECONDS = 10.0

log = structlog.get_logger("stampwire.webhooks")

# -- Across all businesses: these run in the name of the system. ----------------------------------

_HAS_WORK = (
    col(WebhookEndpoint.status) == EndpointStatus.ACTIVE,
    col(WebhookEndpoint.deleted_at).is_(None),
    col(WebhookEndpoint.lease_until) <= param("now"),
    col(WebhookEndpoint.next_attempt_at) <= param("now"),
    or_(
        col(WebhookEndpoint.cursor_sequence) < col(LogHead.sequence),
        col(WebhookEndpoint.retry_due_at) <= param("now"),
    ),
)
_WAITING = (
    select(WebhookEndpoint.id)
    .join(LogHead, col(LogHead.business_id) == col(WebhookEndpoint.business_id))
    .where(*_HAS_WORK)
)
_ANY_DUE: Query[str] = query(_WAITING.limit(1))
_DUE = (
    _WAITING.order_by(col(WebhookEndpoint.lease_until))
    .limit(param("most"))
    .with_for_update(of=WebhookEndpoint, skip_locked=True)
    .cte("due")
)
_CLAIM: Query[WebhookEndpoint] = query(
    update(WebhookEndpoint)
    .where(col(WebhookEndpoint.id).in_(select(_DUE.c.id)))
    .values(
        lease_owner=param("owner"),
        lease_epoch=col(WebhookEndpoint.lease_epoch) + 1,
        lease_until=param("until"),
    )
    .returning(WebhookEndpoint)
)
_GIVE_BACK = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.lease_owner) == param("owner"),
        col(WebhookEndpoint.lease_until) > param("now"),
    )
    .values(lease_until=param("now"), lease_epoch=col(WebhookEndpoint.lease_epoch) + 1)
)
_TAKE_OVER = command(
    update(WebhookEndpoint)
    .where(col(WebhookEndpoint.lease_until) > param("now"))
    .values(lease_until=param("now"), lease_epoch=col(WebhookEndpoint.lease_epoch) + 1)
)

# -- Within the business whose endpoint is leased. ------------------------------------------------

SIGNING = query(
    select(SigningSecret)
    .where(
        col(SigningSecret.business_id) == BUSINESS,
        col(SigningSecret.endpoint_id) == param("endpoint_id"),
        or_(col(SigningSecret.expires_at).is_(None), col(SigningSecret.expires_at) > param("now")),
    )
    .order_by(col(SigningSecret.id).desc())
)
_OLD: Query[Any] = query(
    select(Delivery, EventRow)
    .join(
        EventRow,
        (col(EventRow.business_id) == col(Delivery.business_id))
        & (col(EventRow.sequence) == col(Delivery.sequence)),
        isouter=True,
    )
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) == DeliveryState.RETRY,
        col(Delivery.next_attempt_at) <= param("now"),
    )
    .order_by(col(Delivery.sequence))
    .limit(param("most"))
)
_FRESH = query(
    select(EventRow)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("after"),
        col(EventRow.sequence) <= param("upto"),
        among(col(EventRow.type), "types"),
    )
    .order_by(col(EventRow.sequence))
    .limit(param("most"))
)
_BLOCKED_CARDS: Query[str] = query(
    select(Delivery.card_id)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) != DeliveryState.DEAD,
        among(col(Delivery.card_id), "cards"),
    )
    .distinct()
)
_TRIED = query(
    select(func.count())
    .select_from(Attempt)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.sequence) == param("sequence"),
        col(Attempt.kind) == AttemptKind.DELIVERY,
    )
)
_CUSTOMERS = query(
    select(Customer).where(
        col(Customer.business_id) == BUSINESS, among(col(Customer.id), "customers")
    )
)
_CONSENTS = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS,
        among(col(Consent.customer_id), "customers"),
        col(Consent.granted).is_(True),
    )
)
_RECORD: Query[WebhookEndpoint] = query(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS,
        col(WebhookEndpoint.id) == param("endpoint"),
        col(WebhookEndpoint.lease_epoch) == param("epoch"),
    )
    .values(
        cursor_sequence=param("new_cursor"),
        last_due_id=param("new_last_due_id"),
        failures=param("new_failures"),
        failing_since=param("new_failing_since"),
        last_success_at=param("new_last_success_at"),
        next_attempt_at=param("new_next_attempt_at"),
        lease_until=param("until"),
    )
    .returning(WebhookEndpoint)
)
_DISABLE = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("endpoint")
    )
    .values(
        status=EndpointStatus.DISABLED, disabled_reason=param("reason"), deleted_at=param("gone_at")
    )
)
_FORGET = command(
    delete(Delivery).where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint"),
        col(Delivery.sequence) == param("place"),
    )
)
_parked = aliased(Delivery)
_earlier = aliased(Delivery)
_FREE_NEXT = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint"),
        col(Delivery.sequence)
        == select(func.min(_parked.sequence))
        .where(
            col(_parked.business_id) == BUSINESS,
            col(_parked.endpoint_id) == param("endpoint"),
            col(_parked.card_id) == param("card"),
            col(_parked.state) == DeliveryState.PARKED,
        )
        .scalar_subquery(),
        ~exists().where(
            col(_earlier.business_id) == BUSINESS,
            col(_earlier.endpoint_id) == param("endpoint"),
            col(_earlier.card_id) == param("card"),
            col(_earlier.state) == DeliveryState.RETRY,
        ),
    )
    .values(state=DeliveryState.RETRY, next_attempt_at=param("now"))
)
_NOTE_RETRY = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.id) == param("endpoint")
    )
    .values(
        retry_due_at=select(func.min(_parked.next_attempt_at))
        .where(
            col(_parked.business_id) == BUSINESS,
            col(_parked.endpoint_id) == param("endpoint"),
            col(_parked.state) == DeliveryState.RETRY,
        )
        .scalar_subquery()
    )
)


class Fenced(Exception):
    """Somebody else holds the lease now."""


@dataclass
class _Round:
    """What is to be sent next to an endpoint, and how far in the log it reaches."""

    address: Address
    due: list[Due]
    upto: int
    is_last: bool
    """Whether nothing more is due, so far as one could see."""
    lost: list[Delivery] = field(default_factory=list)
    """Exceptions whose event has left the log."""
    customers: dict[str, Customer] = field(default_factory=dict)
    consents: dict[str, list[Consent]] = field(default_factory=dict)


class Pusher:
    """One per process: as many endpoints at once as it has leases, none waiting for another."""

    def __init__(
        self,
        database: Database,
        stream: Stream,
        sender: Sender,
        secrets: Secrets,
        clock: Clock,
        *,
        leases: int = LEASES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._stream = stream
        self._sender = sender
        self._secrets = secrets
        self._clock = clock
        self._leases = leases
        self._chance = chance
        self._owner = new_id("push")
        self._serving: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Push until told to stop, or cancelled: then finish what is in flight, and let go."""
        with self._stream.bell() as self._news:
            try:
                while not self._stopping:
                    self._news.clear()
                    try:
                        await self.claim()
                    except Exception as error:  # noqa: BLE001 -- the next claim may succeed
                        log.warning("webhooks not claimed", error=type(error).__name__)
                    await self._wait_for_news()
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
        """Lease what has something due, and begin to serve it; says how many endpoints."""
        room = self._leases - len(self._serving)
        now = self._clock.now()
        if (
            room <= 0
            or await self._database.read(None, lambda tx: tx.maybe(_ANY_DUE, now=now)) is None
        ):
            return 0

        async def work(tx: Transaction) -> list[WebhookEndpoint]:
            return await tx.many(_CLAIM, now=now, most=room, owner=self._owner, until=now + LEASE)

        claimed = await self._database.write(None, work)
        for endpoint in claimed:
            task = asyncio.create_task(self._serve(endpoint), name=f"webhooks-{endpoint.id}")
            self._serving.add(task)
            task.add_done_callback(self._served)
        return len(claimed)

    async def sweep(self) -> int:
        """Claim what is due, and wait until it is served; says how many endpoints."""
        claimed = await self.claim()
        await asyncio.gather(*self._serving)
        return claimed

    async def drain(self) -> None:
        """Finish what is in flight within ten seconds, and release every lease."""
        self._stopping = True
        if self._serving:
            await asyncio.wait(self._serving, timeout=DRAIN_SECONDS)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        now = self._clock.now()
        await self._database.write(None, lambda tx: tx.run(_GIVE_BACK, owner=self._owner, now=now))

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(SAFETY_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        # What rang while this endpoint was leased was not for the taking then: look again.
        self._news.set()

    async def _serve(self, endpoint: WebhookEndpoint) -> None:
        """Serve one lease: a quantum of events, then to the back of the line."""
        loop = asyncio.get_running_loop()
        end, left, more = loop.time() + QUANTUM_SECONDS, QUANTUM_EVENTS, True
        try:
            while more:
                round_ = await self._look(endpoint)
                await self._send(endpoint, round_, end)
                left -= len(round_.due)
                more = not (
                    round_.is_last
                    or self._stopping
                    or left <= 0
                    or loop.time() >= end
                    or any(due.is_held or due.concerns_endpoint for due in round_.due)
                )
                endpoint = await self._record(endpoint, round_, keep=more)
                more = more and endpoint.status is EndpointStatus.ACTIVE
        except Fenced:
            log.info("webhook lease lost", endpoint=endpoint.id)
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("webhooks not served", endpoint=endpoint.id, error=type(error).__name__)

    async def _look(self, endpoint: WebhookEndpoint) -> _Round:
        """Read what is due next."""
        now = self._clock.now()

        async def work(tx: Transaction) -> _Round:
            signing = await tx.many(SIGNING, endpoint_id=endpoint.id, now=now)
            address = address_of(endpoint, signing, self._secrets)
            old = await tx.many(_OLD, endpoint_id=endpoint.id, now=now, most=_OLD_ONES)
            head = await head_of(tx)
            most = ROUND - len(old)
            fresh = await tx.many(
                _FRESH,
                after=endpoint.cursor_sequence,
                upto=head.sequence,
                types=due_types(endpoint),
                most=most,
            )
            is_last = len(fresh) < most and len(old) < _OLD_ONES
            upto = head.sequence if len(fresh) < most else fresh[-1].sequence
            round_ = _Round(address, [], upto, is_last)
            round_.lost = [row for row, event in old if event is None]
            round_.due = [
                Due(event, row.tries + 1, row.previous_id, row)
                for row, event in old
                if event is not None
            ]
            await _add_fresh(tx, endpoint, round_, fresh)
            if endpoint.include_contact:
                await _add_contacts(tx, round_)
            return round_

        return await self._database.read(endpoint.business_id, work)

    async def _send(self, endpoint: WebhookEndpoint, round_: _Round, end: float) -> None:
        """Send a round: side by side, card by card, or one by one.

        After an answer that concerns the endpoint, and after the quantum's time, nothing more
        of it is sent: so a round ends within its lease.
        """
        one_by_one = endpoint.ordering is Ordering.STRICT
        loop = asyncio.get_running_loop()
        last_of_card: dict[str, asyncio.Task[bool]] = {}
        before: asyncio.Task[bool] | None = None
        halted = False

        async def send(due: Due, after: asyncio.Task[bool] | None) -> bool:
            """Whether the next one in line may follow."""
            nonlocal halted
            if after is not None and not await after:
                due.waits_for_card = not one_by_one
                return False
            if due.waits_for_card:
                return False
            async with self._sender.turn(endpoint.id):
                if halted or self._stopping or loop.time() >= end:
                    return False
                due.answer = await self._sender.send(self._parcel(endpoint, round_, due))
            halted = halted or due.concerns_endpoint
            return due.is_taken or due.is_dead

        async with asyncio.TaskGroup() as group:
            for due in round_.due:
                card = due.event.card_id if endpoint.ordering is Ordering.CARD else None
                after = before if one_by_one else last_of_card.get(card or "")
                task = before = group.create_task(send(due, after))
                if card is not None:
                    last_of_card[card] = task

    def _parcel(self, endpoint: WebhookEndpoint, round_: _Round, due: Due) -> Parcel:
        event = due.event
        body = payload(event.body, endpoint.vocabulary)
        customer = round_.customers.get(event.customer_id or "")
        if customer is not None:
            body = with_contact(body, customer, round_.consents.get(customer.id, []))
        return Parcel(round_.address, event.id, body.encode(), previous_id=due.previous_id)

    async def _record(
        self, endpoint: WebhookEndpoint, round_: _Round, *, keep: bool
    ) -> WebhookEndpoint:
        """Store what a round came to, and renew the lease or let it go. Fenced if it is lost."""
        now = self._clock.now()
        said = verdict(endpoint, round_.due, round_.upto, now, self._chance())
        said.exceptions += [
            row.with_values(state=DeliveryState.DEAD, next_attempt_at=None, last_error="event gone")
            for row in round_.lost
        ]
        until = now + LEASE if keep and said.disabled is None else now

        async def work(tx: Transaction) -> WebhookEndpoint:
            new = {f"new_{name}": value for name, value in said.endpoint.items()}
            recorded = await tx.maybe(
                _RECORD, endpoint=endpoint.id, epoch=endpoint.lease_epoch, until=until, **new
            )
            if recorded is None:
                raise Fenced
            if said.disabled is not None:
                gone_at = said.disabled.deleted_at or recorded.deleted_at
                await tx.run(
                    _DISABLE, endpoint=endpoint.id, reason=said.disabled.reason, gone_at=gone_at
                )
                if gone_at is None:
                    notice = notice_of_disabling(recorded, said.disabled.reason, now)
                    await tx.add_if_new(notice)
            await tx.add(*(attempt_of(endpoint, due) for due in round_.due if due.answer))
            await _store_exceptions(tx, endpoint, said, now)
            if said.exceptions or said.settled or (recorded.retry_due_at and not round_.due):
                await tx.run(_NOTE_RETRY, endpoint=endpoint.id)
            return recorded

        return await self._database.write(endpoint.business_id, work)


def attempt_of(endpoint: WebhookEndpoint, due: Due) -> Attempt:
    """The line of history for a request that was answered, or was not."""
    assert due.answer is not None  # noqa: S101 -- only what was sent is asked for
    return Attempt(
        id=new_id("att"),
        business_id=endpoint.business_id,
        endpoint_id=endpoint.id,
        event_id=due.event.id,
        sequence=due.event.sequence,
        number=due.number,
        **answer_values(due.answer),
    )


def answer_values(answer: Answer) -> dict[str, Any]:
    """What an attempt keeps of its answer."""
    return {
        "status": AttemptStatus.SUCCEEDED if answer.is_taken else AttemptStatus.FAILED,
        "started_at": answer.started_at,
        "duration_ms": answer.duration_ms,
        "response_status": answer.status,
        "response_head": answer.head,
        "error": answer.error,
        "remote_address": answer.remote_address,
    }


async def settle(tx: Transaction, endpoint_id: str, row: Delivery, now: datetime) -> None:
    """An exception is done with; the next event of its card may follow."""
    await tx.run(_FORGET, endpoint=endpoint_id, place=row.sequence)
    if row.card_id is not None:
        await tx.run(_FREE_NEXT, endpoint=endpoint_id, card=row.card_id, now=now)
    await tx.run(_NOTE_RETRY, endpoint=endpoint_id)


async def _add_fresh(
    tx: Transaction, endpoint: WebhookEndpoint, round_: _Round, fresh: list[EventRow]
) -> None:
    previous = endpoint.last_due_id
    made = []
    for event in fresh:
        made.append(Due(event, 1, previous))
        previous = event.id
    if endpoint.ordering is Ordering.CARD:
        cards = sorted({event.card_id for event in fresh if event.card_id})
        blocked = await tx.many(_BLOCKED_CARDS, endpoint_id=endpoint.id, cards=cards)
        for due in made:
            due.waits_for_card = due.event.card_id in blocked
    if endpoint.ordering is Ordering.STRICT and made and endpoint.failures:
        tried = await tx.one(_TRIED, endpoint_id=endpoint.id, sequence=made[0].event.sequence)
        made[0].number = tried + 1
    if endpoint.failures:
        # One probe per step, and a fresh event before one that failed: an event that its
        # receiver chokes on does not stand in the way of all others.
        probe = next((due for due in made if not due.waits_for_card), None)
        if probe is not None:
            made, round_.due = made[: made.index(probe) + 1], []
            round_.upto, round_.is_last = probe.event.sequence, False
        elif round_.due:
            round_.upto = endpoint.cursor_sequence if made else round_.upto
            made, round_.due, round_.is_last = [], round_.due[:1], False
    round_.due += made


async def _add_contacts(tx: Transaction, round_: _Round) -> None:
    ids = sorted({due.event.customer_id for due in round_.due if due.event.customer_id})
    round_.customers = {row.id: row for row in await tx.many(_CUSTOMERS, customers=ids)}
    for consent in await tx.many(_CONSENTS, customers=ids):
        round_.consents.setdefault(consent.customer_id, []).append(consent)


async def _store_exceptions(
    tx: Transaction, endpoint: WebhookEndpoint, said: Verdict, now: datetime
) -> None:
    for sequence in [*said.settled, *(row.sequence for row in said.exceptions)]:
        await tx.run(_FORGET, endpoint=endpoint.id, place=sequence)
    await tx.add(*said.exceptions)
    for card in said.freed_cards:
        await tx.run(_FREE_NEXT, endpoint=endpoint.id, card=card, now=now)
