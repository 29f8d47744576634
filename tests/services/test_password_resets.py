"""Forgotten passwords: a token by mail, good once and for half an hour, the same answer to all."""

from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, RateLimited, Refused
from core.secrets import Secrets
from db import BUSINESS, Database, query
from fakes.mailbox import Mailbox, a_mailbox
from integrations.mail import Mailer
from models import Actor, Notice, PasswordReset, Session
from services import passwords
from services.housekeeping import keep_house
from services.password_resets import (
    MOST_LIVE,
    MOST_OF_ADDRESS,
    RequestPasswordResetInput,
    ResetPasswordInput,
    is_live,
    request_password_reset,
    reset_password,
)
from services.places import Place
from services.sign_ins import SignInInput, sign_in
from services.staff import DisableStaffInput, disable_staff

LOGIN = "owner@kopi.example"
HOME = Place("203.0.113.9", "Firefox/140.0")
STRANGER = Place("192.0.2.66", "curl/8.5")
_RESETS = query(select(PasswordReset).where(col(PasswordReset.business_id) == BUSINESS))
_NOTICES = query(select(Notice).where(col(Notice.business_id) == BUSINESS).order_by(col(Notice.id)))
_SESSIONS = query(select(Session).where(col(Session.business_id) == BUSINESS))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """Digests cost nothing here: they are the password behind `digest of`."""

    def match(digest: str, told: str) -> bool:
        return digest == f"digest of {told}" or ("$" in digest and told == password)

    monkeypatch.setattr(passwords, "password_matches", match)
    monkeypatch.setattr(passwords, "password_digest", lambda told: f"digest of {told}")


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with a_mailbox() as box:
        yield box


@pytest.fixture
def ask(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock, mailbox: Mailbox
) -> Any:
    """Ask for a token; hands back the token that was mailed, None where none was."""
    assert owner

    async def do(login: str = LOGIN, place: Place = HOME, key: str | None = None) -> str | None:
        before, waiting = len(mailbox.got), list[Coroutine[Any, Any, None]]()
        answer = await request_password_reset(
            database,
            secrets,
            RequestPasswordResetInput(login=login, idempotency_key=key),
            clock.now(),
            place,
            mailer=Mailer(mailbox.url, "stampwire@kopi.example"),
            later=waiting.append,
        )
        assert (vars(answer), len(waiting)) == ({"events": [], "user_errors": []}, 1)
        await waiting[0]
        if len(mailbox.got) == before:
            return None
        text: str = mailbox.got[-1].get_content()
        return text.replace("\r", "").split("once:\n\n")[1].split("\n")[0]

    return do


@pytest.fixture
def reset(database: Database, secrets: Secrets, clock: ManualClock) -> Any:
    """Set the password with a token; hands back the code of the refusal, None if there is none."""

    async def do(
        token: str, password: str = "a new horse", place: Place = HOME, key: str | None = None
    ) -> Code | None:
        asked = ResetPasswordInput(token=token, password=password, idempotency_key=key)
        now, good = clock.now(), await is_live(database, secrets, token, place, clock.now())
        digest = await passwords.digest_password(password) if good else ""
        try:
            done = await reset_password(
                database, secrets, asked, now, place, password_digest=digest
            )
        except Refused as refusal:
            return refusal.code
        assert done.user_errors == []
        return None

    return do


@pytest.fixture
def signs_in(database: Database, secrets: Secrets, clock: ManualClock) -> Any:
    """Whether a password opens a session."""

    async def do(password: str, place: Place = HOME) -> bool:
        asked = SignInInput(login=LOGIN, password=password)
        try:
            await sign_in(database, secrets, asked, clock.now(), place)
        except Refused:
            return False
        return True

    return do


async def test_the_token_of_the_mail_sets_a_new_password_and_ends_all_sessions(
    ask: Any, reset: Any, signs_in: Any, password: str, owner: Actor, database: Database,
    mailbox: Mailbox,
) -> None:  # fmt: skip
    assert await signs_in(password)
    token = await ask()

    assert await reset(token) is None

    [session] = await database.read(owner.business_id, lambda tx: tx.many(_SESSIONS))
    assert session.ended_at is not None
    assert mailbox.receivers == [LOGIN]
    assert mailbox.got[0]["Subject"] == "Kopi: a new password for Stampwire"
    assert (await signs_in(password), await signs_in("a new horse")) == (False, True)


async def test_a_reset_from_a_new_place_is_told(
    ask: Any, reset: Any, signs_in: Any, password: str, owner: Actor, database: Database
) -> None:
    """Who reads the mail of a login could take it over in silence otherwise."""
    assert await signs_in(password)
    await reset(await ask())
    await reset(await ask(), place=STRANGER)

    notices = await database.read(owner.business_id, lambda tx: tx.many(_NOTICES))
    assert [notice.message.partition(":")[0] for notice in notices] == [
        "Ana (OWNER) signed in from a new place",
        "Ana (OWNER) set a new password by mail from a new place",
    ]


async def test_a_token_is_good_once_and_so_are_its_sisters(ask: Any, reset: Any) -> None:
    first, second = await ask(), await ask()

    said = [await reset(second), await reset(second), await reset(first)]

    assert said == [None, Code.LOGIN_REFUSED, Code.LOGIN_REFUSED]


async def test_a_token_is_good_for_half_an_hour(ask: Any, reset: Any, clock: ManualClock) -> None:
    token = await ask()
    clock.advance(timedelta(minutes=30))

    assert await reset(token) is Code.LOGIN_REFUSED


async def test_a_bad_password_leaves_the_token_good(ask: Any, reset: Any) -> None:
    token = await ask()

    assert await reset(token, "short") is Code.PASSWORD_REFUSED
    assert await reset(token) is None


async def test_a_repeat_with_its_key_is_answered_as_the_first_call(
    ask: Any, reset: Any, mailbox: Mailbox
) -> None:
    token = await ask(key="once")
    assert await ask(key="once") is None
    assert len(mailbox.got) == 1

    assert [await reset(token, key="k"), await reset(token, key="k")] == [None, None]
    assert await reset(token, "another horse", key="k") is Code.IDEMPOTENCY_KEY_REUSED
    assert await reset(token) is Code.LOGIN_REFUSED


async def test_only_a_digest_of_the_token_is_stored(
    ask: Any, owner: Actor, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    token = await ask()

    [kept] = await database.read(owner.business_id, lambda tx: tx.many(_RESETS))
    assert kept.digest == secrets.digest(token)
    assert token not in str(vars(kept))
    clock.advance(timedelta(days=8))
    await keep_house(database, clock.now())
    assert await database.read(owner.business_id, lambda tx: tx.many(_RESETS)) == []


@pytest.mark.parametrize("login", ["nobody@kopi.example", "bar", "gone@kopi.example", "\ud800"])
async def test_who_gets_no_mail_is_answered_the_same(
    ask: Any, hire: Any, perform: Any, owner: Actor, login: str
) -> None:
    await hire(login="bar123")
    gone = await hire(login="gone@kopi.example")
    await perform(disable_staff, owner, DisableStaffInput(id=gone.staff_id))

    assert await ask(login) is None


async def test_a_login_gets_a_few_mails_at_a_time(ask: Any, clock: ManualClock) -> None:
    got = [await ask(place=Place(f"10.0.0.{number}")) for number in range(MOST_LIVE + 2)]
    clock.advance(timedelta(minutes=30))

    assert [token is not None for token in got] == [True] * MOST_LIVE + [False] * 2
    assert await ask() is not None


async def test_an_address_that_asks_often_must_wait(ask: Any) -> None:
    for number in range(MOST_OF_ADDRESS):
        await ask(f"nobody{number}@kopi.example", STRANGER)

    with pytest.raises(RateLimited):
        await ask(place=STRANGER)
    assert await ask() is not None


async def test_an_address_that_guesses_tokens_must_wait(ask: Any, reset: Any) -> None:
    token = await ask()
    said = [await reset(f"guess {number}", place=STRANGER) for number in range(MOST_OF_ADDRESS)]

    assert set(said) == {Code.LOGIN_REFUSED}
    with pytest.raises(RateLimited):
        await reset(token, place=STRANGER)
    assert await reset(token) is None


async def test_after_it_strangers_do_not_keep_the_holder_out(
    ask: Any, reset: Any, signs_in: Any
) -> None:
    for _ in range(10):
        await signs_in("wrong horse", STRANGER)
    with pytest.raises(RateLimited):
        await signs_in("wrong horse", replace(HOME, address="198.51.100.7"))
    assert await reset(await ask()) is None

    assert await signs_in("a new horse", HOME)


async def test_without_a_mail_server_it_says_who_can_help(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    for login in (LOGIN, "nobody@kopi.example"):
        with pytest.raises(Refused) as refused:
            await request_password_reset(
                database, secrets, RequestPasswordResetInput(login=login), clock.now(), HOME,
                mailer=None, later=lambda work: work.close(),
            )  # fmt: skip

        assert refused.value.code is Code.CHANNEL_NOT_CONNECTED
    assert owner
