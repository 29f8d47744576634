"""What every test may ask for: settings, an open database, a clock, a server, a real process."""

import asyncio
import base64
import contextlib
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from backends import Backend, PostgresAndRedis, SqliteAndMemory, free_port
from clients import Client
from core.clock import ManualClock
from core.secrets import Secrets
from core.settings import Settings
from db import Database, database_of
from processes import Process, RunningServer

_LEFT_OUT = pytest.StashKey[Counter[str]]()
_SECRET_KEY = base64.b64encode(os.urandom(32)).decode()


def pytest_addoption(parser: pytest.Parser) -> None:
    chosen = os.environ.get("STAMPWIRE_TEST_BACKEND", "sqlite")
    parser.addoption("--backend", choices=("sqlite", "postgres"), default=chosen)
    parser.addoption("--fast", action="store_true", help="leave out slow and browser tests")
    parser.addoption("--soak", action="store_true", help="also the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = config.stash[_LEFT_OUT] = Counter()
    kept, dropped = [], []
    for item in items:
        if reason := _reason_to_leave_out(item, config):
            left_out[reason] += 1
            dropped.append(item)
        else:
            kept.append(item)
    if dropped:
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)


_WITH_SERVERS = {
    "api", "cli", "commands", "contract", "end_to_end", "endpoints", "events", "faults",
    "kits",
}  # fmt: skip
"""Folders whose tests start servers and processes: `--fast` leaves them out."""


def _reason_to_leave_out(item: pytest.Item, config: pytest.Config) -> str:
    for marker in item.iter_markers("on"):
        if config.option.backend not in marker.args:
            return f"only on {' and '.join(marker.args)}"
    if item.get_closest_marker("soak") and not config.option.soak:
        return "soak: run with --soak"
    if config.option.fast and item.path.parent.name in _WITH_SERVERS:
        return "servers and processes: left out by --fast"
    for name in ("slow", "browser"):
        if config.option.fast and item.get_closest_marker(name):
            return f"{name}: left out by --fast"
    return ""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for reason, count in sorted(config.stash.get(_LEFT_OUT, Counter[str]()).items()):
        terminalreporter.write_line(f"left out: {count} tests ({reason})")


def pytest_report_header(config: pytest.Config) -> str:
    return f"backend: {config.option.backend}"


@pytest.fixture(scope="session")
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """The backend of this run."""
    chosen: Backend = (
        SqliteAndMemory(tmp_path_factory.mktemp("sqlite"))
        if request.config.option.backend == "sqlite"
        else PostgresAndRedis()
    )
    yield chosen
    chosen.stop()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("STAMPWIRE_") or name in ("PORT", "DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a deployment of its own: a fresh database, a data dir, a free port."""
    data_dir = tmp_path / "var"
    made = Settings(
        data_dir=data_dir,
        port=free_port(),
        secret_key=_SECRET_KEY,
        allow_insecure_webhooks=True,
        **backend.fresh(data_dir),
    )
    yield made
    backend.drop(made.database)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The open database of `settings`."""
    opened = database_of(settings)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at a Monday noon until it is moved."""
    return ManualClock(datetime(2026, 3, 2, 12, 0, tzinfo=UTC))


@pytest.fixture
def secrets(settings: Settings) -> Secrets:
    """The secrets of `settings`."""
    return Secrets.from_setting(settings.secret_key, settings.data_dir)


@pytest.fixture
async def server(settings: Settings, clock: ManualClock) -> AsyncIterator[RunningServer]:
    """The real application under a real server in this event loop, on `clock`'s time."""
    async with serving(settings, clock) as running:
        yield running


@pytest.fixture
async def client_of(server: RunningServer) -> AsyncIterator[Callable[..., Client]]:
    """A client of the running server, by its key; a stranger without one."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield lambda key=None: Client(server, session, key)


@contextlib.asynccontextmanager
async def serving(settings: Settings, clock: Any = None) -> AsyncIterator[RunningServer]:
    """Run the application of these settings for as long as the block lasts."""
    from server import create_app, server_options  # noqa: PLC0415 -- most need no server

    app = create_app(settings, clock)
    options = {**server_options(settings), "loop": "none", "timeout_graceful_shutdown": 5}
    config = uvicorn.Config(app, lifespan="on", **options)
    host = _Quiet(config)
    with socket.create_server((settings.host, settings.port), backlog=512) as door:
        task = asyncio.create_task(host.serve(sockets=[door]))
        while not host.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.005)
        yield RunningServer(settings.url, app, settings, host.server_state.connections)
        host.should_exit = True
        await task


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """`stampwire serve` with the demo café, as a process of its own, ready."""
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()
