"""API keys: generated, regenerated, renamed, deleted. A key's secret is shown once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import delete
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, new_api_key
from db import BUSINESS, Taken, Transaction, command, param, query
from events.log import bump_access
from models import Actor, ApiKey, Mode, Staff
from services.operation import OWNER, Input, Outcome, Shown, operation
from services.owner_notices import tell_of_key
from services.text import short_text

_OF_STAFF = query(
    select(ApiKey).where(
        col(ApiKey.business_id) == BUSINESS, col(ApiKey.staff_id) == param("staff_id")
    )
)
_LOCKED = query(
    select(ApiKey)
    .where(col(ApiKey.business_id) == BUSINESS, col(ApiKey.id) == param("id"))
    .with_for_update()
)
_DELETE = command(
    delete(ApiKey).where(col(ApiKey.business_id) == BUSINESS, col(ApiKey.id) == param("id"))
)
_MAX_OVERLAP = 72


@dataclass(kw_only=True)
class GenerateApiKeyInput(Input):
    """The staff login that gets a key."""

    staff_id: Annotated[Id, Doc("The staff login; one has at most one key.")]
    name: Annotated[str | None, Doc("The key's name; absent: the name of the staff login.")] = None
    expires_at: Annotated[datetime | None, Doc("When it ends; absent: it does not.")] = None


@dataclass(kw_only=True)
class RegenerateApiKeyInput(Input):
    """The key that gets a new secret."""

    id: Annotated[Id, Doc("The key's id.")]
    overlap_hours: Annotated[
        int | None,
        Doc("How long the former secret stays good, 0 to 72 hours; absent: it dies at once."),
    ] = None
    expires_at: Annotated[
        datetime | None,
        Doc("When the key ends; absent: as before, or never if it had ended already."),
    ] = None


@dataclass(kw_only=True)
class UpdateApiKeyInput(Input):
    """The key to rename."""

    id: Annotated[Id, Doc("The key's id.")]
    name: Annotated[str, Doc("Its new name, at most 200 characters.")]


@dataclass(kw_only=True)
class DeleteApiKeyInput(Input):
    """The key to delete."""

    id: Annotated[Id, Doc("The key's id.")]


@dataclass(kw_only=True)
class ApiKeyShown(Outcome):
    """A key with its secret, which is never shown again."""

    api_key: ApiKey | None = None
    secret: Shown | None = None


@dataclass(kw_only=True)
class ApiKeyOutcome(Outcome):
    """The key as it now is."""

    api_key: ApiKey | None = None


@dataclass(kw_only=True)
class ApiKeyDeleted(Outcome):
    """The id of the deleted key."""

    deleted_id: str | None = None


@operation(*OWNER)
async def generate_api_key(
    tx: Transaction, actor: Actor, input: GenerateApiKeyInput, now: datetime, *, secrets: Secrets
) -> ApiKeyShown:
    """Generate the API key of a staff login. Its secret is shown now, and never again."""
    staff = await tx.get(Staff, input.staff_id)
    if staff is None:
        raise NotFound("staff login", "input", "staffId")
    if staff.disabled_at is not None:
        raise Refused(Code.STAFF_DISABLED, "This staff login is disabled.", "input", "staffId")
    if await tx.maybe(_OF_STAFF, staff_id=staff.id) is not None:
        raise _has_key()
    real_now = actor.business.real_time(now)
    key, secret = new_key(staff, actor.business.mode, real_now, secrets)
    key = key.with_values(
        name=short_text(input.name, "input", "name") if input.name else staff.name,
        expires_at=_expiry(input.expires_at, real_now),
    )
    try:
        await tx.add(key)
    except Taken:
        raise _has_key() from None
    await tell_of_key(tx, actor, key, f"generated for {staff.name}", real_now)
    return ApiKeyShown(api_key=key, secret=secret)


@operation(*OWNER)
async def regenerate_api_key(
    tx: Transaction, actor: Actor, input: RegenerateApiKeyInput, now: datetime, *, secrets: Secrets
) -> ApiKeyShown:
    """Give a key a new secret, shown now and never again.

    The former one dies within a second, or stays good for `overlapHours`.
    """
    hours = input.overlap_hours or 0
    if not 0 <= hours <= _MAX_OVERLAP:
        raise Invalid(f"Between 0 and {_MAX_OVERLAP} hours.", "input", "overlapHours")
    key = await _locked(tx, input.id)
    real_now = actor.business.real_time(now)
    secret = _new_secret(actor.business.mode)
    kept = key.expires_at if key.expires_at and key.expires_at > real_now else None
    key = await tx.change(
        key,
        digest=secrets.digest(secret),
        hint=secret[-4:],
        former_digest=key.digest if hours else None,
        former_until=real_now + timedelta(hours=hours) if hours else None,
        regenerated_at=real_now,
        leaked_at=None,
        expires_at=_expiry(input.expires_at, real_now) or kept,
    )
    await bump_access(tx)
    overlap = f" (the former secret stays good for {hours} hours)" if hours else ""
    await tell_of_key(tx, actor, key, f"regenerated{overlap}", real_now)
    return ApiKeyShown(api_key=key, secret=secret)


@operation(*OWNER)
async def update_api_key(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    input: UpdateApiKeyInput,
    now: datetime,  # noqa: ARG001 -- and when
) -> ApiKeyOutcome:
    """Rename a key."""
    key = await _locked(tx, input.id)
    key = await tx.change(key, name=short_text(input.name, "input", "name"))
    return ApiKeyOutcome(api_key=key)


@operation(*OWNER)
async def delete_api_key(
    tx: Transaction, actor: Actor, input: DeleteApiKeyInput, now: datetime
) -> ApiKeyDeleted:
    """Delete a key. It opens no door any more, and its live sockets close within a second."""
    key = await _locked(tx, input.id)
    await tx.run(_DELETE, id=key.id)
    await bump_access(tx)
    await tell_of_key(tx, actor, key, "deleted", actor.business.real_time(now))
    return ApiKeyDeleted(deleted_id=input.id)


def new_key(staff: Staff, mode: Mode, now: datetime, secrets: Secrets) -> tuple[ApiKey, Shown]:
    """A key for a staff login, not stored yet, and its secret."""
    secret = _new_secret(mode)
    key = ApiKey(
        id=new_id("key"),
        business_id=staff.business_id,
        staff_id=staff.id,
        name=staff.name,
        hint=secret[-4:],
        digest=secrets.digest(secret),
        created_at=now,
    )
    return key, secret


def _new_secret(mode: Mode) -> Shown:
    return Shown(new_api_key(test=mode is Mode.TEST))


async def _locked(tx: Transaction, id: str) -> ApiKey:
    key = await tx.maybe(_LOCKED, id=id)
    if key is None:
        raise NotFound("API key", "input", "id")
    return key


def _expiry(told: datetime | None, now: datetime) -> datetime | None:
    if told is not None and told <= now:
        raise Invalid("This moment has passed.", "input", "expiresAt")
    return told


def _has_key() -> Refused:
    return Refused(
        Code.STAFF_HAS_KEY, "This staff login has a key: regenerate it.", "input", "staffId"
    )
