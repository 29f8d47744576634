"""Signing in: throttled by login and address; the owner is told of places that are new."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import update
from sqlmodel import col, select

from core.errors import Code, Overloaded, Refused
from core.ids import new_id
from core.secrets import Secrets, new_session_secret
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from models import KnownPlace, Session, Staff
from models.base import UtcTimestamp
from services import passwords, throttles
from services.housekeeping import PLACES_KEPT
from services.operation import Outcome, Shown
from services.owner_notices import tell_of_sign_in
from services.places import NOWHERE, Place
from services.sessions import make_room
from services.staff import login_of
from services.throttles import Tries

SESSION_LASTS = timedelta(days=30)
MOST_OF_LOGIN = 10
MOST_OF_ADDRESS = 30
"""Failures within a quarter of an hour before one must wait."""

_LOCKED = query(
    select(Staff)
    .where(col(Staff.business_id) == BUSINESS, col(Staff.id) == param("id"))
    .with_for_update(key_share=True)
)
_SEEN = command(
    update(KnownPlace)
    .where(
        col(KnownPlace.business_id) == BUSINESS,
        col(KnownPlace.staff_id) == param("of"),
        among(col(KnownPlace.digest), "digests"),
    )
    .values(seen_at=param("at", UtcTimestamp()))
)
# Who signs in is found before a business is known: these run in the name of the system.
_BY_LOGIN = query(select(Staff).where(col(Staff.login) == param("login")))
_PLACE: Query[KnownPlace] = query(
    select(KnownPlace).where(
        col(KnownPlace.staff_id) == param("staff_id"),
        among(col(KnownPlace.digest), "digests"),
        col(KnownPlace.seen_at) > param("since", UtcTimestamp()),
    )
)


@dataclass(kw_only=True)
class SignInInput:
    """A login and its password."""

    login: Annotated[str, Doc("The staff login.")]
    password: Annotated[str, Doc("Its password.")]


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


async def sign_in(
    database: Database,
    secrets: Secrets,
    input: SignInInput,
    now: datetime,
    place: Place = NOWHERE,
) -> SignedIn:
    """Open a session of 30 days. `now` is real time, also in a TEST business.

    LOGIN_REFUSED, in the same words and the same time, for an unknown login, a wrong password
    and a disabled login. After ten failures of a login, or thirty of an address, within a quarter
    of an hour it is RATE_LIMITED, for a minute at first and never for more than fifteen; failures
    from elsewhere do not count where the login signed in before.
    """

    async def find(tx: Transaction) -> tuple[Staff | None, bool]:
        staff = await find_login(tx, input.login)
        return staff, staff is not None and await _is_known(tx, secrets, staff, place, now)

    async def open_(tx: Transaction) -> SignedIn:
        return await open_session(tx, secrets, known, now, place)

    passwords.HANDS.check_room(stranger=True)
    staff, is_known = await database.read(None, find)
    of_login, of_address = _tries(secrets, input.login, place, is_known=is_known)
    await throttles.begin(database, secrets, [*of_address, of_login], now)
    stored = staff.password_digest if staff is not None else None
    try:
        matches = await passwords.matches(stored, input.password, stranger=True)
    except Overloaded:
        await throttles.succeed(database, secrets, [], [of_login, *of_address])
        raise
    if staff is None or not matches or staff.disabled_at is not None:
        raise _login_refused()
    known = staff
    signed = await database.write(staff.business_id, open_)
    await throttles.succeed(database, secrets, [of_login], of_address)
    return signed


def _tries(
    secrets: Secrets, login: str, place: Place, *, is_known: bool
) -> tuple[Tries, list[Tries]]:
    """What a sign-in counts for: its login, and its address where that is a stranger's."""
    wanted = known_form(login)
    if is_known:
        there = f"{wanted} {place.digests(secrets)[0]}"
        return Tries("sign in at a known place", there, MOST_OF_LOGIN), []
    of_address = Tries("sign in from an address", place.source, MOST_OF_ADDRESS)
    return Tries("sign in", wanted, MOST_OF_LOGIN), [of_address]


async def forgive(database: Database, secrets: Secrets, login: str) -> None:
    """Forget how often strangers tried to sign in with this login in vain."""
    of_login, _ = _tries(secrets, login, NOWHERE, is_known=False)
    await throttles.succeed(database, secrets, [of_login], [])


def known_form(login: str) -> str:
    """A login as it is kept; empty for what can be none."""
    try:
        return login_of(login)
    except Refused:
        return ""


async def prove_password(
    database: Database, secrets: Secrets, staff: Staff | None, password: str | None, now: datetime
) -> str | None:
    """The stored digest of this staff login, if the password matches it; else None.

    Who carries its key or session may not guess it either: RATE_LIMITED after ten failures.
    """
    if staff is None or password is None:
        return None
    tries = [Tries("password", staff.id, MOST_OF_LOGIN)]
    await throttles.begin(database, secrets, tries, now)
    if not await passwords.matches(staff.password_digest, password, stranger=False):
        return None
    await throttles.succeed(database, secrets, tries, [])
    return staff.password_digest


async def find_login(tx: Transaction, login: str) -> Staff | None:
    """Who has this login, in any business. Runs in the name of the system."""
    wanted = known_form(login)
    return await tx.maybe(_BY_LOGIN, login=wanted) if wanted else None


async def open_session(
    tx: Transaction, secrets: Secrets, staff: Staff, now: datetime, place: Place = NOWHERE
) -> SignedIn:
    """Open a session for a staff login whose password was checked a moment ago."""
    current = await tx.maybe(_LOCKED, id=staff.id)
    if (
        current is None
        or current.disabled_at is not None
        or current.password_digest != staff.password_digest
    ):
        raise _login_refused()
    await make_room(tx, current.id, now)
    if await remember_place(tx, secrets, current, place, now):
        await tell_of_sign_in(tx, current, place, now)
    secret = Shown(new_session_secret())
    session = Session(
        id=new_id("ses"),
        business_id=current.business_id,
        staff_id=current.id,
        digest=secrets.digest(secret),
        created_at=now,
        expires_at=now + SESSION_LASTS,
        address=place.hint,
        program=place.family,
    )
    await tx.add(session)
    shown = SessionShown(secret=secret, expires_at=session.expires_at)
    return SignedIn(session=shown, staff=current)


async def remember_place(
    tx: Transaction, secrets: Secrets, staff: Staff, place: Place, now: datetime
) -> bool:
    """Remember that a login was here: what others try in vain elsewhere does not count here.

    Says whether the place is new.
    """
    digests = place.digests(secrets)
    if await tx.run(_SEEN, of=staff.id, digests=digests, at=now):
        return False
    return await tx.add_if_new(
        KnownPlace(business_id=staff.business_id, staff_id=staff.id, digest=digests[0], seen_at=now)
    )


async def _is_known(
    tx: Transaction, secrets: Secrets, staff: Staff, place: Place, now: datetime
) -> bool:
    digests, since = place.digests(secrets), now - PLACES_KEPT
    return await tx.maybe(_PLACE, staff_id=staff.id, digests=digests, since=since) is not None


def _login_refused() -> Refused:
    return Refused(Code.LOGIN_REFUSED, "This login and password do not match.", "input")
