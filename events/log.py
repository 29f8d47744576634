"""The log: an event is a row of the transaction that caused it."""

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import update
from sqlmodel import col, select

from core.clock import wire_time
from core.errors import BadUserInput, CursorExpired
from core.ids import new_id, prefix_of
from db import BUSINESS, Transaction, among, param, query
from events.base import API_VERSION, Event, event_types, is_event_type
from models import Actor, EventRow, LogHead, encode_cursor
from models.base import UtcTimestamp

_BUMP = query(
    update(LogHead)
    .where(col(LogHead.business_id) == BUSINESS)
    .values(sequence=col(LogHead.sequence) + param("count"))
    .returning(LogHead)
)
_BUMP_ACCESS = query(
    update(LogHead)
    .where(col(LogHead.business_id) == BUSINESS)
    .values(access_version=col(LogHead.access_version) + 1)
    .returning(LogHead)
)
_HEAD = query(select(LogHead).where(col(LogHead.business_id) == BUSINESS))
_HEAD_HELD = query(
    select(LogHead).where(col(LogHead.business_id) == BUSINESS).with_for_update(read=True)
)
_AFTER = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) > param("after"))
    .order_by(col(EventRow.sequence))
    .limit(param("most"))
)
_BETWEEN = query(
    select(EventRow)
    .where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.sequence) > param("after"),
        col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
        col(EventRow.occurred_at) < param("until", UtcTimestamp()),
    )
    .order_by(col(EventRow.sequence))
    .limit(param("most"))
)
_BY_IDS = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, among(col(EventRow.id), "ids"))
    .order_by(col(EventRow.sequence))
)


def record(tx: Transaction, actor: Actor, event: Event, at: datetime) -> None:
    """Write an event to the log, as part of this transaction.

    It gets its id now, and its place in the log when the transaction closes: the head of the log
    is bumped last, so its lock is held for the shortest time and numbers follow commits.
    """
    if not tx.recorded:
        tx.at_close(lambda: _place(tx), last=True)
    card, customer = event.card, event.customer
    tx.recorded.append(
        EventRow(
            business_id=actor.business_id,
            sequence=0,
            id=new_id("evt"),
            type=event.type,
            occurred_at=at,
            actor_id=actor.named_id,
            location_id=event.location_id,
            customer_id=customer.id if customer else None,
            card_id=card.id if card else None,
            body=event.model_dump_json(),
        )
    )


async def bump_access(tx: Transaction) -> None:
    """Tell every process that somebody's rights in this business changed."""

    async def bump() -> None:
        head = await tx.one(_BUMP_ACCESS)
        tx.heads[head.business_id] = (head.sequence, head.access_version)

    tx.at_close(bump, last=True)


async def head_of(tx: Transaction, *, hold: bool = False) -> LogHead:
    """How far the log of this business reaches.

    To `hold` it means that nothing comes or goes until the transaction ends: for who keeps a place
    in the log that is not its end.
    """
    return await tx.one(_HEAD_HELD if hold else _HEAD)


async def check_cursor(tx: Transaction, sequence: int) -> None:
    """That the log has all beyond this place, so that whoever reads on from it misses nothing.

    CursorExpired where retention has thrown some of it away, BadUserInput where the log does not
    reach so far: the cursor is another business's, or younger than a restored backup.
    Retention first says how far it goes and then deletes, so call this *after* the events were
    read. Who keeps the place instead holds the log first, by `head_of`.
    """
    head = await head_of(tx)
    if sequence < head.pruned_sequence:
        raise CursorExpired(encode_cursor(head.pruned_sequence))
    if sequence > head.sequence:
        raise BadUserInput("This cursor lies beyond the end of the log.")


async def events_after(tx: Transaction, sequence: int, limit: int) -> list[EventRow]:
    """The next events of this business beyond a place in its log, oldest first."""
    return await tx.many(_AFTER, after=sequence, most=limit)


async def events_between(
    tx: Transaction, sequence: int, since: datetime, until: datetime, limit: int
) -> list[EventRow]:
    """Those of them that happened from one moment to before another."""
    return await tx.many(_BETWEEN, after=sequence, since=since, until=until, most=limit)


async def events_by_ids(tx: Transaction, ids: list[str]) -> list[EventRow]:
    """Those of these events that are known here, in the order of the log."""
    found = await tx.many(_BY_IDS, ids=ids) if ids else []
    return [row for row in found if is_event_type(row.type)]


def read_event(row: EventRow) -> Event:
    """The facts of a recorded event."""
    said = orjson.loads(row.body)
    kind = event_types()[row.type]
    return kind.model_validate({name: said[name] for name in kind.model_fields if name in said})


def write_body(event: Event, row: EventRow) -> str:
    """The English wire text of an event: the reference text's keys in its order, then ours."""
    return _body(row, event.model_dump(mode="json"), event.subject_fields())


def sample_body(kind: type[Event], business_id: str, at: datetime) -> str:
    """The English wire text of a sample; its sequence is 0, for it is in no log."""
    event = kind.sample()
    row = EventRow(
        business_id=business_id,
        sequence=0,
        id=new_id("evt"),
        type=kind.type,
        occurred_at=at,
        actor_id="st_01jwsample0000000000000000",
        location_id=event.location_id,
        body="",
    )
    return write_body(event, row)


async def _place(tx: Transaction) -> None:
    head = await tx.one(_BUMP, count=len(tx.recorded))
    first = head.sequence - len(tx.recorded) + 1
    for sequence, row in enumerate(tx.recorded, first):
        # The rows are already in the hands of whoever will answer: they learn their place too.
        row.__dict__["sequence"] = sequence
        facts = orjson.loads(row.body)
        row.__dict__["body"] = _body(row, facts, event_types()[row.type].subject_fields())
    await tx.add(*tx.recorded)
    tx.heads[head.business_id] = (head.sequence, head.access_version)


def _body(row: EventRow, facts: dict[str, Any], subject: list[str]) -> str:
    staff = row.actor_id if row.actor_id and prefix_of(row.actor_id) in ("st", "") else None
    card = facts["card"]
    body = {
        "event": row.type,
        "timestamp": wire_time(row.occurred_at),
        "business_id": row.business_id,
        "location_id": facts["location_id"],
        "customer": facts["customer"],
        "card": card,
        **{name: facts[name] for name in subject},
        "id": row.id,
        "sequence": row.sequence,
        "api_version": API_VERSION,
        "staff_id": staff,
    }
    return orjson.dumps(body).decode()
