"""What tests of events start from: one server in the event loop of the folder, a café per test."""

import base64
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from backends import Backend, free_port
from conftest import serving
from core.clock import ManualClock
from core.settings import Settings
from factories import NOW
from processes import RunningServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_server(
    backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningServer]:
    """The real application. Its clock stands still: each café moves a clock of its own."""
    data_dir = tmp_path_factory.mktemp("events")
    key = base64.b64encode(os.urandom(32)).decode()
    parts = backend.fresh(data_dir)
    settings = Settings(data_dir=data_dir, port=free_port(), secret_key=key, **parts)
    async with serving(settings, ManualClock(NOW)) as running:
        yield running
    backend.drop(settings.database)
