"""Staff: logins, who stays owner, signing in and out, passwords."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from core.secrets import Secrets
from db import BUSINESS, Database, query
from events.log import head_of
from models import Actor, Role, ScannerMode, Session, Staff, StaffStatus
from services.access import authenticate
from services.passwords import digest_password
from services.sessions import SignOutInput, sign_out
from services.sign_ins import SignInInput, prove_password, sign_in
from services.staff import (
    ChangePasswordInput,
    CreateStaffInput,
    DisableStaffInput,
    EnableStaffInput,
    change_password,
    create_staff,
    disable_staff,
    enable_staff,
    update_staff,
)

_SESSIONS = query(select(Session).where(col(Session.business_id) == BUSINESS))


async def test_a_staff_login_is_made_without_a_key(
    perform: Any, owner: Actor, row: Any, digest: str
) -> None:
    asked = CreateStaffInput(
        name="Bar Counter",
        login=" Bar@Kopi.example ",
        password="12345678",
        role=Role.SCANNER,
        location_id=owner.location_id,  # type: ignore[arg-type]
        mode=ScannerMode.AUTOPILOT,
    )

    done = await perform(create_staff, owner, asked, password_digest=digest)

    assert done.staff == await row(owner, Staff, done.staff.id)
    assert (done.staff.login, done.staff.status) == ("bar@kopi.example", StaffStatus.ACTIVE)
    assert (done.staff.mode, done.staff.location_id) == (ScannerMode.AUTOPILOT, owner.location_id)


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({"password": "1234567"}, Code.PASSWORD_REFUSED, "password"),
        ({"password": "x" * 201}, Code.PASSWORD_REFUSED, "password"),
        ({"password": "1234567\ud800"}, Code.PASSWORD_REFUSED, "password"),
        ({"login": "a b c"}, Code.INVALID, "login"),
        ({"login": "ab"}, Code.INVALID, "login"),
        ({"name": ""}, Code.INVALID, "name"),
        ({"location_id": "loc_01jwsample0000000000000000"}, Code.NOT_FOUND, "locationId"),
    ],
)
async def test_a_staff_login_needs_sound_values(
    perform: Any, owner: Actor, digest: str, values: dict[str, Any], code: Code, field: str
) -> None:
    sound = CreateStaffInput(
        name="Bar", login="bar@kopi.example", password="12345678", role=Role.SCANNER
    )

    with pytest.raises(Refused) as refused:
        await perform(create_staff, owner, replace(sound, **values), password_digest=digest)

    assert (refused.value.code, refused.value.field) == (code, ["input", field])


async def test_a_login_is_taken_also_by_another_business(
    perform: Any, owner: Actor, hire: Any, make_business: Any, row: Any
) -> None:
    await make_business("other@kopi.example")
    bar = await hire()

    with pytest.raises(Refused) as refused:
        await hire(login="other@kopi.example")
    assert refused.value.code is Code.LOGIN_TAKEN
    with pytest.raises(Refused) as refused:
        await perform(update_staff, owner, {"id": bar.staff_id, "login": "OTHER@kopi.example"})
    assert refused.value.code is Code.LOGIN_TAKEN
    assert (await row(owner, Staff, bar.staff_id)).login == "bar@kopi.example"


async def test_the_given_fields_of_a_staff_login_change(
    perform: Any, owner: Actor, hire: Any, row: Any
) -> None:
    bar = await hire()

    given = {"role": Role.MANAGER, "name": "Bo", "location_id": owner.location_id}
    done = await perform(update_staff, owner, {"id": bar.staff_id, **given})

    assert done.staff == bar.staff.with_values(**given)
    assert await row(owner, Staff, bar.staff_id) == done.staff


@pytest.mark.parametrize("role", [Role.MANAGER, Role.SCANNER])
async def test_staff_are_the_owners_matter(
    perform: Any, owner: Actor, hire: Any, row: Any, role: Role
) -> None:
    somebody = await hire(role)

    with pytest.raises(Forbidden):
        await perform(update_staff, somebody, {"id": somebody.staff_id, "role": Role.OWNER})
    with pytest.raises(Forbidden):
        await perform(disable_staff, somebody, DisableStaffInput(id=owner.staff_id))

    assert (await row(owner, Staff, somebody.staff_id)).role is role
    assert (await row(owner, Staff, owner.staff_id)).status is StaffStatus.ACTIVE


async def test_disabling_ends_every_session_until_a_new_one(
    perform: Any,
    owner: Actor,
    hire: Any,
    database: Database,
    secrets: Secrets,
    clock: ManualClock,
    password: str,
) -> None:
    bar = await hire()
    asked = SignInInput(login="bar@kopi.example", password=password)
    signed = await sign_in(database, secrets, asked, clock.now())
    before = await database.read(owner.business_id, head_of)

    done = await perform(disable_staff, owner, DisableStaffInput(id=bar.staff_id))

    assert (done.staff.status, done.staff.disabled_by) == (StaffStatus.DISABLED, owner.staff_id)
    after = await database.read(owner.business_id, head_of)
    assert after.access_version == before.access_version + 1
    [session] = await database.read(owner.business_id, lambda tx: tx.many(_SESSIONS))
    assert session.ended_at == clock.now()
    with pytest.raises(Refused) as refused:
        await sign_in(database, secrets, asked, clock.now())
    assert refused.value.code is Code.LOGIN_REFUSED

    enabled = await perform(enable_staff, owner, EnableStaffInput(id=bar.staff_id))

    assert enabled.staff.status is StaffStatus.ACTIVE
    assert await _who(database, secrets, signed, clock) is None
    again = await sign_in(database, secrets, asked, clock.now())
    assert await _who(database, secrets, again, clock) is not None


async def test_the_last_owner_cannot_be_disabled_or_demoted(
    perform: Any, owner: Actor, row: Any
) -> None:
    with pytest.raises(Refused) as refused:
        await perform(disable_staff, owner, DisableStaffInput(id=owner.staff_id))
    assert refused.value.code is Code.LAST_OWNER
    with pytest.raises(Refused) as refused:
        await perform(update_staff, owner, {"id": owner.staff_id, "role": Role.MANAGER})
    assert refused.value.code is Code.LAST_OWNER

    assert await row(owner, Staff, owner.staff_id) == owner.staff


async def test_one_of_two_owners_can_be_demoted(perform: Any, owner: Actor, hire: Any) -> None:
    await hire(Role.OWNER)

    done = await perform(update_staff, owner, {"id": owner.staff_id, "role": Role.MANAGER})

    assert done.staff.role is Role.MANAGER


async def test_owners_who_disable_each_other_at_once_leave_one(
    perform: Any, owner: Actor, hire: Any, row: Any
) -> None:
    others = [await hire(Role.OWNER, f"owner{number}@kopi.example") for number in range(5)]
    owners = [owner, *others]

    done = await asyncio.gather(
        *(
            perform(disable_staff, owner, DisableStaffInput(id=somebody.staff_id))
            for somebody in owners
        ),
        return_exceptions=True,
    )

    refused = [said for said in done if isinstance(said, Refused)]
    assert [said.code for said in refused] == [Code.LAST_OWNER]
    left = [await row(owner, Staff, somebody.staff_id) for somebody in owners]
    assert sum(staff.status is StaffStatus.ACTIVE for staff in left) == 1


async def test_signing_in_opens_a_session_of_thirty_days(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock, password: str
) -> None:
    asked = SignInInput(login=" OWNER@kopi.example", password=password)

    signed = await sign_in(database, secrets, asked, clock.now())

    assert signed.staff == owner.staff
    assert signed.session
    assert signed.session.expires_at == clock.now() + timedelta(days=30)
    actor = await _who(database, secrets, signed, clock)
    assert actor
    assert (actor.staff, actor.api_key) == (owner.staff, None)
    clock.advance(timedelta(days=30))
    assert await _who(database, secrets, signed, clock) is None


@pytest.mark.parametrize(
    ("login", "told"),
    [
        ("owner@kopi.example", "wrong horse"),
        ("owner@kopi.example", ""),
        ("owner@kopi.example", "x" * 5_000),
        ("owner@kopi.example", "\ud800"),
        ("nobody@kopi.example", "correct horse"),
        ("nobody@kopi.example", "the password of nobody"),
        ("\x00\ud800", "correct horse"),
    ],
)
async def test_every_wrong_sign_in_is_refused_in_the_same_words(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock, login: str, told: str
) -> None:
    with pytest.raises(Refused) as refused:
        await sign_in(database, secrets, SignInInput(login=login, password=told), clock.now())

    assert refused.value.code is Code.LOGIN_REFUSED
    assert refused.value.message == "This login and password do not match."
    assert await database.read(owner.business_id, lambda tx: tx.many(_SESSIONS)) == []


async def test_signing_out_ends_this_session_only(
    perform: Any,
    owner: Actor,
    database: Database,
    secrets: Secrets,
    clock: ManualClock,
    password: str,
) -> None:
    asked = SignInInput(login="owner@kopi.example", password=password)
    first = await sign_in(database, secrets, asked, clock.now())
    second = await sign_in(database, secrets, asked, clock.now())

    await perform(sign_out, await _who(database, secrets, first, clock), SignOutInput())

    assert await _who(database, secrets, first, clock) is None
    assert await _who(database, secrets, second, clock) is not None


async def test_a_key_does_not_sign_out(perform: Any, owner: Actor) -> None:
    with pytest.raises(Invalid):
        await perform(sign_out, owner, SignOutInput())


async def test_a_new_password_needs_the_present_one_and_ends_other_sessions(
    perform: Any,
    hire: Any,
    database: Database,
    secrets: Secrets,
    clock: ManualClock,
    password: str,
) -> None:
    await hire()
    asked = SignInInput(login="bar@kopi.example", password=password)
    here = await sign_in(database, secrets, asked, clock.now())
    there = await sign_in(database, secrets, asked, clock.now())
    bar = await _who(database, secrets, here, clock)
    assert bar
    asked_for = ChangePasswordInput(new_password="a new horse", current_password=password)
    extras = {
        "password_digest": await digest_password(asked_for.new_password),
        "proven": await prove_password(
            database, secrets, bar.staff, asked_for.current_password, clock.now()
        ),
    }

    with pytest.raises(Refused) as refused:
        await perform(change_password, bar, asked_for, **extras | {"proven": None})
    assert refused.value.code is Code.PASSWORD_REFUSED
    await perform(change_password, bar, asked_for, **extras)

    assert await _who(database, secrets, here, clock) is not None
    assert await _who(database, secrets, there, clock) is None
    with pytest.raises(Refused):
        await sign_in(database, secrets, asked, clock.now())
    await sign_in(database, secrets, replace(asked, password="a new horse"), clock.now())


async def test_a_wrong_password_proves_nothing(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    async def proven(staff: Staff | None, told: str | None) -> str | None:
        return await prove_password(database, secrets, staff, told, clock.now())

    assert await proven(owner.staff, "wrong horse") is None
    assert await proven(owner.staff, None) is None
    assert await proven(None, "wrong horse") is None


async def test_an_owner_sets_the_password_of_another_and_nobody_else_does(
    perform: Any, owner: Actor, hire: Any, make_business: Any, row: Any
) -> None:
    bar, manager = await hire(), await hire(Role.MANAGER, "manager@kopi.example")
    other = await make_business("other@kopi.example")
    asked_for = ChangePasswordInput(new_password="a new horse", staff_id=bar.staff_id)
    extras = {"password_digest": "new", "proven": None}

    with pytest.raises(Forbidden):
        await perform(change_password, manager, asked_for, **extras)
    with pytest.raises(NotFound):
        await perform(change_password, Actor(other.business, other.owner), asked_for, **extras)
    assert await row(owner, Staff, bar.staff_id) == bar.staff
    await perform(change_password, owner, asked_for, **extras)

    assert (await row(owner, Staff, bar.staff_id)).password_digest == "new"


async def _who(
    database: Database, secrets: Secrets, signed: Any, clock: ManualClock
) -> Actor | None:
    secret = signed.session.secret
    return await database.read(None, lambda tx: authenticate(tx, secret, secrets, clock.now()))
