"""The backends tests run on: SQLite and memory, or a PostgreSQL and a Redis of our own."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from core.guard import _SERVICES
from db.migrate import upgrade

T = TypeVar("T")
LOGIN = "stampwire"
"""The login the tests act as: no superuser, so that row-level security truly bites."""


class Backend(ABC):
    """Somewhere to run: hands out fresh, migrated databases."""

    name: str

    @abstractmethod
    def fresh(self, data_dir: Path) -> dict[str, str]:
        """The settings `database_url` and `broadcast_url` of a database with nothing in it."""

    @abstractmethod
    def empty(self, data_dir: Path) -> str:
        """The URL of a database without even tables."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Forget a database that was handed out."""

    @abstractmethod
    def stop(self) -> None:
        """End what was started."""


class SqliteAndMemory(Backend):
    """A migrated file, copied for every test."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        upgrade(f"sqlite:///{self._template}")

    def fresh(self, data_dir: Path) -> dict[str, str]:
        data_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._template, data_dir / "stampwire.db")
        return {"database_url": "", "broadcast_url": ""}

    def empty(self, data_dir: Path) -> str:
        return f"sqlite:///{data_dir / 'empty.db'}"

    def drop(self, url: str) -> None:
        """Pytest removes the folder."""

    def stop(self) -> None:
        """Nothing was started."""


class PostgresAndRedis(Backend):
    """A private cluster in memory and a private broker, on ports of their own."""

    name = "postgres"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stampwire-", dir=_memory()))
        self._count = 0
        self._port, self._redis_port = free_port(), free_port()
        self._redis = self._start_redis()
        self._start_postgres()
        self._admin = _Admin(f"postgresql://postgres@127.0.0.1:{self._port}/postgres")
        self._admin.run(f"CREATE ROLE {LOGIN} LOGIN CREATEROLE")
        upgrade(self._make("template"))
        self._next = self._begin_next()

    def fresh(self, data_dir: Path) -> dict[str, str]:
        data_dir.mkdir(parents=True, exist_ok=True)
        (name, made), self._next = self._next, self._begin_next()
        made.result()
        return {
            "database_url": self._url(name),
            # Tests come one after another: what an earlier one rang is old news to a later one.
            "broadcast_url": f"redis://127.0.0.1:{self._redis_port}",
        }

    def empty(self, data_dir: Path) -> str:  # noqa: ARG002 -- only SQLite needs a folder
        self._count += 1
        return self._make(f"test_{self._count}")

    def drop(self, url: str) -> None:
        self._admin.begin(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def stop(self) -> None:
        self._admin.close()
        self._redis.terminate()
        self._redis.wait(10)
        _as_postgres(_tool("pg_ctl"), "stop", "-m", "immediate", "-D", str(self._folder / "data"))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, name: str) -> str:
        self._admin.run(f"CREATE DATABASE {name} OWNER {LOGIN}")
        return self._url(name)

    def _begin_next(self) -> tuple[str, Future[Any]]:
        """A database for the test after this one, which is made meanwhile."""
        self._count += 1
        name, how = f"test_{self._count}", self._admin.copy_of("template")
        return name, self._admin.begin(f"CREATE DATABASE {name} OWNER {LOGIN} {how}")

    def _url(self, name: str) -> str:
        return f"postgresql://{LOGIN}@127.0.0.1:{self._port}/{name}"

    def _start_redis(self) -> subprocess.Popen[bytes]:
        redis = shutil.which("redis-server")
        if redis is None:
            raise FileNotFoundError("redis-server is missing: apt-get install redis-server")
        address = ["--port", str(self._redis_port), "--bind", "127.0.0.1"]
        forget = ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        started = subprocess.Popen([redis, *address, *forget], stdout=subprocess.DEVNULL)
        wait_until_open(self._redis_port)
        return started

    def _start_postgres(self) -> None:
        data = self._folder / "data"
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
        _as_postgres(
            _tool("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            "fsync": "off",  # nothing here outlives the session; no power cut is tested with it
            "full_page_writes": "off",
            "wal_level": "minimal",  # nobody copies from it
            "max_wal_senders": "0",
            "autovacuum": "off",  # no database here lives that long
        }
        words = " ".join(f"-c {name}={value}" for name, value in options.items())
        log = str(self._folder / "log")
        _as_postgres(_tool("pg_ctl"), "start", "-w", "-D", str(data), "-l", log, "-o", words)


class _Admin:
    """The superuser's connection, in a thread with a loop of its own: fixtures wait for it."""

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(1, "admin")
        self._runner = self._thread.submit(asyncio.Runner).result()
        self._wire: asyncpg.Connection[Any] = self._begin(lambda: asyncpg.connect(url)).result()

    def run(self, sql: str) -> None:
        self.begin(sql).result()

    def begin(self, sql: str) -> Future[Any]:
        """One after another, in the order in which they were begun."""
        return self._begin(lambda: self._wire.execute(sql))

    def copy_of(self, template: str) -> str:
        """How CREATE DATABASE copies it the quickest."""
        by_files = " STRATEGY FILE_COPY" if self._wire.get_server_version().major >= 15 else ""
        return f"TEMPLATE {template}{by_files}"

    def close(self) -> None:
        self._begin(self._wire.close).result()
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _begin(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        async def done() -> T:
            return await work()

        return self._thread.submit(lambda: self._runner.run(done()))


def _ports() -> Iterator[int]:
    """Below those a kernel gives to whoever calls out: a port that was free is not soon taken.

    Each worker of a run has a thousand of its own, and begins at any of them.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(10_000 + worker % 20 * 1_000, 11_000 + worker % 20 * 1_000)
    yield from itertools.cycle(random.sample(own, len(own)))


_OWN_PORTS = _ports()


def free_port() -> int:
    """A port nobody listens on."""
    for port in _OWN_PORTS:
        if port in _SERVICES:  # no webhook may go there, wherever it listens
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports never end")


def wait_until_open(port: int, patience: float = 10) -> None:
    """Wait until somebody listens on the port."""
    for _ in moments(patience):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    raise TimeoutError(port)


def moments(patience: float, pause: float = 0.02) -> Iterator[None]:
    """Try again and again, until patience ends."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        yield
        time.sleep(pause)


def _memory() -> str | None:
    """A folder in memory, where there is one with room."""
    shm = Path("/dev/shm")
    if shm.is_dir() and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2**30:
        return str(shm)
    return None


def _tool(name: str) -> str:
    """PostgreSQL's own programs; Debian keeps them off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    folders = [str(path) for path in reversed(versions)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        raise FileNotFoundError(f"{name} is missing: apt-get install postgresql")
    return found


def _as_postgres(*command: str) -> None:
    """Run as a user PostgreSQL accepts: it refuses root."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*prefix, *command],
        cwd="/",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout.decode()}")
