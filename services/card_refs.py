"""How a card is named, and found."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_doc import Doc
from sqlmodel import col, select

from core.errors import Invalid, NotFound
from core.ids import Id
from db import BUSINESS, Query, Transaction, param, query
from models import Card, Customer
from services.customers import CustomerRef, find_customer

_JOINED = (
    select(Card, Customer)
    .join(Customer, col(Customer.id) == col(Card.customer_id))
    .where(col(Card.business_id) == BUSINESS)
)
_BY = {
    name: query(_JOINED.where(getattr(Card, name) == param("value")))
    for name in ("id", "number", "token")
}
_LOCKED = {
    name: query(_JOINED.where(getattr(Card, name) == param("value")).with_for_update(of=Card))
    for name in ("id", "number", "token")
}
_HELD = query(
    _JOINED.where(
        col(Card.customer_id) == param("customer_id"),
        col(Card.template_id) == param("template_id"),
        col(Card.deleted_at).is_(None),
    )
)


@dataclass(kw_only=True)
class HolderRef:
    """Names a card by who holds it."""

    template_id: Annotated[Id, Doc("The card template.")]
    customer: Annotated[CustomerRef, Doc("The customer.")]


@dataclass(kw_only=True)
class CardRef:
    """Names one card."""

    one_of: ClassVar[bool] = True

    id: Annotated[Id | None, Doc("The card's id.")] = None
    number: Annotated[str | None, Doc("The number on the card.")] = None
    token: Annotated[str | None, Doc("The card's token, as scanned.")] = None
    holder: Annotated[HolderRef | None, Doc("Who holds it, and of which template.")] = None


async def find_card(
    tx: Transaction, ref: CardRef, *path: str, lock: bool = False
) -> tuple[Card, Customer]:
    """The card that a reference names, and its customer; NotFound if there is none.

    A card that was joined to another leads there. Locked until the transaction ends, if asked:
    whoever changes a card holds it.
    """
    statements: dict[str, Query[tuple[Card, Customer]]] = _LOCKED if lock else _BY
    name = next((name for name in statements if getattr(ref, name) is not None), None)
    found: tuple[Card, Customer] | None
    if name is not None:
        found = await tx.maybe(statements[name], value=getattr(ref, name))
        if found is None and lock:
            # Whoever held it may have joined it to another customer's card: look again.
            found = await tx.maybe(statements[name], value=getattr(ref, name))
        if found is not None and found[0].merged_into is not None:
            found = await tx.maybe(statements["id"], value=found[0].merged_into)
    elif ref.holder is not None:
        customer = await find_customer(tx, ref.holder.customer)
        found = None
        if customer is not None:
            found = await tx.maybe(
                _HELD, customer_id=customer.id, template_id=ref.holder.template_id
            )
        if found is not None and lock:
            found = await tx.maybe(statements["id"], value=found[0].id)
    else:
        raise Invalid("Name a card by id, number, token or holder.", *path)
    if found is None:
        raise NotFound("card", *path)
    return found
