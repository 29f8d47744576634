"""What tests of the plain routes start from: a café on a running server, and a browser's client."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from core.clock import ManualClock
from db import Database
from factories import Cafe, a_business
from processes import RunningServer


@pytest.fixture
def database(server: RunningServer) -> Database:
    """The running server's own database, so that its doorbell rings."""
    found: Database = server.app.state.deployment.database
    return found


@pytest.fixture
async def cafe(server: RunningServer, database: Database, clock: ManualClock) -> Cafe:
    """A café whose API key opens the server's doors."""
    return await a_business(database, server.app.state.deployment.secrets, clock.now())


@pytest.fixture
async def http(server: RunningServer) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a key."""
    async with httpx2.AsyncClient(base_url=server.url, headers={"accept": "*/*"}) as client:
        yield client
