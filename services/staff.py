"""Staff: logins made, changed, disabled and enabled; signing in and out; passwords."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, new_session_secret, password_digest, password_matches
from db import BUSINESS, Database, Taken, Transaction, command, param, query
from events.log import bump_access
from models import Actor, Location, Role, ScannerMode, Session, Staff
from services.access import end_tokens
from services.locations import location_to_work_at
from services.operation import EVERYBODY, OWNER, Input, Outcome, Shown, operation
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
_END_SESSIONS = command(
    update(Session)
    .where(
        col(Session.business_id) == BUSINESS,
        col(Session.staff_id) == param("staff_id"),
        col(Session.id) != param("kept_id"),
        col(Session.ended_at).is_(None),
    )
    .values(ended_at=param("now"))
)
_END_SESSION = command(
    update(Session)
    .where(
        col(Session.business_id) == BUSINESS,
        col(Session.id) == param("id"),
        col(Session.ended_at).is_(None),
    )
    .values(ended_at=param("now"))
)
# Who signs in is found before a business is known: this runs in the name of the system.
_BY_LOGIN = query(select(Staff).where(col(Staff.login) == param("login")))

_SESSION = timedelta(days=30)
_PASSWORD = (8, 200)


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
class SignInInput:
    """A login and its password."""

    login: Annotated[str, Doc("The staff login.")]
    password: Annotated[str, Doc("Its password.")]


@dataclass(kw_only=True)
class SignOutInput(Input):
    """Nothing more is needed: it is the session of this call that ends."""


@dataclass(kw_only=True)
class StaffOutcome(Outcome):
    """The staff login as it now is."""

    staff: Staff | None = None


@dataclass(frozen=True, kw_only=True)
class SessionShown:
    """A session's secret, which is never shown again, and when the session ends."""

    secret: Annotated[Shown, Doc("The session, as it is sent: `Authorization: Bearer …`.")]
    expires_at: Annotated[datetime, Doc("When it ends.")]


@dataclass(kw_only=True)
class SignedIn(Outcome):
    """A new session, and who signed in."""

    session: Annotated[SessionShown | None, Doc("The new session.")] = None
    staff: Staff | None = None


@dataclass(kw_only=True)
class SignedOut(Outcome):
    """The session has ended."""


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
    await tx.run(_END_SESSIONS, staff_id=staff.id, kept_id="", now=now)
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
    password was found to match (see `prove_password`), None if it matched none.
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
    await tx.run(_END_SESSIONS, staff_id=staff.id, kept_id=kept or "", now=now)
    await bump_access(tx)
    return StaffOutcome(staff=staff)


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
    await tx.run(_END_SESSION, id=actor.session_id, now=now)
    await bump_access(tx)
    return SignedOut()


async def sign_in(
    database: Database, secrets: Secrets, input: SignInInput, now: datetime
) -> SignedIn:
    """Open a session of 30 days. `now` is real time, also in a TEST business.

    LOGIN_REFUSED, in the same words and the same time, for an unknown login, a wrong password
    and a disabled login. Three steps, for the password is checked outside of transactions.
    """

    async def find(tx: Transaction) -> Staff | None:
        return await find_login(tx, input.login)

    async def open_(tx: Transaction) -> SignedIn:
        return await open_session(tx, secrets, known, now)

    staff = await database.read(None, find)
    stored = staff.password_digest if staff is not None else None
    matches = await asyncio.to_thread(_matches, stored, input.password)
    if staff is None or not matches or staff.disabled_at is not None:
        raise _login_refused()
    known = staff
    return await database.write(staff.business_id, open_)


async def find_login(tx: Transaction, login: str) -> Staff | None:
    """Who has this login, in any business. Runs in the name of the system."""
    try:
        wanted = login_of(login)
    except Refused:
        return None
    return await tx.maybe(_BY_LOGIN, login=wanted)


async def open_session(tx: Transaction, secrets: Secrets, staff: Staff, now: datetime) -> SignedIn:
    """Open a session for a staff login whose password was checked a moment ago."""
    current = await tx.maybe(_LOCKED, id=staff.id)
    if (
        current is None
        or current.disabled_at is not None
        or current.password_digest != staff.password_digest
    ):
        raise _login_refused()
    secret = Shown(new_session_secret())
    session = Session(
        id=new_id("ses"),
        business_id=current.business_id,
        staff_id=current.id,
        digest=secrets.digest(secret),
        created_at=now,
        expires_at=now + _SESSION,
    )
    await tx.add(session)
    shown = SessionShown(secret=secret, expires_at=session.expires_at)
    return SignedIn(session=shown, staff=current)


async def digest_password(password: str) -> str:
    """What is stored of a password, made in a thread: it is slow on purpose.

    A password that breaks the rule gets no digest: the operation will refuse it.
    """
    if not _keeps_rule(password):
        return ""
    return await asyncio.to_thread(password_digest, password)


async def prove_password(staff: Staff | None, password: str | None) -> str | None:
    """The stored digest of this staff login, if the password matches it; else None."""
    if staff is None or password is None:
        return None
    matches = await asyncio.to_thread(_matches, staff.password_digest, password)
    return staff.password_digest if matches else None


async def add_staff(tx: Transaction, staff: Staff, *path: str) -> None:
    """Store a new staff login; refused if the login is taken, here or elsewhere."""
    try:
        await tx.add(staff)
    except Taken:
        raise _login_taken(*path) from None


def check_password(password: str, *path: str) -> None:
    """Refuse a password that is too short or too long."""
    if not _keeps_rule(password):
        least, most = _PASSWORD
        raise Refused(Code.PASSWORD_REFUSED, f"A password has {least} to {most} characters.", *path)


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


def _keeps_rule(password: str) -> bool:
    least, most = _PASSWORD
    is_text = not any("\ud800" <= char <= "\udfff" for char in password)
    return least <= len(password) <= most and is_text


def _matches(stored: str | None, password: str) -> bool:
    """Whether this is the password; as slow for a login that does not exist."""
    told = password if _keeps_rule(password) else ""
    return password_matches(stored or _nobodys_digest(), told)


def _login_taken(*path: str) -> Refused:
    return Refused(Code.LOGIN_TAKEN, "This login is taken.", *path)


def _login_refused() -> Refused:
    return Refused(Code.LOGIN_REFUSED, "This login and password do not match.", "input")


@cache
def _nobodys_digest() -> str:
    return password_digest("the password of nobody")
