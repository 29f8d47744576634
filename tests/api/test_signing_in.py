"""Signing in as clients see it: throttles, sessions, and a password that was forgotten."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.settings import Settings
from factories import PASSWORD
from fakes.mailbox import Mailbox, a_mailbox
from models import Role
from patience import until

SIGN_IN = """mutation($login: String!, $password: String!) {
    signIn(input: {login: $login, password: $password}) {
        session { secret } userErrors { code } } }"""
SESSIONS = """{ viewer { actor { sessions {
    id isCurrent address program createdAt lastUsedAt expiresAt } } } }"""
END = """mutation($id: ID!) { endSession(input: {id: $id}) { endedId userErrors { code } } }"""
TOKEN = "mutation { createAccessToken(input: {events: {}}) { secret } }"
EVENTS = "{ events(first: 1) { totalCount } }"
ASK = """mutation($login: String!) {
    requestPasswordReset(input: {login: $login}) { userErrors { code } } }"""
RESET = """mutation($token: String!, $password: String!) {
    resetPassword(input: {token: $token, password: $password}) { userErrors { code } } }"""


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with a_mailbox() as box:
        yield box


@pytest.fixture
def settings(settings: Settings, mailbox: Mailbox) -> Settings:
    """With a mail server."""
    told = {"smtp_url": mailbox.url, "mail_from": "stampwire@kopi.example"}
    return settings.model_copy(update=told)


@pytest.fixture
def signed_in(house: Any) -> Any:
    """A client with a session of the house's owner."""

    async def do(password: str | None = None, **headers: str) -> Any:
        asked = {"login": house.cafe.login, "password": password or PASSWORD}
        answer = await house.client_of(None).call(SIGN_IN, asked, **headers)
        return house.client_of(answer.data["signIn"]["session"]["secret"])

    return do


async def test_the_eleventh_guess_is_rate_limited(house: Any) -> None:
    stranger = house.client_of(None)
    asked = {"login": house.cafe.login, "password": "wrong horse"}

    answers = [await stranger.call(SIGN_IN, asked) for _ in range(11)]

    refused = {"signIn": {"session": None, "userErrors": [{"code": "LOGIN_REFUSED"}]}}
    assert [answer.data for answer in answers[:10]] == [refused] * 10
    assert answers[10].codes == ["RATE_LIMITED"]
    [error] = answers[10].body["errors"]
    assert 0 < error["extensions"]["retryAfterMs"] <= 60_000


async def test_sessions_are_seen_and_ended(house: Any, signed_in: Any, clock: ManualClock) -> None:
    here, there = await signed_in(user_agent="Firefox/140"), await signed_in(user_agent="curl/8")

    async def is_used() -> bool:
        known = (await here.do(SESSIONS))["viewer"]["actor"]["sessions"]
        return any(one["lastUsedAt"] is not None for one in known)

    await until(is_used)
    seen = (await here.do(SESSIONS))["viewer"]["actor"]["sessions"]
    async with there.socket() as socket:
        await here.do(END, {"id": seen[0]["id"]})
        closed = await socket.close_code()

    assert [(one["isCurrent"], one["program"], one["address"]) for one in seen] == [
        (False, "curl", "127.0.x.x"),
        (True, "Firefox", "127.0.x.x"),
    ]
    assert [one["lastUsedAt"] is not None for one in seen] == [False, True]
    assert closed == 4403
    assert (await there.call(SESSIONS)).codes == ["UNAUTHENTICATED"]
    assert len((await here.do(SESSIONS))["viewer"]["actor"]["sessions"]) == 1
    clock.advance(timedelta(days=30))
    assert (await here.call(SESSIONS)).codes == ["UNAUTHENTICATED"]


async def test_only_owners_see_the_sessions_of_others(house: Any, signed_in: Any) -> None:
    await signed_in()
    _, manager = await house.hire(Role.MANAGER)
    ask = "{ staff { nodes { login sessions { id } } } }"

    by_owner = {
        one["login"]: one["sessions"] for one in (await house.owner.do(ask))["staff"]["nodes"]
    }
    by_manager = {
        one["login"]: one["sessions"] for one in (await manager.do(ask))["staff"]["nodes"]
    }
    [session] = by_owner[house.cafe.login]
    node = "query($id: ID!) { node(id: $id) { id } }"

    assert by_manager[house.cafe.login] is None
    assert [] in by_manager.values()
    assert (await manager.do(node, session))["node"] is None
    assert (await house.owner.do(node, session))["node"] == session
    ended = await manager.do(END, session)
    assert ended["endSession"]["userErrors"] == [{"code": "NOT_FOUND"}]


async def test_a_forgotten_password_is_set_anew_by_mail(
    house: Any, signed_in: Any, mailbox: Mailbox
) -> None:
    session, stranger = await signed_in(), house.client_of(None)
    made = await house.owner.do(TOKEN)
    app = house.client_of(made["createAccessToken"]["secret"])
    assert (await app.call(EVENTS)).codes == []

    answers = [
        await stranger.do(ASK, {"login": login})
        for login in ("nobody@kopi.example", house.cafe.login)
    ]
    async with asyncio.timeout(10):
        await mailbox.came.wait()
    token = mailbox.got[0].get_content().replace("\r", "").split("once:\n\n")[1].split("\n")[0]
    done = await stranger.do(RESET, {"token": token, "password": "a new horse"})
    again = await stranger.do(RESET, {"token": token, "password": "another horse"})

    assert answers == [{"requestPasswordReset": {"userErrors": []}}] * 2
    assert len(mailbox.got) == 1
    assert done["resetPassword"]["userErrors"] == []
    assert again["resetPassword"]["userErrors"] == [{"code": "LOGIN_REFUSED"}]
    assert (await session.call(SESSIONS)).codes == ["UNAUTHENTICATED"]
    assert (await app.call(EVENTS)).codes == ["UNAUTHENTICATED"]
    assert await signed_in("a new horse")
    assert (await house.owner.call(SESSIONS)).codes == []  # the API key stays
