"""Rounds: what an endpoint is due next, read from the log and from its exceptions."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import func, not_, or_
from sqlmodel import col, select

from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, among, param, query
from events import event_types
from events.log import head_of
from models import (
    Actor,
    Attempt,
    AttemptKind,
    Business,
    Consent,
    Customer,
    Delivery,
    DeliveryState,
    EventRow,
    Ordering,
    Rendering,
    SigningSecret,
    Staff,
    StaffStatus,
    WebhookEndpoint,
)
from webhooks.pace import in_flight_of
from webhooks.parcels import Address, address_of, due_types
from webhooks.schedule import BLOCKS, DISABLED_AFTER_BLOCKS
from webhooks.verdicts import UNKNOWN, Due

ROUND = 8
"""Requests between two records, or as many as may be under way at once."""
_OLD_ONES = 4
"""Exceptions among them at most, so that fresh events go on beside a pile of old ones."""

SIGNING = query(
    select(SigningSecret)
    .where(
        col(SigningSecret.business_id) == BUSINESS,
        col(SigningSecret.endpoint_id) == param("endpoint_id"),
        or_(col(SigningSecret.expires_at).is_(None), col(SigningSecret.expires_at) > param("now")),
    )
    .order_by(col(SigningSecret.id).desc())
)
_rendered = (col(Rendering.endpoint_id) == param("endpoint_id")) & (
    col(Rendering.sequence) == col(EventRow.sequence)
)
_OLD: Query[Any] = query(
    select(Delivery, EventRow, Rendering)
    .join(
        EventRow,
        (col(EventRow.business_id) == col(Delivery.business_id))
        & (col(EventRow.sequence) == col(Delivery.sequence)),
        isouter=True,
    )
    .join(Rendering, _rendered, isouter=True)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) == DeliveryState.RETRY,
        col(Delivery.next_attempt_at) <= param("now"),
    )
    .order_by(col(Delivery.sequence))
    .limit(param("most"))
)


def _fresh(is_due: Any) -> Query[Any]:
    return query(
        select(EventRow, Rendering)
        .join(Rendering, _rendered, isouter=True)
        .where(
            col(EventRow.business_id) == BUSINESS,
            col(EventRow.sequence) > param("after"),
            col(EventRow.sequence) <= param("upto"),
            is_due,
        )
        .order_by(col(EventRow.sequence))
        .limit(param("most"))
    )


_FRESH_OF = _fresh(among(col(EventRow.type), "types"))
_FRESH_BUT = _fresh(not_(among(col(EventRow.type), "types")))
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
_LAST_ERRORS: Query[str | None] = query(
    select(Attempt.error)
    .where(
        col(Attempt.business_id) == BUSINESS,
        col(Attempt.endpoint_id) == param("endpoint_id"),
        col(Attempt.kind) == AttemptKind.DELIVERY,
    )
    .order_by(col(Attempt.id).desc())
    .limit(DISABLED_AFTER_BLOCKS - 1)
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


@dataclass
class Round:
    """What is to be sent next to an endpoint, and how far in the log it reaches."""

    address: Address
    due: list[Due]
    upto: int
    is_last: bool
    """Whether nothing more is due, so far as one could see."""
    read: int
    """How many events were looked at."""
    author: Actor | None = None
    """With whose rights the endpoint's document is executed; None: whoever saved it left."""
    renderings: dict[int, Rendering] = field(default_factory=dict)
    """What the document came to for these events when they were first due."""
    lost: list[Delivery] = field(default_factory=list)
    """Exceptions whose event has left the log."""
    passed_over: list[Delivery] = field(default_factory=list)
    """Exceptions that turned out not to be due."""
    blocks: int = 0
    """How many of the last tries before were kept from a forbidden address."""
    customers: dict[str, Customer] = field(default_factory=dict)
    consents: dict[str, list[Consent]] = field(default_factory=dict)

    def narrow(self, endpoint: WebhookEndpoint) -> None:
        """Leave one probe to an endpoint that is unwell: one request per step.

        A fresh event goes before one that failed: an event that its receiver chokes on does not
        stand in the way of all others.
        """
        fresh = [due for due in self.due if due.delivery is None]
        probe = next((due for due in fresh if is_ready(due)), None)
        if probe is not None:
            self.due = fresh[: fresh.index(probe) + 1]
            self.upto, self.is_last = probe.event.sequence, False
            return
        old = [due for due in self.due if due.delivery is not None]
        first = next((place for place, due in enumerate(old) if is_ready(due)), None)
        if first is not None:
            done = list(takewhile(lambda due: not due.waits_for_card, fresh))
            if fresh:
                self.upto = done[-1].event.sequence if done else endpoint.cursor_sequence
            self.due, self.is_last = old[: first + 1] + done, False


def is_ready(due: Due) -> bool:
    """Whether it makes a request now."""
    return due.answer is None and not due.waits_for_card and not due.is_unknown


async def look(
    tx: Transaction, endpoint: WebhookEndpoint, secrets: Secrets, now: datetime
) -> Round:
    """Read what an endpoint is due next."""
    signing = await tx.many(SIGNING, endpoint_id=endpoint.id, now=now)
    old = await tx.many(_OLD, endpoint_id=endpoint.id, now=now, most=_OLD_ONES)
    head = await head_of(tx)
    most = _size(endpoint) - len(old)
    statement, types = _due_of(endpoint)
    fresh = await tx.many(
        statement,
        endpoint_id=endpoint.id,
        after=endpoint.cursor_sequence,
        upto=head.sequence,
        types=types,
        most=most,
    )
    round_ = Round(
        address_of(endpoint, signing, secrets),
        due=[],
        upto=head.sequence if len(fresh) < most else fresh[-1][0].sequence,
        is_last=len(fresh) < most and len(old) < _OLD_ONES,
        read=len(fresh) + len(old),
    )
    _add_old(endpoint, round_, old)
    for event, rendering in fresh:
        round_.due.append(Due(event, 1, is_unknown=event.type not in event_types()))
        if rendering is not None:
            round_.renderings[event.sequence] = rendering
    await _add_what_came_before(tx, endpoint, round_)
    if endpoint.document is not None:
        round_.author = await author_of(tx, endpoint)
    elif endpoint.include_contact:
        await _add_contacts(tx, round_)
    return round_


async def author_of(tx: Transaction, endpoint: WebhookEndpoint) -> Actor | None:
    """With whose rights an endpoint's document is executed: of whoever saved it.

    As they are now; None where they have left.
    """
    staff = await tx.get(Staff, endpoint.document_by_id)
    business = await tx.get(Business, endpoint.business_id)
    if staff is None or business is None or staff.status is not StaffStatus.ACTIVE:
        return None
    return Actor(business, staff)


def name_previous(endpoint: WebhookEndpoint, round_: Round) -> None:
    """Tell each fresh event which one the endpoint was due before it."""
    previous = endpoint.last_due_id
    for due in round_.due:
        if due.delivery is None:
            due.previous_id = previous
            previous = previous if due.is_unknown else due.event.id


def _size(endpoint: WebhookEndpoint) -> int:
    """How many events make a round; few where each has to be rendered first."""
    return ROUND if endpoint.document is not None else max(ROUND, in_flight_of(endpoint))


def _due_of(endpoint: WebhookEndpoint) -> tuple[Query[Any], list[str]]:
    """The statement and the types by which its events are found.

    Where it named no types, those that this release does not know are read too, to be kept.
    """
    if endpoint.types is not None:
        return _FRESH_OF, endpoint.types
    if endpoint.document is not None:  # its own filter decides
        return _FRESH_BUT, []
    due = due_types(endpoint)
    return _FRESH_BUT, [name for name in event_types() if name not in due]


def _add_old(endpoint: WebhookEndpoint, round_: Round, old: list[Any]) -> None:
    due_now = due_types(endpoint)
    for row, event, rendering in old:
        if event is None:
            round_.lost.append(row)
            continue
        is_unknown = event.type not in event_types()
        was_kept = row.last_error == UNKNOWN and not row.tries
        if was_kept and not is_unknown and event.type not in due_now and not endpoint.document:
            round_.passed_over.append(row)
            continue
        round_.due.append(Due(event, row.tries + 1, row.previous_id, row, is_unknown=is_unknown))
        if rendering is not None:
            round_.renderings[event.sequence] = rendering


async def _add_what_came_before(tx: Transaction, endpoint: WebhookEndpoint, round_: Round) -> None:
    """What earlier rounds mean for this one: cards that wait, tries, blocked addresses."""
    fresh = [due for due in round_.due if due.delivery is None]
    if endpoint.ordering is Ordering.CARD:
        cards = sorted({due.event.card_id for due in fresh if due.event.card_id})
        blocked = await tx.many(_BLOCKED_CARDS, endpoint_id=endpoint.id, cards=cards)
        for due in fresh:
            due.waits_for_card = due.event.card_id in blocked
    if endpoint.ordering is Ordering.STRICT and fresh and endpoint.failures:
        sequence = fresh[0].event.sequence
        fresh[0].number += await tx.one(_TRIED, endpoint_id=endpoint.id, sequence=sequence)
    if endpoint.failures or len(round_.due) > len(fresh):
        for error in await tx.many(_LAST_ERRORS, endpoint_id=endpoint.id):
            if error not in BLOCKS:
                break
            round_.blocks += 1


async def _add_contacts(tx: Transaction, round_: Round) -> None:
    ids = sorted({due.event.customer_id for due in round_.due if due.event.customer_id})
    round_.customers = {row.id: row for row in await tx.many(_CUSTOMERS, customers=ids)}
    for consent in await tx.many(_CONSENTS, customers=ids):
        round_.consents.setdefault(consent.customer_id, []).append(consent)
