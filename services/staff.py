"""Staff: logins made, changed, disabled and enabled; their passwords changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Taken, Transaction, param, query
from events.log import bump_access
from models import Actor, Location, Role, ScannerMode, Staff
from services.access import end_tokens
from services.locations import location_to_work_at
from services.operation import EVERYBODY, OWNER, Input, Outcome, operation
from services.passwords import check_password
from services.sessions import end_sessions
from services.text import short_text

_OWNERS_LOCKED = query(
    select(Staff)
    .where(
        col(Staff.business_id) == BUSINESS,
        col(Staff.role) == Role.OWNER,
        col(Staff.disabled_at).is_(None),
    )
    .order_by(col(Staff.id))
    .with_for_update(key_share=True)
)
_LOCKED = query(
    select(Staff)
    .where(col(Staff.business_id) == BUSINESS, col(Staff.id) == param("id"))
    .with_for_update(key_share=True)
)


@dataclass(kw_only=True)
class CreateStaffInput(Input):
    """The staff login to make."""

    name: Annotated[str, Doc("The person or workstation, at most 200 characters.")]
    login: Annotated[str, Doc("What it signs in with, such as an e-mail address; unique.")]
    password: Annotated[str, Doc("8 to 200 characters.")]
    role: Annotated[Role, Doc("What it may do.")]
    location_id: Annotated[Id | None, Doc("Where it works.")] = None
    mode: Annotated[ScannerMode, Doc("How it works as a scanning point.")] = ScannerMode.MANUAL


@dataclass(kw_only=True)
class DisableStaffInput(Input):
    """The staff login to disable."""

    id: Annotated[Id, Doc("The staff login's id.")]


@dataclass(kw_only=True)
class EnableStaffInput(Input):
    """The staff login to enable again."""

    id: Annotated[Id, Doc("The staff login's id.")]


@dataclass(kw_only=True)
class ChangePasswordInput(Input):
    """A new password: one's own, or (for owners) that of another staff login."""

    new_password: Annotated[str, Doc("8 to 200 characters.")]
    current_password: Annotated[
        str | None, Doc("The present password; needed to change one's own.")
    ] = None
    staff_id: Annotated[
        Id | None, Doc("Whose password; absent: one's own. Only owners may name another.")
    ] = None


@dataclass(kw_only=True)
class StaffOutcome(Outcome):
    """The staff login as it now is."""

    staff: Staff | None = None


@operation(*OWNER)
async def create_staff(
    tx: Transaction,
    actor: Actor,
    input: CreateStaffInput,
    now: datetime,
    *,
    password_digest: str,
) -> StaffOutcome:
    """Make a staff login. It has no API key yet."""
    check_password(input.password, "input", "password")
    location_id = input.location_id
    if location_id is not None:
        await location_to_work_at(tx, location_id, "input", "locationId")
    staff = Staff(
        id=new_id("st"),
        business_id=actor.business_id,
        location_id=location_id,
        name=short_text(input.name, "input", "name"),
        login=login_of(input.login, "input", "login"),
        password_digest=password_digest,
        role=input.role,
        mode=input.mode,
        created_at=now,
    )
    await add_staff(tx, staff, "input", "login")
    return StaffOutcome(staff=staff)


@operation(*OWNER)
async def update_staff(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    given: Mapping[str, Any],
    now: datetime,  # noqa: ARG001 -- and when
) -> StaffOutcome:
    """Change the given fields of a staff login. The last active owner stays one.

    Takes `id` and any of `name`, `login`, `role`, `location_id` (null: none), `mode`.
    """
    owners, staff = await _locked(tx, given["id"])
    values: dict[str, Any] = {
        name: _required(given[name], name) for name in ("role", "mode") if name in given
    }
    if values.get("role", Role.OWNER) is not Role.OWNER:
        _check_not_last(owners, staff)
    if "name" in given:
        values["name"] = short_text(given["name"] or "", "input", "name")
    if "login" in given:
        values["login"] = login_of(given["login"] or "", "input", "login")
    if "location_id" in given:
        if given["location_id"] is not None:
            await location_to_work_at(tx, given["location_id"], "input", "locationId")
        values["location_id"] = given["location_id"]
    if any(values.get(name, told) != told for name, told in _rooms(staff).items()):
        await end_tokens(tx, staff.id)
    if values:
        try:
            staff = await tx.change(staff, **values)
        except Taken:
            raise _login_taken("input", "login") from None
        await bump_access(tx)
    return StaffOutcome(staff=staff)


@operation(*OWNER)
async def disable_staff(
    tx: Transaction, actor: Actor, input: DisableStaffInput, now: datetime
) -> StaffOutcome:
    """Disable a staff login: its key and sessions open no door any more, its sockets close.

    Its access tokens are gone for good. The last active owner cannot be disabled.
    """
    owners, staff = await _locked(tx, input.id)
    if staff.disabled_at is not None:
        return StaffOutcome(staff=staff)
    _check_not_last(owners, staff)
    staff = await tx.change(staff, disabled_at=now, disabled_by=actor.staff_id)
    await end_sessions(tx, staff.id, actor.business.real_time(now))
    await end_tokens(tx, staff.id)
    await bump_access(tx)
    return StaffOutcome(staff=staff)


@operation(*OWNER)
async def enable_staff(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    input: EnableStaffInput,
    now: datetime,  # noqa: ARG001 -- and when
) -> StaffOutcome:
    """Enable a disabled staff login again; its API key works again, its sessions do not."""
    _, staff = await _locked(tx, input.id)
    if staff.disabled_at is None:
        return StaffOutcome(staff=staff)
    location = await tx.get(Location, staff.location_id)
    if location is not None and not location.is_active:
        raise Refused(
            Code.LOCATION_IN_USE,
            "Its location is archived: give it another location first.",
            "input",
            "id",
        )
    staff = await tx.change(staff, disabled_at=None, disabled_by=None)
    await bump_access(tx)
    return StaffOutcome(staff=staff)


@operation(*EVERYBODY)
async def change_password(
    tx: Transaction,
    actor: Actor,
    input: ChangePasswordInput,
    now: datetime,
    *,
    password_digest: str,
    proven: str | None,
) -> StaffOutcome:
    """Change one's own password, or as an owner that of another staff login.

    All other sessions of that login end. `proven` is the stored digest that the given current
    password was found to match (see `sign_ins.prove_password`), None if it matched none.
    """
    check_password(input.new_password, "input", "newPassword")
    staff_id = input.staff_id or actor.staff_id
    if staff_id is None:
        raise Invalid("Say whose password it is.", "input", "staffId")
    if staff_id != actor.staff_id and actor.role not in (Role.OWNER, None):
        raise Forbidden
    staff = await tx.maybe(_LOCKED, id=staff_id)
    if staff is None:
        raise NotFound("staff login", "input", "staffId")
    if staff.id == actor.staff_id and proven != staff.password_digest:
        raise Refused(
            Code.PASSWORD_REFUSED,
            "This is not the present password.",
            "input",
            "currentPassword",
        )
    staff = await tx.change(staff, password_digest=password_digest)
    kept = actor.session_id if staff.id == actor.staff_id else None
    await end_sessions(tx, staff.id, actor.business.real_time(now), kept)
    await bump_access(tx)
    return StaffOutcome(staff=staff)


async def add_staff(tx: Transaction, staff: Staff, *path: str) -> None:
    """Store a new staff login; refused if the login is taken, here or elsewhere."""
    try:
        await tx.add(staff)
    except Taken:
        raise _login_taken(*path) from None


def login_of(text: str, *path: str) -> str:
    """A login as it is kept: lower case, no spaces, 3 to 200 characters."""
    login = short_text(text, *path).lower()
    if len(login) < 3 or " " in login:
        raise Invalid("A login has 3 to 200 characters, and no spaces.", *path)
    return login


async def _locked(tx: Transaction, id: str) -> tuple[list[Staff], Staff]:
    """The active owners and a staff login, both locked.

    Whoever changes rights holds the owners, so that two calls at one moment cannot each take the
    other's owner for the one that stays.
    """
    owners = await tx.many(_OWNERS_LOCKED)
    staff = await tx.maybe(_LOCKED, id=id)
    if staff is None:
        raise NotFound("staff login", "input", "id")
    return owners, staff


def _check_not_last(owners: list[Staff], staff: Staff) -> None:
    is_owner = staff.role is Role.OWNER and staff.disabled_at is None
    if is_owner and not any(owner.id != staff.id for owner in owners):
        raise Refused(Code.LAST_OWNER, "A business keeps one active owner.", "input", "id")


def _rooms(staff: Staff) -> dict[str, Any]:
    """What a staff login's rights depend on."""
    return {"role": staff.role, "location_id": staff.location_id}


def _required(value: Any, name: str) -> Any:
    if value is None:
        raise Invalid("This must not be empty.", "input", name)
    return value


def _login_taken(*path: str) -> Refused:
    return Refused(Code.LOGIN_TAKEN, "This login is taken.", *path)
