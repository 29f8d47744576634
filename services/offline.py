"""Offline tills: what was stamped while the line was down is told later, all at once."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from annotated_doc import Doc

from core.errors import Invalid, LimitReached, Refused
from db import Transaction
from models import Actor, Card, Operation, StampChannel
from services import idempotency
from services.card_refs import CardRef
from services.cards import AddStampsInput, StampsAdded, add_stamps, live_card, stamp_card
from services.operation import EVERYBODY, Input, Outcome, operation
from services.text import clean

MOST_AT_ONCE = 100
_ITEM = "add_stamps_batch.item"
MOST_AHEAD = timedelta(minutes=5)
"""A till's clock may be so much ahead; such stamps were given now."""
MOST_LATE = timedelta(days=7) - MOST_AHEAD
"""A client id is remembered for 7 days; what is older might have been added before."""


@dataclass(kw_only=True)
class OfflineStampsInput:
    """Stamps that were given while the till was offline."""

    client_id: Annotated[
        str,
        Doc(
            "Your own id of these stamps, 1–128 characters. They are added once however often "
            "they are sent."
        ),
    ]
    occurred_at: Annotated[
        datetime, Doc("When they were given, by your clock: within the last 7 days.")
    ]
    card: Annotated[CardRef, Doc("The card to stamp.")]
    count: Annotated[int | None, Doc("Stamps to add, 1–50; either this or `amount`.")] = None
    amount: Annotated[
        Decimal | None,
        Doc("The purchase's amount in the business's currency; either this or `count`."),
    ] = None
    channel: Annotated[StampChannel, Doc("The route they came.")] = StampChannel.API
    external_ref: Annotated[
        str | None, Doc("Your own label, such as a receipt number; at most 200 characters.")
    ] = None


@dataclass(kw_only=True)
class AddStampsBatchInput(Input):
    """What was stamped while the till was offline."""

    items: Annotated[list[OfflineStampsInput], Doc("The stamps, 1–100 items in any order.")]


@dataclass(kw_only=True)
class StampVerdict:
    """What became of one item."""

    client_id: str
    applied: bool = False
    operation: Operation | None = None
    card: Card | None = None
    user_errors: list[Refused] = field(default_factory=list)


@dataclass(kw_only=True)
class StampsBatchAdded(Outcome):
    """What became of each item."""

    results: Annotated[list[StampVerdict], Doc("A verdict for each item, in their order.")] = field(
        default_factory=list
    )


@operation(*EVERYBODY, fires=add_stamps.fires)
async def add_stamps_batch(
    tx: Transaction,  # noqa: ARG001 -- the items are stored one by one
    actor: Actor,  # noqa: ARG001
    input: AddStampsBatchInput,
    now: datetime,  # noqa: ARG001
) -> StampsBatchAdded:
    """Add the stamps that were given while a till was offline, each when it happened.

    Every item stands alone: it is added, once for its `clientId`, or refused, and has its own
    verdict. A call that broke off is simply sent again; so is what was refused.
    """
    if not 1 <= len(input.items) <= MOST_AT_ONCE:
        raise Invalid(f"Between 1 and {MOST_AT_ONCE} items.", "input", "items")
    for place, item in enumerate(input.items):
        path = ("input", "items", str(place), "clientId")
        if not 1 <= len(clean(item.client_id, *path)) <= 128:
            raise Invalid("A client id has 1–128 characters.", *path)
    return StampsBatchAdded(
        results=[StampVerdict(client_id=item.client_id) for item in input.items]
    )


def in_order(items: list[OfflineStampsInput]) -> list[tuple[int, OfflineStampsInput]]:
    """The items with their places, in the order in which they happened."""
    return sorted(enumerate(items), key=lambda placed: placed[1].occurred_at)


async def add_late_stamps(
    tx: Transaction, actor: Actor, item: OfflineStampsInput, now: datetime, print_: str
) -> StampsAdded:
    """Add stamps that were given at an earlier moment, once for their client id.

    Refused where they are too old, or were given in the future. A refusal leaves nothing behind:
    the item may be sent again. `print_` is the fingerprint of the item.
    """
    record, is_new = await idempotency.claim(tx, actor, _ITEM, item.client_id, print_, now)
    if not is_new:
        return await idempotency.replay(tx, record, StampsAdded)
    if item.occurred_at > now + MOST_AHEAD:
        raise Invalid("This is in the future.", "input", "occurredAt")
    if item.occurred_at < now - MOST_LATE:
        raise Invalid("This is too long ago.", "input", "occurredAt")
    card, customer = await live_card(tx, item.card, lock=True)
    told = AddStampsInput(
        card=item.card,
        count=item.count,
        amount=item.amount,
        channel=item.channel,
        external_ref=item.external_ref,
    )
    moment = min(item.occurred_at, now)
    try:
        done = await stamp_card(tx, actor, card, customer, told, now, occurred_at=moment)
    except LimitReached as refusal:
        refusal.retry_at = None  # its moment is past, and stays where it is
        raise
    done.events = tx.recorded
    await idempotency.keep(tx, record, done)
    return done


def verdict_of(place: int, item: OfflineStampsInput, done: StampsAdded) -> StampVerdict:
    """What became of an item; its refusals name it by its place."""
    for refusal in done.user_errors:
        inner = ["clientId" if name == "idempotencyKey" else name for name in refusal.field or []]
        refusal.field = ["input", "items", str(place), *inner[1:]]
    return StampVerdict(
        client_id=item.client_id,
        applied=not done.user_errors,
        operation=done.operation,
        card=done.card,
        user_errors=done.user_errors,
    )
