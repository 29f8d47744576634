"""Signing secrets: made with an endpoint, and rotated with an overlap."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import delete
from sqlmodel import col

from core.errors import Invalid, LimitReached
from core.ids import Id, new_id
from core.secrets import Secrets, new_signing_secret
from db import BUSINESS, Transaction, command, param
from models import Actor, SigningSecret, WebhookEndpoint
from services.endpoint_refs import find_endpoint
from services.operation import EVERYBODY, Input, Outcome, Shown, operation
from services.owner_notices import tell_of_endpoint
from webhooks.rounds import SIGNING
from webhooks.signatures import seal

_MOST_SECRETS = 5
_MOST_OVERLAP = 72
_EXPIRE = command(
    delete(SigningSecret).where(
        col(SigningSecret.business_id) == BUSINESS,
        col(SigningSecret.endpoint_id) == param("endpoint_id"),
        col(SigningSecret.expires_at) <= param("now"),
    )
)


@dataclass(kw_only=True)
class RotateSigningSecretInput(Input):
    """The endpoint whose signing secret is changed."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    overlap_hours: Annotated[
        int | None,
        Doc("How long the former secret signs beside the new one, 0 to 72 hours; absent: 24."),
    ] = None


@dataclass(kw_only=True)
class SigningSecretRotated(Outcome):
    """The new secret, never shown again, and when the former one ends."""

    signing_secret: Shown | None = None
    previous_expires_at: datetime | None = None


@operation(*EVERYBODY)
async def rotate_signing_secret(
    tx: Transaction,
    actor: Actor,
    input: RotateSigningSecretInput,
    now: datetime,
    *,
    secrets: Secrets,
) -> SigningSecretRotated:
    """Give a webhook endpoint a new signing secret; the former one signs beside it for a while."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    hours = 24 if input.overlap_hours is None else input.overlap_hours
    if not 0 <= hours <= _MOST_OVERLAP:
        raise Invalid(f"An overlap has 0 to {_MOST_OVERLAP} hours.", "input", "overlapHours")
    at = actor.business.real_time(now)
    ends_at = at + timedelta(hours=hours)
    former = await tx.many(SIGNING, endpoint_id=endpoint.id, now=at)
    if len(former) >= _MOST_SECRETS and hours:
        raise LimitReached(
            f"{_MOST_SECRETS} secrets are live already.",
            "input",
            retry_at=min(secret.expires_at for secret in former if secret.expires_at),
        )
    for secret in former:
        if secret.expires_at is None or secret.expires_at > ends_at:
            await tx.change(secret, expires_at=ends_at)
    await tx.run(_EXPIRE, endpoint_id=endpoint.id, now=at)
    shown = await add_secret(tx, endpoint, secrets, at)
    await tell_of_endpoint(tx, actor, endpoint, "given a new signing secret", at)
    return SigningSecretRotated(signing_secret=shown, previous_expires_at=ends_at)


async def add_secret(
    tx: Transaction, endpoint: WebhookEndpoint, secrets: Secrets, at: datetime
) -> Shown:
    """Give an endpoint another signing secret; shown here, and never again."""
    secret = new_signing_secret()
    await tx.add(
        SigningSecret(
            id=new_id("sec"),
            business_id=endpoint.business_id,
            endpoint_id=endpoint.id,
            ciphertext=seal(secrets, endpoint.id, secret),
            created_at=at,
        )
    )
    return Shown(secret)
