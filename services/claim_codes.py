"""Claim codes: printed on a receipt, worth stamps or what an amount earns, claimed once."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import or_, update
from sqlmodel import col, select

from core.errors import ClaimCodeUsed, Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.luck import UNGUESSABLE, Luck
from core.money import major_units
from core.secrets import new_claim_code, read_crockford
from db import BUSINESS, Transaction, param, query
from models import MAX_STAMPS, Actor, ClaimCode, Promise, StampChannel
from services.card_refs import CardRef
from services.cards import (
    AddStampsInput,
    StampsAdded,
    add_stamps,
    amount_of,
    label_of,
    live_card,
    published,
    stamp_card,
)
from services.operation import EVERYBODY, Input, Outcome, operation

MOST_AT_ONCE = 100
_BY_CODE = query(
    select(ClaimCode).where(
        col(ClaimCode.business_id) == BUSINESS, col(ClaimCode.code) == param("code")
    )
)
_CLAIM = query(
    update(ClaimCode)
    .where(
        col(ClaimCode.business_id) == BUSINESS,
        col(ClaimCode.id) == param("id"),
        col(ClaimCode.claimed_at).is_(None),
        or_(col(ClaimCode.expires_at).is_(None), col(ClaimCode.expires_at) > param("now")),
    )
    .values(
        claimed_at=param("now"),
        claimed_by_id=param("staff_id"),
        claimed_card_id=param("card_id"),
    )
    .returning(ClaimCode)
)


@dataclass(kw_only=True)
class CreateClaimCodesInput(Input):
    """The codes to make: worth stamps, or the stamps that an amount earns."""

    template_id: Annotated[Id, Doc("The published card template.")]
    count: Annotated[int, Doc("How many codes, 1–100.")] = 1
    stamps: Annotated[int | None, Doc("Stamps of each, 1–50; either this or `amount`.")] = None
    amount: Annotated[
        Decimal | None,
        Doc("The purchase's amount, where amounts earn stamps; either this or `stamps`."),
    ] = None
    external_ref: Annotated[
        str | None, Doc("Your own label, such as a receipt number; the ledger will carry it.")
    ] = None
    expires_at: Annotated[
        datetime | None, Doc("From when on they can no longer be claimed; absent: never.")
    ] = None


@dataclass(kw_only=True)
class ClaimCodesCreated(Outcome):
    """The new codes."""

    claim_codes: Annotated[list[ClaimCode], Doc("The codes, to be printed.")] = field(
        default_factory=list
    )


@dataclass(kw_only=True)
class ClaimStampsInput(Input):
    """The code to claim, and for which card."""

    code: Annotated[str, Doc("The code, or the address that its QR code holds.")]
    card: Annotated[CardRef, Doc("The card that gets the stamps.")]


@operation(*EVERYBODY)
async def create_claim_codes(
    tx: Transaction, actor: Actor, input: CreateClaimCodesInput, now: datetime
) -> ClaimCodesCreated:
    """Make one-time codes for receipts, each worth stamps or what an amount earns."""
    template, promise = await published(tx, input.template_id, "input", "templateId")
    if not 1 <= input.count <= MOST_AT_ONCE:
        raise Invalid(f"Between 1 and {MOST_AT_ONCE} codes.", "input", "count")
    if input.expires_at is not None and input.expires_at <= now:
        raise Invalid("This moment has passed.", "input", "expiresAt")
    stamps, amount = _worth(input, promise, actor)
    label = label_of(input.external_ref)
    codes = [
        ClaimCode(
            id=new_id("cc"),
            business_id=actor.business_id,
            template_id=template.id,
            code=new_claim_code(),
            stamps=stamps,
            amount=amount,
            external_ref=label,
            expires_at=input.expires_at,
            created_at=now,
            created_by_id=actor.staff_id,
        )
        for _ in range(input.count)
    ]
    await tx.add(*codes)
    return ClaimCodesCreated(claim_codes=codes)


@operation(*EVERYBODY, fires=add_stamps.fires)
async def claim_stamps(
    tx: Transaction,
    actor: Actor,
    input: ClaimStampsInput,
    now: datetime,
    *,
    luck: Luck = UNGUESSABLE,
) -> StampsAdded:
    """Claim a code from a receipt for a card. It happens once: of many calls, one succeeds.

    A code whose amount earns no stamp is claimed all the same, without an operation.
    """
    code = await tx.maybe(_BY_CODE, code=read_crockford(input.code.rpartition("/")[2]))
    if code is None:
        raise NotFound("claim code", "input", "code")
    card, customer = await live_card(tx, input.card, lock=True)
    if card.template_id != code.template_id:
        raise Invalid("This code is for another card.", "input", "code")
    claimed = await tx.maybe(_CLAIM, id=code.id, now=now, staff_id=actor.staff_id, card_id=card.id)
    if claimed is None:
        _refuse(await tx.get(ClaimCode, code.id) or code)
    currency = actor.business.currency
    worth = AddStampsInput(
        card=input.card,
        count=code.stamps,
        amount=None if code.amount is None else major_units(code.amount, currency),
        channel=StampChannel.RECEIPT_QR,
        external_ref=code.external_ref,
    )
    try:
        done = await stamp_card(tx, actor, card, customer, worth, now, luck=luck)
    except Refused as refusal:
        if refusal.field != ["input", "card"]:
            refusal.field = ["input", "code"]  # what the code is worth is nothing the caller gave
        raise
    if done.operation is not None:
        await tx.change(code, operation_id=done.operation.id)
    return done


def _worth(
    input: CreateClaimCodesInput, promise: Promise, actor: Actor
) -> tuple[int | None, int | None]:
    """The stamps of each code, or the amount in minor units; refused if nobody could claim it."""
    if (input.stamps is None) == (input.amount is None):
        raise Invalid("Give either stamps or amount.", "input")
    most = min(promise.version.max_stamps_per_operation or MAX_STAMPS, MAX_STAMPS)
    if input.amount is not None:
        stamps, units = amount_of(input.amount, promise, actor)
        if stamps > most:
            raise Invalid(f"This earns more than {most} stamps at once.", "input", "amount")
        return None, units
    if not 1 <= (input.stamps or 0) <= most:
        raise Invalid(f"Between 1 and {most} stamps.", "input", "stamps")
    return input.stamps, None


def _refuse(code: ClaimCode) -> None:
    if code.claimed_at is not None:
        raise ClaimCodeUsed(code.claimed_at)
    raise Refused(Code.CLAIM_CODE_EXPIRED, "This code has expired.", "input", "code")
