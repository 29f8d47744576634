"""What owners are told of who gets in, where events go, and what is connected."""

import re
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import col, select

from core.clock import wire_time
from core.ids import new_id
from db import BUSINESS, Query, Transaction, param, query
from models import (
    Actor,
    ApiKey,
    ChannelConnection,
    Notice,
    NoticeKind,
    PointOfSale,
    Staff,
    WebhookEndpoint,
    one_line,
)
from models.base import UtcTimestamp
from services.places import Place
from webhooks.notices import name_of

MOST_PER_HOUR = 20
"""Notices of a kind in a business: who changes more than that does not fill mailboxes."""

_ADDRESS = re.compile(r"https?://[!-~]{1,500}")

_OF_LATE: Query[int] = query(
    select(func.count())
    .select_from(Notice)
    .where(
        col(Notice.business_id) == BUSINESS,
        col(Notice.kind) == param("kind", Notice.__table__.c.kind.type),  # type: ignore[attr-defined]
        col(Notice.created_at) > param("since", UtcTimestamp()),
    )
)


async def tell_of_sign_in(
    tx: Transaction, staff: Staff, place: Place, at: datetime, did: str = "signed in"
) -> None:
    """Somebody signed in, or did what leads to it, from a place that is new for this login."""
    message = (
        f"{staff.name} ({staff.role.name}) {did} from a new place: {place}. If it was somebody "
        "else, end the sessions of this login (endAllSessions) and give it another password."
    )
    await _tell(tx, staff.business_id, NoticeKind.NEW_SIGN_IN, staff.id, message, at)


async def tell_of_key(tx: Transaction, actor: Actor, key: ApiKey, what: str, at: datetime) -> None:
    """Somebody did something with an API key, such as `generated`."""
    message = f'The API key "{key.name}" (…{key.hint}) was {what} by {_who(actor)}.'
    await _tell(tx, key.business_id, NoticeKind.API_KEY_CHANGED, key.id, message, at)


async def tell_of_leak(
    tx: Transaction, key: ApiKey, where: str, at: datetime, *, is_former: bool
) -> None:
    """A secret of an API key was found in public, at an address that a scanner told."""
    found = f"at {where}" if _ADDRESS.fullmatch(where) else "at a place that was not told"
    what = "the former secret of the API key" if is_former else "the API key"
    message = (
        f'Somebody published {what} "{key.name}" (…{key.hint}): it was found {found}. It opens no '
        "door any more. Take it away from there, look at what it did, and give whoever uses it a "
        "new one (regenerateApiKey)."
    )
    await _tell(tx, key.business_id, NoticeKind.API_KEY_LEAKED, key.id, message, at)


async def tell_of_endpoint(
    tx: Transaction, actor: Actor, endpoint: WebhookEndpoint, what: str, at: datetime
) -> None:
    """Somebody did something with a webhook endpoint, such as `deleted`."""
    message = f"The webhook endpoint {name_of(endpoint)} was {what} by {_who(actor)}."
    await _tell(tx, endpoint.business_id, NoticeKind.ENDPOINT_CHANGED, endpoint.id, message, at)


async def tell_of_till(
    tx: Transaction, actor: Actor, point: PointOfSale, what: str, at: datetime
) -> None:
    """Somebody did something with a point of sale, such as `connected`."""
    kind = NoticeKind.POINT_OF_SALE_CHANGED
    message = f'The point of sale "{point.name}" ({point.kind}) was {what} by {_who(actor)}.'
    await _tell(tx, point.business_id, kind, point.id, message, at)


async def tell_of_channel(
    tx: Transaction, actor: Actor, connection: ChannelConnection, what: str, at: datetime
) -> None:
    """Somebody did something with a channel, such as `connected`."""
    name = one_line(str(connection.facts.get("name") or ""))[:100]
    called = f'{connection.kind.name} "{name}"' if name else connection.kind.name
    message = f"The channel {called} was {what} by {_who(actor)}."
    kind = NoticeKind.CHANNEL_CHANGED
    await _tell(tx, connection.business_id, kind, connection.id, message, at)


async def _tell(
    tx: Transaction, business_id: str, kind: NoticeKind, subject_id: str, message: str, at: datetime
) -> None:
    """Write a notice; the last one of an hour that has too many says that it is the last."""
    known = await tx.one(_OF_LATE, kind=kind, since=at - timedelta(hours=1))
    if known >= MOST_PER_HOUR:
        return
    if known == MOST_PER_HOUR - 1:
        message += " There were many of these within an hour: no more are told for a while."
    id = new_id("ntc")
    await tx.add_if_new(
        Notice(
            id=id,
            business_id=business_id,
            kind=kind,
            subject_id=subject_id,
            step=f"{wire_time(at)} {id}",
            message=message,
            created_at=at,
        )
    )


def _who(actor: Actor) -> str:
    """Who it was, in words."""
    staff = actor.staff
    return f"{staff.name} ({staff.role.name})" if staff else "whoever runs the server"
