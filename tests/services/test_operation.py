"""What `@operation` declares, and whom it turns away."""

import itertools
from typing import Any

import pytest

from core.errors import Forbidden
from events import StampAdded, VoucherIssued
from factories import Cafe, a_business, a_staff
from models import AccessToken, Actor, Role
from services.operation import (
    EVERYBODY,
    MANAGERS,
    OPERATOR,
    OWNER,
    Outcome,
    allow,
    operation,
)

ROLES = (*Role, None)
"""The system itself has no role."""
ADMITTED = {
    EVERYBODY: [Role.OWNER, Role.MANAGER, Role.SCANNER, None],
    MANAGERS: [Role.OWNER, Role.MANAGER, None],
    OWNER: [Role.OWNER, None],
    OPERATOR: [None],
}


class Opened(Outcome):
    """A door is open."""


@operation(Role.OWNER, Role.MANAGER, fires=(StampAdded, VoucherIssued))
async def open_door(tx: Any, actor: Actor, key: str, *, softly: bool = False) -> Opened:
    """Open a door."""
    return Opened(user_errors=[(tx, actor, key, softly)])  # type: ignore[list-item]


@operation()
async def shut_door(tx: Any, actor: Actor) -> Outcome:
    """Shut it."""
    return Outcome()


@pytest.fixture
async def cafe(database: Any) -> Cafe:
    """A café with an owner."""
    return await a_business(database)


@pytest.fixture
async def actors(database: Any, cafe: Cafe) -> dict[Role | None, Actor]:
    """One of each role, and the system."""
    hired = {role: await a_staff(database, cafe.owner, role) for role in Role}
    return {**hired, None: Actor(cafe.business)}


def is_admitted(actor: Actor, roles: tuple[Role, ...]) -> bool:
    try:
        allow(actor, roles)
    except Forbidden:
        return False
    return True


def test_a_declared_operation_says_who_may_call_it_and_what_it_fires() -> None:
    assert open_door.roles == (Role.OWNER, Role.MANAGER)
    assert open_door.fires == (StampAdded, VoucherIssued)
    assert open_door.outcome is Opened
    assert (open_door.__name__, open_door.__doc__) == ("open_door", "Open a door.")
    assert (shut_door.roles, shut_door.fires, shut_door.outcome) == ((), (), Outcome)


async def test_each_role_is_admitted_where_it_is_named_and_the_system_everywhere(
    actors: dict[Role | None, Actor],
) -> None:
    found = {
        roles: [role for role in ROLES if is_admitted(actors[role], roles)] for roles in ADMITTED
    }

    assert {roles: set(names) for roles, names in found.items()} == {
        roles: set(names) for roles, names in ADMITTED.items()
    }


async def test_a_token_is_admitted_nowhere_whoever_issued_it(
    actors: dict[Role | None, Actor],
) -> None:
    token: Any = AccessToken.model_construct(scope={"events": {}})

    for actor, roles in itertools.product(actors.values(), ADMITTED):
        bearer = Actor(actor.business, actor.staff, token=token)
        with pytest.raises(Forbidden, match=r"^An access token does not reach this\.$"):
            allow(bearer, roles)


async def test_whoever_is_admitted_gets_what_the_service_gives(
    actors: dict[Role | None, Actor],
) -> None:
    tx: Any = object()
    actor = actors[Role.MANAGER]

    given = await open_door(tx, actor, "brass", softly=True)

    assert given.user_errors == [(tx, actor, "brass", True)]


async def test_whoever_is_not_never_reaches_the_service(actors: dict[Role | None, Actor]) -> None:
    tx: Any = object()

    with pytest.raises(Forbidden):
        await open_door(tx, actors[Role.SCANNER], "brass")
    for role in Role:
        with pytest.raises(Forbidden):
            await shut_door(tx, actors[role])
    assert await shut_door(tx, actors[None]) == Outcome()
