"""Who calls: whom a key, a session and a token stand for, and when they stand for nobody."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from core.clock import ManualClock
from core.ids import Id
from core.secrets import SESSION_PREFIX, Secrets, new_access_token, new_api_key
from db import Database, Transaction
from factories import NOW, Cafe, a_business, a_card, a_location, a_staff
from models import AccessToken, Actor, ApiKey, Role, Session
from services.access import (
    authenticate,
    end_tokens,
    is_stale,
    is_well_formed,
    note_use,
)
from services.access_tokens import CreateAccessTokenInput, create_access_token
from services.api_keys import (
    DeleteApiKeyInput,
    GenerateApiKeyInput,
    delete_api_key,
    generate_api_key,
)
from services.card_refs import CardRef
from services.places import NOWHERE
from services.sign_ins import open_session


class Door:
    """One café with a scanner, and what opens its door."""

    def __init__(self, database: Database, secrets: Secrets, cafe: Cafe, bar: Actor) -> None:
        self.database = database
        self.secrets = secrets
        self.cafe = cafe
        self.bar = bar

    async def do(self, work: Any, *, of: str | None = None) -> Any:
        """Run something in a transaction of the café."""
        return await self.database.write(of or self.cafe.business.id, work)

    async def open(self, secret: str, now: datetime = NOW) -> Actor | None:
        """Whom a secret stands for."""
        return await self.database.read(
            None, lambda tx: authenticate(tx, secret, self.secrets, now)
        )

    async def change(self, row: Any, **values: Any) -> Any:
        """Change a row as it is stored."""
        return await self.do(lambda tx: tx.change(row, **values))

    async def key(self, **values: Any) -> tuple[ApiKey, str]:
        """The scanner's key."""
        told = GenerateApiKeyInput(staff_id=Id(self.bar.staff_id or ""), **values)
        made = await self.do(
            lambda tx: generate_api_key(tx, self.cafe.owner, told, NOW, secrets=self.secrets)
        )
        return made.api_key, made.secret

    async def session(self) -> tuple[Session, str]:
        """A session of the scanner."""
        staff: Any = self.bar.staff
        made = await self.do(lambda tx: open_session(tx, self.secrets, staff, NOW, NOWHERE))
        opened: Any = await self.open(made.session.secret)
        return opened.session, made.session.secret

    async def token(self, issuer: str) -> tuple[AccessToken, str]:
        """A token for a card that is none of the café's affair here."""
        actor: Any = await self.open(issuer)
        card = await a_card(self.database, self.cafe.owner)
        told = CreateAccessTokenInput(card=CardRef(id=Id(card.id)))
        made = await self.do(
            lambda tx: create_access_token(tx, actor, told, NOW, secrets=self.secrets)
        )
        opened: Any = await self.open(made.secret)
        return opened.token, made.secret


@pytest.fixture
async def door(database: Database, secrets: Secrets) -> Door:
    """A café, and its scanner at a counter."""
    cafe = await a_business(database, secrets)
    at = await a_location(database, cafe.owner)
    bar = await a_staff(database, cafe.owner, Role.SCANNER, location_id=Id(at.id))
    return Door(database, secrets, cafe, bar)


@pytest.fixture
async def neighbour(database: Database, secrets: Secrets) -> Cafe:
    """Another café, whose rows are never meant."""
    return await a_business(database, secrets, name="Next door")


async def test_a_key_stands_for_its_login_in_its_business(door: Door, neighbour: Cafe) -> None:
    key, secret = await door.key()

    actor: Any = await door.open(secret)

    assert (actor.business, actor.staff) == (door.cafe.business, door.bar.staff)
    assert (actor.api_key, actor.session, actor.token) == (key, None, None)
    assert actor.secret_digest == key.digest == door.secrets.digest(secret)


async def test_a_session_stands_for_its_login_in_its_business(door: Door, neighbour: Cafe) -> None:
    session, secret = await door.session()

    actor: Any = await door.open(secret)

    assert (actor.business, actor.staff) == (door.cafe.business, door.bar.staff)
    assert (actor.api_key, actor.session, actor.token) == (None, session, None)
    assert actor.secret_digest == session.digest == door.secrets.digest(secret)


@pytest.mark.parametrize("by", ["key", "session"])
async def test_a_token_stands_for_its_login_and_knows_what_issued_it(
    door: Door, neighbour: Cafe, by: str
) -> None:
    issuer, secret = await getattr(door, by)()
    token, shown = await door.token(secret)

    actor: Any = await door.open(shown)

    assert (actor.business, actor.staff) == (door.cafe.business, door.bar.staff)
    issuers = (issuer, None) if by == "key" else (None, issuer)
    assert (actor.api_key, actor.session) == issuers
    assert actor.token == token
    assert actor.secret_digest == token.digest == door.secrets.digest(shown)


async def test_after_a_regeneration_the_digest_is_the_one_that_was_used(door: Door) -> None:
    key, secret = await door.key()
    await door.change(
        key,
        digest=door.secrets.digest("another"),
        former_digest=key.digest,
        former_until=NOW + timedelta(hours=1),
    )

    actor: Any = await door.open(secret, NOW + timedelta(minutes=59))

    assert actor.secret_digest == key.digest
    assert await door.open(secret, NOW + timedelta(hours=1)) is None


async def test_a_key_without_a_former_secret_has_none(door: Door) -> None:
    key, secret = await door.key()
    await door.change(key, digest=door.secrets.digest("another"), former_digest=key.digest)

    assert await door.open(secret) is None


async def test_a_key_ends_at_its_moment(door: Door) -> None:
    _, secret = await door.key(expires_at=NOW + timedelta(hours=1))

    assert await door.open(secret, NOW + timedelta(minutes=59)) is not None
    assert await door.open(secret, NOW + timedelta(hours=1)) is None


async def test_a_session_ends_at_its_moment_or_when_it_is_ended(door: Door) -> None:
    session, secret = await door.session()

    assert await door.open(secret, session.expires_at - timedelta(seconds=1)) is not None
    assert await door.open(secret, session.expires_at) is None
    await door.change(session, ended_at=NOW)
    assert await door.open(secret) is None


@pytest.mark.parametrize("by", ["key", "session"])
async def test_a_token_ends_at_its_moment(door: Door, by: str) -> None:
    _, secret = await getattr(door, by)()
    token, shown = await door.token(secret)

    assert await door.open(shown, token.expires_at - timedelta(seconds=1)) is not None
    assert await door.open(shown, token.expires_at) is None


@pytest.mark.parametrize("by", ["key", "session"])
@pytest.mark.parametrize(
    "what", [{"disabled_at": NOW}, {"role": Role.MANAGER}, {"location_id": None}]
)
async def test_what_changes_for_a_login_changes_for_all_it_opened(
    door: Door, by: str, what: dict[str, Any]
) -> None:
    _, secret = await getattr(door, by)()
    _, shown = await door.token(secret)

    await door.change(door.bar.staff, **what)

    assert await door.open(shown) is None
    assert (await door.open(secret) is None) is ("disabled_at" in what)


async def test_a_token_dies_with_its_key(door: Door) -> None:
    key, secret = await door.key()
    _, shown = await door.token(secret)

    changed = await door.change(key, digest=door.secrets.digest("another"))
    assert await door.open(shown) is None
    later = {"former_digest": key.digest, "former_until": NOW + timedelta(minutes=5)}
    await door.change(changed, **later)
    assert await door.open(shown) is not None
    assert await door.open(shown, NOW + timedelta(minutes=5)) is None

    told = DeleteApiKeyInput(id=Id(key.id))
    await door.do(lambda tx: delete_api_key(tx, door.cafe.owner, told, NOW))
    assert await door.open(shown) is None


@pytest.mark.parametrize(
    "what", [{"ended_at": NOW}, {"digest": "another"}, {"expires_at": NOW}], ids=str
)
async def test_a_token_dies_with_its_session(door: Door, what: dict[str, Any]) -> None:
    session, secret = await door.session()
    _, shown = await door.token(secret)

    await door.change(session, **what)

    assert await door.open(shown) is None


async def test_ending_the_tokens_of_a_login_leaves_those_of_others(
    door: Door, neighbour: Cafe
) -> None:
    _, mine = await door.token((await door.key())[1])
    _, others = await door.token(door.cafe.api_key)

    def end(tx: Transaction) -> Any:
        return end_tokens(tx, door.bar.staff_id or "")

    await door.do(end, of=neighbour.business.id)
    assert await door.open(mine) is not None
    await door.do(end)

    assert await door.open(mine) is None
    assert await door.open(others) is not None


async def test_what_opens_no_door(door: Door) -> None:
    _, key = await door.key()
    _, session = await door.session()
    wrong = [
        new_api_key(test=False),
        new_access_token(),
        SESSION_PREFIX + session.removeprefix(SESSION_PREFIX)[::-1],
        key + "0",
        session + "0",
        f" {key}",
        "",
    ]

    assert [await door.open(secret) for secret in wrong] == [None] * len(wrong)


def test_only_what_we_could_have_made_is_worth_a_query() -> None:
    made = [new_api_key(test=True), new_access_token(), f"{SESSION_PREFIX}anything"]

    assert [is_well_formed(secret) for secret in made] == [True] * 3
    assert [is_well_formed(secret[1:]) for secret in made] == [False] * 3


async def test_the_last_use_is_written_again_after_a_minute(door: Door) -> None:
    key, _ = await door.key()

    said = [
        is_stale(replace_use(key, used), NOW)
        for used in (None, NOW, NOW - timedelta(minutes=1), NOW - timedelta(seconds=61))
    ]

    assert said == [True, False, False, True]


def replace_use(key: ApiKey, used: datetime | None) -> ApiKey:
    """The key as it would be, last used then."""
    return ApiKey(**{**key.__dict__, "last_used_at": used})


async def test_the_use_of_a_key_and_of_a_session_are_noted_each_with_its_own(
    door: Door, clock: ManualClock
) -> None:
    key, of_key = await door.key()
    session, of_session = await door.session()
    at = {ApiKey: NOW + timedelta(minutes=2), Session: NOW + timedelta(minutes=3)}

    for row in (key, session):
        work = partial(note_use, key=row, now=at[type(row)])
        await door.database.write(None, work)

    used: Any = [await door.open(secret) for secret in (of_key, of_session, door.cafe.api_key)]
    assert [used[0].api_key.last_used_at, used[1].session.last_used_at] == list(at.values())
    assert used[2].api_key.last_used_at is None
