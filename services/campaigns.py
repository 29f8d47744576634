"""Campaigns: made, tried out, started in time, written for their audience, cancelled."""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import exists, func, update
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Query, Transaction, among, param, query
from models import (
    Actor,
    Business,
    Campaign,
    CampaignRecipient,
    CampaignStatus,
    Card,
    CardTemplate,
    Channel,
    Consent,
    Customer,
    Message,
    MessageStatus,
    Messenger,
    Source,
    Voucher,
    VoucherTemplate,
    filled_in,
    may_advertise,
    one_line,
)
from models.base import UtcTimestamp
from models.campaigns import OPEN
from services.agenda import Due, Span, pull_agenda
from services.audience import SegmentInput, check_segment, first_of, freeze, reach_of
from services.cards import promise_of
from services.contacts import connections_of
from services.gifts import make_gift, tell_of_gift
from services.operation import MANAGERS, Input, Outcome, operation
from services.outbox import CANCELLED, path_of, settle
from services.routes import ways_of
from services.text import graphemes, long_text, short_text
from services.vouchers import find_voucher_template

MOST_GRAPHEMES = 20
MOST_AHEAD = timedelta(days=366)
MOST_LATE = timedelta(days=1)
MOST_PROBLEMS = 10
"""Reasons why messages did not arrive, of one channel."""
"""A campaign that could not start for so long is not sent any more: its day is over."""
_PAST = timedelta(minutes=1)
BATCH = 50
"""Recipients whose messages are written in one transaction; the next when all are dealt with."""
SAMPLE = 5

# -- Across all businesses: these run in the name of the system. ----------------------------------

_UNDER_WAY: Query[Campaign] = query(
    select(Campaign)
    .where(
        col(Campaign.status) == CampaignStatus.SENDING,
        ~exists().where(
            col(Message.campaign_id) == col(Campaign.id), col(Message.status).in_(OPEN)
        ),
    )
    .order_by(col(Campaign.started_at), col(Campaign.id))
    .limit(param("most"))
)

# -- Within one business. -------------------------------------------------------------------------

_FIRST: Query[Campaign] = query(
    select(Campaign)
    .where(
        col(Campaign.business_id) == BUSINESS,
        col(Campaign.status) == CampaignStatus.SCHEDULED,
        col(Campaign.scheduled_at) <= param("upto", UtcTimestamp()),
    )
    .order_by(col(Campaign.scheduled_at), col(Campaign.id))
    .limit(1)
)
_ANY_SENDING: Query[str] = query(
    select(Campaign.id)
    .where(col(Campaign.business_id) == BUSINESS, col(Campaign.status) == CampaignStatus.SENDING)
    .limit(1)
)
_START: Query[Campaign] = query(
    update(Campaign)
    .where(
        col(Campaign.business_id) == BUSINESS,
        col(Campaign.id) == param("campaign"),
        col(Campaign.status) == CampaignStatus.SCHEDULED,
    )
    .values(status=CampaignStatus.SENDING, started_at=param("at", UtcTimestamp()))
    .returning(Campaign)
)
_CANCEL: Query[Campaign] = query(
    update(Campaign)
    .where(
        col(Campaign.business_id) == BUSINESS,
        col(Campaign.id) == param("campaign"),
        col(Campaign.status).in_([CampaignStatus.SCHEDULED, CampaignStatus.SENDING]),
    )
    .values(
        status=CampaignStatus.CANCELLED,
        cancelled_at=param("at", UtcTimestamp()),
        finished_at=param("at", UtcTimestamp()),
        cancelled_by_id=param("staff_id"),
    )
    .returning(Campaign)
)
_SKIP_WAITING: Query[str | None] = query(
    update(Message)
    .where(
        col(Message.business_id) == BUSINESS,
        col(Message.campaign_id) == param("campaign"),
        col(Message.status) == MessageStatus.QUEUED,
    )
    .values(status=MessageStatus.SKIPPED, error=CANCELLED)
    .returning(col(Message.card_id))
)
_OURS: Query[Campaign] = query(
    select(Campaign)
    .where(
        col(Campaign.business_id) == BUSINESS,
        col(Campaign.id) == param("campaign"),
        col(Campaign.status) == CampaignStatus.SENDING,
    )
    .with_for_update(skip_locked=True)
)
_ANY_OPEN: Query[str] = query(
    select(Message.id)
    .where(
        col(Message.business_id) == BUSINESS,
        col(Message.campaign_id) == param("campaign"),
        col(Message.status).in_(OPEN),
    )
    .limit(1)
)
_IN_LINE: Query[Any] = query(
    select(CampaignRecipient, Card, Customer)
    .join(Card, col(Card.id) == col(CampaignRecipient.card_id))
    .join(Customer, col(Customer.id) == col(Card.customer_id))
    .where(
        col(CampaignRecipient.business_id) == BUSINESS,
        col(CampaignRecipient.campaign_id) == param("campaign"),
        col(CampaignRecipient.position) > param("after"),
    )
    .order_by(col(CampaignRecipient.position))
    .limit(param("most"))
)
_CONSENTS: Query[Consent] = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS, among(col(Consent.customer_id), "customers")
    )
)
_RESULTS: Query[Any] = query(
    select(  # type: ignore[call-overload]
        Message.channel,
        Message.status,
        Message.undelivered,
        func.count(),
        func.count(col(Message.delivered_at)),
    )
    .where(col(Message.business_id) == BUSINESS, col(Message.campaign_id) == param("campaign"))
    .group_by(col(Message.channel), col(Message.status), col(Message.undelivered))
)


@dataclass(kw_only=True)
class CreateCampaignInput(Input):
    """The campaign: to whom, what, by which channels, when.

    In both texts `{name}`, `{stamps}` and `{left}` (stamps missing to a full card) are filled in.
    """

    name: Annotated[
        str | None, Doc("What people call it; absent: the card's name and the time.")
    ] = None
    template_id: Annotated[Id, Doc("The card template whose holders it is for.")]
    notification_text: Annotated[
        str, Doc("The short text, as on a wallet pass: at most 20 characters as people count.")
    ]
    message_text: Annotated[str, Doc("The long text, at most 5000 characters.")]
    channels: Annotated[list[Channel], Doc("The channels it goes by.")]
    segment: Annotated[SegmentInput | None, Doc("Which holders; absent: all of them.")] = None
    voucher_template_id: Annotated[
        Id | None, Doc("A voucher for everybody whom a channel can reach.")
    ] = None
    scheduled_at: Annotated[
        datetime | None, Doc("When it is sent, within a year; absent: at once.")
    ] = None


@dataclass(kw_only=True)
class CancelCampaignInput(Input):
    """The campaign to cancel."""

    id: Annotated[Id, Doc("The campaign's id.")]


@dataclass(kw_only=True)
class CampaignOutcome(Outcome):
    """The campaign as it now is."""

    campaign: Campaign | None = None


@dataclass(frozen=True, kw_only=True)
class ChannelCount:
    """How many messages would go by a channel."""

    channel: Channel
    count: int


@dataclass(frozen=True, kw_only=True)
class MessengerCount:
    """How many messages would go by a messenger."""

    messenger: Messenger
    count: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one customer would read."""

    customer: Customer
    notification: str
    text: str


@dataclass(kw_only=True)
class CampaignRehearsed(Outcome):
    """What a campaign would do if it were sent now."""

    audience_size: int | None = None
    notifications: list[ChannelCount] = field(default_factory=list)
    messengers: list[MessengerCount] = field(default_factory=list)
    sample: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class DeliveryProblem:
    """Why messages that were accepted did not arrive, in the provider's words."""

    reason: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ChannelResult:
    """What became of a campaign on one channel; the first four numbers make up its audience.

    Of those that were accepted, some providers tell later which were delivered or not.
    """

    channel: Channel
    accepted: int
    failed: int
    skipped: int
    waiting: int
    delivered: int
    undelivered: int
    problems: list[DeliveryProblem]


@operation(*MANAGERS)
async def create_campaign(
    tx: Transaction,
    actor: Actor,
    input: CreateCampaignInput,
    now: datetime,
    *,
    connected: Collection[Channel],
) -> CampaignOutcome:
    """Make a campaign; it is sent in its time, or at once.

    Its audience is frozen when sending starts. Each recipient is written to at most once on each
    channel, and only where they may be: by e-mail and messenger with their consent, by push
    unless they refused. For each recipient card: `reward_issued` and `voucher_issued` where a
    voucher is attached, then `campaign_sent` once a channel accepted.
    """
    campaign = await _planned(tx, actor, input, now, connected)
    campaign = campaign.with_values(audience_size=(await reach_of(tx, campaign, (), now)).size)
    await tx.add(campaign)
    await pull_agenda(tx, actor.business, campaign.scheduled_at, now)
    return CampaignOutcome(campaign=campaign)


@operation(*MANAGERS)
async def rehearse_campaign(
    tx: Transaction,
    actor: Actor,
    input: CreateCampaignInput,
    now: datetime,
    *,
    connected: Collection[Channel],
) -> CampaignRehearsed:
    """What a campaign would do if it were sent now, by the same rules; nothing is written."""
    campaign = await _planned(tx, actor, input, now, connected)
    reach = await reach_of(tx, campaign, _channels(campaign), now)
    sample = []
    for card, customer in await first_of(tx, campaign, now, SAMPLE):
        notification, text = await _texts(tx, campaign, card, customer)
        sample.append(Sample(customer=customer, notification=notification, text=text))
    return CampaignRehearsed(
        audience_size=reach.size,
        notifications=[
            ChannelCount(channel=channel, count=number)
            for channel, number in reach.by_channel.items()
        ],
        messengers=[
            MessengerCount(messenger=messenger, count=number)
            for messenger, number in reach.by_messenger.items()
            if number
        ],
        sample=sample,
    )


@operation(*MANAGERS)
async def cancel_campaign(
    tx: Transaction, actor: Actor, input: CancelCampaignInput, now: datetime
) -> CampaignOutcome:
    """Cancel a campaign. Whoever was not written to by now will not be; vouchers stay.

    `campaign_sent` still fires for recipients whom a channel accepted.
    """
    cancelled = await _cancel(tx, actor, input.id, now)
    if cancelled is not None:
        return CampaignOutcome(campaign=cancelled)
    campaign = await tx.get(Campaign, input.id)
    if campaign is None:
        raise NotFound("campaign", "input", "id")
    if campaign.status is not CampaignStatus.CANCELLED:
        raise Refused(Code.CAMPAIGN_SENT, "This campaign was sent already.", "input", "id")
    return CampaignOutcome(campaign=campaign)


async def results_of(tx: Transaction, campaign: Campaign) -> list[ChannelResult]:
    """What became of a campaign so far, on each of its channels."""
    found: dict[Channel, _Counts] = defaultdict(_Counts)
    for channel, *row in await tx.many(_RESULTS, campaign=campaign.id):
        found[channel].add(*row)
    return [_result(campaign, channel, found[channel]) for channel in _channels(campaign)]


async def next_campaign(tx: Transaction, business: Business, span: Span) -> Due | None:  # noqa: ARG001 -- a job is told whose it is
    """The scheduled campaign that starts next. One that is a day late does not start any more."""
    campaign = await tx.maybe(_FIRST, upto=span.upto)
    if campaign is None:
        return None
    at = campaign.scheduled_at
    if at < span.now - MOST_LATE:
        return Due(at, lambda tx, actor: _cancel(tx, actor, campaign.id, span.now))
    return Due(at, lambda tx, _: start_campaign(tx, campaign.id, at))


async def start_campaign(tx: Transaction, id: str, at: datetime) -> Campaign | None:
    """Begin to send: freeze the audience. None if it was started or cancelled before."""
    campaign = await tx.maybe(_START, campaign=id, at=at)
    if campaign is None:
        return None
    return await tx.change(campaign, audience_size=await freeze(tx, campaign, at))


async def under_way(tx: Transaction, most: int) -> list[Campaign]:
    """Campaigns whose next recipients can be written to; in the name of the system."""
    return await tx.many(_UNDER_WAY, most=most)


async def is_sending(tx: Transaction) -> bool:
    """Whether any campaign of the business is being sent."""
    return await tx.maybe(_ANY_SENDING) is not None


async def write_next(
    tx: Transaction, actor: Actor, id: str, now: datetime, clock_now: datetime
) -> bool:
    """Write the messages for the next recipients, or end the campaign; says whether it did.

    False where somebody else is at it, or the last messages are not dealt with yet. `now` is the
    programme's time, `clock_now` the world's.
    """
    campaign = await tx.maybe(_OURS, campaign=id)
    if campaign is None or await tx.maybe(_ANY_OPEN, campaign=id) is not None:
        return False
    batch = await tx.many(_IN_LINE, campaign=id, after=campaign.prepared, most=BATCH)
    if not batch:
        await tx.change(campaign, status=CampaignStatus.SENT, finished_at=now)
        return True
    channels = _channels(campaign)
    ways = await ways_of(tx, [(card, customer) for _, card, customer in batch], channels)
    said: dict[tuple[str, Channel], bool] = {
        (consent.customer_id, consent.channel): consent.granted
        for consent in await tx.many(_CONSENTS, customers=[customer.id for _, _, customer in batch])
    }
    voucher_template = await tx.get(VoucherTemplate, campaign.voucher_template_id)
    for recipient, card, customer in batch:
        messages = [
            _message(
                campaign,
                channel,
                card,
                customer,
                address=ways.address(channel, customer, card),
                said=said.get((customer.id, channel)),
                now=now,
                clock_now=clock_now,
            )
            for channel in channels
        ]
        if any(message.status is MessageStatus.QUEUED for message in messages):
            if voucher_template is not None:
                await _give(tx, actor, campaign, voucher_template, recipient, card, customer, now)
            messages = await _worded(tx, actor, campaign, messages, card, customer)
        else:
            await tx.change(recipient, done_at=now)
        await tx.add(*messages)
    await tx.change(campaign, prepared=batch[-1][0].position)
    return True


async def _planned(
    tx: Transaction,
    actor: Actor,
    input: CreateCampaignInput,
    now: datetime,
    connected: Collection[Channel],
) -> Campaign:
    """The campaign as asked for; nothing is stored yet."""
    template = await tx.get(CardTemplate, input.template_id)
    if template is None:
        raise NotFound("card template", "input", "templateId")
    if input.voucher_template_id is not None:
        await find_voucher_template(tx, input.voucher_template_id, "input", "voucherTemplateId")
    notification = short_text(input.notification_text, "input", "notificationText")
    if len(graphemes(notification)) > MOST_GRAPHEMES:
        raise Refused(
            Code.TEXT_TOO_LONG,
            f"At most {MOST_GRAPHEMES} characters.",
            "input",
            "notificationText",
        )
    message = long_text(input.message_text, "input", "messageText")
    if message is None:
        raise Invalid("This must not be empty.", "input", "messageText")
    local = now.astimezone(actor.business.zone)
    name = input.name or f"{template.name[:180]} {local:%Y-%m-%d %H:%M}"
    return Campaign(
        id=new_id("cmp"),
        business_id=actor.business_id,
        name=short_text(name, "input", "name"),
        template_id=template.id,
        notification_text=notification,
        message_text=message,
        channels=_checked_channels(input.channels, await _connected(tx, input, connected)),
        segment=await check_segment(tx, input.segment, "input", "segment"),
        voucher_template_id=input.voucher_template_id,
        status=CampaignStatus.SCHEDULED,
        scheduled_at=_checked_time(input.scheduled_at, now),
        created_at=now,
        created_by_id=actor.staff_id,
    )


async def _connected(
    tx: Transaction, input: CreateCampaignInput, connected: Collection[Channel]
) -> Collection[Channel]:
    """What the deployment serves, and messengers where the business has connected one."""
    if Channel.MESSENGERS in input.channels and await connections_of(tx):
        return {*connected, Channel.MESSENGERS}
    return connected


def _checked_channels(channels: list[Channel], connected: Collection[Channel]) -> list[str]:
    if not channels:
        raise Invalid("Name at least one channel.", "input", "channels")
    for channel in channels:
        if channel not in connected:
            raise Refused(
                Code.CHANNEL_NOT_CONNECTED,
                f"No provider is connected for {channel.name}.",
                "input",
                "channels",
            )
    return list(dict.fromkeys(channel.value for channel in channels))


def _checked_time(scheduled_at: datetime | None, now: datetime) -> datetime:
    if scheduled_at is None:
        return now
    if not now - _PAST <= scheduled_at <= now + MOST_AHEAD:
        raise Invalid("This must lie ahead, at most a year.", "input", "scheduledAt")
    return max(scheduled_at, now)


def _channels(campaign: Campaign) -> list[Channel]:
    return [Channel(word) for word in campaign.channels]


@dataclass
class _Counts:
    """How many messages of a channel are so."""

    by_status: Counter[MessageStatus] = field(default_factory=Counter)
    delivered: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, status: MessageStatus, problem: str | None, number: int, delivered: int) -> None:
        self.by_status[status] += number
        self.delivered += delivered
        if problem is not None:
            self.problems[problem] += number


def _result(campaign: Campaign, channel: Channel, found: _Counts) -> ChannelResult:
    """Who was not written to yet waits; where the campaign was cancelled, they were skipped."""
    started = campaign.started_at is not None
    unwritten = campaign.audience_size - campaign.prepared if started else 0
    is_over = campaign.status is CampaignStatus.CANCELLED
    counts, problems = found.by_status, found.problems.most_common(MOST_PROBLEMS)
    return ChannelResult(
        channel=channel,
        accepted=counts[MessageStatus.ACCEPTED],
        failed=counts[MessageStatus.FAILED],
        skipped=counts[MessageStatus.SKIPPED] + (unwritten if is_over else 0),
        waiting=sum(counts[status] for status in OPEN) + (0 if is_over else unwritten),
        delivered=found.delivered,
        undelivered=found.problems.total(),
        problems=[DeliveryProblem(reason, number) for reason, number in problems],
    )


async def _cancel(tx: Transaction, actor: Actor, id: str, now: datetime) -> Campaign | None:
    cancelled = await tx.maybe(_CANCEL, campaign=id, at=now, staff_id=actor.staff_id)
    if cancelled is None:
        return None
    skipped = {card for card in await tx.many(_SKIP_WAITING, campaign=id) if card}
    if skipped:
        await settle(tx, actor, cancelled, sorted(skipped), now)
    return cancelled


def _message(
    campaign: Campaign,
    channel: Channel,
    card: Card,
    customer: Customer,
    *,
    address: str | None,
    said: bool | None,
    now: datetime,
    clock_now: datetime,
) -> Message:
    """The message to a recipient on one channel, or that there is none and why."""
    reason = None
    if card.deleted_at is not None or customer.erased_at is not None:
        reason = "card deleted"
    elif not may_advertise(channel, said):
        reason = "no consent"
    elif address is None:
        reason = "no address"
    return Message(
        id=new_id("msg"),
        business_id=campaign.business_id,
        campaign_id=campaign.id,
        customer_id=customer.id,
        card_id=card.id,
        channel=channel,
        address=None if reason else address,
        subject="",
        text="",
        status=MessageStatus.SKIPPED if reason else MessageStatus.QUEUED,
        error=reason,
        not_before=clock_now,
        created_at=now,
    )


async def _give(
    tx: Transaction,
    actor: Actor,
    campaign: Campaign,
    template: VoucherTemplate,
    recipient: CampaignRecipient,
    card: Card,
    customer: Customer,
    now: datetime,
) -> Voucher:
    gift = await make_gift(tx, actor, template, Source.CAMPAIGN, card, now, campaign_id=campaign.id)
    tell_of_gift(tx, actor, gift, card, customer, now)
    await tx.change(recipient, voucher_id=gift.voucher.id)
    return gift.voucher


async def _worded(
    tx: Transaction,
    actor: Actor,
    campaign: Campaign,
    messages: list[Message],
    card: Card,
    customer: Customer,
) -> list[Message]:
    """The messages with their texts; what is skipped needs none."""
    notification, text = await _texts(tx, campaign, card, customer)
    return [
        message
        if message.status is MessageStatus.SKIPPED
        else message.with_values(
            subject=one_line(actor.business.name)
            if message.channel is Channel.PUSH
            else notification,
            text=notification if message.channel is Channel.PUSH else text,
            url=path_of(card),
        )
        for message in messages
    ]


async def _texts(
    tx: Transaction, campaign: Campaign, card: Card, customer: Customer
) -> tuple[str, str]:
    """The short and the long text, as this customer reads them."""
    promise = await promise_of(tx, card.version_id)
    values = {
        "name": one_line(customer.name or ""),
        "stamps": card.stamps,
        "left": max(promise.required - card.stamps, 0),
    }
    return (
        one_line(filled_in(campaign.notification_text, values)),
        filled_in(campaign.message_text, values),
    )
