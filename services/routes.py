"""Routes: by which provider a message reaches a customer, and what its answers teach about that.

A message keeps the id of a chat or browser, not where it is: that is looked up when it is handed
over, so that whoever said STOP a moment ago is not written to.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from core.ids import prefix_of
from db import BUSINESS, Query, Transaction, among, command, param, query
from integrations.channels.seam import (
    REFUSED_US,
    Accepted,
    Answer,
    Rejected,
    RetryAfter,
)
from models import (
    Actor,
    Business,
    Card,
    CardPlatform,
    Channel,
    ChannelConnection,
    Consent,
    Contact,
    Customer,
    Message,
    Messenger,
    PushSubscription,
    address_on,
    may_advertise,
    one_line,
)
from models.base import UtcTimestamp
from services.contacts import connections_of, drop_browser, revoke

NO_CONSENT = Rejected("no consent")
"""Whoever is not to be written to is skipped."""
NO_ADDRESS = Rejected("no address")
NOT_CONNECTED = Rejected("channel not connected")
MOST_PAUSE = timedelta(days=1)

_IN_WALLETS: Query[str] = query(
    select(CardPlatform.card_id)
    .where(col(CardPlatform.business_id) == BUSINESS, among(col(CardPlatform.card_id), "cards"))
    .distinct()
)
_BROWSERS: Query[tuple[str, str]] = query(
    select(PushSubscription.customer_id, PushSubscription.id)
    .where(
        col(PushSubscription.business_id) == BUSINESS,
        among(col(PushSubscription.customer_id), "customers"),
    )
    .order_by(col(PushSubscription.created_at), col(PushSubscription.id))
)
_CHATS: Query[tuple[str, str]] = query(
    select(Contact.customer_id, Contact.id)
    .join(ChannelConnection, col(ChannelConnection.id) == col(Contact.connection_id))
    .where(
        col(Contact.business_id) == BUSINESS,
        among(col(Contact.customer_id), "customers"),
        col(Contact.revoked_at).is_(None),
        col(ChannelConnection.disconnected_at).is_(None),
    )
    .order_by(col(Contact.opted_in_at), col(Contact.id))
)
_CONTACTS: Query[Contact] = query(
    select(Contact).where(col(Contact.business_id) == BUSINESS, among(col(Contact.id), "ids"))
)
_BROWSERS_BY_ID: Query[PushSubscription] = query(
    select(PushSubscription).where(
        col(PushSubscription.business_id) == BUSINESS, among(col(PushSubscription.id), "ids")
    )
)
_CUSTOMERS: Query[tuple[str, str]] = query(
    select(Customer.id, Customer.language).where(
        col(Customer.business_id) == BUSINESS, among(col(Customer.id), "ids")
    )
)
_CONSENTS: Query[Consent] = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS,
        among(col(Consent.customer_id), "customers"),
        col(Consent.channel) == param("channel", Consent.__table__.c.channel.type),  # type: ignore[attr-defined]
    )
)
_PAUSE = command(
    update(ChannelConnection)
    .where(col(ChannelConnection.business_id) == BUSINESS, col(ChannelConnection.id) == param("of"))
    .values(paused_until=param("until", UtcTimestamp()))
)
_FAIL = command(
    update(ChannelConnection)
    .where(col(ChannelConnection.business_id) == BUSINESS, col(ChannelConnection.id) == param("of"))
    .values(last_error=param("error"))
)


@dataclass(frozen=True)
class Ways:
    """How the channels reach some customers and their cards."""

    in_wallets: frozenset[str]
    browsers: dict[str, str]
    chats: dict[str, str]
    is_by_phone: bool

    def address(self, channel: Channel, customer: Customer, card: Card) -> str | None:
        """Where a channel reaches the holder of a card, None if it does not."""
        return address_on(
            channel,
            customer,
            card,
            is_in_wallet=card.id in self.in_wallets,
            browser_id=self.browsers.get(customer.id),
            contact_id=self.chats.get(customer.id),
            is_by_phone=self.is_by_phone,
        )


async def ways_of(
    tx: Transaction, holders: Iterable[tuple[Card, Customer]], channels: Collection[Channel]
) -> Ways:
    """How these channels reach the holders of some cards: the newest browser, the newest chat."""
    pairs = list(holders)
    customers = [customer.id for _, customer in pairs]
    in_wallets: list[str] = []
    browsers: dict[str, str] = {}
    chats: dict[str, str] = {}
    is_by_phone = False
    if Channel.PUSH in channels:
        in_wallets = await tx.many(_IN_WALLETS, cards=[card.id for card, _ in pairs])
        browsers = dict(await tx.many(_BROWSERS, customers=customers))
    if Channel.MESSENGERS in channels:
        connections = await connections_of(tx)
        is_by_phone = any(connection.phone_messenger for connection in connections)
        if connections:
            chats = dict(await tx.many(_CHATS, customers=customers))
    return Ways(frozenset(in_wallets), browsers, chats, is_by_phone)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a message goes: a provider's address, in the customer's language.

    `connection` is None where the deployment itself serves the channel.
    """

    address: str
    business: str
    language: str
    connection: ChannelConnection | None = None
    messenger: Messenger | None = None
    keys: tuple[str, str] | None = None
    contact: Contact | None = None


async def routes_of(
    tx: Transaction, channel: Channel, messages: Sequence[Message], real_now: datetime
) -> list[Route | Answer]:
    """How each of these messages of a channel goes now, or why it does not."""
    business = await tx.get(Business, tx.business)
    name = one_line(business.name) if business else ""
    customers = sorted({message.customer_id for message in messages})
    languages = dict(await tx.many(_CUSTOMERS, ids=customers))
    consents = await tx.many(_CONSENTS, customers=customers, channel=channel)
    said = {consent.customer_id: consent.granted for consent in consents}
    ids = sorted({message.address for message in messages if message.address})
    known: dict[str, Any] = {}
    connections: dict[str, ChannelConnection] = {}
    if channel is Channel.PUSH and any(prefix_of(id) == PushSubscription.prefix for id in ids):
        known = {one.id: one for one in await tx.many(_BROWSERS_BY_ID, ids=ids)}
    if channel is Channel.MESSENGERS:
        known = {one.id: one for one in await tx.many(_CONTACTS, ids=ids)}
        connections = {one.id: one for one in await connections_of(tx)}

    def way(message: Message) -> Route | Answer:
        if message.campaign_id and not may_advertise(channel, said.get(message.customer_id)):
            return NO_CONSENT
        address = message.address or ""
        plain = Route(
            address=address, business=name, language=languages.get(message.customer_id, "en")
        )
        if channel is Channel.MESSENGERS:
            return _by_messenger(plain, known.get(address), connections, real_now)
        browser = known.get(address)
        if browser is not None:
            return replace(plain, address=browser.endpoint, keys=(browser.p256dh, browser.auth))
        return NO_ADDRESS if prefix_of(address) == PushSubscription.prefix else plain

    return [way(message) for message in messages]


def _by_messenger(
    plain: Route,
    contact: Contact | None,
    connections: dict[str, ChannelConnection],
    real_now: datetime,
) -> Route | Answer:
    if contact is not None:
        connection = connections.get(contact.connection_id)
        route = replace(
            plain, address=contact.address, messenger=contact.messenger, contact=contact
        )
        if contact.revoked_at is not None:
            return NO_CONSENT
    elif prefix_of(plain.address) == Contact.prefix:
        return NO_ADDRESS
    else:
        connection = next((one for one in connections.values() if one.phone_messenger), None)
        route = replace(plain, messenger=connection.phone_messenger if connection else None)
    if connection is None:
        return NOT_CONNECTED
    if connection.paused_until is not None and real_now < connection.paused_until:
        wait = (connection.paused_until - real_now).total_seconds()
        return RetryAfter(wait, stops=True, is_tried=False)
    return replace(route, connection=connection)


async def learn(
    tx: Transaction,
    actor: Actor,
    told: Iterable[tuple[Message, Route, Answer]],
    now: datetime,
    clock_now: datetime,
) -> None:
    """Keep what the answers say of addresses and providers.

    Whom a provider will never reach again is not written to again; a provider that asked to wait
    is left alone by every process; one that refused us is shown as failing, until it takes
    something.
    """
    connections: dict[str, ChannelConnection] = {}
    answers: dict[str, list[Answer]] = {}
    for message, route, answer in told:
        if isinstance(answer, Rejected) and answer.is_permanent:
            if route.contact is not None:
                await revoke(tx, actor, route.contact, now, by="block")
            elif route.keys is not None and message.address:
                await drop_browser(tx, message.address)
        if route.connection is not None:
            connections[route.connection.id] = route.connection
            answers.setdefault(route.connection.id, []).append(answer)
    for id in sorted(connections):
        await _learn_of(tx, connections[id], answers[id], clock_now)


async def _learn_of(
    tx: Transaction, connection: ChannelConnection, answers: Sequence[Answer], clock_now: datetime
) -> None:
    pauses = [
        answer.seconds
        for answer in answers
        if isinstance(answer, RetryAfter) and answer.stops and answer.is_tried
    ]
    if pauses:
        wait = min(timedelta(seconds=max(pauses)), MOST_PAUSE)
        await tx.run(_PAUSE, of=connection.id, until=clock_now + wait)
    error = None
    if any(isinstance(answer, Rejected) and answer.reason == REFUSED_US for answer in answers):
        error = REFUSED_US
    elif not any(isinstance(answer, Accepted) for answer in answers):
        return
    if error != connection.last_error:
        await tx.run(_FAIL, of=connection.id, error=error)


def worth_learning(route: Route, answer: Answer) -> bool:
    """Whether an answer says anything of whom or what it came from."""
    if isinstance(answer, Accepted):
        return route.connection is not None and route.connection.last_error is not None
    if isinstance(answer, Rejected):
        return answer.is_permanent or answer.reason == REFUSED_US
    return answer.stops and answer.is_tried and route.connection is not None
