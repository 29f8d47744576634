"""A running server with a café and a client for each role: what tests of the API start from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import select

from clients import Client
from core.clock import ManualClock
from db import Database, Query, Transaction, query
from factories import Cafe, a_business, a_staff, an_api_key
from models import Actor, Agenda, RefusedCall, Role, Row
from patience import until
from processes import RunningServer
from resolvers.context import Deployment


@pytest.fixture
def deployment(server: RunningServer) -> Deployment:
    """The parts the running server is composed of."""
    found: Deployment = server.app.state.deployment
    return found


@pytest.fixture
def database(deployment: Deployment) -> Database:
    """The running server's own database, so that its doorbell rings."""
    return deployment.database


_OF_ITSELF = {Agenda, RefusedCall}
"""What changes beside any call: when the worker looks, and that a call was refused."""
_EVERYTHING = {
    cls.__name__: query(select(cls)) for cls in Row.__subclasses__() if cls not in _OF_ITSELF
}


def _plain(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.__dict__.items() if name != "last_used_at"}


@dataclass
class House:
    """A café on the running server."""

    cafe: Cafe
    owner: Client
    deployment: Deployment
    client_of: Callable[..., Client]

    @property
    def actor(self) -> Actor:
        """The owner, as services know it."""
        return self.cafe.owner

    @property
    def database(self) -> Database:
        """The running server's."""
        return self.deployment.database

    @property
    def subscribers(self) -> int:
        """How many follow the log by the server's fan-out."""
        following: int = self.view.fanout.subscribers
        return following

    @property
    def view(self) -> Any:
        """The server's GraphQL endpoint."""
        app: Any = self.owner.server.app
        return next(route.app for route in app.routes if route.path == "/graphql")

    async def until_followed(self, count: int) -> None:
        """Wait until so many follow the log."""
        await until(lambda: self.subscribers >= count)

    async def until_awaited(self, count: int = 1) -> None:
        """Wait until so many have read the café's log to its end, and wait for news of it.

        All subscribers to `events` over sockets are one; each other one is one more.
        """
        followers = self.deployment.stream._followers[self.actor.business_id]
        await until(lambda: sum(bool(one._news._waiters) for one in followers) >= count)  # type: ignore[attr-defined]

    async def hire(self, role: Role, **values: Any) -> tuple[Actor, Client]:
        """Another staff login with a key."""
        actor = await a_staff(self.database, self.actor, role, **values)
        assert actor.staff
        key = await an_api_key(self.database, self.actor, actor.staff, self.deployment.secrets)
        return actor, self.client_of(key)

    async def dump(self) -> dict[str, list[Any]]:
        """Everything that is stored, but for when keys were used and when the worker looks."""

        async def work(tx: Transaction) -> dict[str, list[Any]]:
            return {
                name: sorted(map(_plain, await tx.many(statement)), key=str)
                for name, statement in _EVERYTHING.items()
            }

        return await self.database.read(None, work)

    async def all(self, statement: Query[Any], **values: Any) -> list[Any]:
        """Rows of the café."""
        return await self.database.read(
            self.actor.business_id, lambda tx: tx.many(statement, **values)
        )


@pytest.fixture
def open_house(
    deployment: Deployment, client_of: Callable[..., Client], clock: ManualClock
) -> Callable[..., Awaitable[House]]:
    """Make a café on the running server."""

    async def make(**values: Any) -> House:
        cafe = await a_business(deployment.database, deployment.secrets, clock.now(), **values)
        return House(cafe, client_of(cafe.api_key), deployment, client_of)

    return make


@pytest.fixture
async def house(open_house: Callable[..., Awaitable[House]]) -> House:
    """A café on the running server."""
    return await open_house()
