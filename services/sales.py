"""Sales of tills: stored when they are told, settled once, taken back when the till does.

A call of a till only stores what it tells; the cashier then fetches the receipt and settles it.
So nothing is lost between the two, and it makes no difference how often or in which order the
same is told.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, Invalid, Refused
from core.ids import Id, is_id, prefix_of
from core.money import major_units, minor_units
from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, among, command, param, query
from integrations.tills import Installed, Notice, Receipt, Refund
from models import (
    Actor,
    Business,
    Card,
    Customer,
    EarningRule,
    PointOfSale,
    PointOfSaleStatus,
    Sale,
    SaleStatus,
    StampChannel,
)
from services.card_refs import CardRef, HolderRef, find_card
from services.cards import AddStampsInput, live_card, promise_of, published, stamp_card
from services.claim_codes import CreateClaimCodesInput, create_claim_codes
from services.customers import CustomerRef
from services.points_of_sale import Connection, let_in
from services.sale_refs import TOO_LITTLE, hold_sale, operation_of, settle_stamped
from services.undo import VoidOperationInput, void_operation

LEASE = timedelta(seconds=90)
CLAIMABLE_FOR = timedelta(days=30)
MOST_LATE = timedelta(days=7)
"""What closed longer ago than this is counted as if it closed now."""
MOST_ATTEMPTS = 24
"""With the pauses between them about two days: as long as tills repeat themselves."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 10_800.0

_BY_PASS = query(
    select(Card.id).where(
        col(Card.business_id) == BUSINESS, col(Card.wallet_pass_id) == param("pass_id")
    )
)
_HELD = query(
    select(Sale)
    .where(col(Sale.business_id) == BUSINESS, col(Sale.id) == param("id"))
    .with_for_update()
)

# -- Across all businesses: these run in the name of the system. ----------------------------------

_DUE = select(Sale.id).where(
    col(Sale.status) == SaleStatus.WAITING,
    col(Sale.next_attempt_at) <= param("now"),
    col(Sale.lease_until) <= param("now"),
)
_ANY_DUE: Query[str] = query(_DUE.limit(1))
_NEXT = (
    _DUE.where(~among(col(Sale.point_of_sale_id), "busy"))
    .order_by(col(Sale.next_attempt_at))
    .limit(param("most"))
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[Sale] = query(
    update(Sale)
    .where(col(Sale.id).in_(select(_NEXT.c.id)))
    .values(attempts=col(Sale.attempts) + 1, lease_until=param("until"))
    .returning(Sale)
)
_TAKE_OVER = command(
    update(Sale).where(col(Sale.lease_until) > param("now")).values(lease_until=param("now"))
)
_DUE_SET_UP = select(PointOfSale.id).where(
    col(PointOfSale.next_set_up_at) <= param("now"), col(PointOfSale.disconnected_at).is_(None)
)
_ANY_SET_UP: Query[str] = query(_DUE_SET_UP.limit(1))
_NEXT_SET_UP = (
    _DUE_SET_UP.order_by(col(PointOfSale.next_set_up_at))
    .limit(param("most"))
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM_SET_UP: Query[PointOfSale] = query(
    update(PointOfSale)
    .where(col(PointOfSale.id).in_(select(_NEXT_SET_UP.c.id)))
    .values(next_set_up_at=param("until"), set_up_tries=col(PointOfSale.set_up_tries) + 1)
    .returning(PointOfSale)
)

# -- Within one business. -------------------------------------------------------------------------


async def take(
    tx: Transaction,
    connection: Connection,
    business: Business,
    notices: Sequence[Notice],
    secrets: Secrets,
    at: datetime,
) -> int:
    """Store what a till tells; says how much of it is to be settled. `at` is the real time."""
    news = 0
    for notice in notices:
        if isinstance(notice, Installed):
            await let_in(tx, connection, notice, secrets, at)
            news += 1
        elif isinstance(notice, Refund):
            news += await _take_refund(tx, connection.point, notice, at)
        else:
            news += await _take_receipt(tx, connection, business, notice, at)
    return news


async def _take_receipt(
    tx: Transaction, connection: Connection, business: Business, receipt: Receipt, at: datetime
) -> bool:
    point, is_whole = connection.point, connection.till.is_whole(receipt)
    # Who it was is looked up now: names and numbers of people are not stored with the sale.
    card = await card_of(tx, point, receipt) if is_whole else None
    sale, is_new = await hold_sale(
        tx,
        point,
        receipt.sale_id,
        at,
        amount=units_of(receipt, business),
        currency=receipt.currency or business.currency,
        card_id=card.id if card else None,
        guest=receipt.guest if not is_whole else None,
        to_fetch=not is_whole,
        closed_at=_moment(receipt.closed_at, at),
    )
    if is_new:
        await tx.change(point, last_sale_at=at)
        return True
    if sale.status not in (SaleStatus.FAILED, SaleStatus.WAITING):
        return False
    # Told again, by a connection that was made anew, or after we had given up.
    await tx.change(sale, status=SaleStatus.WAITING, point_of_sale_id=point.id, next_attempt_at=at)
    return True


async def _take_refund(tx: Transaction, point: PointOfSale, refund: Refund, at: datetime) -> bool:
    sale, is_new = await hold_sale(tx, point, refund.sale_id, at, refunded_at=at)
    if is_new:
        return True
    if sale.refunded_at is not None:
        return False
    await tx.change(
        sale, refunded_at=at, status=SaleStatus.WAITING, next_attempt_at=at, lease_until=at
    )
    return True


async def settle(
    tx: Transaction, actor: Actor, told: Sale, receipt: Receipt | None, at: datetime
) -> None:
    """Do once what a sale calls for; `told` is the sale as it was claimed, `at` the real time.

    `receipt` is what the till itself said, None where its call had said all. Nothing happens
    where somebody else settled it, or is about to.
    """
    sale = await tx.maybe(_HELD, id=told.id)
    if sale is None or sale.status is not SaleStatus.WAITING or sale.attempts != told.attempts:
        return
    now = actor.business.time(at)
    if sale.refunded_at is not None:
        await _take_back(tx, actor, sale, now)
        return
    point = actor.point_of_sale
    if point is None:
        raise LookupError(sale.point_of_sale_id)
    card_id = sale.card_id
    if receipt is not None:
        if receipt.total is not None:
            counted = units_of(receipt, actor.business)
            currency = receipt.currency or actor.business.currency
            sale = sale.with_values(amount=counted, currency=currency)
        found = await card_of(tx, point, receipt)
        card_id = found.id if found else None
    amount = _amount_of(sale, actor.business)
    sale = await tx.change(
        sale, amount=sale.amount, currency=sale.currency, card_id=card_id, guest=None, problem=None
    )
    if card_id is None:
        await _make_claimable(tx, actor, point, sale, amount, now)
        return
    card, customer = await live_card(tx, CardRef(id=Id(card_id)), lock=True)
    promise = await promise_of(tx, card.version_id)
    by_amount = promise.version.earning_rule is EarningRule.BY_AMOUNT
    if by_amount and amount is None:
        raise Invalid("The till told no total.")
    worth = AddStampsInput(
        card=CardRef(id=Id(card.id)),
        count=None if by_amount else 1,
        amount=amount if by_amount else None,
        channel=StampChannel.POS,
        external_ref=sale.sale_id,
    )
    happened = actor.business.time(_moment(sale.closed_at, at))
    done = await stamp_card(
        tx, actor, card, customer, worth, now, occurred_at=min(happened, now), sale=sale
    )
    await settle_stamped(tx, sale, card, done.operation)


async def _make_claimable(
    tx: Transaction,
    actor: Actor,
    point: PointOfSale,
    sale: Sale,
    amount: Decimal | None,
    now: datetime,
) -> None:
    """Make a claim code of a sale that named nobody: whoever has the receipt may claim it."""
    _, promise = await published(tx, point.template_id)
    by_amount = promise.version.earning_rule is EarningRule.BY_AMOUNT
    if by_amount and amount is None:
        raise Invalid("The till told no total.")
    if by_amount and (sale.amount or 0) < (promise.version.amount_per_stamp or 0):
        await tx.change(sale, status=SaleStatus.REFUSED, problem=TOO_LITTLE)
        return
    asked = CreateClaimCodesInput(
        template_id=Id(point.template_id),
        stamps=None if by_amount else 1,
        amount=amount if by_amount else None,
        external_ref=sale.sale_id,
        expires_at=now + CLAIMABLE_FOR,
    )
    [code] = (await create_claim_codes(tx, actor, asked, now)).claim_codes
    await tx.change(sale, status=SaleStatus.CLAIMABLE, claim_code_id=code.id)


async def _take_back(tx: Transaction, actor: Actor, sale: Sale, now: datetime) -> None:
    """Take back what a sale had earned, if it was told before, and if that is not undone yet."""
    line = await operation_of(tx, sale, now)
    if line is not None and line.voided_by_id is None:
        asked = VoidOperationInput(id=Id(line.id), reason="The till took the sale back.")
        await void_operation(tx, actor, asked, now)
    await tx.change(sale, status=SaleStatus.REFUNDED, problem=None, guest=None)


async def refuse(tx: Transaction, told: Sale, why: str) -> None:
    """A sale cannot be settled as it is, and that is that; or cannot be taken back any more."""
    sale = await tx.maybe(_HELD, id=told.id)
    if sale is None or sale.status is not SaleStatus.WAITING or sale.attempts != told.attempts:
        return
    status = SaleStatus.REFUSED
    if sale.refunded_at is not None and sale.operation_id is not None:
        status = SaleStatus.STAMPED
    elif sale.refunded_at is not None and sale.claim_code_id is not None:
        status = SaleStatus.CLAIMABLE
    await tx.change(sale, status=status, problem=why, guest=None)


async def put_off(
    tx: Transaction,
    told: Sale,
    why: str,
    at: datetime,
    *,
    retry_after: float | None = None,
    is_refused: bool = False,
) -> None:
    """The till did not give a receipt: ask again later, for about two days.

    Where it refuses us, its connection says so.
    """
    sale = await tx.maybe(_HELD, id=told.id)
    if sale is None or sale.status is not SaleStatus.WAITING or sale.attempts != told.attempts:
        return
    if sale.attempts >= MOST_ATTEMPTS:
        await tx.change(sale, status=SaleStatus.FAILED, problem=why, lease_until=at)
    else:
        pause = max(pause_after(sale.attempts), retry_after or 0.0)
        later = at + timedelta(seconds=pause)
        await tx.change(sale, problem=why, next_attempt_at=later, lease_until=at)
    point = await tx.get(PointOfSale, sale.point_of_sale_id)
    if is_refused and point is not None and point.status is PointOfSaleStatus.ACTIVE:
        await tx.change(point, status=PointOfSaleStatus.FAILING, problem=why)


def pause_after(tries: int) -> float:
    """How many seconds to wait after so many tries."""
    return min(_FIRST_PAUSE * 2.0 ** (min(tries, 30) - 1), _LONGEST_PAUSE)


async def card_of(tx: Transaction, point: PointOfSale, receipt: Receipt) -> Card | None:
    """The card that a receipt is for: of the connection's template, and of whom the receipt names.

    Named by the card itself (number, token, wallet pass), else by phone, else by e-mail. A card of
    another template leads to its holder's own of this one. None where that leads to no card:
    nobody becomes a customer by buying something.
    """
    for text in receipt.cards:
        found = await _card_named(tx, text)
        if found is not None and found[0].template_id == point.template_id:
            return found[0] if found[0].deleted_at is None else None
        if found is not None:
            return await _card_held(tx, point, CustomerRef(id=Id(found[1].id)))
    for ref in (CustomerRef(phone=receipt.phone), CustomerRef(email=receipt.email)):
        if ref.phone or ref.email:
            card = await _card_held(tx, point, ref)
            if card is not None:
                return card
    return None


async def card_ref_of(tx: Transaction, text: str) -> CardRef:
    """How a card is named that a till read: by its number, token, pass, id, or page's address."""
    bare = text.strip().rstrip("/").rpartition("/")[2]
    if bare.isascii() and bare.isdecimal():
        return CardRef(number=bare)
    if prefix_of(bare) == "wp":
        bare = await tx.maybe(_BY_PASS, pass_id=bare) or bare
    return CardRef(id=Id(bare)) if is_id(bare) else CardRef(token=bare)


async def any_due(tx: Transaction, now: datetime) -> bool:
    """Whether a sale or a set-up waits; in the name of the system."""
    return (
        await tx.maybe(_ANY_DUE, now=now) is not None
        or await tx.maybe(_ANY_SET_UP, now=now) is not None
    )


async def claim(tx: Transaction, now: datetime, most: int, busy: Sequence[str]) -> list[Sale]:
    """Lease sales that wait, but for points of sale that are busy; in the name of the system."""
    return await tx.many(_CLAIM, now=now, until=now + LEASE, most=most, busy=busy)


async def claim_set_ups(tx: Transaction, now: datetime, most: int) -> list[PointOfSale]:
    """Lease points of sale that are to be set up; in the name of the system."""
    return await tx.many(_CLAIM_SET_UP, now=now, until=now + LEASE, most=most)


async def take_over(tx: Transaction, now: datetime) -> None:
    """End every lease: no other process can hold one. In the name of the system."""
    await tx.run(_TAKE_OVER, now=now)


def units_of(receipt: Receipt, business: Business) -> int | None:
    """A receipt's total in minor units, None where it tells none or none that can be counted.

    A till that names no currency counts in the business's.
    """
    if receipt.total is None:
        return None
    try:
        return minor_units(receipt.total, receipt.currency or business.currency)
    except ValueError:
        return None


def _amount_of(sale: Sale, business: Business) -> Decimal | None:
    """What a sale came to; refused where that can earn nothing."""
    if sale.currency is not None and sale.currency != business.currency:
        raise Invalid(f"The till counts in {sale.currency}, the business in {business.currency}.")
    if sale.amount is None:
        return None
    if sale.amount <= 0:
        raise Refused(Code.INVALID, "Nothing was paid.")
    return major_units(sale.amount, business.currency)


def _moment(told: datetime | None, at: datetime) -> datetime:
    """When a sale closed; where that is not told, is in the future or too long ago: now."""
    if told is None or not at - MOST_LATE <= told <= at:
        return at
    return told.astimezone(UTC)


async def _card_named(tx: Transaction, text: str) -> tuple[Card, Customer] | None:
    try:
        return await find_card(tx, await card_ref_of(tx, text), "card")
    except Refused:
        return None


async def _card_held(tx: Transaction, point: PointOfSale, ref: CustomerRef) -> Card | None:
    held = CardRef(holder=HolderRef(template_id=Id(point.template_id), customer=ref))
    try:
        return (await find_card(tx, held, "card"))[0]
    except Refused:
        return None
