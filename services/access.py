"""Who is calling: keys and sessions, and the actor each stands for."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlmodel import col, select

from core.secrets import SESSION_PREFIX, Secrets, is_api_key
from db import Query, Transaction, among, command, param, query
from models import Actor, ApiKey, Business, Session, Staff

_USED_EVERY = timedelta(minutes=1)

# Who calls is found before a business is known: these run in the name of the system.
_KEY: Query[Any] = query(
    select(ApiKey, Staff, Business)
    .join(Staff, col(Staff.id) == col(ApiKey.staff_id))
    .join(Business, col(Business.id) == col(ApiKey.business_id))
    .where(
        or_(
            among(col(ApiKey.digest), "digests"),
            among(col(ApiKey.former_digest), "digests"),
        ),
        col(Staff.disabled_at).is_(None),
    )
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
_USED = command(
    update(ApiKey).where(col(ApiKey.id) == param("id")).values(last_used_at=param("now"))
)


async def authenticate(
    tx: Transaction, secret: str, secrets: Secrets, now: datetime
) -> Actor | None:
    """The actor whom an API key or session stands for, None if it opens no door.

    A key with a wrong checksum is refused without a query. Runs in the name of the system.
    """
    digests = secrets.digests(secret)
    if is_api_key(secret):
        for key, staff, business in await tx.many(_KEY, digests=digests):
            if any(key.is_good(digest, now) for digest in digests):
                return Actor(business, staff, api_key=key)
    elif secret.startswith(SESSION_PREFIX):
        for session, staff, business in await tx.many(_SESSION, digests=digests, now=now):
            return Actor(business, staff, session=session)
    return None


def is_stale(key: ApiKey, now: datetime) -> bool:
    """Whether the time of last use is worth writing again."""
    return key.last_used_at is None or now - key.last_used_at > _USED_EVERY


async def note_use(tx: Transaction, key_id: str, now: datetime) -> None:
    """Remember that a key was used. Runs in the name of the system."""
    await tx.run(_USED, id=key_id, now=now)
