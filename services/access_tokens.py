"""Access tokens: issued to apps and browsers; what each of them may see."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

from annotated_doc import Doc
from sqlalchemy import and_, delete, func, or_
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, LimitReached, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, new_access_token
from db import BUSINESS, Query, Transaction, among, command, param, query
from models import (
    AccessToken,
    Actor,
    ApiKey,
    Card,
    CardPlatform,
    CardTemplate,
    CardTemplateVersion,
    Customer,
    Goal,
    Location,
    LotteryTicket,
    Operation,
    Reach,
    Reward,
    Row,
    Session,
    Staff,
    Voucher,
    VoucherTemplate,
)
from models.base import UtcTimestamp
from services.card_refs import CardRef, find_card
from services.listings import EventFilter, EventType
from services.operation import EVERYBODY, NOT_BY_TOKEN, Input, Outcome, Shown, operation

MOST_LIVE = 1_000
"""Tokens of one staff login that are alive at once."""
_DEFAULT_SECONDS = 3_600
_MOST_SECONDS = 86_400
_MOST_NAMED = 100
T = TypeVar("T")

_ISSUER = query(
    select(Staff)
    .where(col(Staff.business_id) == BUSINESS, col(Staff.id) == param("id"))
    .with_for_update(key_share=True)
)
_NOW = param("now", UtcTimestamp())
_KEY_IS_GOOD = (
    select(ApiKey.id)
    .where(
        col(ApiKey.business_id) == BUSINESS,
        col(ApiKey.id) == col(AccessToken.api_key_id),
        or_(
            col(ApiKey.digest) == col(AccessToken.issuer_digest),
            and_(
                col(ApiKey.former_digest) == col(AccessToken.issuer_digest),
                col(ApiKey.former_until) > _NOW,
            ),
        ),
    )
    .exists()
)
_SESSION_IS_GOOD = (
    select(Session.id)
    .where(
        col(Session.business_id) == BUSINESS,
        col(Session.id) == col(AccessToken.session_id),
        col(Session.ended_at).is_(None),
        col(Session.expires_at) > _NOW,
    )
    .exists()
)
_FORGET_DEAD = command(
    delete(AccessToken).where(
        col(AccessToken.business_id) == BUSINESS,
        col(AccessToken.staff_id) == param("staff_id"),
        or_(col(AccessToken.expires_at) <= _NOW, ~or_(_KEY_IS_GOOD, _SESSION_IS_GOOD)),
    )
)
_LIVE: Query[tuple[int, datetime | None]] = query(
    select(func.count(), func.min(col(AccessToken.expires_at))).where(
        col(AccessToken.business_id) == BUSINESS,
        col(AccessToken.staff_id) == param("staff_id"),
    )
)
_NAMED: dict[type[Row], Query[str]] = {
    kind: query(select(kind.id).where(kind.business_id == BUSINESS, among(kind.id, "ids")))
    for kind in (Card, Customer, Location)
}

_OF_CARDS: frozenset[type[Row]] = frozenset(
    {Card, CardTemplate, CardTemplateVersion, Customer, Goal, VoucherTemplate}
)
_REACHABLE: dict[Reach, frozenset[type[Row]]] = {
    Reach.CARD: _OF_CARDS | {CardPlatform, Voucher},
    Reach.EVENTS: _OF_CARDS | {Location, LotteryTicket, Operation, Reward, Voucher},
}


@dataclass(kw_only=True)
class EventScopeInput:
    """Which events a token shows. A list that is absent asks nothing; all given must match."""

    types: Annotated[list[EventType] | None, Doc("Of these types.")] = None  # type: ignore[valid-type]
    location_ids: Annotated[list[Id] | None, Doc("At these locations, at most 100.")] = None
    card_ids: Annotated[list[Id] | None, Doc("On these cards, at most 100.")] = None
    customer_ids: Annotated[list[Id] | None, Doc("Of these customers, at most 100.")] = None


@dataclass(kw_only=True)
class CreateAccessTokenInput(Input):
    """What an app or a browser may see, and for how long: give `card` or `events`."""

    card: Annotated[CardRef | None, Doc("One card, as the phone of its holder may see it.")] = None
    events: Annotated[
        EventScopeInput | None, Doc("The events of a filter, which nobody can widen.")
    ] = None
    expires_in: Annotated[int | None, Doc("Seconds until it ends, 1 to 86400; absent: 3600.")] = (
        None
    )


@dataclass(kw_only=True)
class AccessTokenShown(Outcome):
    """A new access token, which is never shown again, and when it ends."""

    secret: Shown | None = None
    expires_at: Annotated[
        datetime | None, Doc("When it ends; earlier, if what issued it ends earlier.")
    ] = None


@operation(*EVERYBODY)
async def create_access_token(
    tx: Transaction,
    actor: Actor,
    input: CreateAccessTokenInput,
    now: datetime,
    *,
    secrets: Secrets,
) -> AccessTokenShown:
    """Issue a token for an app or a browser: it only reads, within its scope, for a day at most.

    It dies with the key or session that issued it, and when its staff login is disabled or gets
    another role or location. A staff login has at most 1000 live ones.
    """
    seconds = _DEFAULT_SECONDS if input.expires_in is None else input.expires_in
    if not 1 <= seconds <= _MOST_SECONDS:
        raise Invalid(f"Between 1 and {_MOST_SECONDS} seconds.", "input", "expiresIn")
    issuer, digest = actor.staff, actor.secret_digest
    if issuer is None or digest is None:
        raise Forbidden
    scope = await _scope_of(tx, input)
    real_now = actor.business.real_time(now)
    # Held, so that two calls at one moment are counted, and none outlives a change of its rights.
    current = await tx.one(_ISSUER, id=issuer.id)
    if current.disabled_at is not None or _rooms(current) != _rooms(issuer):
        raise Forbidden
    await tx.run(_FORGET_DEAD, staff_id=issuer.id, now=real_now)
    live, first_end = await tx.one(_LIVE, staff_id=issuer.id)
    if live >= MOST_LIVE:
        raise LimitReached(f"At most {MOST_LIVE} live tokens.", "input", retry_at=first_end)
    secret = Shown(new_access_token())
    token = AccessToken(
        id=new_id("tok"),
        business_id=actor.business_id,
        staff_id=issuer.id,
        api_key_id=actor.api_key.id if actor.api_key else None,
        session_id=actor.session_id,
        issuer_digest=digest,
        role=issuer.role,
        location_id=issuer.location_id,
        digest=secrets.digest(secret),
        scope=scope,
        created_at=real_now,
        expires_at=min([real_now + timedelta(seconds=seconds), *_ends_of(actor, digest)]),
    )
    await tx.add(token)
    return AccessTokenShown(secret=secret, expires_at=token.expires_at)


def filter_within(actor: Actor, asked: EventFilter | None) -> EventFilter:
    """The filter an actor may ask for: what a token's scope leaves of it.

    Forbidden for tokens of another kind, and for a search: it would tell names and numbers.
    """
    wanted, token = asked or EventFilter(), actor.token
    if token is None:
        return wanted
    if token.reach is not Reach.EVENTS:
        raise Forbidden(NOT_BY_TOKEN)
    if wanted.search is not None:
        raise Forbidden("An access token does not search people.")
    own: Any = token.events
    return replace(
        wanted,
        types=_both(wanted.types, own.get("types")),
        location_ids=_both(wanted.location_ids, own.get("location_ids")),
        card_ids=_both(wanted.card_ids, own.get("card_ids")),
        customer_ids=_both(wanted.customer_ids, own.get("customer_ids")),
    )


async def is_shown(tx: Transaction, actor: Actor, card: Card) -> bool:
    """Whether a card may be shown to an actor: to a token just its own, or what became of it."""
    if actor.token is None or actor.token.card_id == card.id:
        return True
    if actor.token.card_id is None:
        raise Forbidden(NOT_BY_TOKEN)
    try:
        own, _ = await find_card(tx, CardRef(id=Id(actor.token.card_id)))
    except NotFound:
        return False
    return own.id == card.id


def check_ref(actor: Actor, ref: CardRef) -> None:
    """Forbidden where a token names a card by who holds it: its answer would tell addresses."""
    if actor.token is not None and ref.holder is not None:
        raise Forbidden("An access token names a card by id, number or token.")


def check_reach(actor: Actor, kind: type[Row]) -> None:
    """Forbidden where a token follows a relation to rows it has no business with."""
    if actor.token is not None and kind not in _REACHABLE[actor.token.reach]:
        raise Forbidden(NOT_BY_TOKEN)


async def _scope_of(tx: Transaction, input: CreateAccessTokenInput) -> dict[str, Any]:
    if (input.card is None) == (input.events is None):
        raise Invalid("Give card or events, and not both.", "input")
    if input.card is not None:
        card, _ = await find_card(tx, input.card, "input", "card")
        if card.deleted_at is not None:
            raise Refused(Code.CARD_DELETED, "This card was deleted.", "input", "card")
        return {"card": card.id}
    told = input.events or EventScopeInput()
    scope: dict[str, list[str]] = {}
    if told.types is not None:
        scope["types"] = _some([str(word) for word in told.types], "types")
    for name, path, kind in (
        ("location_ids", "locationIds", Location),
        ("card_ids", "cardIds", Card),
        ("customer_ids", "customerIds", Customer),
    ):
        ids = getattr(told, name)
        if ids is not None:
            scope[name] = ids = _some(ids, path)
            if len(await tx.many(_NAMED[kind], ids=ids)) != len(ids):
                raise NotFound(kind.__name__.lower(), "input", "events", path)
    return {"events": scope}


def _rooms(staff: Staff) -> tuple[str, str | None]:
    return staff.role, staff.location_id


def _some(words: list[str], path: str) -> list[str]:
    once = list(dict.fromkeys(words))
    if not 1 <= len(once) <= _MOST_NAMED:
        raise Invalid(f"Between 1 and {_MOST_NAMED}.", "input", "events", path)
    return once


def _ends_of(actor: Actor, digest: str) -> list[datetime]:
    """When what issues a token ends by itself."""
    key, session = actor.api_key, actor.session
    ends = [session.expires_at if session else None]
    if key is not None:
        ends += [key.expires_at, key.former_until if digest == key.former_digest else None]
    return [end for end in ends if end is not None]


def _both(asked: list[T] | None, allowed: list[T] | None) -> list[T] | None:
    """What both lists hold; an absent one holds everything."""
    if allowed is None or asked is None:
        return asked if allowed is None else allowed
    return [item for item in asked if item in allowed]
