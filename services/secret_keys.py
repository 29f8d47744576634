"""The deployment's secret key: whether it opens what is stored, and storing it under a new one."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from core.secrets import Secrets
from db import Command, Database, Query, Transaction, command, param, query
from integrations.channels import purpose_of_connection
from models import (
    ChannelConnection,
    DeploymentKey,
    JoinRequest,
    PointOfSale,
    SigningSecret,
    WebhookEndpoint,
)
from services.joining import purpose_of_link
from services.points_of_sale import purpose_of_settings
from services.push_keys import purpose_of_key
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
_TILLS: Query[Any] = query(
    select(PointOfSale.id, PointOfSale.id, PointOfSale.settings)
    .where(col(PointOfSale.id) > param("after"), col(PointOfSale.settings).is_not(None))
    .order_by(col(PointOfSale.id))
    .limit(param("most"))
)
_CHANNELS: Query[Any] = query(
    select(ChannelConnection.id, ChannelConnection.id, ChannelConnection.settings)
    .where(
        col(ChannelConnection.id) > param("after"), col(ChannelConnection.disconnected_at).is_(None)
    )
    .order_by(col(ChannelConnection.id))
    .limit(param("most"))
)
_KEYS: Query[Any] = query(
    select(DeploymentKey.name, DeploymentKey.name, DeploymentKey.ciphertext)
    .where(col(DeploymentKey.name) > param("after"))
    .order_by(col(DeploymentKey.name))
    .limit(param("most"))
)
_LINKS: Query[Any] = query(
    select(JoinRequest.id, JoinRequest.id, JoinRequest.sealed_secret)
    .where(col(JoinRequest.id) > param("after"), col(JoinRequest.sealed_secret).is_not(None))
    .order_by(col(JoinRequest.id))
    .limit(param("most"))
)
_STORE_LINKS = command(
    update(JoinRequest)
    .where(col(JoinRequest.id) == param("id_"), col(JoinRequest.sealed_secret) == param("former"))
    .values(sealed_secret=param("sealed"))
)
_STORE_CHANNELS = command(
    update(ChannelConnection)
    .where(
        col(ChannelConnection.id) == param("id_"),
        col(ChannelConnection.settings) == param("former"),
    )
    .values(settings=param("sealed"))
)
_STORE_KEYS = command(
    update(DeploymentKey)
    .where(
        col(DeploymentKey.name) == param("id_"), col(DeploymentKey.ciphertext) == param("former")
    )
    .values(ciphertext=param("sealed"))
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
_STORE_TILLS = command(
    update(PointOfSale)
    .where(col(PointOfSale.id) == param("id_"), col(PointOfSale.settings) == param("former"))
    .values(settings=param("sealed"))
)
_KINDS: tuple[tuple[Query[Any], Command, Any], ...] = (
    (_SIGNING, _STORE_SIGNING, purpose_of_secret),
    (_HEADERS, _STORE_HEADERS, purpose_of_headers),
    (_TILLS, _STORE_TILLS, purpose_of_settings),
    (_CHANNELS, _STORE_CHANNELS, purpose_of_connection),
    (_KEYS, _STORE_KEYS, purpose_of_key),
    (_LINKS, _STORE_LINKS, purpose_of_link),
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
