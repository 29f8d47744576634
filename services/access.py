"""Who is calling: keys, sessions and access tokens, and the actor each stands for."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, update
from sqlmodel import col, select

from core.secrets import SESSION_PREFIX, Secrets, is_access_token, is_api_key
from db import BUSINESS, Query, Transaction, among, command, param, query
from models import AccessToken, Actor, ApiKey, Business, Session, Staff

_USED_EVERY = timedelta(minutes=1)

# Who calls is found before a business is known: these run in the name of the system.
_KEY, _FORMER_KEY = (
    query(
        select(ApiKey, Staff, Business)
        .join(Staff, col(Staff.id) == col(ApiKey.staff_id))
        .join(Business, col(Business.id) == col(ApiKey.business_id))
        .where(among(digest, "digests"), col(Staff.disabled_at).is_(None))
    )
    for digest in (col(ApiKey.digest), col(ApiKey.former_digest))
)
_SESSION: Query[Any] = query(
    select(Session, Staff, Business)
    .join(Staff, col(Staff.id) == col(Session.staff_id))
    .join(Business, col(Business.id) == col(Session.business_id))
    .where(
        among(col(Session.digest), "digests"),
        col(Session.ended_at).is_(None),
        col(Session.expires_at) > param("now"),
        col(Staff.disabled_at).is_(None),
    )
)
_TOKEN: Query[Any] = query(
    select(AccessToken, Staff, Business, ApiKey, Session)  # type: ignore[call-overload]
    .join(Staff, col(Staff.id) == col(AccessToken.staff_id))
    .join(Business, col(Business.id) == col(AccessToken.business_id))
    .outerjoin(ApiKey, col(ApiKey.id) == col(AccessToken.api_key_id))
    .outerjoin(Session, col(Session.id) == col(AccessToken.session_id))
    .where(
        among(col(AccessToken.digest), "digests"),
        col(AccessToken.expires_at) > param("now"),
        col(Staff.disabled_at).is_(None),
    )
)
_USED = command(
    update(ApiKey).where(col(ApiKey.id) == param("id")).values(last_used_at=param("now"))
)
_SESSION_USED = command(
    update(Session).where(col(Session.id) == param("id")).values(last_used_at=param("now"))
)

_END_TOKENS = command(
    delete(AccessToken).where(
        col(AccessToken.business_id) == BUSINESS, col(AccessToken.staff_id) == param("staff_id")
    )
)


async def authenticate(
    tx: Transaction, secret: str, secrets: Secrets, now: datetime
) -> Actor | None:
    """The actor whom a key, session or access token stands for, None if it opens no door.

    A key or token with a wrong checksum is refused without a query. Runs in the name of the
    system.
    """
    digests = secrets.digests(secret)
    if is_api_key(secret):
        return await _by_key(tx, _KEY, digests, now) or await _by_key(tx, _FORMER_KEY, digests, now)
    if secret.startswith(SESSION_PREFIX):
        for session, staff, business in await tx.many(_SESSION, digests=digests, now=now):
            return Actor(business, staff, session=session, secret_digest=session.digest)
    elif is_access_token(secret):
        for token, staff, business, key, session in await tx.many(_TOKEN, digests=digests, now=now):
            if _has_its_issuer(token, staff, key, session, now):
                return Actor(business, staff, key, session, token, token.digest)
    return None


async def _by_key(
    tx: Transaction, statement: Query[Any], digests: list[str], now: datetime
) -> Actor | None:
    for key, staff, business in await tx.many(statement, digests=digests):
        for digest in digests:
            if key.is_good(digest, now):
                return Actor(business, staff, api_key=key, secret_digest=digest)
    return None


def _has_its_issuer(
    token: AccessToken,
    staff: Staff,
    key: ApiKey | None,
    session: Session | None,
    now: datetime,
) -> bool:
    """Whether what issued a token still opens the door, and to the same rooms as it did then."""
    if (staff.role, staff.location_id) != (token.role, token.location_id):
        return False
    if key is not None:
        return key.is_good(token.issuer_digest, now)
    return (
        session is not None
        and session.digest == token.issuer_digest
        and session.ended_at is None
        and now < session.expires_at
    )


async def end_tokens(tx: Transaction, staff_id: str) -> None:
    """End the access tokens of a staff login; they come back with no right it gets again."""
    await tx.run(_END_TOKENS, staff_id=staff_id)


def is_well_formed(secret: str) -> bool:
    """Whether a secret is one we could have made: no other is worth a query."""
    return is_api_key(secret) or secret.startswith(SESSION_PREFIX) or is_access_token(secret)


def is_stale(key: ApiKey | Session, now: datetime) -> bool:
    """Whether the time of last use is worth writing again."""
    return key.last_used_at is None or now - key.last_used_at > _USED_EVERY


async def note_use(tx: Transaction, key: ApiKey | Session, now: datetime) -> None:
    """Remember that a key or session was used. Runs in the name of the system."""
    await tx.run(_USED if isinstance(key, ApiKey) else _SESSION_USED, id=key.id, now=now)
