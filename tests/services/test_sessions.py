"""Sessions: seen and ended by whoever holds the login, and by owners."""

from collections.abc import Callable
from typing import Any

import pytest

from core.clock import ManualClock
from core.errors import Forbidden, NotFound
from core.secrets import Secrets
from db import Database
from events.log import head_of
from models import Actor, Role, Session
from services.access import authenticate
from services.places import NOWHERE
from services.sessions import (
    EndAllSessionsInput,
    EndSessionInput,
    end_all_sessions,
    end_session,
    live_sessions,
)
from services.sign_ins import open_session


@pytest.fixture
def signed_in(database: Database, secrets: Secrets, clock: ManualClock) -> Callable[..., Any]:
    """Open a session; hands back the actor it is."""

    async def do(staff: Any) -> Actor:
        signed = await database.write(
            staff.business_id, lambda tx: open_session(tx, secrets, staff, clock.now(), NOWHERE)
        )
        secret = signed.session.secret if signed.session else ""
        actor = await database.read(None, lambda tx: authenticate(tx, secret, secrets, clock.now()))
        assert actor
        return actor

    return do


@pytest.fixture
def live(database: Database, clock: ManualClock) -> Callable[..., Any]:
    """The ids of the sessions of a staff login that open doors."""

    async def do(actor: Actor) -> set[str]:
        assert actor.staff_id
        id, now = actor.staff_id, clock.now()
        found = await database.read(actor.business_id, lambda tx: live_sessions(tx, id, now))
        return {row.id for row in found}

    return do


async def test_one_session_ends_and_the_others_stay(
    perform: Any, hire: Any, signed_in: Any, live: Any, database: Database
) -> None:
    bar = await hire()
    here, there = await signed_in(bar.staff), await signed_in(bar.staff)
    before = await database.read(bar.business_id, head_of)

    done = await perform(end_session, here, EndSessionInput(id=there.session_id))

    assert done.ended_id == there.session_id
    assert await live(bar) == {here.session_id}
    after = await database.read(bar.business_id, head_of)
    assert after.access_version == before.access_version + 1


async def test_an_owner_ends_those_of_others_and_nobody_else_does(
    perform: Any, hire: Any, owner: Actor, make_business: Any, signed_in: Any, live: Any
) -> None:
    bar, manager = await hire(), await hire(Role.MANAGER, "manager@kopi.example")
    session = (await signed_in(bar.staff)).session_id
    other = await make_business("other@kopi.example")
    stranger = Actor(other.business, other.owner)

    for actor in (manager, stranger):
        with pytest.raises(NotFound):
            await perform(end_session, actor, EndSessionInput(id=session))
    with pytest.raises(Forbidden):
        await perform(end_all_sessions, manager, EndAllSessionsInput(staff_id=bar.staff_id))
    with pytest.raises(NotFound):
        await perform(end_all_sessions, stranger, EndAllSessionsInput(staff_id=bar.staff_id))
    assert await live(bar) == {session}
    await perform(end_session, owner, EndSessionInput(id=session))

    assert await live(bar) == set()


@pytest.mark.parametrize(("keeps", "left"), [(None, 0), (True, 1)])
async def test_all_sessions_of_a_login_end_at_once(
    perform: Any, hire: Any, owner: Actor, signed_in: Any, live: Any, keeps: bool | None, left: int
) -> None:
    bar = await hire()
    await signed_in(owner.staff)
    here, _, _ = [await signed_in(bar.staff) for _ in range(3)]

    done = await perform(end_all_sessions, here, EndAllSessionsInput(keep_current=keeps))

    assert done.ended_count == 3 - left
    assert await live(bar) == ({here.session_id} if keeps else set())
    assert len(await live(owner)) == 1


async def test_an_ended_session_stays_ended_since_when_it_was(
    perform: Any, hire: Any, owner: Actor, signed_in: Any, row: Any, clock: ManualClock
) -> None:
    bar = await hire()
    session, ended_at = (await signed_in(bar.staff)).session_id, clock.now()
    await perform(end_session, owner, EndSessionInput(id=session))
    clock.advance(clock.now() - ended_at)

    again = await perform(end_session, owner, EndSessionInput(id=session))

    assert again.ended_id == session
    assert (await row(owner, Session, session)).ended_at == ended_at
