"""Sales by the name their till gives them: each is one row, and is held while it is settled."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Query, Transaction, param, query
from models import Actor, Card, ClaimCode, Operation, PointOfSale, Sale, SaleStatus
from services.text import short_text

TOO_LITTLE = "The amount earns no stamp."

_HELD = query(
    select(Sale)
    .where(
        col(Sale.business_id) == BUSINESS,
        col(Sale.kind) == param("kind"),
        col(Sale.account) == param("account"),
        col(Sale.sale_id) == param("sale_id"),
    )
    .with_for_update()
)
_BY_NAME = query(
    select(Sale).where(
        col(Sale.business_id) == BUSINESS,
        col(Sale.kind) == param("kind"),
        col(Sale.account) == param("account"),
        col(Sale.sale_id) == param("sale_id"),
    )
)
_END_CODE: Query[ClaimCode] = query(
    update(ClaimCode)
    .where(
        col(ClaimCode.business_id) == BUSINESS,
        col(ClaimCode.id) == param("id"),
        col(ClaimCode.claimed_at).is_(None),
    )
    .values(expires_at=param("now"))
    .returning(ClaimCode)
)


@dataclass(kw_only=True)
class SaleRef:
    """Names a sale of a till: however often and by whatever way it is told, it counts once."""

    point_of_sale_id: Annotated[Id, Doc("The point of sale.")]
    sale_id: Annotated[str, Doc("The till's own number of the receipt.")]


async def live_point(tx: Transaction, id: str, *path: str) -> PointOfSale:
    """A point of sale that is connected."""
    point = await tx.get(PointOfSale, id)
    if point is None or point.disconnected_at is not None:
        raise NotFound("point of sale", *path)
    return point


async def find_sale(tx: Transaction, ref: SaleRef) -> Sale | None:
    """The sale that a reference names, None where there is none."""
    point = await tx.get(PointOfSale, ref.point_of_sale_id)
    if point is None:
        return None
    return await tx.maybe(_BY_NAME, kind=point.kind, account=point.account, sale_id=ref.sale_id)


async def hold_sale(
    tx: Transaction, point: PointOfSale, sale_id: str, at: datetime, **values: Any
) -> tuple[Sale, bool]:
    """The sale of this name, held until the transaction ends; made with these values if new.

    Says whether it is new. `at` is the real time.
    """
    made = Sale(
        id=new_id("sale"),
        business_id=point.business_id,
        point_of_sale_id=point.id,
        kind=point.kind,
        account=point.account,
        sale_id=sale_id,
        **{
            "status": SaleStatus.WAITING,
            "received_at": at,
            "next_attempt_at": at,
            "lease_until": at,
            **values,
        },
    )
    if await tx.add_if_new(made):
        return made, True
    return await tx.one(_HELD, kind=point.kind, account=point.account, sale_id=sale_id), False


async def hold_sale_to_stamp(
    tx: Transaction, actor: Actor, ref: SaleRef, now: datetime
) -> tuple[Sale, Operation | None]:
    """A sale that a call names, held, and the operation where it was stamped before.

    Refused where the till took it back. A claim code that was made for it can no longer be
    claimed: whoever has the receipt got the stamps.
    """
    path = ("input", "sale")
    point = await live_point(tx, ref.point_of_sale_id, *path, "pointOfSaleId")
    sale_id = short_text(ref.sale_id, *path, "saleId")
    sale, _ = await hold_sale(tx, point, sale_id, actor.business.real_time(now))
    if sale.refunded_at is not None:
        raise Refused(Code.INVALID, "The till took this sale back.", *path, "saleId")
    return sale, await operation_of(tx, sale, now)


async def operation_of(tx: Transaction, sale: Sale, now: datetime) -> Operation | None:
    """What was done for a sale that is held; from then on nobody claims its code."""
    if sale.operation_id is not None:
        return await tx.get(Operation, sale.operation_id)
    code = await tx.get(ClaimCode, sale.claim_code_id)
    if code is None:
        return None
    if code.claimed_at is None and await tx.maybe(_END_CODE, id=code.id, now=now) is None:
        code = await tx.get(ClaimCode, code.id)  # somebody was quicker
    return None if code is None else await tx.get(Operation, code.operation_id)


async def settle_stamped(tx: Transaction, sale: Sale, card: Card, line: Operation | None) -> None:
    """A sale that is held was worth these stamps on this card, or none."""
    await tx.change(
        sale,
        status=SaleStatus.STAMPED if line else SaleStatus.REFUSED,
        problem=None if line else TOO_LITTLE,
        card_id=card.id,
        operation_id=line.id if line else None,
        guest=None,
    )
