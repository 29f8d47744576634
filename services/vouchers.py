"""Vouchers: issued, and redeemed once."""

from dataclasses import dataclass, field
from datetime import date as Day  # noqa: N812 -- a field of this file is called date
from datetime import datetime
from typing import Annotated, ClassVar

from annotated_doc import Doc
from sqlalchemy import or_, update
from sqlmodel import col, select

from core.clock import wire_time
from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import new_redeem_code, new_token
from db import BUSINESS, Transaction, param, query
from events import VoucherIssued, VoucherRedeemed, record
from events.base import CustomerPart
from events.catalogue import GoalCardPart, IssuedVoucherPart, RedeemedVoucherPart
from models import (
    Actor,
    Card,
    Customer,
    Operation,
    OperationKind,
    RedeemedVia,
    RedemptionMode,
    Source,
    Validity,
    Voucher,
    VoucherStatus,
    VoucherTemplate,
    expiry,
)
from services.agenda import pull_agenda
from services.card_refs import CardRef, find_card
from services.customers import CustomerRef, find_customer
from services.figures import count_redemption, count_voucher
from services.operation import EVERYBODY, Input, Outcome, operation
from services.text import image_url, long_text, short_text, within

_REDEEM = query(
    update(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.id) == param("id"),
        col(Voucher.status).in_([VoucherStatus.ACTIVE, VoucherStatus.ISSUED]),
        or_(col(Voucher.expires_at).is_(None), col(Voucher.expires_at) > param("now")),
        or_(col(Voucher.valid_from).is_(None), col(Voucher.valid_from) <= param("now")),
    )
    .values(
        status=VoucherStatus.REDEEMED,
        redeemed_at=param("now"),
        redeemed_via=param("via"),
        redeemed_by_id=param("staff_id"),
    )
    .returning(Voucher)
)
_BY_TOKEN = query(
    select(Voucher).where(
        col(Voucher.business_id) == BUSINESS, col(Voucher.token) == param("token")
    )
)
_BY_CODE = query(
    select(Voucher)
    .where(col(Voucher.business_id) == BUSINESS, col(Voucher.redeem_code) == param("code"))
    .order_by(col(Voucher.status) == VoucherStatus.ACTIVE, col(Voucher.id))
    .limit(100)
)
_ACTIVE_BY_CODE = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.redeem_code) == param("code"),
        col(Voucher.status) == VoucherStatus.ACTIVE,
        or_(col(Voucher.expires_at).is_(None), col(Voucher.expires_at) > param("now")),
    )
    .order_by(col(Voucher.id))
    .limit(2)
)
# Of several that share a code: one that can be redeemed now, and of these the one that ends first.
_USABLE_FIRST = (
    col(Voucher.status) != VoucherStatus.ACTIVE,
    col(Voucher.expires_at).is_not(None) & (col(Voucher.expires_at) <= param("now")),
    col(Voucher.expires_at).is_(None),
    col(Voucher.expires_at),
    col(Voucher.id),
)
_OF_CARD_BY_CODE = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.redeem_code) == param("code"),
        col(Voucher.card_id) == param("card_id"),
    )
    .order_by(*_USABLE_FIRST)
    .limit(1)
)
_OF_CUSTOMER_BY_CODE = query(
    select(Voucher)
    .join(Card, col(Card.id) == col(Voucher.card_id))
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.redeem_code) == param("code"),
        col(Card.customer_id) == param("customer_id"),
    )
    .order_by(*_USABLE_FIRST)
    .limit(1)
)

_LAST_YEAR = 2199


@dataclass(kw_only=True)
class ValidityInput:
    """How long a voucher lasts, counted from its issue."""

    one_of: ClassVar[bool] = True

    unlimited: Annotated[bool | None, Doc("For ever; only `true` has a meaning.")] = None
    days: Annotated[int | None, Doc("To the end of the day so many days on, 1–3650.")] = None
    months: Annotated[int | None, Doc("To the end of the day so many months on, 1–120.")] = None
    date: Annotated[Day | None, Doc("To the end of this day, up to the year 2199.")] = None


@dataclass(kw_only=True)
class CustomVoucherInput:
    """A voucher of its own, without a template."""

    title: Annotated[str, Doc("What the customer reads, at most 200 characters.")]
    description: Annotated[str | None, Doc("More about it.")] = None
    image_url: Annotated[str | None, Doc("A picture's address.")] = None
    redeem_code: Annotated[str | None, Doc("The code to redeem it by; many may share one.")] = None
    validity: Annotated[ValidityInput | None, Doc("How long it lasts; absent: for ever.")] = None
    redemption_mode: Annotated[RedemptionMode | None, Doc("How it is redeemed.")] = None


@dataclass(kw_only=True)
class IssueVoucherInput(Input):
    """The voucher to issue: by template, or custom."""

    template_id: Annotated[Id | None, Doc("The voucher template.")] = None
    custom: Annotated[CustomVoucherInput | None, Doc("A voucher without a template.")] = None
    card: Annotated[
        CardRef | None, Doc("The card it belongs to; absent: a bearer voucher, to hand out.")
    ] = None
    redeem_code: Annotated[str | None, Doc("A code of its own, before the template's.")] = None


@dataclass(kw_only=True)
class VoucherCodeRef:
    """Names a voucher by its redeem code, which many may share."""

    redeem_code: Annotated[str, Doc("The code.")]
    card: Annotated[CardRef | None, Doc("The card whose voucher it is.")] = None
    customer: Annotated[CustomerRef | None, Doc("The customer whose voucher it is.")] = None


@dataclass(kw_only=True)
class VoucherRef:
    """Names one voucher."""

    one_of: ClassVar[bool] = True

    id: Annotated[Id | None, Doc("The voucher's id.")] = None
    token: Annotated[str | None, Doc("The voucher's token, as scanned.")] = None
    code: Annotated[VoucherCodeRef | None, Doc("Its redeem code, and whose it is.")] = None


@dataclass(kw_only=True)
class RedeemVoucherInput(Input):
    """The voucher to redeem."""

    voucher: Annotated[VoucherRef, Doc("Which voucher.")]
    via: Annotated[RedeemedVia, Doc("The route by which it is redeemed.")] = RedeemedVia.API


@dataclass(kw_only=True)
class VoucherOutcome(Outcome):
    """The voucher as it now is."""

    voucher: Voucher | None = None


@dataclass(kw_only=True)
class VoucherChecked(Outcome):
    """A voucher that was found; refusals say why it could not be redeemed."""

    voucher: Voucher | None = None


@dataclass(kw_only=True)
class VoucherPlan:
    """What a voucher will be, whichever way it comes about."""

    title: str
    description: str | None = None
    image_url: str | None = None
    redeem_code: str | None = None
    redemption_mode: RedemptionMode = RedemptionMode.STAFF_SCAN
    template_id: str | None = None
    expires_at: datetime | None = None
    issued_at: datetime = field(kw_only=True)

    @classmethod
    def of(cls, template: VoucherTemplate, actor: Actor, now: datetime) -> "VoucherPlan":
        """The voucher that this template issues now."""
        code = new_redeem_code() if template.generates_code else template.redeem_code
        return cls(
            title=template.title,
            description=template.description,
            image_url=template.image_url,
            redeem_code=code,
            redemption_mode=template.redemption_mode,
            template_id=template.id,
            expires_at=expiry(
                template.validity,
                template.validity_number,
                template.validity_date,
                now,
                actor.business.zone,
            ),
            issued_at=now,
        )


@operation(*EVERYBODY, fires=(VoucherIssued,))
async def issue_voucher(
    tx: Transaction, actor: Actor, input: IssueVoucherInput, now: datetime
) -> VoucherOutcome:
    """Issue a voucher from a template or a custom one, to a card or to whoever bears it."""
    if (input.template_id is None) == (input.custom is None):
        raise Invalid("Give either templateId or custom.", "input")
    if input.template_id is not None:
        template = await find_voucher_template(tx, input.template_id, "input", "templateId")
        plan = VoucherPlan.of(template, actor, now)
    else:
        plan = _custom_plan(input.custom, actor, now)  # type: ignore[arg-type]
    if input.redeem_code is not None:
        plan.redeem_code = redeem_code_of(input.redeem_code, "input", "redeemCode")
    card = customer = None
    if input.card is not None:
        card, customer = await find_card(tx, input.card, "input", "card")
        if card.deleted_at is not None:
            raise Refused(Code.CARD_DELETED, "This card was deleted.", "input", "card")
    voucher = await add_voucher(tx, actor, plan, Source.API, card)
    record(tx, actor, voucher_issued(actor, voucher, card, customer), now)
    await tx.add(
        Operation(
            id=new_id("op"),
            business_id=actor.business_id,
            kind=OperationKind.VOUCHER_ISSUE,
            card_id=voucher.card_id,
            voucher_id=voucher.id,
            staff_id=actor.staff_id,
            location_id=actor.location_id,
            occurred_at=now,
            created_at=now,
        )
    )
    return VoucherOutcome(voucher=voucher)


@operation(*EVERYBODY, fires=(VoucherRedeemed,))
async def redeem_voucher(
    tx: Transaction, actor: Actor, input: RedeemVoucherInput, now: datetime
) -> VoucherOutcome:
    """Redeem a voucher. It happens once: of many calls at one moment, one succeeds."""
    found = await find_voucher(tx, input.voucher, now, "input", "voucher")
    via = input.via
    # First the card, then its voucher: the order in which undoing locks them.
    card, customer = await _owner(tx, found)
    if card is not None and customer is not None:
        card = await tx.change(card, last_activity_at=now)
        customer = await tx.change(customer, last_activity_at=now)
    redeemed = await tx.maybe(_REDEEM, id=found.id, now=now, via=via, staff_id=actor.staff_id)
    if redeemed is None:
        as_it_is = await tx.get(Voucher, found.id)
        (as_it_is or found).check_redeemable(now)
        raise Refused(Code.VOUCHER_NOT_ACTIVE, "This voucher is not active.", "input", "voucher")
    redemption = Operation(
        id=new_id("op"),
        business_id=actor.business_id,
        kind=OperationKind.VOUCHER_REDEEM,
        card_id=redeemed.card_id,
        voucher_id=redeemed.id,
        staff_id=actor.staff_id,
        connector_id=actor.connector_id,
        location_id=actor.location_id,
        occurred_at=now,
        created_at=now,
    )
    await tx.add(redemption)
    count_redemption(tx, actor, redemption, redeemed, card.template_id if card else None)
    record(
        tx,
        actor,
        VoucherRedeemed(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=card_part(card, redeemed.goal_position),
            voucher=RedeemedVoucherPart(
                id=redeemed.id,
                type=redeemed.type,
                redeem_code=redeemed.redeem_code,
                redeem_code_formats=redeemed.redeem_code_formats,
                status=redeemed.status,
                redeemed_via=via,
                redeemed_at=wire_time(now),
            ),
        ),
        now,
    )
    return VoucherOutcome(voucher=redeemed)


@operation(*EVERYBODY)
async def can_redeem(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    voucher: VoucherRef,
    now: datetime,
) -> VoucherChecked:
    """Whether a voucher could be redeemed now; nothing is written."""
    found = await find_voucher(tx, voucher, now, "voucher")
    try:
        found.check_redeemable(now)
    except Refused as refusal:
        return VoucherChecked(voucher=found, user_errors=[refusal])
    return VoucherChecked(voucher=found)


async def add_voucher(
    tx: Transaction,
    actor: Actor,
    plan: VoucherPlan,
    source: Source,
    card: Card | None,
    *,
    operation_id: str | None = None,
    goal_position: int | None = None,
    cycle: int | None = None,
    campaign_id: str | None = None,
) -> Voucher:
    """Make a voucher; `voucher_issued` tells of it once its turn has come."""
    voucher = Voucher(
        id=new_id("v"),
        business_id=actor.business_id,
        card_id=card.id if card else None,
        template_id=plan.template_id,
        operation_id=operation_id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        title=plan.title,
        description=plan.description,
        image_url=plan.image_url,
        redeem_code=plan.redeem_code,
        redemption_mode=plan.redemption_mode,
        token=new_token(),
        source=source,
        goal_position=goal_position,
        cycle=cycle,
        campaign_id=campaign_id,
        status=VoucherStatus.ACTIVE,
        expires_at=plan.expires_at,
        issued_at=plan.issued_at,
    )
    await tx.add(voucher)
    count_voucher(tx, actor, voucher, card.template_id if card else None)
    if plan.expires_at is not None:
        await pull_agenda(tx, actor.business, plan.expires_at, plan.issued_at)
    return voucher


def voucher_issued(
    actor: Actor, voucher: Voucher, card: Card | None, customer: Customer | None
) -> VoucherIssued:
    """The event that tells of a new voucher."""
    return VoucherIssued(
        location_id=actor.location_id,
        customer=customer_part(customer, card),
        card=card_part(card, voucher.goal_position),
        voucher=IssuedVoucherPart(
            id=voucher.id,
            type=voucher.type,
            redeem_code=voucher.redeem_code,
            redeem_code_formats=voucher.redeem_code_formats,
            status=voucher.status,
            title=voucher.title,
            issued_at=wire_time(voucher.issued_at),
            expires_at=wire_time(voucher.expires_at) if voucher.expires_at else None,
            source=voucher.source,
        ),
    )


async def find_voucher(tx: Transaction, ref: VoucherRef, now: datetime, *path: str) -> Voucher:
    """The voucher that a reference names; refused where a shared code leaves it open."""
    if ref.id is not None:
        found = await tx.get(Voucher, ref.id)
    elif ref.token is not None:
        found = await tx.maybe(_BY_TOKEN, token=ref.token)
    elif ref.code is not None:
        found = await _by_code(tx, ref.code, now, *path, "code")
    else:
        raise Invalid("Name a voucher by id, token or code.", *path)
    if found is None:
        raise NotFound("voucher", *path)
    return found


async def find_voucher_template(tx: Transaction, id: str, *path: str) -> VoucherTemplate:
    """A voucher template that can be issued."""
    template = await tx.get(VoucherTemplate, id)
    if template is None:
        raise NotFound("voucher template", *path)
    if template.archived_at is not None:
        raise Refused(Code.TEMPLATE_ARCHIVED, "This voucher template is archived.", *path)
    return template


def redeem_code_of(text: str, *path: str) -> str:
    """A redeem code as it is kept: trimmed, 1–64 characters."""
    return within(short_text(text, *path), *path, most=64)


def validity_of(told: ValidityInput | None, *path: str) -> tuple[Validity, int | None, Day | None]:
    """The kind of validity, its number, its date."""
    if told is None or told.unlimited is not None:
        if told is not None and not told.unlimited:
            raise Invalid("`unlimited` can only be true.", *path, "unlimited")
        return Validity.UNLIMITED, None, None
    if told.days is not None:
        if not 1 <= told.days <= 3650:
            raise Invalid("Between 1 and 3650 days.", *path, "days")
        return Validity.DAYS, told.days, None
    if told.months is not None:
        if not 1 <= told.months <= 120:
            raise Invalid("Between 1 and 120 months.", *path, "months")
        return Validity.MONTHS, told.months, None
    if told.date is not None and told.date.year > _LAST_YEAR:
        raise Invalid(f"A day up to the year {_LAST_YEAR}.", *path, "date")
    return Validity.FIXED_DATE, None, told.date


def customer_part(customer: Customer | None, card: Card | None) -> CustomerPart | None:
    """The customer as events tell of it."""
    if customer is None:
        return None
    return CustomerPart(
        id=customer.id,
        wallet_pass_id=card.wallet_pass_id if card else None,
        language=customer.language,
    )


def card_part(card: Card | None, goal_index: int | None = None) -> GoalCardPart | None:
    """The card as events tell of it."""
    return None if card is None else GoalCardPart(id=card.id, goal_index=goal_index)


async def _owner(tx: Transaction, voucher: Voucher) -> tuple[Card | None, Customer | None]:
    card = await tx.get(Card, voucher.card_id)
    return card, await tx.get(Customer, card.customer_id) if card else None


async def _by_code(
    tx: Transaction, ref: VoucherCodeRef, now: datetime, *path: str
) -> Voucher | None:
    code = " ".join(ref.redeem_code.split())
    if ref.card is not None:
        card, _ = await find_card(tx, ref.card, *path, "card")
        return await tx.maybe(_OF_CARD_BY_CODE, code=code, now=now, card_id=card.id)
    if ref.customer is not None:
        customer = await find_customer(tx, ref.customer)
        if customer is None:
            raise NotFound("customer", *path, "customer")
        return await tx.maybe(_OF_CUSTOMER_BY_CODE, code=code, now=now, customer_id=customer.id)
    active = await tx.many(_ACTIVE_BY_CODE, code=code, now=now)
    if len(active) > 1:
        raise Refused(
            Code.AMBIGUOUS_REDEEM_CODE,
            "Several active vouchers share this code: name the card or the customer.",
            *path,
        )
    if active:
        return active[0]
    spent = await tx.many(_BY_CODE, code=code)
    return spent[0] if len(spent) == 1 else None


def _custom_plan(told: CustomVoucherInput, actor: Actor, now: datetime) -> VoucherPlan:
    path = ("input", "custom")
    kind, number, day = validity_of(told.validity, *path, "validity")
    code = told.redeem_code
    return VoucherPlan(
        title=short_text(told.title, *path, "title"),
        description=long_text(told.description, *path, "description"),
        image_url=image_url(told.image_url, *path, "imageUrl"),
        redeem_code=redeem_code_of(code, *path, "redeemCode") if code else None,
        redemption_mode=told.redemption_mode or RedemptionMode.STAFF_SCAN,
        expires_at=expiry(kind, number, day, now, actor.business.zone),
        issued_at=now,
    )
