"""Leaked keys: a secret that was found in public opens no door any more, and owners are told why.

It is found by its digest, like a key that calls: nothing is learned by whoever only guesses.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import or_
from sqlmodel import col, select

from core.secrets import Secrets, is_api_key
from db import BUSINESS, Database, Query, Transaction, among, param, query
from events.log import bump_access
from models import ApiKey
from services.owner_notices import tell_of_leak

# Whose key it is has yet to be found: this runs in the name of the system.
_FOUND: Query[Any] = query(
    select(ApiKey.id, ApiKey.business_id).where(
        or_(
            among(col(ApiKey.digest), "digests"),
            among(col(ApiKey.former_digest), "digests"),
        )
    )
)
_LOCKED = query(
    select(ApiKey)
    .where(col(ApiKey.business_id) == BUSINESS, col(ApiKey.id) == param("id"))
    .with_for_update()
)


async def disable_leaked(
    database: Database, secrets: Secrets, secret: str, where: str, now: datetime
) -> bool:
    """Disable the key that has this secret, if there is one; says whether there is.

    Only what was found dies: of a key in its overlap, the former secret or the whole key.
    """
    if not is_api_key(secret):
        return False
    digests = secrets.digests(secret)
    found = await database.read(None, lambda tx: tx.maybe(_FOUND, digests=digests))
    if found is None:
        return False
    key_id, business_id = found
    await database.write(business_id, lambda tx: _disable(tx, key_id, digests, where, now))
    return True


async def _disable(
    tx: Transaction, key_id: str, digests: list[str], where: str, now: datetime
) -> None:
    key = await tx.maybe(_LOCKED, id=key_id)
    is_present = key is not None and key.digest in digests
    if key is None or not any(key.is_good(digest, now) for digest in digests):
        return  # it was dead before, or is another by now
    if is_present:
        key = await tx.change(
            key, expires_at=now, leaked_at=now, former_digest=None, former_until=None
        )
    else:
        key = await tx.change(key, former_digest=None, former_until=None)
    await bump_access(tx)
    await tell_of_leak(tx, key, where, now, is_former=not is_present)
