"""Passwords that were forgotten: set anew by whoever reads the mail of the login."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.addresses import mail_address
from core.errors import Code, Refused
from core.ids import new_id
from core.secrets import Secrets, new_password_reset
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from events.log import bump_access
from integrations.mail import Mail, Mailer, MaybeSent, NotSent
from models import Actor, Business, PasswordReset, Staff
from models.base import UtcTimestamp
from services import idempotency, throttles
from services.access import end_tokens
from services.operation import Input, Outcome
from services.owner_notices import tell_of_sign_in
from services.passwords import check_password
from services.places import Place
from services.sessions import end_sessions
from services.sign_ins import find_login, remember_place
from services.throttles import Tries

RESET_LASTS = timedelta(minutes=30)
MOST_LIVE = 3
"""Mails for one login within half an hour; who asks for more is answered as ever."""
MOST_OF_ADDRESS = 10
_REQUEST, _RESET = "request_password_reset", "reset_password"

log = structlog.get_logger("stampwire.password_resets")

_LIVE: Query[int] = query(
    select(func.count())
    .select_from(PasswordReset)
    .where(
        col(PasswordReset.business_id) == BUSINESS,
        col(PasswordReset.staff_id) == param("staff_id"),
        col(PasswordReset.expires_at) > param("now", UtcTimestamp()),
    )
)
_LOCKED = query(
    select(Staff)
    .where(col(Staff.business_id) == BUSINESS, col(Staff.id) == param("id"))
    .with_for_update(key_share=True)
)
_USE = command(
    update(PasswordReset)
    .where(
        col(PasswordReset.business_id) == BUSINESS,
        col(PasswordReset.staff_id) == param("of"),
        col(PasswordReset.used_at).is_(None),
    )
    .values(used_at=param("at", UtcTimestamp()))
)
# Whose it is shows before a business is known: this runs in the name of the system.
_BY_SECRET: Query[tuple[PasswordReset, Business]] = query(
    select(PasswordReset, Business)
    .join(Business, col(Business.id) == col(PasswordReset.business_id))
    .where(among(col(PasswordReset.digest), "digests"))
)


@dataclass(kw_only=True)
class RequestPasswordResetInput(Input):
    """Whose password was forgotten."""

    login: Annotated[str, Doc("The staff login: an e-mail address, to which the mail goes.")]


@dataclass(kw_only=True)
class ResetPasswordInput(Input):
    """The token that was mailed, and the new password."""

    token: Annotated[str, Doc("The token of the mail; good for 30 minutes, once.")]
    password: Annotated[str, Doc("The new password, 8 to 200 characters.")]


@dataclass(kw_only=True)
class PasswordResetRequested(Outcome):
    """Nothing is told: whether there is such a login is nobody's business."""


@dataclass(kw_only=True)
class PasswordWasReset(Outcome):
    """The password is the new one; sign in with it."""


async def request_password_reset(
    database: Database,
    secrets: Secrets,
    input: RequestPasswordResetInput,
    now: datetime,
    place: Place,
    *,
    mailer: Mailer | None,
    later: Callable[[Coroutine[Any, Any, None]], None],
) -> PasswordResetRequested:
    """Have a token mailed with which the password of a staff login can be set anew.

    The answer is the same whether there is such a login or not. The login must be an e-mail
    address; a login has three mails in half an hour. CHANNEL_NOT_CONNECTED where no mail server is
    set: whoever runs the server sets a new password with `stampwire staff reset`. RATE_LIMITED
    for an address that asks often.
    """
    if mailer is None:
        raise Refused(
            Code.CHANNEL_NOT_CONNECTED,
            "No mail server is set: whoever runs the server can set a new password.",
            "input",
        )
    tries = Tries("password reset", place.source, MOST_OF_ADDRESS)
    await throttles.begin(database, secrets, [tries], now)
    # Nobody waits for it: how long it takes would tell whether there is such a login.
    later(_post(database, secrets, input, now, mailer))
    return PasswordResetRequested()


async def _post(
    database: Database,
    secrets: Secrets,
    input: RequestPasswordResetInput,
    now: datetime,
    mailer: Mailer,
) -> None:
    mail = await _requested(database, secrets, input, now)
    if mail is None:
        return
    try:
        await mailer.send(mail)
    except (NotSent, MaybeSent, ValueError) as error:
        log.warning("password reset not mailed", mail=mail.id, reason=str(error))


async def _requested(
    database: Database, secrets: Secrets, input: RequestPasswordResetInput, now: datetime
) -> Mail | None:
    """The mail to the holder of a login, None for a login that gets none."""
    staff = await database.read(None, lambda tx: find_login(tx, input.login))
    address = mail_address(staff.login) if staff is not None else None
    if staff is None or staff.disabled_at is not None or address is None:
        return None
    known, to = staff, address

    async def work(tx: Transaction) -> Mail | None:
        business = await tx.get(Business, known.business_id)
        # Whoever asks at the same time waits here.
        if business is None or await tx.maybe(_LOCKED, id=known.id) is None:
            return None
        if input.idempotency_key is not None:
            actor, print_ = Actor(business, known), idempotency.fingerprint(input, secrets)
            record, is_new = await idempotency.claim(
                tx, actor, _REQUEST, input.idempotency_key, print_, now
            )
            if not is_new:
                return None
            await idempotency.keep(tx, record, PasswordResetRequested())
        if await tx.one(_LIVE, staff_id=known.id, now=now) >= MOST_LIVE:
            return None
        secret = new_password_reset()
        await tx.add(
            PasswordReset(
                digest=secrets.digest(secret),
                business_id=known.business_id,
                staff_id=known.id,
                created_at=now,
                expires_at=now + RESET_LASTS,
            )
        )
        return _mail(business, to, secret)

    return await database.write(staff.business_id, work)


async def reset_password(
    database: Database,
    secrets: Secrets,
    input: ResetPasswordInput,
    now: datetime,
    place: Place,
    *,
    password_digest: str,
) -> PasswordWasReset:
    """Set a new password with the token that `requestPasswordReset` had mailed.

    All sessions and access tokens of the login end; its API key stays. LOGIN_REFUSED for a token
    that is unknown, used or too old.
    """
    found = await database.read(None, lambda tx: _find(tx, secrets, input.token))
    if found is None:
        raise _token_refused()
    reset, business = found

    async def work(tx: Transaction) -> PasswordWasReset:
        staff = await tx.maybe(_LOCKED, id=reset.staff_id)
        if staff is None or staff.disabled_at is not None:
            raise _token_refused()
        record = None
        if input.idempotency_key is not None:
            actor, print_ = Actor(business, staff), idempotency.fingerprint(input, secrets)
            record, is_new = await idempotency.claim(
                tx, actor, _RESET, input.idempotency_key, print_, now
            )
            if not is_new:
                return await idempotency.replay(tx, record, PasswordWasReset)
        current = await _find(tx, secrets, input.token)
        if current is None or current[0].used_at is not None or now >= current[0].expires_at:
            raise _token_refused()
        check_password(input.password, "input", "password")
        await tx.change(staff, password_digest=password_digest)
        await tx.run(_USE, of=staff.id, at=now)
        await end_sessions(tx, staff.id, now)
        await end_tokens(tx, staff.id)
        if await remember_place(tx, secrets, staff, place, now):
            await tell_of_sign_in(tx, staff, place, now, "set a new password by mail")
        await bump_access(tx)
        outcome = PasswordWasReset()
        if record is not None:
            await idempotency.keep(tx, record, outcome)
        return outcome

    return await database.write(reset.business_id, work)


async def is_live(
    database: Database, secrets: Secrets, token: str, place: Place, now: datetime
) -> bool:
    """Whether a token is worth the slow work of digesting a password for it.

    RateLimited for an address that tried many that are not.
    """
    tries = [Tries("reset token", place.source, MOST_OF_ADDRESS)]
    await throttles.begin(database, secrets, tries, now)
    found = await database.read(None, lambda tx: _find(tx, secrets, token))
    if found is None:
        return False
    await throttles.succeed(database, secrets, [], tries)
    return found[0].used_at is None and now < found[0].expires_at


async def _find(
    tx: Transaction, secrets: Secrets, token: str
) -> tuple[PasswordReset, Business] | None:
    if not token.isascii():
        return None
    return await tx.maybe(_BY_SECRET, digests=secrets.digests(token))


def _token_refused() -> Refused:
    return Refused(Code.LOGIN_REFUSED, "This token is unknown, used or too old.", "input", "token")


def _mail(business: Business, to: str, secret: str) -> Mail:
    minutes = int(RESET_LASTS.total_seconds() // 60)
    return Mail(
        id=new_id("rst"),
        to=to,
        subject=f"{' '.join(business.name.split())}: a new password for Stampwire",
        text=(
            f"Somebody asked for a new password for {to} at {business.name}.\n\n"
            f"The token, good for {minutes} minutes and once:\n\n{secret}\n\n"
            "Set the password with it: mutation resetPassword(input: {token, password}).\n"
            "If it was not you, there is nothing to do: the password is what it was.\n"
        ),
    )
