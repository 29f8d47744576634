"""Cards: issued, stamped, saved, opened, deleted."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from annotated_doc import Doc
from sqlalchemy import func, or_, update
from sqlmodel import col, select

from core.errors import Code, Invalid, LimitReached, NotFound, Refused
from core.ids import Id, new_id
from core.luck import UNGUESSABLE, Luck
from core.money import major_units, minor_units
from core.secrets import new_token
from db import BUSINESS, Taken, Transaction, command, param, query
from events import (
    CardIssued,
    CardOpened,
    CardSaved,
    GoalReached,
    LotteryPlayed,
    RewardIssued,
    StampAdded,
    VoucherIssued,
    record,
)
from events.catalogue import GoalPart, IssuedCardPart, RewardPart, StampPart, WalletCardPart
from models import (
    MAX_STAMPS,
    Actor,
    Card,
    CardPlatform,
    CardTemplate,
    CardTemplateVersion,
    Channel,
    Customer,
    EarningRule,
    EventRow,
    Goal,
    LotteryTicket,
    Operation,
    OperationKind,
    Platform,
    Promise,
    Reward,
    RewardType,
    Sale,
    Source,
    StampChannel,
    Stamping,
    TemplateStatus,
    VoucherTemplate,
)
from services.card_refs import CardRef, HolderRef, find_card
from services.customers import CustomerInput, CustomerRef, find_customer, upsert_customer
from services.figures import count_card, count_deletion, count_reward, count_stamps
from services.lotteries import issue_ticket, play
from services.operation import EVERYBODY, MANAGERS, Input, Outcome, operation
from services.outbox import send_link
from services.pass_marks import mark_passes
from services.sale_refs import SaleRef, hold_sale_to_stamp, settle_stamped
from services.text import short_text
from services.vouchers import (
    VoucherPlan,
    add_voucher,
    card_part,
    customer_part,
    voucher_issued,
)

_VERSION = query(
    select(CardTemplateVersion).where(
        col(CardTemplateVersion.business_id) == BUSINESS,
        col(CardTemplateVersion.id) == param("id"),
    )
)
_PUBLISHED = query(
    select(CardTemplate, CardTemplateVersion)
    .join(CardTemplateVersion, col(CardTemplateVersion.template_id) == col(CardTemplate.id))
    .where(
        col(CardTemplate.business_id) == BUSINESS,
        col(CardTemplate.id) == param("id"),
        col(CardTemplateVersion.version) == col(CardTemplate.version),
    )
)
_GOALS = query(
    select(Goal)
    .where(col(Goal.business_id) == BUSINESS, col(Goal.version_id) == param("version_id"))
    .order_by(col(Goal.position))
)
_HELD = query(
    select(Card).where(
        col(Card.business_id) == BUSINESS,
        col(Card.customer_id) == param("customer_id"),
        col(Card.template_id) == param("template_id"),
        col(Card.deleted_at).is_(None),
    )
)
_LOCKED = query(
    select(Card)
    .where(col(Card.business_id) == BUSINESS, col(Card.id) == param("id"))
    .with_for_update()
)
_NUMBER_TAKEN = query(
    select(Card.id).where(col(Card.business_id) == BUSINESS, col(Card.number) == param("number"))
)
_CARDS_EVER = query(select(func.count()).select_from(Card).where(col(Card.business_id) == BUSINESS))
_STAMPS_SINCE = query(
    select(func.coalesce(func.sum(col(Operation.count)), 0)).where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.card_id) == param("card_id"),
        col(Operation.kind) == OperationKind.STAMPS,
        col(Operation.voided_by_id).is_(None),
        col(Operation.occurred_at) >= param("since"),
        col(Operation.occurred_at) < param("until"),
    )
)
_SAVED = query(
    select(CardPlatform).where(
        col(CardPlatform.business_id) == BUSINESS, col(CardPlatform.card_id) == param("card_id")
    )
)
_ACTIVE = command(
    update(Customer)
    .where(
        col(Customer.business_id) == BUSINESS,
        col(Customer.id) == param("customer_id"),
        or_(
            col(Customer.last_activity_at).is_(None), col(Customer.last_activity_at) < param("now")
        ),
    )
    .values(last_activity_at=param("now"))
)
_UNMERGED = query(
    select(Customer.id).where(
        col(Customer.business_id) == BUSINESS,
        col(Customer.id) == param("customer_id"),
        col(Customer.merged_into).is_(None),
    )
)
_JOINED = query(
    select(Card).where(col(Card.business_id) == BUSINESS, col(Card.merged_into) == param("card_id"))
)
_REWARDS_OF = query(
    select(Reward)
    .where(
        col(Reward.business_id) == BUSINESS,
        col(Reward.operation_id) == param("operation_id"),
        col(Reward.voided_at).is_(None),
    )
    .order_by(col(Reward.id))
)
_OPENED_AGAIN = timedelta(hours=1)
_promises: OrderedDict[str, Promise] = OrderedDict()
"""Versions never change once a card goes by them: what was read once is kept."""
_PROMISES_KEPT = 4_096
_counted: OrderedDict[str | None, tuple[int, int]] = OrderedDict()
"""How many cards a business had when they were last counted, and how many were issued since."""
_COUNTS_KEPT = 4_096


@dataclass(kw_only=True)
class IssueCardInput(Input):
    """The card to issue."""

    template_id: Annotated[Id, Doc("The published card template.")]
    customer: Annotated[CustomerInput, Doc("Who gets it; found by e-mail or phone, else made.")]
    send_link: Annotated[
        Channel | None, Doc("Send the card's address to the customer; only EMAIL is possible.")
    ] = None


@dataclass(kw_only=True)
class CardIssuedOutcome(Outcome):
    """The card, new or already held."""

    card: Card | None = None
    created: bool | None = None
    customer_created: bool | None = None


@dataclass(kw_only=True)
class AddStampsInput(Input):
    """The stamps to add: by count, or by the amount of a purchase."""

    card: Annotated[CardRef, Doc("The card to stamp.")]
    count: Annotated[int | None, Doc("Stamps to add, 1–50; either this or `amount`.")] = None
    amount: Annotated[
        Decimal | None,
        Doc("The purchase's amount in the business's currency; either this or `count`."),
    ] = None
    channel: Annotated[StampChannel, Doc("The route they come.")] = StampChannel.API
    external_ref: Annotated[
        str | None, Doc("Your own label, such as a receipt number; at most 200 characters.")
    ] = None
    issue_if_missing: Annotated[
        bool, Doc("With a `holder` reference: issue the card first where there is none.")
    ] = False
    sale: Annotated[
        SaleRef | None,
        Doc("The sale of a till that they are for: it is stamped once, whoever tells of it."),
    ] = None


@dataclass(kw_only=True)
class StampsAdded(Outcome):
    """What adding stamps did."""

    operation: Operation | None = None
    card: Card | None = None
    rewards: list[Reward] = field(default_factory=list)
    lottery_tickets: list[LotteryTicket] = field(default_factory=list)


@dataclass(kw_only=True)
class PreviewStampsInput:
    """The stamps to try out; nothing is written."""

    card: Annotated[CardRef, Doc("The card.")]
    count: Annotated[int | None, Doc("Stamps to add, 1–50; either this or `amount`.")] = None
    amount: Annotated[
        Decimal | None,
        Doc("The purchase's amount in the business's currency; either this or `count`."),
    ] = None


@dataclass(kw_only=True)
class StampsPreview(Outcome):
    """What adding stamps would do."""

    after: int | None = None
    cycle_after: int | None = None
    expected_rewards: list[Reward] = field(default_factory=list)
    expected_events: list[EventRow] = field(default_factory=list)


@dataclass(kw_only=True)
class ReportCardSavedInput(Input):
    """A customer put a card into a wallet."""

    card: Annotated[CardRef, Doc("The card.")]
    platform: Annotated[Platform, Doc("The wallet.")]


@dataclass(kw_only=True)
class ReportCardOpenedInput(Input):
    """A customer opened a card."""

    card: Annotated[CardRef, Doc("The card.")]
    platform: Annotated[Platform, Doc("Where it was opened.")] = Platform.WEB


@dataclass(kw_only=True)
class CardOutcome(Outcome):
    """The card as it now is."""

    card: Card | None = None


@dataclass(kw_only=True)
class ReplaceCardInput(Input):
    """The card whose telephone was lost."""

    card: Annotated[CardRef, Doc("The card.")]


@dataclass(kw_only=True)
class DeleteCardInput(Input):
    """The card to delete."""

    id: Annotated[Id, Doc("The card's id.")]


@dataclass(kw_only=True)
class CardDeleted(Outcome):
    """The id of the deleted card."""

    deleted_id: str | None = None


@operation(*EVERYBODY, fires=(CardIssued,))
async def issue_card(
    tx: Transaction,
    actor: Actor,
    input: IssueCardInput,
    now: datetime,
    *,
    via: StampChannel = StampChannel.API,
    luck: Luck = UNGUESSABLE,
) -> CardIssuedOutcome:
    """Issue a card to a customer, found by e-mail or phone, else made.

    A second issue hands back the same card, `created: false`, and fires nothing.
    """
    template, promise = await published(tx, input.template_id, "input", "templateId")
    customer, customer_created = await upsert_customer(
        tx, actor, input.customer, now, "input", "customer"
    )
    held = await tx.maybe(_HELD, customer_id=customer.id, template_id=template.id)
    card = held or await _issue(tx, actor, template, promise, customer, now, via, luck)
    if input.send_link is not None:
        await send_link(tx, actor, input.send_link, card, customer, now)
    return CardIssuedOutcome(card=card, created=held is None, customer_created=customer_created)


@operation(
    *EVERYBODY,
    fires=(CardIssued, StampAdded, GoalReached, LotteryPlayed, RewardIssued, VoucherIssued),
)
async def add_stamps(
    tx: Transaction,
    actor: Actor,
    input: AddStampsInput,
    now: datetime,
    *,
    plays: bool = True,
    luck: Luck = UNGUESSABLE,
) -> StampsAdded:
    """Add stamps to a card and hand out the reward of every goal they reach.

    Lottery tickets of a template that plays by itself are played at once. Where a `sale` is named
    that was stamped before, by its till's webhook or another call, that is what is handed back.
    """
    if input.sale is None:
        card, customer = await _card_to_stamp(tx, actor, input, now, luck)
        return await stamp_card(tx, actor, card, customer, input, now, plays=plays, luck=luck)
    sale, line = await hold_sale_to_stamp(tx, actor, input.sale, now)
    if line is not None:
        rewards = await tx.many(_REWARDS_OF, operation_id=line.id)
        return StampsAdded(operation=line, card=await tx.get(Card, line.card_id), rewards=rewards)
    card, customer = await _card_to_stamp(tx, actor, input, now, luck)
    done = await stamp_card(
        tx, actor, card, customer, input, now, plays=plays, luck=luck, sale=sale
    )
    await settle_stamped(tx, sale, card, done.operation)
    return done


@operation(*EVERYBODY)
async def preview_stamps(
    tx: Transaction, actor: Actor, input: PreviewStampsInput, now: datetime
) -> StampsPreview:
    """What adding stamps would do, by the same code; the caller rolls back.

    What luck would decide is not told: no lottery is played.
    """
    asked = AddStampsInput(card=input.card, count=input.count, amount=input.amount)
    done = await add_stamps(tx, actor, asked, now, plays=False)
    if done.card is None:
        return StampsPreview(user_errors=done.user_errors)
    return StampsPreview(
        after=done.card.stamps,
        cycle_after=done.card.cycle,
        expected_rewards=done.rewards,
        expected_events=tx.recorded,
    )


@operation(*EVERYBODY, fires=(CardSaved,))
async def report_card_saved(
    tx: Transaction, actor: Actor, input: ReportCardSavedInput, now: datetime
) -> CardOutcome:
    """Report that the customer put a card into a wallet; it counts once per wallet."""
    card, customer = await live_card(tx, input.card)
    if input.platform in {saved.platform for saved in await tx.many(_SAVED, card_id=card.id)}:
        return CardOutcome(card=card)
    await tx.add(
        CardPlatform(
            business_id=actor.business_id, card_id=card.id, platform=input.platform, saved_at=now
        )
    )
    record(
        tx,
        actor,
        CardSaved(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=WalletCardPart(id=card.id, platform=input.platform),
        ),
        now,
    )
    return CardOutcome(card=card)


@operation(*EVERYBODY, fires=(CardOpened,))
async def report_card_opened(
    tx: Transaction, actor: Actor, input: ReportCardOpenedInput, now: datetime
) -> CardOutcome:
    """Report that the customer opened a card; at most one event per card and hour."""
    card, customer = await live_card(tx, input.card, lock=True)
    if card.last_opened_at is not None and now - card.last_opened_at < _OPENED_AGAIN:
        return CardOutcome(card=card)
    card = await tx.change(card, last_opened_at=now)
    record(
        tx,
        actor,
        CardOpened(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=WalletCardPart(id=card.id, platform=input.platform),
        ),
        now,
    )
    return CardOutcome(card=card)


@operation(*EVERYBODY)
async def replace_card(
    tx: Transaction, actor: Actor, input: ReplaceCardInput, now: datetime
) -> CardOutcome:
    """Replace a card whose telephone was lost, at the counter: a new token and a new wallet pass.

    The old ones are dead at once; number, stamps and vouchers stay. The tokens of cards that were
    joined to it die too.
    """
    card, _ = await live_card(tx, input.card, lock=True)
    for joined in await tx.many(_JOINED, card_id=card.id):
        await tx.change(joined, token=new_token(), wallet_pass_id=new_id("wp"))
    await mark_passes(tx, actor, now, card_id=card.id)
    card = await tx.change(
        card,
        token=new_token(),
        wallet_pass_id=new_id("wp"),
        replaced_at=now,
        replaced_by_id=actor.staff_id,
    )
    return CardOutcome(card=card)


@operation(*MANAGERS)
async def delete_card(
    tx: Transaction, actor: Actor, input: DeleteCardInput, now: datetime
) -> CardDeleted:
    """Delete a card. Its ledger stays; its number is never given again."""
    card = await tx.maybe(_LOCKED, id=input.id)
    if card is None or card.deleted_at is not None:
        raise NotFound("card", "input", "id")
    await tx.change(card, deleted_at=now, deleted_by_id=actor.staff_id)
    await mark_passes(tx, actor, now, card_id=card.id)
    count_deletion(tx, actor, card, now)
    return CardDeleted(deleted_id=card.id)


async def stamp_card(
    tx: Transaction,
    actor: Actor,
    card: Card,
    customer: Customer,
    input: AddStampsInput,
    now: datetime,
    *,
    occurred_at: datetime | None = None,
    plays: bool = True,
    is_import: bool = False,
    luck: Luck = UNGUESSABLE,
    sale: Sale | None = None,
) -> StampsAdded:
    """Stamp a card that the transaction holds; whoever calls has found it and may do it.

    Stamps that are told late happened at `occurred_at`: limits go by that moment, and the ledger
    and the events of stamps and goals carry it. Gifts are handed out now. Stamps of an import were
    earned elsewhere: there they had their limits, and their goals were paid there.
    """
    promise = await promise_of(tx, card.version_id)
    count, amount = _count_of(input.count, input.amount, promise, actor)
    if count == 0:
        return StampsAdded(card=card)
    at = now if occurred_at is None else occurred_at
    if (input.channel is StampChannel.IMPORT) is not is_import:
        raise Invalid("Only an import of customers adds stamps by IMPORT.", "input", "channel")
    if not is_import:
        await _check_limits(tx, actor, card, promise, count, at)
    stamping = card.add_stamps(count, promise, await following(tx, card, promise, count))
    operation_ = Operation(
        id=new_id("op"),
        business_id=actor.business_id,
        kind=OperationKind.STAMPS,
        card_id=card.id,
        line=card.lines + 1,
        version_before_id=card.version_id,
        version_id=stamping.promise.version.id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        count=count,
        amount=amount,
        before=stamping.before,
        after=stamping.after,
        cycle_before=stamping.cycle_before,
        cycle_after=stamping.cycle_after,
        channel=input.channel,
        external_ref=label_of(input.external_ref),
        connector_id=sale.point_of_sale_id if sale else None,
        sale_id=sale.sale_id if sale else None,
        occurred_at=at,
        created_at=now,
    )
    await tx.add(operation_)
    count_stamps(tx, actor, operation_, card.template_id)
    card = await tx.change(
        card,
        stamps=stamping.after,
        cycle=stamping.cycle_after,
        lines=card.lines + 1,
        version_id=stamping.promise.version.id,
        last_stamp_at=_later(card.last_stamp_at, at),
        last_activity_at=_later(card.last_activity_at, at),
    )
    await tx.run(_ACTIVE, customer_id=customer.id, now=at)
    record(tx, actor, _stamp_added(actor, card, customer, operation_, stamping), at)
    outcome = StampsAdded(operation=operation_, card=card)
    for cycle, goal in () if is_import else stamping.reached:
        await pay_goal(
            tx, actor, card, customer, operation_, cycle, goal, now, outcome, plays=plays, luck=luck
        )
    return outcome


async def promise_of(tx: Transaction, version_id: str) -> Promise:
    """What a version of a template promises."""
    known = _promises.get(version_id)
    if known is None:
        version = await tx.one(_VERSION, id=version_id)
        known = Promise(version, await tx.many(_GOALS, version_id=version_id))
        _promises[version_id] = known
        if len(_promises) > _PROMISES_KEPT:
            _promises.popitem(last=False)
    return known


async def published(tx: Transaction, template_id: str, *path: str) -> tuple[CardTemplate, Promise]:
    """A template by which cards are issued, and what it promises; refused otherwise."""
    found = await tx.maybe(_PUBLISHED, id=template_id)
    if found is None:
        raise NotFound("card template", *path)
    template, version = found
    if template.status is TemplateStatus.ARCHIVED:
        raise Refused(Code.TEMPLATE_ARCHIVED, "This card template is archived.", *path)
    if template.status is TemplateStatus.DRAFT:
        raise Refused(
            Code.TEMPLATE_NOT_PUBLISHED, "This card template is not published yet.", *path
        )
    return template, await promise_of(tx, version.id)


async def _issue(
    tx: Transaction,
    actor: Actor,
    template: CardTemplate,
    promise: Promise,
    customer: Customer,
    now: datetime,
    via: StampChannel,
    luck: Luck,
) -> Card:
    card = Card(
        id=new_id("card"),
        business_id=actor.business_id,
        number=await _free_number(tx, luck),
        customer_id=customer.id,
        template_id=template.id,
        version_id=promise.version.id,
        token=new_token(),
        wallet_pass_id=new_id("wp"),
        issued_by_id=actor.staff_id,
        location_id=actor.location_id,
        created_at=now,
        last_activity_at=now,
    )
    await tx.add(card)
    count_card(tx, actor, card)
    if await tx.maybe(_UNMERGED, customer_id=customer.id) is None:
        raise Taken  # merged since we looked: the next look finds the one that was kept
    await tx.run(_ACTIVE, customer_id=customer.id, now=now)
    record(
        tx,
        actor,
        CardIssued(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=IssuedCardPart(
                id=card.id,
                number=card.number,
                template_id=template.id,
                template_version=promise.version.version,
                stamps=card.stamps,
                stamps_required=promise.required,
            ),
            issued_via=via,
        ),
        now,
    )
    return card


async def _free_number(tx: Transaction, luck: Luck) -> str:
    """A card number nobody in this business ever had: six digits, more when a tenth is used."""
    digits, ever = 6, await _cards_ever(tx)
    while ever * 10 >= 9 * 10 ** (digits - 1):
        digits += 1
    while True:
        number = str(10 ** (digits - 1) + luck.below(9 * 10 ** (digits - 1)))
        if await tx.maybe(_NUMBER_TAKEN, number=number) is None:
            return number


async def _cards_ever(tx: Transaction) -> int:
    """About how many cards this business ever had: counted again when a hundredth was added."""
    known, since = _counted.get(tx.business, (0, 0))
    if since >= known // 100:
        known, since = await tx.one(_CARDS_EVER), 0
    _counted[tx.business] = known, since + 1
    _counted.move_to_end(tx.business)
    if len(_counted) > _COUNTS_KEPT:
        _counted.popitem(last=False)
    return known + since


async def _card_to_stamp(
    tx: Transaction, actor: Actor, input: AddStampsInput, now: datetime, luck: Luck
) -> tuple[Card, Customer]:
    try:
        return await live_card(tx, input.card, lock=True)
    except NotFound:
        holder = input.card.holder
        if not input.issue_if_missing or holder is None:
            raise
    template, promise = await published(tx, holder.template_id, "input", "card", "holder")
    customer = await _holder(tx, actor, holder, now)
    return (
        await _issue(tx, actor, template, promise, customer, now, input.channel, luck),
        customer,
    )


async def _holder(tx: Transaction, actor: Actor, holder: HolderRef, now: datetime) -> Customer:
    path = ("input", "card", "holder", "customer")
    ref: CustomerRef = holder.customer
    if ref.id is not None:
        customer = await find_customer(tx, ref)
        if customer is None:
            raise NotFound("customer", *path)
        return customer
    told = CustomerInput(email=ref.email, phone=ref.phone)
    return (await upsert_customer(tx, actor, told, now, *path))[0]


async def live_card(tx: Transaction, ref: CardRef, *, lock: bool = False) -> tuple[Card, Customer]:
    """The card that `input.card` names, and its customer; refused if it was deleted."""
    card, customer = await find_card(tx, ref, "input", "card", lock=lock)
    if card.deleted_at is not None:
        raise Refused(Code.CARD_DELETED, "This card was deleted.", "input", "card")
    return card, customer


def _count_of(
    count: int | None, amount: Decimal | None, promise: Promise, actor: Actor
) -> tuple[int, int | None]:
    """How many stamps, and the amount in minor units where they follow one."""
    if (count is None) == (amount is None):
        raise Invalid("Give either count or amount.", "input")
    if count is not None:
        if count < 1:
            raise Invalid("At least 1 stamp.", "input", "count")
        return count, None
    return amount_of(amount, promise, actor)  # type: ignore[arg-type]


def amount_of(amount: Decimal, promise: Promise, actor: Actor) -> tuple[int, int]:
    """How many stamps an amount earns, and the amount in minor units."""
    version = promise.version
    if version.earning_rule is not EarningRule.BY_AMOUNT or not version.amount_per_stamp:
        raise Invalid("This card counts orders, not amounts.", "input", "amount")
    try:
        units = minor_units(amount, actor.business.currency)
    except ValueError:
        raise Invalid(
            "This is not an amount of the business's currency.", "input", "amount"
        ) from None
    if units < 0:
        raise Invalid("An amount is not negative.", "input", "amount")
    return units // version.amount_per_stamp, units


async def _check_limits(
    tx: Transaction, actor: Actor, card: Card, promise: Promise, count: int, now: datetime
) -> None:
    """Refuse what the template does not allow now; `retry_at` is when all of it is allowed.

    A day is one of the business's. Stamps that were undone count for nothing.
    """
    version = promise.version
    daily, least = version.max_stamps_per_day, version.min_seconds_between
    most = min(version.max_stamps_per_operation or MAX_STAMPS, MAX_STAMPS)
    if count > most:
        raise LimitReached(f"At most {most} stamps at once.", "input", "count", retry_at=None)
    if daily and count > daily:
        raise LimitReached(f"At most {daily} stamps a day.", "input", "count", retry_at=None)
    waits: list[tuple[datetime, str]] = []
    if least and card.last_stamp_at is not None:
        span, last = timedelta(seconds=least), card.last_stamp_at
        too_soon = "Too soon after the last stamp."
        if now >= last:
            waits.append((last + span, too_soon))
        # Told late: what counts are the stamps that were given just before and after it.
        elif await tx.one(_STAMPS_SINCE, card_id=card.id, since=now - span, until=now + span):
            waits.append((now + span, too_soon))
    if daily:
        today, tomorrow = _local_day(now, actor.business.zone)
        had = await tx.one(_STAMPS_SINCE, card_id=card.id, since=today, until=tomorrow)
        if had + count > daily:
            waits.append((tomorrow, f"At most {daily} stamps a day."))
    retry_at, message = max(waits, default=(now, ""))
    if now < retry_at:
        raise LimitReached(message, "input", "card", retry_at=retry_at)


def _local_day(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """When the local day of this moment began, and when the next one begins."""
    day = now.astimezone(zone).date()
    began, ends = (
        datetime.combine(date, time(), zone).astimezone(UTC)
        for date in (day, day + timedelta(days=1))
    )
    return began, ends


async def following(tx: Transaction, card: Card, promise: Promise, count: int) -> Promise:
    """The promise of the next cycle; read only where these stamps may open one."""
    if card.stamps + count <= promise.required:
        return promise
    _, version = await tx.one(_PUBLISHED, id=card.template_id)
    return await promise_of(tx, version.id)


async def pay_goal(
    tx: Transaction,
    actor: Actor,
    card: Card,
    customer: Customer,
    operation_: Operation,
    cycle: int,
    goal: Goal,
    now: datetime,
    outcome: StampsAdded,
    *,
    plays: bool,
    luck: Luck = UNGUESSABLE,
) -> None:
    """Record that a goal was reached, and hand out what waits there."""
    parts: dict[str, Any] = {
        "location_id": actor.location_id,
        "customer": customer_part(customer, card),
        "card": card_part(card, goal.position),
    }
    promise = await promise_of(tx, goal.version_id)
    record(
        tx,
        actor,
        GoalReached(
            **parts,
            goal=GoalPart(
                index=goal.position,
                stamps=goal.stamps,
                is_final=goal.stamps == promise.required,
                reward_format=goal.reward_type,
            ),
        ),
        operation_.occurred_at,
    )
    if goal.reward_type is RewardType.LOTTERY:
        ticket: LotteryTicket | None
        ticket = await issue_ticket(tx, actor, card, operation_, cycle, goal, now, luck=luck)
        if not (plays and promise.version.auto_play):
            outcome.lottery_tickets.append(ticket)
            return
        while ticket is not None:
            played = await play(tx, actor, ticket, card, customer, now, luck=luck)
            outcome.lottery_tickets.append(played.ticket or ticket)
            outcome.rewards += played.rewards
            ticket = played.next_ticket
        return
    voucher = None
    if goal.reward_type is RewardType.VOUCHER and goal.voucher_template_id is not None:
        template = await tx.get(VoucherTemplate, goal.voucher_template_id)
        if template is not None:
            plan = VoucherPlan.of(template, actor, now)
            voucher = await add_voucher(
                tx,
                actor,
                plan,
                Source.GOAL,
                card,
                operation_id=operation_.id,
                goal_position=goal.position,
                cycle=cycle,
            )
    reward = Reward(
        id=new_id("rw"),
        business_id=actor.business_id,
        card_id=card.id,
        operation_id=operation_.id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        voucher_id=voucher.id if voucher else None,
        goal_id=goal.id,
        goal_position=goal.position,
        cycle=cycle,
        type=goal.reward_type,
        source=Source.GOAL,
        title=goal.title,
        snapshot={"description": goal.description, "image_url": goal.image_url},
        issued_at=now,
    )
    await tx.add(reward)
    count_reward(tx, actor, reward, card.template_id)
    told = RewardPart(
        id=reward.id,
        type=reward.type,
        title=reward.title,
        source=reward.source,
        voucher_id=reward.voucher_id,
    )
    record(tx, actor, RewardIssued(**parts, reward=told), now)
    if voucher is not None:
        record(tx, actor, voucher_issued(actor, voucher, card, customer), now)
    outcome.rewards.append(reward)


def _stamp_added(
    actor: Actor, card: Card, customer: Customer, operation_: Operation, stamping: Stamping
) -> StampAdded:
    currency = actor.business.currency
    amount = operation_.amount
    return StampAdded(
        location_id=actor.location_id,
        customer=customer_part(customer, card),
        card=card_part(card),
        stamp=StampPart(
            operation_id=operation_.id,
            count=stamping.count,
            before=stamping.before,
            after=stamping.after,
            required=stamping.promise.required,
            cycle=stamping.cycle_after,
            channel=operation_.channel or StampChannel.API,
            amount=None if amount is None else major_units(amount, currency),
            currency=None if amount is None else currency,
            external_ref=operation_.external_ref,
        ),
    )


def _later(known: datetime | None, moment: datetime) -> datetime:
    return moment if known is None else max(known, moment)


def label_of(text: str | None) -> str | None:
    """A caller's own label, None where there is none."""
    return short_text(text, "input", "externalRef") if text else None
