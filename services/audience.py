"""Audiences: whom a campaign is for, counted beforehand and frozen when sending starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import Select, String, and_, case, exists, func, insert, or_, select
from sqlmodel import col

from core.errors import Invalid, NotFound
from core.ids import Id
from db import BUSINESS, Command, Query, Transaction, command, param, query
from models import (
    MAX_STAMPS,
    Campaign,
    CampaignRecipient,
    Card,
    CardPlatform,
    CardTemplateVersion,
    Channel,
    ChannelConnection,
    Consent,
    Contact,
    Customer,
    Location,
    Messenger,
    Operation,
    PushSubscription,
    Voucher,
    VoucherStatus,
)
from models.base import UtcTimestamp
from services.text import language_of


@dataclass(kw_only=True)
class SegmentInput:
    """Which holders of the card. All that is given must hold; nothing given means everybody."""

    stamps_at_least: Annotated[int | None, Doc("With at least so many stamps on the card.")] = None
    stamps_at_most: Annotated[int | None, Doc("With at most so many stamps on the card.")] = None
    stamps_left_at_most: Annotated[
        int | None, Doc("To whom at most so many stamps are missing to a full card.")
    ] = None
    last_activity_before: Annotated[
        datetime | None, Doc("Whose card was last active before then.")
    ] = None
    last_activity_after: Annotated[
        datetime | None, Doc("Whose card was last active then or later.")
    ] = None
    language: Annotated[str | None, Doc("Who speak this language; `en` means `en-GB` too.")] = None
    location_id: Annotated[
        Id | None, Doc("Whose card was issued or ever used at this location.")
    ] = None
    has_active_voucher: Annotated[
        bool | None, Doc("With a voucher on the card that can be redeemed, or without one.")
    ] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this segment switches on, with their values, in JSON's own types."""
        told = {name: value for name, value in vars(self).items() if value is not None}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in told.items()
        }


_CONDITIONS: dict[str, Any] = {
    "stamps_at_least": col(Card.stamps) >= param("stamps_at_least"),
    "stamps_at_most": col(Card.stamps) <= param("stamps_at_most"),
    "stamps_left_at_most": (
        col(CardTemplateVersion.stamps_required) - col(Card.stamps) <= param("stamps_left_at_most")
    ),
    "last_activity_before": (
        func.coalesce(col(Card.last_activity_at), col(Card.created_at))
        < param("last_activity_before", UtcTimestamp())
    ),
    "last_activity_after": (
        func.coalesce(col(Card.last_activity_at), col(Card.created_at))
        >= param("last_activity_after", UtcTimestamp())
    ),
    "language": or_(
        col(Customer.language) == param("language"),
        col(Customer.language).like(param("dialects")),
    ),
    "location_id": or_(
        col(Card.location_id) == param("location_id"),
        exists().where(
            col(Operation.business_id) == BUSINESS,
            col(Operation.card_id) == col(Card.id),
            col(Operation.location_id) == param("location_id"),
        ),
    ),
}
_HAS_VOUCHER = exists().where(
    col(Voucher.business_id) == BUSINESS,
    col(Voucher.card_id) == col(Card.id),
    col(Voucher.status).in_([VoucherStatus.ISSUED, VoucherStatus.ACTIVE]),
    or_(col(Voucher.expires_at).is_(None), col(Voucher.expires_at) > param("now", UtcTimestamp())),
)

_CONDITIONS |= {"has_active_voucher": _HAS_VOUCHER, "has_no_active_voucher": ~_HAS_VOUCHER}


def _said(channel: Channel, *, granted: bool) -> Any:
    return exists().where(
        col(Consent.business_id) == BUSINESS,
        col(Consent.customer_id) == col(Customer.id),
        col(Consent.channel) == channel,
        col(Consent.granted).is_(granted),
    )


_IN_WALLET = exists().where(
    col(CardPlatform.business_id) == BUSINESS, col(CardPlatform.card_id) == col(Card.id)
)
_HAS_BROWSER = exists().where(
    col(PushSubscription.business_id) == BUSINESS,
    col(PushSubscription.customer_id) == col(Customer.id),
)
# The messenger of the newest chat; without one, that of the provider that writes to phone numbers.
_CHAT = (
    select(col(Contact.messenger))
    .join(ChannelConnection, col(ChannelConnection.id) == col(Contact.connection_id))
    .where(
        col(Contact.business_id) == BUSINESS,
        col(Contact.customer_id) == col(Customer.id),
        col(Contact.revoked_at).is_(None),
        col(ChannelConnection.disconnected_at).is_(None),
    )
    .order_by(col(Contact.opted_in_at).desc(), col(Contact.id).desc())
    .limit(1)
    .correlate(Customer)
    .scalar_subquery()
)
_BY_PHONE = (
    select(col(ChannelConnection.phone_messenger))
    .where(
        col(ChannelConnection.business_id) == BUSINESS,
        col(ChannelConnection.phone_messenger).is_not(None),
        col(ChannelConnection.disconnected_at).is_(None),
    )
    .order_by(col(ChannelConnection.connected_at), col(ChannelConnection.id))
    .limit(1)
    .scalar_subquery()
)
_written_in = func.coalesce(_CHAT, case((col(Customer.phone).is_not(None), _BY_PHONE)))
# `models.address_on` and `models.may_advertise`, in the words of SQL.
_REACHES: dict[Channel, Any] = {
    Channel.PUSH: and_(or_(_HAS_BROWSER, _IN_WALLET), ~_said(Channel.PUSH, granted=False)),
    Channel.EMAIL: and_(col(Customer.email).is_not(None), _said(Channel.EMAIL, granted=True)),
    Channel.MESSENGERS: and_(_written_in.is_not(None), _said(Channel.MESSENGERS, granted=True)),
}
_WRITES_IN: dict[Messenger, Any] = {
    messenger: and_(_written_in == messenger.value, _said(Channel.MESSENGERS, granted=True))
    for messenger in Messenger
}


@dataclass(frozen=True)
class Reach:
    """How many cards an audience has, and how many of them each channel and messenger reaches."""

    size: int
    by_channel: dict[Channel, int]
    by_messenger: dict[Messenger, int]


async def check_segment(tx: Transaction, told: SegmentInput | None, *path: str) -> dict[str, Any]:
    """The segment as it is kept. Refused where it can hold for nobody."""
    if told is None:
        return {}
    for name, key in (
        ("stampsAtLeast", told.stamps_at_least),
        ("stampsAtMost", told.stamps_at_most),
        ("stampsLeftAtMost", told.stamps_left_at_most),
    ):
        if key is not None and not 0 <= key <= MAX_STAMPS:
            raise Invalid(f"Between 0 and {MAX_STAMPS} stamps.", *path, name)
    if (
        told.stamps_at_least is not None
        and told.stamps_at_most is not None
        and told.stamps_at_least > told.stamps_at_most
    ):
        raise Invalid("At least is more than at most.", *path, "stampsAtMost")
    after, before = told.last_activity_after, told.last_activity_before
    if after is not None and before is not None and after >= before:
        raise Invalid("Nothing lies after it and before then.", *path, "lastActivityBefore")
    kept = told.conditions()
    if told.language is not None:
        kept["language"] = language_of(told.language, *path, "language")
    if told.location_id is not None and await tx.get(Location, told.location_id) is None:
        raise NotFound("location", *path, "locationId")
    return kept


async def reach_of(
    tx: Transaction, campaign: Campaign, channels: Sequence[Channel], now: datetime
) -> Reach:
    """Whom the campaign would reach if it were sent now."""
    statement = _counting(_names(campaign), tuple(channels))
    counts = await tx.one(statement, **_values(campaign, now))
    size, *reached = counts if channels else (counts,)
    by_messenger = dict(zip(Messenger, reached[len(channels) :], strict=False))
    return Reach(size, dict(zip(channels, reached, strict=False)), by_messenger)


async def first_of(
    tx: Transaction, campaign: Campaign, now: datetime, most: int
) -> list[tuple[Card, Customer]]:
    """The first cards of the audience and their holders, as it would be frozen now."""
    return await tx.many(_first(_names(campaign)), **_values(campaign, now), most=most)


async def freeze(tx: Transaction, campaign: Campaign, now: datetime) -> int:
    """Write down who is in the audience, in the order of their cards; says how many.

    It never leaves the database, so that a hundred thousand take no more memory than one.
    """
    return await tx.run(_freezing(_names(campaign)), **_values(campaign, now))


def _names(campaign: Campaign) -> tuple[str, ...]:
    names = set(campaign.segment)
    if campaign.segment.get("has_active_voucher") is False:
        names = names - {"has_active_voucher"} | {"has_no_active_voucher"}
    return tuple(sorted(names))


def _values(campaign: Campaign, now: datetime) -> dict[str, Any]:
    values = dict(campaign.segment)
    for name in ("last_activity_before", "last_activity_after"):
        if name in values:
            values[name] = datetime.fromisoformat(values[name])
    if "language" in values:
        values["dialects"] = f"{values['language']}-%"
    return {**values, "template_id": campaign.template_id, "campaign_id": campaign.id, "now": now}


@cache
def _counting(names: tuple[str, ...], channels: tuple[Channel, ...]) -> Query[Any]:
    ways = [_REACHES[channel] for channel in channels]
    if Channel.MESSENGERS in channels:
        ways += _WRITES_IN.values()
    reached = [func.count(case((way, 1))) for way in ways]
    return query(_audience(names, func.count(), *reached))


@cache
def _first(names: tuple[str, ...]) -> Query[tuple[Card, Customer]]:
    first = _audience(names, Card, Customer).order_by(col(Card.id)).limit(param("most"))
    return query(first)


@cache
def _freezing(names: tuple[str, ...]) -> Command:
    audience = _audience(
        names,
        param("campaign_id", String()),
        col(Card.id),
        col(Card.business_id),
        col(Card.customer_id),
        func.row_number().over(order_by=col(Card.id)),
    )
    columns = ["campaign_id", "card_id", "business_id", "customer_id", "position"]
    return command(insert(CampaignRecipient).from_select(columns, audience, include_defaults=False))


def _audience(names: tuple[str, ...], *what: Any) -> Select[Any]:
    """Whatever is asked of the cards of an audience."""
    return (
        select(*what)
        .select_from(Card)
        .join(Customer, col(Customer.id) == col(Card.customer_id))
        .join(CardTemplateVersion, col(CardTemplateVersion.id) == col(Card.version_id))
        .where(
            col(Card.business_id) == BUSINESS,
            col(Card.template_id) == param("template_id"),
            col(Card.deleted_at).is_(None),
            col(Customer.erased_at).is_(None),
            *(_CONDITIONS[name] for name in names),
        )
    )
