"""Sessions: who is signed in where; ended one by one, or all of a login at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import Forbidden, Invalid, NotFound
from core.ids import Id
from db import BUSINESS, Query, Transaction, command, param, query
from events.log import bump_access
from models import Actor, Role, Session, Staff
from models.base import UtcTimestamp
from services.operation import EVERYBODY, Input, Outcome, operation

MOST_LIVE = 20
"""Sessions of one staff login; a new one ends that which was used longest ago."""
_LIVE = (
    col(Session.business_id) == BUSINESS,
    col(Session.staff_id) == param("staff_id"),
    col(Session.ended_at).is_(None),
    col(Session.expires_at) > param("now", UtcTimestamp()),
)
_LIVE_OF: Query[Session] = query(
    select(Session)
    .where(col(Session.business_id) == BUSINESS, *_LIVE[1:])
    .order_by(
        func.coalesce(col(Session.last_used_at), col(Session.created_at)).desc(),
        col(Session.id).desc(),
    )
)
_END = command(
    update(Session)
    .where(
        col(Session.business_id) == BUSINESS,
        col(Session.id) == param("ended_id"),
        col(Session.ended_at).is_(None),
    )
    .values(ended_at=param("at", UtcTimestamp()))
)
_END_ALL = command(
    update(Session)
    .where(
        col(Session.business_id) == BUSINESS,
        col(Session.staff_id) == param("of"),
        col(Session.id) != param("kept_id"),
        col(Session.ended_at).is_(None),
    )
    .values(ended_at=param("at", UtcTimestamp()))
)


@dataclass(kw_only=True)
class SignOutInput(Input):
    """Nothing more is needed: it is the session of this call that ends."""


@dataclass(kw_only=True)
class EndSessionInput(Input):
    """The session to end."""

    id: Annotated[Id, Doc("The session's id: one's own, or for owners that of any staff login.")]


@dataclass(kw_only=True)
class EndAllSessionsInput(Input):
    """Whose sessions end."""

    staff_id: Annotated[
        Id | None, Doc("Whose; absent: one's own. Only owners may name another.")
    ] = None
    keep_current: Annotated[
        bool | None, Doc("Whether the session of this call stays; absent: it ends too.")
    ] = None


@dataclass(kw_only=True)
class SignedOut(Outcome):
    """The session has ended."""


@dataclass(kw_only=True)
class SessionEnded(Outcome):
    """The session that has ended."""

    ended_id: Annotated[str | None, Doc("The id of the session that has ended.")] = None


@dataclass(kw_only=True)
class SessionsEnded(Outcome):
    """How many sessions have ended."""

    ended_count: Annotated[int | None, Doc("How many sessions have ended.")] = None


@operation(*EVERYBODY)
async def sign_out(
    tx: Transaction,
    actor: Actor,
    input: SignOutInput,  # noqa: ARG001 -- every operation is told its input
    now: datetime,
) -> SignedOut:
    """End the session of this call. An API key does not sign out: it is deleted."""
    if actor.session_id is None:
        raise Invalid("Only a session signs out; an API key is deleted.", "input")
    await tx.run(_END, ended_id=actor.session_id, at=actor.business.real_time(now))
    await bump_access(tx)
    return SignedOut()


@operation(*EVERYBODY)
async def end_session(
    tx: Transaction, actor: Actor, input: EndSessionInput, now: datetime
) -> SessionEnded:
    """End a session: one's own, or as an owner that of any staff login.

    It opens no door any more; its live sockets close within a second, and the access tokens that
    were made with it are dead.
    """
    session = await tx.get(Session, input.id)
    if session is None or not may_see(actor, session.staff_id):
        raise NotFound("session", "input", "id")
    await tx.run(_END, ended_id=session.id, at=actor.business.real_time(now))
    await bump_access(tx)
    return SessionEnded(ended_id=session.id)


@operation(*EVERYBODY)
async def end_all_sessions(
    tx: Transaction, actor: Actor, input: EndAllSessionsInput, now: datetime
) -> SessionsEnded:
    """End all sessions of one's own login, or as an owner those of another.

    API keys are not touched: they are deleted or regenerated.
    """
    staff_id = input.staff_id or actor.staff_id
    if staff_id is None:
        raise Invalid("Say whose sessions.", "input", "staffId")
    if not may_see(actor, staff_id):
        raise Forbidden
    if await tx.get(Staff, staff_id) is None:
        raise NotFound("staff login", "input", "staffId")
    kept = actor.session_id if input.keep_current else None
    ended = await end_sessions(tx, staff_id, actor.business.real_time(now), kept)
    await bump_access(tx)
    return SessionsEnded(ended_count=ended)


def may_see(actor: Actor, staff_id: str) -> bool:
    """Whether an actor may see and end the sessions of a staff login."""
    return staff_id == actor.staff_id or actor.role in (Role.OWNER, None)


async def live_sessions(tx: Transaction, staff_id: str, now: datetime) -> list[Session]:
    """The sessions of a staff login that open doors, the last used first. `now` is real."""
    return await tx.many(_LIVE_OF, staff_id=staff_id, now=now)


async def end_sessions(
    tx: Transaction, staff_id: str, at: datetime, kept_id: str | None = None
) -> int:
    """End the sessions of a staff login, but for one; says how many. `at` is real."""
    return await tx.run(_END_ALL, of=staff_id, kept_id=kept_id or "", at=at)


async def make_room(tx: Transaction, staff_id: str, now: datetime) -> None:
    """End those that were used longest ago, so that one more is not too many."""
    for session in (await live_sessions(tx, staff_id, now))[MOST_LIVE - 1 :]:
        await tx.run(_END, ended_id=session.id, at=now)
