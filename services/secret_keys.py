"""The deployment's secret key: whether it opens what is stored, and storing it under a new one."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from core.secrets import Secrets
from db import Command, Database, Query, Transaction, command, param, query
from models import SigningSecret, WebhookEndpoint
from webhooks.parcels import purpose_of_headers
from webhooks.signatures import purpose_of_secret

_AT_ONCE = 200

# Whichever business they are of, these run in the name of the system. A secret that was changed
# meanwhile is not touched: it was sealed anew by that.
_SIGNING: Query[Any] = query(
    select(SigningSecret.id, SigningSecret.endpoint_id, SigningSecret.ciphertext)
    .where(col(SigningSecret.id) > param("after"))
    .order_by(col(SigningSecret.id))
    .limit(param("most"))
)
_HEADERS: Query[Any] = query(
    select(WebhookEndpoint.id, WebhookEndpoint.id, WebhookEndpoint.headers)
    .where(col(WebhookEndpoint.id) > param("after"), col(WebhookEndpoint.headers).is_not(None))
    .order_by(col(WebhookEndpoint.id))
    .limit(param("most"))
)
_STORE_SIGNING = command(
    update(SigningSecret)
    .where(col(SigningSecret.id) == param("id_"), col(SigningSecret.ciphertext) == param("former"))
    .values(ciphertext=param("sealed"))
)
_STORE_HEADERS = command(
    update(WebhookEndpoint)
    .where(col(WebhookEndpoint.id) == param("id_"), col(WebhookEndpoint.headers) == param("former"))
    .values(headers=param("sealed"))
)
_KINDS: tuple[tuple[Query[Any], Command, Any], ...] = (
    (_SIGNING, _STORE_SIGNING, purpose_of_secret),
    (_HEADERS, _STORE_HEADERS, purpose_of_headers),
)


@dataclass
class Sealed:
    """What is stored encrypted: how much of it there is, and how much no key of ours opens."""

    all: int = 0
    closed: int = 0


async def look(database: Database, secrets: Secrets, most: int = 10_000) -> Sealed:
    """Try the keys on what is stored encrypted, on so much of it at most."""
    return await _walk(database, secrets, most, keeps=False)


async def seal_anew(database: Database, secrets: Secrets) -> Sealed:
    """Store all that is encrypted under the first key; what no key opens stays as it is."""
    return await _walk(database, secrets, None, keeps=True)


async def _walk(database: Database, secrets: Secrets, most: int | None, *, keeps: bool) -> Sealed:
    found = Sealed()
    for read, store, purpose_of in _KINDS:
        after = ""
        while most is None or found.all < most:

            async def page(tx: Transaction, read: Any = read, after: str = after) -> list[Any]:
                return await tx.many(read, after=after, most=_AT_ONCE)

            rows = await database.read(None, page)
            changes = []
            for id, endpoint_id, ciphertext in rows:
                found.all += 1
                try:
                    text = secrets.decrypt(ciphertext, purpose_of(endpoint_id))
                except ValueError:
                    found.closed += 1
                    continue
                sealed = secrets.encrypt(text, purpose_of(endpoint_id)) if keeps else ""
                changes.append({"id_": id, "former": ciphertext, "sealed": sealed})
            if keeps and changes:

                async def write(
                    tx: Transaction, store: Any = store, changes: Any = tuple(changes)
                ) -> None:
                    for change in changes:
                        await tx.run(store, **change)

                await database.write(None, write)
            if len(rows) < _AT_ONCE:
                break
            after = rows[-1][0]
    return found
