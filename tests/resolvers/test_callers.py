"""Who calls: which headers carry a secret, and what is written down of its use."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from core.clock import ManualClock
from core.ids import Id
from core.secrets import Secrets, new_api_key
from db import Database
from factories import Cafe, a_business, a_card
from models import ApiKey, Session
from resolvers import callers
from resolvers.callers import caller_of, secret_in, secret_of
from services.access_tokens import CreateAccessTokenInput, create_access_token
from services.card_refs import CardRef
from services.places import NOWHERE
from services.sign_ins import open_session


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        ("Bearer sc_abc", "sc_abc"),
        ("bearer sc_abc", "sc_abc"),
        ("BEARER  sc_abc ", "sc_abc"),
        ("Bearer a", "a"),
        ("Bearer " + "a" * 200, "a" * 200),
        ("Bearer " + "a" * 201, None),
        ("Bearer ", None),
        ("Bearer", None),
        ("Basic sc_abc", None),
        ("sc_abc", None),
        ("", None),
        ("Bearer café", None),
        (7, None),
        (None, None),
    ],
)
def test_a_secret_is_what_follows_bearer(header: Any, secret: str | None) -> None:
    assert secret_in({"Authorization": header}) == secret
    assert secret_in({"accept": "Bearer no", "AUTHORIZATION": header}) == secret


def test_other_parameters_carry_no_secret() -> None:
    assert secret_in({"token": "Bearer sc_abc"}) is None
    assert secret_in({}) is None
    assert secret_in(None) is None


def test_of_two_headers_neither_counts() -> None:
    assert secret_of(["Bearer sc_abc"]) == "sc_abc"
    assert secret_of(["Bearer sc_abc", "Bearer sc_abc"]) is None
    assert secret_of([]) is None


@pytest.fixture
async def cafe(database: Database, secrets: Secrets) -> Cafe:
    """A café whose owner has a key."""
    return await a_business(database, secrets)


@pytest.fixture
def deployment(database: Database, secrets: Secrets, clock: ManualClock) -> Any:
    """What callers need of a deployment."""
    return SimpleNamespace(database=database, secrets=secrets, clock=clock)


@pytest.fixture
def used(database: Database, cafe: Cafe) -> Any:
    """When a key or session was last used, once all is written down."""

    async def look(row: Any) -> Any:
        await asyncio.gather(*callers._notes.values())
        found: Any = await database.read(cafe.business.id, lambda tx: tx.get(type(row), row.id))
        return found.last_used_at

    return look


async def test_a_key_stands_for_its_login_and_its_use_is_noted(
    deployment: Any, cafe: Cafe, used: Any, clock: ManualClock
) -> None:
    actor: Any = await caller_of(deployment, cafe.api_key)

    assert actor.staff == cafe.owner.staff
    assert isinstance(actor.api_key, ApiKey)
    assert await used(actor.api_key) == clock.now()
    assert callers._notes == {}


async def test_the_use_of_a_session_is_noted_once_in_a_minute(
    deployment: Any, cafe: Cafe, used: Any, clock: ManualClock
) -> None:
    staff: Any = cafe.owner.staff
    began = clock.now()
    opened = await deployment.database.write(
        cafe.business.id, lambda tx: open_session(tx, deployment.secrets, staff, began, NOWHERE)
    )
    told = []
    for _ in range(4):
        clock.advance(timedelta(seconds=40))
        actor: Any = await caller_of(deployment, opened.session.secret)
        assert isinstance(actor.session, Session)
        told.append(await used(actor.session) - began)

    assert [told[0], told[1], told[2]] == [timedelta(seconds=at) for at in (40, 40, 120)]
    assert told[3] == timedelta(seconds=120)


async def test_a_token_is_not_the_use_of_what_issued_it(
    deployment: Any, cafe: Cafe, used: Any, clock: ManualClock
) -> None:
    issuer: Any = await caller_of(deployment, cafe.api_key)
    first = await used(issuer.api_key)
    card = await a_card(deployment.database, cafe.owner)
    told = CreateAccessTokenInput(card=CardRef(id=Id(card.id)))
    made = await deployment.database.write(
        cafe.business.id,
        lambda tx: create_access_token(tx, issuer, told, clock.now(), secrets=deployment.secrets),
    )
    clock.advance(timedelta(minutes=5))

    actor: Any = await caller_of(deployment, made.secret)

    assert actor.token is not None
    assert await used(issuer.api_key) == first


async def test_of_many_calls_at_once_one_writes_it_down(
    deployment: Any, cafe: Cafe, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    truly = callers.note_use

    async def note(tx: Any, key: Any, now: Any) -> None:
        noted.append(key.id)
        await truly(tx, key, now)

    monkeypatch.setattr(callers, "note_use", note)

    key: Any = (await caller_of(deployment, cafe.api_key)).api_key  # type: ignore[union-attr]
    for _ in range(3):
        callers._note(deployment, key)
    await asyncio.gather(*callers._notes.values())

    assert noted == [key.id]


async def test_nobody_is_told_that_a_use_could_not_be_written_down(
    deployment: Any, cafe: Cafe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(callers, "note_use", fail)

    assert await caller_of(deployment, cafe.api_key) is not None
    await asyncio.gather(*callers._notes.values(), return_exceptions=True)
    await asyncio.sleep(0)
    assert callers._notes == {}


async def test_what_we_never_made_asks_no_database(secrets: Secrets, clock: ManualClock) -> None:
    without: Any = SimpleNamespace(secrets=secrets, clock=clock)

    assert [await caller_of(without, told) for told in (None, "", "sc_abc")] == [None] * 3


async def test_a_key_that_is_nobodys_opens_no_door(deployment: Any, cafe: Cafe) -> None:
    assert await caller_of(deployment, new_api_key(test=False)) is None
