"""What tests of services start from: a business, its owner, and a way to call an operation."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core.clock import ManualClock
from core.secrets import Secrets, password_digest
from db import Database, Transaction
from models import Actor, Role
from services.businesses import (
    BusinessCreated,
    CreateBusinessInput,
    OwnerInput,
    create_business,
    the_system,
)
from services.staff import CreateStaffInput, create_staff

Perform = Callable[..., Awaitable[Any]]
PASSWORD = "correct horse"


@pytest.fixture
def password() -> str:
    """The password of everybody here."""
    return PASSWORD


@pytest.fixture(scope="session")
def digest() -> str:
    """What is stored of PASSWORD; made once, for it takes its time."""
    return password_digest(PASSWORD)


@pytest.fixture
def make_business(
    database: Database, secrets: Secrets, clock: ManualClock, digest: str
) -> Callable[..., Awaitable[BusinessCreated]]:
    """Make a business whose owner has this login."""

    async def make(login: str = "owner@kopi.example", **values: Any) -> BusinessCreated:
        asked = CreateBusinessInput(
            **{"name": "Kopi", "timezone": "Asia/Jakarta", "currency": "IDR"} | values,
            owner=OwnerInput(name="Ana", login=login, password=PASSWORD),
        )

        async def work(tx: Transaction) -> BusinessCreated:
            now = clock.now()
            return await create_business(
                tx, the_system(now), asked, now, password_digest=digest, secrets=secrets
            )

        return await database.write(None, work)

    return make


@pytest.fixture
async def owner(make_business: Callable[..., Awaitable[BusinessCreated]]) -> Actor:
    """The owner of a business, as the actor of a call."""
    made = await make_business()
    assert made.business
    return Actor(made.business, made.owner)


@pytest.fixture
def perform(database: Database, clock: ManualClock) -> Perform:
    """Perform an operation in a transaction of the actor's business."""

    async def do(operation: Any, actor: Actor, input: Any, **extras: Any) -> Any:
        async def work(tx: Transaction) -> Any:
            return await operation(tx, actor, input, clock.now(), **extras)

        return await database.write(actor.business_id, work)

    return do


@pytest.fixture
def hire(perform: Perform, owner: Actor, digest: str) -> Callable[..., Awaitable[Actor]]:
    """Make a staff login; hands back the actor it is."""

    async def make(role: Role = Role.SCANNER, login: str = "bar@kopi.example") -> Actor:
        asked = CreateStaffInput(name="Bar", login=login, password=PASSWORD, role=role)
        made = await perform(create_staff, owner, asked, password_digest=digest)
        return Actor(owner.business, made.staff)

    return make


@pytest.fixture
def row(database: Database) -> Callable[..., Awaitable[Any]]:
    """A row of the actor's business as it is stored."""

    async def get(actor: Actor, cls: type[Any], id: str | None) -> Any:
        return await database.read(actor.business_id, lambda tx: tx.get(cls, id))

    return get
