"""Channels that a business connected, and how its customers are reached by them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words
from models.customers import Channel


class ChannelKind(StrEnum):
    """What serves a channel.

    FILE: a file of the data folder, where no provider is connected yet.
    EMAIL: the deployment's mail server.
    WEB_PUSH: notifications of browsers, for whoever allowed them on the page of a card.
    WALLET: passes in Apple Wallet and Google Wallet, for whoever put a card there.
    SEVEN_LOC: 7loc, for WhatsApp, Telegram and Viber.
    WHATSAPP: the WhatsApp Cloud API.
    TELEGRAM: a bot of Telegram.
    """

    FILE = "file"
    EMAIL = "email"
    WEB_PUSH = "web_push"
    WALLET = "wallet"
    SEVEN_LOC = "seven_loc"
    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"


class Messenger(StrEnum):
    """A messenger.

    WHATSAPP: WhatsApp.
    TELEGRAM: Telegram.
    VIBER: Viber.
    """

    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"
    VIBER = "viber"


class ChannelStatus(StrEnum):
    """How a channel is.

    CONNECTED: messages go out.
    WAITING: its provider asked to wait; messages go out a little later.
    FAILING: its provider does not accept us any more; look at its settings and test it.
    """

    CONNECTED = "connected"
    WAITING = "waiting"
    FAILING = "failing"


class ChannelConnection(Row, table=True):
    """A provider that a business connected, at most one of each kind.

    `settings` is encrypted. `facts` is what the provider told of itself that may be shown, such as
    the name of a bot. `phone_messenger` is where it reaches a phone number, None where it needs a
    chat first. `paused_until` is a real time. A connection that was taken away keeps its id, for
    contacts are of it: they can be reached again once it is made anew.
    """

    __tablename__ = "channel_connection"
    __table_args__ = (UniqueConstraint("business_id", "kind"),)
    prefix: ClassVar[str] = "chn"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    kind: ChannelKind = Field(sa_type=words(ChannelKind))
    settings: str
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    phone_messenger: Messenger | None = Field(default=None, sa_type=words(Messenger))
    paused_until: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    last_error: str | None = None
    connected_at: datetime = Field(sa_type=UtcTimestamp)
    connected_by_id: str | None = None
    disconnected_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)

    def status(self, real_now: datetime) -> ChannelStatus:
        """How it is at this moment."""
        if self.last_error is not None:
            return ChannelStatus.FAILING
        if self.paused_until is not None and real_now < self.paused_until:
            return ChannelStatus.WAITING
        return ChannelStatus.CONNECTED


class Contact(Row, table=True):
    """A chat of a customer in a messenger, bound by the customer; revoked by STOP or a block.

    `address` is what the provider knows the chat by. A chat is one customer's: the last to bind it.
    `source` says how it was bound.
    """

    __table_args__ = (
        UniqueConstraint("connection_id", "messenger", "address"),
        Index("contact_of_customer", "business_id", "customer_id"),
    )
    prefix: ClassVar[str] = "cta"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    customer_id: str = Field(foreign_key="customer.id")
    connection_id: str = Field(foreign_key="channel_connection.id")
    messenger: Messenger = Field(sa_type=words(Messenger))
    address: str
    source: str
    opted_in_at: datetime = Field(sa_type=UtcTimestamp)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    revoked_by: str | None = None


class UsedLink(Row, table=True):
    """A one-time link that was used, or a one-time call of a wallet that was heard.

    Kept until it would have ended anyway (a real time).
    """

    __tablename__ = "used_link"

    digest: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    expires_at: datetime = Field(sa_type=UtcTimestamp)


class PushSubscription(Row, table=True):
    """A browser in which a customer allowed notifications: where they go, and for which keys."""

    __tablename__ = "push_subscription"
    __table_args__ = (
        UniqueConstraint("customer_id", "endpoint_digest"),
        Index("push_subscription_of_customer", "business_id", "customer_id"),
    )
    prefix: ClassVar[str] = "psub"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    customer_id: str = Field(foreign_key="customer.id")
    endpoint: str
    endpoint_digest: str
    p256dh: str
    auth: str
    created_at: datetime = Field(sa_type=UtcTimestamp)


class DeploymentKey(Row, table=True):
    """A key pair that this deployment made once for itself, its private half encrypted."""

    __tablename__ = "deployment_key"

    name: str = Field(primary_key=True)
    public: str
    ciphertext: str
    created_at: datetime = Field(sa_type=UtcTimestamp)


CHANNEL_OF = {
    ChannelKind.EMAIL: Channel.EMAIL,
    ChannelKind.WEB_PUSH: Channel.PUSH,
    ChannelKind.WALLET: Channel.PUSH,
    ChannelKind.SEVEN_LOC: Channel.MESSENGERS,
    ChannelKind.WHATSAPP: Channel.MESSENGERS,
    ChannelKind.TELEGRAM: Channel.MESSENGERS,
}
"""The channel that each kind serves; a file serves several."""
