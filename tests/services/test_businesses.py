"""Businesses: what one is born with, and what its owner may change."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, Forbidden, Invalid, Refused
from core.ids import new_id
from core.secrets import Secrets, is_api_key
from db import BUSINESS, Database, Transaction, query
from models import (
    Actor,
    ApiKey,
    Business,
    Location,
    Mode,
    Operation,
    OperationKind,
    Role,
    Staff,
    Vocabulary,
)
from services.access import authenticate
from services.businesses import CreateBusinessInput, OwnerInput, create_business, update_business

_LOCATIONS = query(select(Location).where(col(Location.business_id) == BUSINESS))
_KEYS = query(select(ApiKey).where(col(ApiKey.business_id) == BUSINESS))


async def test_a_business_is_born_with_an_owner_a_location_and_a_key(
    database: Database, make_business: Any, secrets: Secrets, clock: ManualClock
) -> None:
    made = await make_business(name="  Kopi  Kita ", vocabulary=Vocabulary.EN)

    assert (made.business.name, made.business.vocabulary) == ("Kopi Kita", Vocabulary.EN)
    assert (made.owner.login, made.owner.role) == ("owner@kopi.example", Role.OWNER)
    [location] = await database.read(made.business.id, lambda tx: tx.many(_LOCATIONS))
    assert (location.name, made.owner.location_id) == ("Kopi Kita", location.id)
    assert is_api_key(made.api_key_secret)
    [key] = await database.read(made.business.id, lambda tx: tx.many(_KEYS))
    assert (key.name, key.hint) == ("Ana", made.api_key_secret[-4:])
    actor = await database.read(
        None, lambda tx: authenticate(tx, made.api_key_secret, secrets, clock.now())
    )
    assert actor == Actor(made.business, made.owner, api_key=key, secret_digest=key.digest)


async def test_a_test_business_gets_a_test_key(make_business: Any) -> None:
    made = await make_business(mode=Mode.TEST)

    assert made.api_key_secret.startswith("7loc_sc_test_")


async def test_only_the_system_makes_businesses(
    perform: Any, owner: Actor, digest: str, secrets: Secrets
) -> None:
    asked = CreateBusinessInput(
        name="More",
        timezone="UTC",
        currency="EUR",
        owner=OwnerInput(name="Bo", login="bo@kopi.example", password="12345678"),
    )

    with pytest.raises(Forbidden):
        await perform(create_business, owner, asked, password_digest=digest, secrets=secrets)


async def test_a_login_is_unique_over_all_businesses(make_business: Any) -> None:
    await make_business("ana@kopi.example")

    with pytest.raises(Refused) as refused:
        await make_business(" Ana@Kopi.example")

    assert refused.value.code is Code.LOGIN_TAKEN
    assert refused.value.field == ["input", "owner", "login"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": " "}, ["input", "name"]),
        ({"timezone": "Bandung"}, ["input", "timezone"]),
        ({"currency": "Rp"}, ["input", "currency"]),
        ({"default_language": "Bahasa Indonesia"}, ["input", "defaultLanguage"]),
        ({"login": "a b c"}, ["input", "owner", "login"]),
    ],
)
async def test_a_business_needs_sound_values(
    make_business: Any, values: dict[str, Any], field: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        await make_business(**values)

    assert refused.value.field == field


async def test_the_owner_changes_the_settings_given_and_no_others(
    perform: Any, owner: Actor, row: Any
) -> None:
    given = {"vocabulary": Vocabulary.EN, "event_retention_days": 90, "currency": "EUR"}

    done = await perform(update_business, owner, given)

    assert done.business == owner.business.with_values(**given)
    assert await row(owner, Business, owner.business_id) == done.business


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": None}, "name"),
        ({"timezone": "Mars"}, "timezone"),
        ({"logo_url": "javascript:alert(1)"}, "logoUrl"),
        ({"vocabulary": None}, "vocabulary"),
        ({"event_retention_days": 29}, "eventRetentionDays"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    perform: Any, owner: Actor, row: Any, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await perform(update_business, owner, given)

    assert refused.value.field == ["input", field]
    assert await row(owner, Business, owner.business_id) == owner.business


async def test_the_currency_is_fixed_by_the_first_operation(
    database: Database, perform: Any, owner: Actor, clock: ManualClock
) -> None:
    async def operate(tx: Transaction) -> None:
        await tx.add(
            Operation(
                id=new_id("op"),
                business_id=owner.business_id,
                kind=OperationKind.STAMPS,
                occurred_at=clock.now(),
                created_at=clock.now(),
            )
        )

    await database.write(owner.business_id, operate)

    with pytest.raises(Invalid):
        await perform(update_business, owner, {"currency": "EUR"})
    done = await perform(update_business, owner, {"currency": "IDR", "name": "Kopi Dua"})
    assert done.business.name == "Kopi Dua"


@pytest.mark.parametrize("role", [Role.MANAGER, Role.SCANNER])
async def test_settings_are_the_owners_alone(
    perform: Any, owner: Actor, hire: Callable[..., Awaitable[Actor]], row: Any, role: Role
) -> None:
    somebody = await hire(role)

    with pytest.raises(Forbidden):
        await perform(update_business, somebody, {"name": "Mine"})

    assert (await row(owner, Business, owner.business_id)).name == "Kopi"


async def test_the_owner_of_another_business_is_not_found(
    make_business: Any, row: Any, owner: Actor
) -> None:
    other = await make_business("other@kopi.example")

    assert await row(owner, Staff, other.owner.id) is None
