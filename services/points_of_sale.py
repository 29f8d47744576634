"""Points of sale: connected, changed, tested and disconnected."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NewType

import orjson
from annotated_doc import Doc
from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import Invalid, LimitReached, NotFound
from core.ids import Id, new_id
from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, command, param, query
from integrations.http import Outgoing
from integrations.tills import (
    Installed,
    NoReceipt,
    PointOfSaleKind,
    Till,
    TillAway,
    TillRefuses,
    TillSettings,
    till_of,
)
from models import Actor, Business, PointOfSale, PointOfSaleStatus, Sale, SaleStatus
from services.cards import published
from services.locations import location_to_work_at
from services.operation import MANAGERS, Input, Outcome, Shown, operation
from services.owner_notices import tell_of_till
from services.sale_refs import live_point
from services.text import short_text

MOST_POINTS = 100
MOST_SETTINGS = 10_000
_WORTH_TELLING = {
    "name": "name",
    "location_id": "location",
    "template_id": "card template",
    "settings": "settings",
}
SettingsDocument = NewType("SettingsDocument", dict[str, Any])

_COUNT = query(
    select(func.count())
    .select_from(PointOfSale)
    .where(col(PointOfSale.business_id) == BUSINESS, col(PointOfSale.disconnected_at).is_(None))
)
_LOCKED = query(
    select(PointOfSale)
    .where(
        col(PointOfSale.business_id) == BUSINESS,
        col(PointOfSale.id) == param("id"),
        col(PointOfSale.disconnected_at).is_(None),
    )
    .with_for_update()
)
_OF_ACCOUNT = query(
    select(PointOfSale).where(
        col(PointOfSale.business_id) == BUSINESS,
        col(PointOfSale.kind) == param("kind"),
        col(PointOfSale.account) == param("account"),
        col(PointOfSale.disconnected_at).is_(None),
    )
)
_WAKE = command(
    update(Sale)
    .where(
        col(Sale.business_id) == BUSINESS,
        col(Sale.point_of_sale_id) == param("id"),
        col(Sale.status) == SaleStatus.WAITING,
    )
    .values(next_attempt_at=param("at"))
)

# Whose till calls is found before a business is known: this runs in the name of the system.
_BY_ID: Query[tuple[PointOfSale, Business]] = query(
    select(PointOfSale, Business)
    .join(Business, col(Business.id) == col(PointOfSale.business_id))
    .where(col(PointOfSale.id) == param("id"), col(PointOfSale.disconnected_at).is_(None))
)


@dataclass(kw_only=True)
class ConnectPointOfSaleInput(Input):
    """The till to connect."""

    kind: Annotated[PointOfSaleKind, Doc("What kind of till it is.")]  # type: ignore[valid-type]
    name: Annotated[str, Doc("What people call it, at most 200 characters.")]
    location_id: Annotated[Id, Doc("Where its sales happen.")]
    template_id: Annotated[Id, Doc("The published card template whose cards it stamps.")]
    settings: Annotated[
        SettingsDocument,
        Doc("What this kind of till wants to be told; kept encrypted, and never shown."),
    ]


@dataclass(kw_only=True)
class TestPointOfSaleInput(Input):
    """The point of sale to test."""

    id: Annotated[Id, Doc("The point of sale's id.")]


@dataclass(kw_only=True)
class DisconnectPointOfSaleInput(Input):
    """The point of sale to disconnect."""

    id: Annotated[Id, Doc("The point of sale's id.")]


@dataclass(kw_only=True)
class PointOfSaleOutcome(Outcome):
    """The point of sale as it now is; where its till signs with a secret we made, that secret."""

    point_of_sale: PointOfSale | None = None
    signing_secret: Shown | None = None


@dataclass(kw_only=True)
class PointOfSaleTested(Outcome):
    """What a test found."""

    ok: Annotated[bool | None, Doc("Whether all is well.")] = None
    detail: Annotated[str | None, Doc("What was found, in words.")] = None


@dataclass(kw_only=True)
class PointOfSaleDisconnected(Outcome):
    """The id of the point of sale."""

    deleted_id: str | None = None


@dataclass(frozen=True)
class Connection:
    """A point of sale, its kind of till, and its settings as that till has them."""

    point: PointOfSale
    till: Till[Any]
    settings: TillSettings

    @classmethod
    def of(cls, point: PointOfSale, secrets: Secrets) -> "Connection":
        """With its settings unsealed."""
        till = till_of(point.kind)
        text = secrets.decrypt(point.settings or "", purpose_of_settings(point.id))
        return cls(point, till, till.settings.model_validate_json(text))


@dataclass(frozen=True)
class Finding:
    """What a test found at the till."""

    ok: bool
    detail: str
    is_refused: bool = False


@operation(*MANAGERS)
async def connect_point_of_sale(
    tx: Transaction,
    actor: Actor,
    input: ConnectPointOfSaleInput,
    now: datetime,
    *,
    secrets: Secrets,
) -> PointOfSaleOutcome:
    """Connect a till: from then on its sales add stamps, each once.

    It is PENDING until it was authorised at `authorizeUrl` or set up at the till's side; where
    neither is needed, ACTIVE at once.
    """
    kind = str(input.kind)
    till, at = till_of(kind), actor.business.real_time(now)
    location = await location_to_work_at(tx, input.location_id, "input", "locationId")
    template, _ = await published(tx, input.template_id, "input", "templateId")
    if await tx.one(_COUNT) >= MOST_POINTS:
        raise LimitReached(f"At most {MOST_POINTS} points of sale.", "input", retry_at=None)
    try:
        settings, shown = till.prepared(_settings_of(till, input.settings), actor.business)
    except ValueError as error:
        raise Invalid(str(error), "input", "settings") from None
    id = new_id("pos")
    account = till.account_of(settings, id)
    if await tx.maybe(_OF_ACCOUNT, kind=kind, account=account) is not None:
        raise Invalid("This account of the till is connected already.", "input", "settings")
    is_ready = till.is_ready(settings) and not till.needs_set_up
    point = PointOfSale(
        id=id,
        business_id=actor.business_id,
        kind=kind,
        name=short_text(input.name, "input", "name"),
        location_id=location.id,
        template_id=template.id,
        account=account,
        settings=seal(secrets, id, settings),
        status=PointOfSaleStatus.ACTIVE if is_ready else PointOfSaleStatus.PENDING,
        next_set_up_at=at if till.needs_set_up else None,
        created_at=at,
        created_by_id=actor.staff_id,
    )
    await tx.add(point)
    await tell_of_till(tx, actor, point, "connected", at)
    return PointOfSaleOutcome(
        point_of_sale=point, signing_secret=None if shown is None else Shown(shown)
    )


@operation(*MANAGERS)
async def update_point_of_sale(
    tx: Transaction, actor: Actor, given: Mapping[str, Any], now: datetime, *, secrets: Secrets
) -> PointOfSaleOutcome:
    """Change the given fields of a point of sale; its sales go on coming in.

    Takes `id` and any of `name`, `location_id`, `template_id`, `settings`. Of the settings, those
    that are given take the place of the former ones, null takes one away, and the others stay; but
    to another address the keys are told anew. Its account stays: another one is another point of
    sale. A sale that waits is settled as things stand then.
    """
    point = await tx.maybe(_LOCKED, id=given["id"])
    if point is None:
        raise NotFound("point of sale", "input", "id")
    at = actor.business.real_time(now)
    values: dict[str, Any] = {}
    shown: str | None = None
    if "name" in given:
        values["name"] = short_text(given["name"] or "", "input", "name")
    if "location_id" in given:
        path = ("input", "locationId")
        values["location_id"] = (await location_to_work_at(tx, given["location_id"], *path)).id
    if "template_id" in given:
        path = ("input", "templateId")
        values["template_id"] = (await published(tx, given["template_id"], *path))[0].id
    if "settings" in given:
        changes, shown = _other_settings(point, actor.business, given["settings"], secrets, at)
        values |= changes
        await tx.run(_WAKE, id=point.id, at=at)
    if values:
        point = await tx.change(point, **values)
        told_of = [word for word in _WORTH_TELLING if word in given]
        words = ", ".join(_WORTH_TELLING[word] for word in told_of)
        await tell_of_till(tx, actor, point, f"changed ({words})", at)
    return PointOfSaleOutcome(
        point_of_sale=point, signing_secret=None if shown is None else Shown(shown)
    )


@operation(*MANAGERS)
async def test_point_of_sale(
    tx: Transaction,
    actor: Actor,
    input: TestPointOfSaleInput,
    now: datetime,
    *,
    finding: Finding,
) -> PointOfSaleTested:
    """Try a connection with the till itself; sets it up again where that was undone."""
    point = await live_point(tx, input.id, "input", "id")
    at = actor.business.real_time(now)
    if finding.ok:
        await now_well(tx, point, at)
    elif finding.is_refused and point.status is not PointOfSaleStatus.PENDING:
        await tx.change(point, status=PointOfSaleStatus.FAILING, problem=finding.detail)
    return PointOfSaleTested(ok=finding.ok, detail=finding.detail)


@operation(*MANAGERS)
async def disconnect_point_of_sale(
    tx: Transaction, actor: Actor, input: DisconnectPointOfSaleInput, now: datetime
) -> PointOfSaleDisconnected:
    """Disconnect a till: its calls are refused from now on, and its secrets are gone.

    The stamps it gave stay, and so does what was made of its sales.
    """
    point = await live_point(tx, input.id, "input", "id")
    at = actor.business.real_time(now)
    await tx.change(
        point,
        settings=None,
        next_set_up_at=None,
        disconnected_at=at,
        disconnected_by_id=actor.staff_id,
    )
    await tell_of_till(tx, actor, point, "disconnected", at)
    return PointOfSaleDisconnected(deleted_id=point.id)


async def try_out(outgoing: Outgoing, connection: Connection, callback_url: str) -> Finding:
    """Ask the till itself. Does I/O: to be awaited outside of a transaction."""
    try:
        detail = await connection.till.test(outgoing, connection.settings, callback_url)
    except TillRefuses as error:
        return Finding(ok=False, detail=str(error), is_refused=True)
    except (TillAway, NoReceipt) as error:
        return Finding(ok=False, detail=str(error))
    return Finding(ok=True, detail=detail)


async def now_well(tx: Transaction, point: PointOfSale, at: datetime) -> PointOfSale:
    """All is well with a point of sale: its sales that wait are looked at now."""
    if point.status is PointOfSaleStatus.ACTIVE and point.problem is None:
        return point
    await tx.run(_WAKE, id=point.id, at=at)
    return await tx.change(
        point, status=PointOfSaleStatus.ACTIVE, problem=None, next_set_up_at=None
    )


async def let_in(
    tx: Transaction, connection: Connection, installed: Installed, secrets: Secrets, at: datetime
) -> None:
    """Keep what the till gave us to let us in."""
    point = await live_point(tx, connection.point.id)
    known = Connection.of(point, secrets).settings
    sealed = seal(secrets, point.id, known.model_copy(update=dict(installed.settings)))
    point = await tx.change(point, settings=sealed, status=PointOfSaleStatus.PENDING)
    await now_well(tx, point, at)


async def point_by_id(tx: Transaction, id: str) -> tuple[PointOfSale, Business] | None:
    """A connected point of sale, and whose it is. Runs in the name of the system."""
    return await tx.maybe(_BY_ID, id=id)


async def point_of_account(tx: Transaction, kind: str, account: str) -> PointOfSale | None:
    """The connected point of sale of a till's account, in this business."""
    return await tx.maybe(_OF_ACCOUNT, kind=kind, account=account)


def purpose_of_settings(id: str) -> str:
    """What a point of sale's settings are encrypted for."""
    return f"settings of {id}"


def seal(secrets: Secrets, id: str, settings: TillSettings) -> str:
    """Settings as they are stored: encrypted, for they hold secrets."""
    return secrets.encrypt(settings.model_dump_json(by_alias=True), purpose_of_settings(id))


def callback_url(url: str, point: PointOfSale) -> str:
    """Where the till calls us."""
    return f"{url}/tills/{point.id}"


def redirect_url(url: str, point: PointOfSale) -> str:
    """Where the till sends back the person who let us in."""
    return f"{callback_url(url, point)}/authorized"


def _other_settings(
    point: PointOfSale, business: Business, told: Any, secrets: Secrets, at: datetime
) -> tuple[dict[str, Any], str | None]:
    """The columns of a point of sale with these settings changed; and a secret to be shown."""
    path = ("input", "settings")
    try:
        connection = Connection.of(point, secrets)
    except ValueError:
        message = "No secret key of this deployment opens its settings: connect it anew."
        raise Invalid(message, *path) from None
    till, former = connection.till, connection.settings
    if not isinstance(told, dict):
        raise Invalid("Settings are an object.", *path)
    whole = former.model_dump(mode="json", by_alias=True) | told
    left = {name: value for name, value in whole.items() if value is not None}
    try:
        settings, shown = till.changed(former, _settings_of(till, left), business)
    except ValueError as error:
        raise Invalid(str(error), *path) from None
    if till.account_of(settings, point.id) != point.account:
        raise Invalid("Another account is another point of sale: connect it.", *path)
    _check_keys(former, settings, told)
    is_ready = till.is_ready(settings) and not till.needs_set_up
    values = {
        "settings": seal(secrets, point.id, settings),
        "status": PointOfSaleStatus.ACTIVE if is_ready else PointOfSaleStatus.PENDING,
        "problem": None,
        "next_set_up_at": at if till.needs_set_up else None,
        "set_up_tries": 0,
    }
    return values, shown


def _check_keys(former: TillSettings, settings: TillSettings, told: Mapping[str, Any]) -> None:
    """Refuse to show a key at another address to whoever may not know the key."""
    where = settings.address
    if where is None or getattr(former, where) == getattr(settings, where):
        return
    for name in settings.keys:
        alias = to_camel(name)
        if getattr(settings, name) is not None and alias not in told:
            message = "At another address no key is shown that is not told with it."
            raise Invalid(message, "input", "settings", alias)


def _settings_of(till: Till[Any], told: Mapping[str, Any]) -> TillSettings:
    """Settings as they were told, checked; what is wrong is said without what was told."""
    path = ("input", "settings")
    if not isinstance(told, dict) or len(orjson.dumps(told)) > MOST_SETTINGS:
        raise Invalid(f"An object of at most {MOST_SETTINGS} characters.", *path)
    try:
        settings: TillSettings = till.settings.model_validate(told)
    except ValidationError as error:
        [wrong, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        where = [str(part) for part in wrong["loc"]]
        raise Invalid(f"{'.'.join(where) or 'settings'}: {wrong['msg']}.", *path, *where) from None
    return settings
