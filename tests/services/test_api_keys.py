"""API keys: one per staff login, shown once, dead at once."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from core.secrets import Secrets
from db import BUSINESS, Database, query
from events.log import head_of
from models import Actor, ApiKey, Mode, Notice, NoticeKind, Role
from resolvers import callers
from services.access import authenticate, is_well_formed
from services.api_keys import (
    ApiKeyShown,
    DeleteApiKeyInput,
    GenerateApiKeyInput,
    RegenerateApiKeyInput,
    UpdateApiKeyInput,
    delete_api_key,
    generate_api_key,
    regenerate_api_key,
    update_api_key,
)
from services.staff import DisableStaffInput, disable_staff

_NOTICES = query(select(Notice).where(col(Notice.business_id) == BUSINESS).order_by(col(Notice.id)))
_KEYS = query(select(ApiKey).where(col(ApiKey.business_id) == BUSINESS))


@pytest.fixture
async def bar(hire: Any) -> Actor:
    """A scanner without a key."""
    return await hire()


@pytest.fixture
async def shown(perform: Any, owner: Actor, bar: Actor, secrets: Secrets) -> ApiKeyShown:
    """The scanner's key and its secret."""
    asked = GenerateApiKeyInput(staff_id=bar.staff_id)
    return await perform(generate_api_key, owner, asked, secrets=secrets)


@pytest.fixture
def opens(database: Database, secrets: Secrets, clock: ManualClock) -> Any:
    """Whose door a secret opens."""

    async def staff_id(secret: str) -> str | None:
        actor = await database.read(None, lambda tx: authenticate(tx, secret, secrets, clock.now()))
        return actor.staff_id if actor else None

    return staff_id


async def test_a_key_acts_as_its_staff(shown: ApiKeyShown, bar: Actor, opens: Any) -> None:
    assert shown.api_key
    assert shown.secret
    assert (shown.api_key.name, shown.api_key.hint) == ("Bar", shown.secret[-4:])
    assert shown.secret not in repr(vars(shown.api_key))
    assert await opens(shown.secret) == bar.staff_id


async def test_one_staff_login_has_one_key(
    shown: ApiKeyShown, perform: Any, owner: Actor, bar: Actor, secrets: Secrets
) -> None:
    with pytest.raises(Refused) as refused:
        await perform(
            generate_api_key, owner, GenerateApiKeyInput(staff_id=bar.staff_id), secrets=secrets
        )

    assert refused.value.code is Code.STAFF_HAS_KEY


async def test_a_disabled_login_gets_no_key_and_its_key_dies(
    shown: ApiKeyShown, perform: Any, owner: Actor, bar: Actor, secrets: Secrets, opens: Any
) -> None:
    await perform(disable_staff, owner, DisableStaffInput(id=bar.staff_id))

    with pytest.raises(Refused) as refused:
        await perform(
            generate_api_key, owner, GenerateApiKeyInput(staff_id=bar.staff_id), secrets=secrets
        )
    assert refused.value.code is Code.STAFF_DISABLED
    assert await opens(shown.secret) is None


async def test_a_key_ends_when_it_was_told_to(
    perform: Any, owner: Actor, bar: Actor, secrets: Secrets, opens: Any, clock: ManualClock
) -> None:
    end = clock.now() + timedelta(hours=1)
    asked = GenerateApiKeyInput(staff_id=bar.staff_id, name="Till", expires_at=end)
    made = await perform(generate_api_key, owner, asked, secrets=secrets)
    assert (made.api_key.name, await opens(made.secret)) == ("Till", bar.staff_id)

    clock.advance(timedelta(hours=1))

    assert await opens(made.secret) is None
    again = await perform(
        regenerate_api_key, owner, RegenerateApiKeyInput(id=made.api_key.id), secrets=secrets
    )
    assert again.api_key.expires_at is None
    assert await opens(again.secret) == bar.staff_id


async def test_a_key_that_ended_before_it_began_is_refused(
    perform: Any, owner: Actor, bar: Actor, secrets: Secrets, clock: ManualClock
) -> None:
    asked = GenerateApiKeyInput(staff_id=bar.staff_id, expires_at=clock.now())

    with pytest.raises(Invalid) as refused:
        await perform(generate_api_key, owner, asked, secrets=secrets)

    assert refused.value.field == ["input", "expiresAt"]


async def test_regenerating_kills_the_former_secret_at_once(
    shown: ApiKeyShown,
    perform: Any,
    owner: Actor,
    bar: Actor,
    secrets: Secrets,
    opens: Any,
    database: Database,
    clock: ManualClock,
) -> None:
    before = await database.read(owner.business_id, head_of)

    asked = RegenerateApiKeyInput(id=shown.api_key.id)
    fresh = await perform(regenerate_api_key, owner, asked, secrets=secrets)

    assert fresh.api_key.id == shown.api_key.id
    assert fresh.api_key.regenerated_at == clock.now()
    assert (await opens(fresh.secret), await opens(shown.secret)) == (bar.staff_id, None)
    after = await database.read(owner.business_id, head_of)
    assert after.access_version == before.access_version + 1


async def test_an_overlap_keeps_the_former_secret_for_its_hours(
    shown: ApiKeyShown,
    perform: Any,
    owner: Actor,
    bar: Actor,
    secrets: Secrets,
    opens: Any,
    clock: ManualClock,
) -> None:
    asked = RegenerateApiKeyInput(id=shown.api_key.id, overlap_hours=72)
    fresh = await perform(regenerate_api_key, owner, asked, secrets=secrets)

    assert (await opens(fresh.secret), await opens(shown.secret)) == (bar.staff_id, bar.staff_id)
    clock.advance(timedelta(hours=72))
    assert (await opens(fresh.secret), await opens(shown.secret)) == (bar.staff_id, None)


@pytest.mark.parametrize("hours", [-1, 73])
async def test_an_overlap_has_a_limit(
    shown: ApiKeyShown, perform: Any, owner: Actor, secrets: Secrets, opens: Any, hours: int
) -> None:
    asked = RegenerateApiKeyInput(id=shown.api_key.id, overlap_hours=hours)

    with pytest.raises(Invalid):
        await perform(regenerate_api_key, owner, asked, secrets=secrets)

    assert await opens(shown.secret) is not None


async def test_an_overlap_goes_by_real_time_in_a_test_business(
    make_business: Any, perform: Any, secrets: Secrets, clock: ManualClock, database: Database
) -> None:
    made = await make_business("test@kopi.example", mode=Mode.TEST)
    moved = made.business.with_values(clock_offset=86_400)
    clock.advance(timedelta(seconds=moved.clock_offset))
    [key] = await database.read(made.business.id, lambda tx: tx.many(_KEYS))

    done = await perform(
        regenerate_api_key,
        Actor(moved, made.owner),
        RegenerateApiKeyInput(id=key.id, overlap_hours=1),
        secrets=secrets,
    )

    assert done.api_key.former_until == made.business.created_at + timedelta(hours=1)


async def test_a_key_is_renamed(shown: ApiKeyShown, perform: Any, owner: Actor, row: Any) -> None:
    done = await perform(update_api_key, owner, UpdateApiKeyInput(id=shown.api_key.id, name="Till"))

    assert done.api_key == shown.api_key.with_values(name="Till")
    assert await row(owner, ApiKey, shown.api_key.id) == done.api_key


async def test_a_deleted_key_opens_no_door_and_frees_its_staff(
    shown: ApiKeyShown, perform: Any, owner: Actor, bar: Actor, secrets: Secrets, opens: Any
) -> None:
    done = await perform(delete_api_key, owner, DeleteApiKeyInput(id=shown.api_key.id))

    assert done.deleted_id == shown.api_key.id
    assert await opens(shown.secret) is None
    with pytest.raises(NotFound):
        await perform(delete_api_key, owner, DeleteApiKeyInput(id=shown.api_key.id))
    asked = GenerateApiKeyInput(staff_id=bar.staff_id)
    fresh = await perform(generate_api_key, owner, asked, secrets=secrets)
    assert await opens(fresh.secret) == bar.staff_id


async def test_keys_are_the_owners_matter_in_their_own_business(
    shown: ApiKeyShown, perform: Any, hire: Any, make_business: Any, secrets: Secrets, opens: Any
) -> None:
    manager = await hire(Role.MANAGER, "manager@kopi.example")
    other = await make_business("other@kopi.example")
    stranger = Actor(other.business, other.owner)
    key_id = shown.api_key.id

    with pytest.raises(Forbidden):
        await perform(delete_api_key, manager, DeleteApiKeyInput(id=key_id))
    with pytest.raises(NotFound):
        await perform(delete_api_key, stranger, DeleteApiKeyInput(id=key_id))
    with pytest.raises(NotFound):
        await perform(
            regenerate_api_key, stranger, RegenerateApiKeyInput(id=key_id), secrets=secrets
        )
    with pytest.raises(NotFound):
        await perform(update_api_key, stranger, UpdateApiKeyInput(id=key_id, name="Mine"))

    assert await opens(shown.secret) is not None


async def test_a_wrong_checksum_is_refused_without_a_query(
    shown: ApiKeyShown, secrets: Secrets, clock: ManualClock
) -> None:
    """Nothing of the deployment but these names is there: whoever asked a database would fail."""
    assert shown.secret
    typo = shown.secret[:-1] + ("x" if shown.secret[-1] != "x" else "y")
    deployment: Any = SimpleNamespace(secrets=secrets, clock=clock)

    wrong = [typo, typo.replace("sc_", "sc_test_"), "7loc_sc_", "swt_" + typo[8:], "", "hello"]
    found = [await callers.caller_of(deployment, word) for word in wrong]

    assert found == [None] * len(wrong)
    assert is_well_formed(shown.secret)


async def test_the_last_use_is_kept_to_the_minute(
    shown: ApiKeyShown,
    owner: Actor,
    database: Database,
    secrets: Secrets,
    clock: ManualClock,
    row: Any,
) -> None:
    assert shown.api_key
    deployment: Any = SimpleNamespace(secrets=secrets, clock=clock, database=database)
    used = []
    for _ in range(4):
        await callers.caller_of(deployment, shown.secret)
        await asyncio.gather(*callers._notes.values())
        used.append((await row(owner, ApiKey, shown.api_key.id)).last_used_at)
        clock.advance(timedelta(seconds=40))

    start = clock.now() - timedelta(seconds=160)
    assert used == [start, start, start + timedelta(seconds=80), start + timedelta(seconds=80)]


async def test_owners_are_told_of_keys_without_their_secrets(
    shown: ApiKeyShown, perform: Any, owner: Actor, secrets: Secrets, database: Database
) -> None:
    assert shown.api_key
    again = RegenerateApiKeyInput(id=shown.api_key.id, overlap_hours=24)
    fresh = await perform(regenerate_api_key, owner, again, secrets=secrets)
    await perform(delete_api_key, Actor(owner.business), DeleteApiKeyInput(id=shown.api_key.id))

    notices = await database.read(owner.business_id, lambda tx: tx.many(_NOTICES))

    former, hint = shown.api_key.hint, fresh.api_key.hint
    assert {(notice.kind, notice.subject_id) for notice in notices} == {
        (NoticeKind.API_KEY_CHANGED, shown.api_key.id)
    }
    assert [notice.message for notice in notices] == [
        f'The API key "Bar" (…{former}) was generated for Bar by Ana (OWNER).',
        (
            f'The API key "Bar" (…{hint}) was regenerated (the former secret stays good for '
            "24 hours) by Ana (OWNER)."
        ),
        f'The API key "Bar" (…{hint}) was deleted by whoever runs the server.',
    ]
    assert not any(word in str(notices) for word in (shown.secret, fresh.secret))
