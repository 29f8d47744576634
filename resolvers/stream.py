"""The live stream: replay from the log, then follow the doorbell; no hole and no double."""

from collections.abc import AsyncIterator
from typing import Any

from core.metrics import SUBSCRIPTIONS
from events import is_event_type
from events.log import head_of
from models import Card, EventRow, decode_cursor, encode_cursor
from resolvers.cards import card as find
from resolvers.charges import FREE_PER_EVENT, charge_of_call, wait_to_pay
from resolvers.context import Context
from services.access_tokens import filter_within
from services.card_refs import CardRef
from services.listings import EventFilter, log_page
from services.pages import MOST, PageArgs


async def events(
    context: Context, after: str | None, filter: EventFilter | None
) -> AsyncIterator[EventRow]:
    """The events beyond a cursor, then each as it happens; without a cursor only the latter.

    There is no seam: both are reads of the log beyond the last place read. The doorbell only
    says when to look again.
    """
    within = filter_within(context.actor, filter)
    async for event in _follow(context, after, within):
        if is_event_type(event.type):
            yield event


async def _follow(
    context: Context, after: str | None, filter: EventFilter
) -> AsyncIterator[EventRow]:
    business, conditions = context.actor.business_id, filter.conditions()
    charge = charge_of_call.get()
    cost = charge.requested if charge is not None else 0
    place = None if after is None else decode_cursor(after)
    with SUBSCRIPTIONS.held(), context.deployment.stream.follow(business) as follower:
        if place is None:
            place = (await context.read_within(head_of)).sequence
        while True:
            head, rows = await _read_on(context, place, conditions)
            for row in rows:
                if cost > FREE_PER_EVENT:
                    await wait_to_pay(context, cost)
                place = row.sequence
                yield row
            if len(rows) < MOST:
                place = max(place, head)
                await follower.news(place)


async def card(context: Context, ref: CardRef) -> AsyncIterator[Card | None]:
    """The card now, and after each change."""
    now = await find(context, ref)
    if now is None:
        yield None
        return
    head = await context.read_within(head_of)
    # Read once more: a change between the look-up and the head would not be told again.
    yield await find(context, CardRef(id=now.id))  # type: ignore[arg-type]
    only = EventFilter(card_ids=[now.id])  # type: ignore[list-item]
    async for _ in _follow(context, encode_cursor(head.sequence), only):
        yield await find(context, CardRef(id=now.id))  # type: ignore[arg-type]


async def _read_on(
    context: Context, place: int, conditions: dict[str, Any]
) -> tuple[int, list[EventRow]]:
    """How far the log reaches, and the next matching events beyond a place."""

    async def work(tx: Any) -> tuple[int, list[EventRow]]:
        # The head is read first: all up to it is visible to the read that follows.
        head = (await head_of(tx)).sequence
        args = PageArgs(first=MOST, after=encode_cursor(place))
        return head, (await log_page(tx, args, newest_first=False, **conditions)).rows

    return await context.read_within(work)
