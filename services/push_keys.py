"""The key by which push services know this deployment (VAPID): made once, and kept encrypted."""

import base64
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sqlmodel import col, select

from core.secrets import Secrets
from db import Database, Transaction, query
from models import DeploymentKey

_NAME = "web push"

# It is no business's: this runs in the name of the system.
_KEY = query(select(DeploymentKey).where(col(DeploymentKey.name) == _NAME))


async def public_push_key(database: Database, secrets: Secrets, now: datetime) -> str:
    """What a page gives to the browser as `applicationServerKey`: 65 bytes in base64url."""
    return (await _key(database, secrets, now)).public


async def private_push_key(database: Database, secrets: Secrets, now: datetime) -> str:
    """The private half, as PEM. ValueError where no key of the deployment opens it any more."""
    key = await _key(database, secrets, now)
    return secrets.decrypt(key.ciphertext, purpose_of_key(key.name))


def purpose_of_key(name: str) -> str:
    """What a key of the deployment is encrypted for."""
    return f"deployment key {name}"


async def _key(database: Database, secrets: Secrets, now: datetime) -> DeploymentKey:
    known = await database.read(None, lambda tx: tx.maybe(_KEY))
    if known is not None:
        return known
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = DeploymentKey(
        name=_NAME,
        public=base64.urlsafe_b64encode(public).decode().rstrip("="),
        ciphertext=secrets.encrypt(pem, purpose_of_key(_NAME)),
        created_at=now,
    )

    async def keep(tx: Transaction) -> DeploymentKey:
        await tx.add_if_new(made)  # unless another process was quicker
        return await tx.one(_KEY)

    return await database.write(None, keep)
