"""What every test may ask for: settings, an open database, a clock, a server, a real process."""

import asyncio
import base64
import contextlib
import gc
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from argon2 import PasswordHasher

import core.secrets
from backends import Backend, PostgresAndRedis, SqliteAndMemory, free_port
from clients import Client
from core.clock import ManualClock
from core.secrets import Secrets
from core.settings import Settings
from db import Database, database_of
from processes import Process, RunningServer
from surroundings import MISSING

_LEFT_OUT = pytest.StashKey[Counter[str]]()
_FOLDERS_LEFT_OUT = pytest.StashKey[set[str]]()
_SECRET_KEY = base64.b64encode(os.urandom(32)).decode()
WIDE: dict[str, Any] = {
    "cost_bucket": 100_000_000,
    "stranger_cost_bucket": 100_000_000,
    "misses_per_minute": 1_000_000,
}
"""Tests call as fast as they can, on a clock that stands still; what is usual is tested apart."""
TRUE_HASHER = core.secrets._passwords
"""What hashes passwords outside of tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    chosen = os.environ.get("STAMPWIRE_TEST_BACKEND", "sqlite")
    parser.addoption("--backend", choices=("sqlite", "postgres"), default=chosen)
    parser.addoption("--fast", action="store_true", help="leave out slow and browser tests")
    parser.addoption("--soak", action="store_true", help="also the tests that take minutes")
    told = "only those that bear any neighbour, that bear calm ones, or that bear none"
    parser.addoption("--beside", choices=("any", "calm", "none"), action="append", help=told)
    parser.addoption("--failed-to", type=Path, help="a file for the names of those that failed")


def pytest_configure() -> None:
    gc.disable()  # what is loaded now stays: to look it through took a third of the time
    # Begun in the background of a script, a process ignores ^C, and so do its children.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    import hypothesis  # noqa: F401, PLC0415 -- it asks what refers to what, and is loaded anyhow

    gc.freeze()
    gc.enable()


_NEIGHBOURS = {"none": "alone", "calm": "calm"}
"""The marker of those that `--beside` chooses."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file without a test that is asked for is not even loaded: all together take seconds."""
    if config.option.fast and collection_path.name in _WITH_SERVERS:
        config.stash.setdefault(_FOLDERS_LEFT_OUT, set()).add(collection_path.name)
        return True
    asked = config.option.beside or ["any"]
    if "any" in asked or not collection_path.is_file() or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text()
    return not any(f"mark.{_NEIGHBOURS[neighbours]}" in text for neighbours in asked) or None


def _bears(item: pytest.Item) -> str:
    """Which neighbours a test bears, as `--beside` has it."""
    for neighbours, marker in _NEIGHBOURS.items():
        if item.get_closest_marker(marker):
            return neighbours
    return "any"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = config.stash[_LEFT_OUT] = Counter()
    kept, dropped = [], []
    for item in items:
        if config.option.beside and _bears(item) not in config.option.beside:
            dropped.append(item)  # another call runs it
        elif reason := _reason_to_leave_out(item, config):
            left_out[reason] += 1
            dropped.append(item)
        else:
            kept.append(item)
    if dropped:
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)


_WITH_SERVERS = {
    "api", "attacks", "cli", "commands", "contract", "docs", "end_to_end", "endpoints", "events",
    "faults", "integrations", "judges", "kits", "nocode", "specs", "supply",
}  # fmt: skip
"""Folders whose tests start servers, processes and tools: `--fast` leaves them out."""


def _reason_to_leave_out(item: pytest.Item, config: pytest.Config) -> str:
    for marker in item.iter_markers("on"):
        if config.option.backend not in marker.args:
            return f"only on {' and '.join(marker.args)}"
    without = "backend" not in getattr(item, "fixturenames", ())
    if without and config.option.backend != "sqlite" and not item.get_closest_marker("on"):
        return "without a database: they run with SQLite"
    if item.get_closest_marker("soak") and not config.option.soak:
        return "soak: run with --soak"
    for name in ("slow", "browser"):
        if config.option.fast and item.get_closest_marker(name):
            return f"{name}: left out by --fast"
    return _what_is_missing(item)


def _what_is_missing(item: pytest.Item) -> str:
    for marker in item.iter_markers("surroundings"):
        for word in marker.args:
            is_here, without = MISSING[word]
            if not is_here():
                return without
    return ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells what it left out; all leave out the same."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = dict(session.config.stash.get(_LEFT_OUT, Counter[str]()))
        output["folders_left_out"] = sorted(session.config.stash.get(_FOLDERS_LEFT_OUT, set()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    if told := output.get("left_out"):
        node.config.stash[_LEFT_OUT] = Counter(told)
    if folders := output.get("folders_left_out"):
        node.config.stash[_FOLDERS_LEFT_OUT] = set(folders)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for report in (report for some in terminalreporter.stats.values() for report in some):
        if getattr(report, "when", "") == "teardown":  # by then, all has been said
            for name, text in report.user_properties:
                if name == "figure":
                    terminalreporter.write_line(f"measured: {text}")
    if config.option.failed_to:
        failed = [
            one.nodeid
            for kind in ("failed", "error")
            for one in terminalreporter.stats.get(kind, ())
        ]
        config.option.failed_to.write_text("".join(f"{name}\n" for name in dict.fromkeys(failed)))
    if folders := sorted(config.stash.get(_FOLDERS_LEFT_OUT, set())):
        what = "servers, processes and tools: left out by --fast"
        terminalreporter.write_line(f"left out: the folders {', '.join(folders)} ({what})")
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


@pytest.fixture
def figure(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[str], None]:
    """Say what was measured; it is shown at the end of the run."""

    def say(text: str) -> None:
        record_property("figure", f"{request.node.name}: {text}")

    return say


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Hashing a password takes a fifth of a second on purpose; in tests it does not."""
    core.secrets._passwords = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield
    core.secrets._passwords = TRUE_HASHER


@pytest.fixture(scope="session", autouse=True)
def _few_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test has a database of its own, to which each connection begins slowly: few will do."""
    if request.config.option.backend != "postgres":
        yield
        return
    from db.postgres import PostgresDatabase  # noqa: PLC0415 -- as the program does

    usual = PostgresDatabase.__init__.__defaults__
    assert usual == (10,), "the size of the pool"
    PostgresDatabase.__init__.__defaults__ = (3,)
    yield
    PostgresDatabase.__init__.__defaults__ = usual


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
        **WIDE,
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
        # asyncio does so for its own sockets only; without, each answer waits 40 ms for an ACK.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(host.serve(sockets=[door]))
        while not host.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.005)
        connections = host.server_state.connections
        yield RunningServer(settings.url, app, settings, connections, options["http"])
        host.is_over.set()
        await task


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests, and ends as soon as it may.

    Uvicorn looks about every tenth of a second, here too; over hundreds of servers that is minutes.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_over = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.is_over.wait()
                    self.should_exit = True


class _Brisk:
    """What uvicorn's server knows as asyncio: its pauses, at its end, are a twentieth."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


uvicorn.server.asyncio = _Brisk()


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """`stampwire serve` with the demo café, as a process of its own, ready."""
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()
