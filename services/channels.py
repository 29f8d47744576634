"""Channels: providers connected, tested and disconnected, and what they tell us."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NewType

import orjson
from annotated_doc import Doc
from sqlalchemy import and_, exists, func, or_
from sqlmodel import col, select

from core.errors import Invalid, NotFound
from core.ids import Id
from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, param, query
from integrations.channels import seal_settings, wanted_settings
from integrations.channels.seam import (
    Account,
    Delivered,
    NotConnected,
    Report,
    Started,
    Stopped,
)
from models import (
    CHANNEL_OF,
    Actor,
    Business,
    Card,
    CardPlatform,
    Channel,
    ChannelConnection,
    ChannelKind,
    ChannelStatus,
    Consent,
    Contact,
    Customer,
    PushSubscription,
    WalletPass,
)
from services.contacts import bind, connections_of, revoke_address
from services.operation import MANAGERS, Input, Outcome, operation
from services.outbox import record_reports
from services.owner_notices import tell_of_channel
from services.pass_marks import IS_HELD

_MOST_SETTING = 2_000
_PATH = ("input", "settings")

ChannelSettings = NewType("ChannelSettings", dict[str, Any])
"""What a provider wants to be told, as JSON."""

_OF_KIND = query(
    select(ChannelConnection)
    .where(
        col(ChannelConnection.business_id) == BUSINESS,
        col(ChannelConnection.kind) == param("kind", ChannelConnection.__table__.c.kind.type),  # type: ignore[attr-defined]
    )
    .with_for_update()
)


def _said(channel: Channel, *, granted: bool) -> Any:
    return exists().where(
        col(Consent.business_id) == BUSINESS,
        col(Consent.customer_id) == col(Customer.id),
        col(Consent.channel) == channel,
        col(Consent.granted).is_(granted),
    )


def _count(*conditions: Any) -> Query[int]:
    return query(
        select(func.count())
        .select_from(Customer)
        .where(
            col(Customer.business_id) == BUSINESS,
            col(Customer.erased_at).is_(None),
            col(Customer.merged_into).is_(None),
            *conditions,
        )
    )


_BY_MAIL = _count(col(Customer.email).is_not(None), _said(Channel.EMAIL, granted=True))
_IN_WALLETS = _count(
    exists().where(
        col(Card.business_id) == BUSINESS,
        col(Card.customer_id) == col(Customer.id),
        col(Card.deleted_at).is_(None),
        col(CardPlatform.business_id) == BUSINESS,
        col(CardPlatform.card_id) == col(Card.id),
    ),
    ~_said(Channel.PUSH, granted=False),
)
_WITH_PASSES = _count(
    exists().where(
        col(Card.business_id) == BUSINESS,
        col(Card.customer_id) == col(Customer.id),
        col(Card.deleted_at).is_(None),
        IS_HELD,
        col(WalletPass.card_id) == col(Card.id),
    ),
    ~_said(Channel.PUSH, granted=False),
)
_IN_BROWSERS = _count(
    exists().where(
        col(PushSubscription.business_id) == BUSINESS,
        col(PushSubscription.customer_id) == col(Customer.id),
    ),
    ~_said(Channel.PUSH, granted=False),
)
_BY_PUSH = {ChannelKind.WEB_PUSH: _IN_BROWSERS, ChannelKind.WALLET: _WITH_PASSES}
_IN_CHATS = _count(
    or_(
        exists().where(
            col(Contact.business_id) == BUSINESS,
            col(Contact.customer_id) == col(Customer.id),
            col(Contact.connection_id) == param("connection"),
            col(Contact.revoked_at).is_(None),
        ),
        and_(
            col(Customer.phone).is_not(None),
            exists().where(
                col(ChannelConnection.business_id) == BUSINESS,
                col(ChannelConnection.id) == param("connection"),
                col(ChannelConnection.phone_messenger).is_not(None),
            ),
        ),
    ),
    _said(Channel.MESSENGERS, granted=True),
)
# Whose provider calls is found before a business is known: this runs in the name of the system.
_BY_ID: Query[tuple[ChannelConnection, Business]] = query(
    select(ChannelConnection, Business)
    .join(Business, col(Business.id) == col(ChannelConnection.business_id))
    .where(
        col(ChannelConnection.id) == param("id"),
        col(ChannelConnection.disconnected_at).is_(None),
    )
)


@dataclass(kw_only=True)
class ConnectChannelInput(Input):
    """The provider to connect."""

    kind: Annotated[
        ChannelKind, Doc("Which provider: `SEVEN_LOC`, `WHATSAPP` or `TELEGRAM`; one of each.")
    ]
    settings: Annotated[
        ChannelSettings, Doc("What this provider wants to be told; kept encrypted, never shown.")
    ]


@dataclass(kw_only=True)
class TestChannelInput(Input):
    """The channel to test."""

    id: Annotated[Id, Doc("The channel's id.")]


@dataclass(kw_only=True)
class DisconnectChannelInput(Input):
    """The channel to disconnect."""

    id: Annotated[Id, Doc("The channel's id.")]


@dataclass(frozen=True, kw_only=True)
class ConnectedChannel:
    """A way to reach customers: a provider's, or (without an id) the deployment's own."""

    id: str | None
    kind: ChannelKind
    channel: Channel
    status: ChannelStatus
    name: str | None = None
    problem: str | None = None

    @classmethod
    def of(cls, connection: ChannelConnection, real_now: datetime) -> "ConnectedChannel":
        """What a business connected."""
        return cls(
            id=connection.id,
            kind=connection.kind,
            channel=CHANNEL_OF[connection.kind],
            status=connection.status(real_now),
            name=connection.facts.get("name"),
            problem=connection.last_error,
        )


@dataclass(kw_only=True)
class ChannelConnected(Outcome):
    """The channel as it now is."""

    channel: ConnectedChannel | None = None


@dataclass(kw_only=True)
class ChannelTested(Outcome):
    """What a test found."""

    ok: Annotated[bool | None, Doc("Whether all is well.")] = None
    detail: Annotated[str | None, Doc("What was found, in words.")] = None


@dataclass(kw_only=True)
class ChannelDisconnected(Outcome):
    """The id of the channel."""

    deleted_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plugged:
    """What was settled with a provider before it is stored."""

    id: str
    settings: Mapping[str, str]
    account: Account


@operation(*MANAGERS)
async def connect_channel(
    tx: Transaction,
    actor: Actor,
    input: ConnectChannelInput,
    now: datetime,
    *,
    plugged: Plugged,
    secrets: Secrets,
) -> ChannelConnected:
    """Connect a provider, or give one that is connected other settings.

    From then on `MESSENGERS` may be chosen for campaigns, and the page of a card offers its
    messengers. It was asked first: settings that it does not take are refused.
    """
    real_now = actor.business.real_time(now)
    values: dict[str, Any] = {
        "settings": seal_settings(secrets, plugged.id, plugged.settings),
        "facts": plugged.account.facts,
        "phone_messenger": plugged.account.phone_messenger,
        "paused_until": None,
        "last_error": None,
        "connected_at": real_now,
        "connected_by_id": actor.staff_id,
        "disconnected_at": None,
    }
    known = await tx.maybe(_OF_KIND, kind=input.kind)
    if known is None:
        connection = ChannelConnection(
            id=plugged.id, business_id=actor.business_id, kind=input.kind, **values
        )
        await tx.add(connection)
    elif known.id != plugged.id:
        raise Invalid("It was connected at the same moment; look again.", *_PATH)
    else:
        connection = await tx.change(known, **values)
    is_change = known is not None and known.disconnected_at is None
    what = "given other settings" if is_change else "connected"
    await tell_of_channel(tx, actor, connection, what, real_now)
    return ChannelConnected(channel=ConnectedChannel.of(connection, real_now))


@operation(*MANAGERS)
async def test_channel(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is given it
    input: TestChannelInput,
    now: datetime,  # noqa: ARG001 -- every operation is given the time
    *,
    account: Account | None,
    problem: str | None,
) -> ChannelTested:
    """Ask a provider whether it still accepts us; nobody is written to."""
    connection = await live_connection(tx, input.id)
    if account is not None:
        await tx.change(connection, last_error=None)
        return ChannelTested(ok=True, detail=f"Connected as {account.name}.")
    await tx.change(connection, last_error=problem)
    return ChannelTested(ok=False, detail=problem)


@operation(*MANAGERS)
async def disconnect_channel(
    tx: Transaction, actor: Actor, input: DisconnectChannelInput, now: datetime
) -> ChannelDisconnected:
    """Disconnect a provider: its settings are gone, and nobody is written to by it.

    Who allowed news there can be reached again once it is connected again.
    """
    connection = await live_connection(tx, input.id)
    real_now = actor.business.real_time(now)
    await tx.change(connection, settings="", disconnected_at=real_now)
    await tell_of_channel(tx, actor, connection, "disconnected", real_now)
    return ChannelDisconnected(deleted_id=connection.id)


async def live_connection(tx: Transaction, id: str) -> ChannelConnection:
    """A connection of the business. NotFound where it was taken away."""
    connection = await tx.get(ChannelConnection, id)
    if connection is None or connection.disconnected_at is not None:
        raise NotFound("channel", "input", "id")
    return connection


async def connection_of_kind(tx: Transaction, kind: ChannelKind) -> ChannelConnection | None:
    """The connection of this kind, also one that was taken away."""
    return await tx.maybe(_OF_KIND, kind=kind)


async def connection_by_id(tx: Transaction, id: str) -> tuple[ChannelConnection, Business] | None:
    """A connection, and whose it is. Runs in the name of the system."""
    return await tx.maybe(_BY_ID, id=id)


async def connected_channels(
    tx: Transaction, real_now: datetime, own: Iterable[ConnectedChannel]
) -> list[ConnectedChannel]:
    """What the deployment serves, then what the business connected."""
    connections = await connections_of(tx)
    return [*own, *(ConnectedChannel.of(connection, real_now) for connection in connections)]


async def reachable(tx: Transaction, channel: ConnectedChannel) -> int:
    """How many customers may be written to by a channel, and can be."""
    if channel.id is not None:
        return await tx.one(_IN_CHATS, connection=channel.id)
    if channel.channel is Channel.EMAIL:
        return await tx.one(_BY_MAIL)
    return await tx.one(_BY_PUSH.get(channel.kind, _IN_WALLETS))


def checked_settings(kind: ChannelKind, told: Any) -> dict[str, str]:
    """The settings that this kind of provider wants; Invalid names the first that is not good."""
    wants = wanted_settings(kind)
    if wants is None:
        raise Invalid(f"{kind.name} is the deployment's own; it needs no connecting.", *_PATH)
    if not isinstance(told, dict):
        raise Invalid("Settings are an object.", *_PATH)
    settings: dict[str, str] = {}
    for name, what in wants.items():
        value = told.get(name)
        if value is None and what.startswith("Optional"):
            continue
        if not isinstance(value, str) or not _is_good(value):
            raise Invalid(f"{name}: {what}", *_PATH, name)
        settings[name] = value
    if unknown := sorted(str(name) for name in set(told) - set(wants)):
        raise Invalid(f"There is no setting `{unknown[0][:50]}`.", *_PATH)
    return settings


def callback_secret(secrets: Secrets, id: str, settings: Mapping[str, str]) -> str:
    """What a provider must know to call us.

    It is the same for the same settings: connecting twice by one idempotency key leaves what the
    provider was told last in force.
    """
    told = orjson.dumps(dict(settings), option=orjson.OPT_SORT_KEYS)
    return secrets.digest(f"channel callback {id} {hashlib.sha256(told).hexdigest()}")


def callback_url(url: str, id: str) -> str:
    """Where a provider calls us."""
    return f"{url}/channels/{id}"


def refusal_of(error: NotConnected) -> Invalid:
    """What is told to whoever connects."""
    return Invalid(str(error), *_PATH)


async def hear(
    tx: Transaction,
    actor: Actor,
    connection: ChannelConnection,
    reports: Sequence[Report],
    now: datetime,
    *,
    secrets: Secrets,
) -> list[tuple[Report, bool]]:
    """Do what a callback says; says of each whether it is so now. Repeats change nothing."""
    told: list[tuple[Report, bool]] = []
    for report in reports:
        if isinstance(report, Started):
            at = report.messenger, report.address
            is_bound = await bind(tx, actor, connection, *at, report.token, now, secrets=secrets)
            told.append((report, is_bound))
        elif isinstance(report, Stopped):
            at, by = (report.messenger, report.address), "block" if report.is_block else "stop"
            told.append((report, await revoke_address(tx, actor, connection, *at, now, by=by)))
    await record_reports(tx, [one for one in reports if isinstance(one, Delivered)], now)
    return told


def _is_good(value: str) -> bool:
    return 0 < len(value) <= _MOST_SETTING and value.isprintable() and value == value.strip()
