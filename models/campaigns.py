"""Campaigns: whom a message goes to, and what became of it for each of them."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words
from models.cards import Card
from models.customers import Channel, Customer

_PLACEHOLDER = re.compile(r"\{(name|stamps|left)\}")


class CampaignStatus(StrEnum):
    """Where a campaign is in its life.

    SCHEDULED: it waits for its time.
    SENDING: its audience is frozen and being written to.
    SENT: everybody in the audience was dealt with.
    CANCELLED: it was stopped; who was not reached by then will not be.
    """

    SCHEDULED = "scheduled"
    SENDING = "sending"
    SENT = "sent"
    CANCELLED = "cancelled"


class MessageStatus(StrEnum):
    """What became of one message.

    QUEUED: it waits for its channel.
    SENDING: it is being handed to its channel; the answer is not known yet.
    ACCEPTED: the channel took it.
    FAILED: the channel refused it, or nobody knows what became of it.
    SKIPPED: it was not sent: no consent, no address, or the campaign was cancelled first.
    """

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    FAILED = "failed"
    SKIPPED = "skipped"


OPEN = (MessageStatus.QUEUED, MessageStatus.SENDING)
"""Where a message is not dealt with yet."""


class Campaign(Row, table=True):
    """A message to the holders of a card template, or to a segment of them.

    `audience_size` is what is expected until sending starts, and what was frozen from then on;
    `prepared` is how far in it the messages are written. Its times are the programme's.
    """

    prefix: ClassVar[str] = "cmp"
    __table_args__ = (Index("campaign_by_status", "status", "business_id", "scheduled_at"),)

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    name: str
    template_id: str = Field(foreign_key="card_template.id")
    notification_text: str
    message_text: str
    channels: list[str] = Field(default_factory=list, sa_type=Json)
    segment: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    voucher_template_id: str | None = Field(default=None, foreign_key="voucher_template.id")
    status: CampaignStatus = Field(sa_type=words(CampaignStatus))
    audience_size: int = 0
    prepared: int = 0
    scheduled_at: datetime = Field(sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    finished_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    cancelled_by_id: str | None = None


class CampaignRecipient(Row, table=True):
    """One card of a campaign's frozen audience; done when every channel was dealt with."""

    __tablename__ = "campaign_recipient"
    __table_args__ = (Index("recipient_in_line", "campaign_id", "position", unique=True),)

    campaign_id: str = Field(primary_key=True, foreign_key="campaign.id")
    card_id: str = Field(primary_key=True, foreign_key="card.id")
    business_id: str = Field(foreign_key="business.id")
    customer_id: str = Field(foreign_key="customer.id", index=True)
    position: int
    voucher_id: str | None = Field(default=None, foreign_key="voucher.id")
    done_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)


class Message(Row, table=True):
    """The outbox: one message to one customer on one channel; at most one per campaign and card.

    `url` is a path on our own address. `not_before` is a real time: when a message that is QUEUED
    may be sent, and until when one that is SENDING may be in somebody's hands. `error` says why
    it failed or was skipped. Of its `tries`, so many were `held_back`: the provider was not asked.
    `reference` is the provider's own; it may report later that the message was delivered, or why
    not. `address` is a mail address, a phone number, or the id of a pass, contact or subscription.
    """

    prefix: ClassVar[str] = "msg"
    __table_args__ = (
        UniqueConstraint("campaign_id", "card_id", "channel"),
        Index("message_waiting", "status", "not_before"),
        Index("message_of_campaign", "campaign_id", "status", "channel", "business_id"),
        Index("message_by_reference", "business_id", "reference"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    campaign_id: str | None = Field(default=None, foreign_key="campaign.id")
    customer_id: str = Field(foreign_key="customer.id", index=True)
    card_id: str | None = Field(default=None, foreign_key="card.id")
    channel: Channel = Field(sa_type=words(Channel))
    address: str | None = None
    subject: str
    text: str
    url: str | None = None
    status: MessageStatus = Field(default=MessageStatus.QUEUED, sa_type=words(MessageStatus))
    error: str | None = None
    tries: int = 0
    held_back: int = 0
    reference: str | None = None
    delivered_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    undelivered: str | None = None
    not_before: datetime = Field(sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    sent_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)


def address_on(
    channel: Channel,
    customer: Customer,
    card: Card,
    *,
    is_in_wallet: bool,
    browser_id: str | None = None,
    contact_id: str | None = None,
    is_by_phone: bool = False,
) -> str | None:
    """Where a channel reaches the holder of a card, None if it does not.

    A notification appears in the browser that was allowed to show it, else on the pass that was
    saved to a wallet. A messenger has a chat with the customer, or writes to phone numbers.
    """
    if channel is Channel.PUSH:
        return browser_id or (card.wallet_pass_id if is_in_wallet else None)
    if channel is Channel.MESSENGERS:
        return contact_id or (customer.phone if is_by_phone else None)
    return customer.email


def may_advertise(channel: Channel, said: bool | None) -> bool:
    """Whether a campaign may use a channel, by what the customer last said of it (None: nothing).

    Who saved a card to a wallet wants to see what happens on it: a push needs no more than that
    it was not refused. Everything else needs a yes.
    """
    return said is True or (channel is Channel.PUSH and said is None)


def filled_in(text: str, values: Mapping[str, object]) -> str:
    """The text with `{name}`, `{stamps}` and `{left}` filled in; whatever else it has is literal.

    What is filled in is not looked at again.
    """
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), text)


def one_line(text: str) -> str:
    """The text on one line, without control characters: safe in any header."""
    # `isprintable` would also take the joiners that make one emoji of several.
    return " ".join(
        "".join(" " if char < " " or "\x7f" <= char < "\xa0" else char for char in text).split()
    )
