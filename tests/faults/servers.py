"""A PostgreSQL and a Redis of a test's own, which it may kill, freeze and start again."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from backends import LOGIN, _Admin, _as_postgres, _memory, _tool, free_port, wait_until_open


class Broken(ABC):
    """A server that can be made to fail; its port stays the same."""

    port: int
    url: str
    is_running = False

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it takes connections."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Every process of it."""

    @abstractmethod
    def cut(self) -> None:
        """End every connection to it, by its own command."""

    def freeze(self) -> None:
        """Stop all its processes; its connections stay."""
        self._tell_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._tell_all(signal.SIGCONT)

    def _tell_all(self, what: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                os.kill(pid, what)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Be frozen for as long as the block lasts."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()


class Redis(Broken):
    """A Redis without a memory."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.mkdtemp(prefix="stampwire-redis-")
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: apt-get install redis-server"
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._running = subprocess.Popen(
            [program, *words, "--dir", self._folder], stdout=subprocess.DEVNULL
        )
        wait_until_open(self.port)
        self.is_running = True

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait(10)
        self._running, self.is_running = None, False

    def pids(self) -> list[int]:
        return [self._running.pid] if self._running else []

    def cut(self) -> None:
        self.say("CLIENT", "KILL", "TYPE", "pubsub")
        self.say("CLIENT", "KILL", "TYPE", "normal")

    def say(self, *words: str | bytes) -> None:
        """Give it a command."""
        program = shutil.which("redis-cli")
        assert program, "redis-cli is missing: apt-get install redis-tools"
        subprocess.run([program, "-p", str(self.port), *words], check=True, capture_output=True)

    def remove(self) -> None:
        """End it for good."""
        self.thaw()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Postgres(Broken):
    """A PostgreSQL that keeps what it committed, over any number of crashes."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql://{LOGIN}@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="stampwire-", dir=_memory()))
        self._data = str(self._folder / "data")
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
        _as_postgres(
            _tool("initdb"), "-D", self._data, "-U", "postgres", "-A", "trust",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()
        self.run(f"CREATE ROLE {LOGIN} LOGIN CREATEROLE")

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 60,
            "fsync": "off",  # only its processes die here, the machine does not
        }
        words = " ".join(f"-c {name}={value}" for name, value in options.items())
        log = str(self._folder / "log")
        _as_postgres(_tool("pg_ctl"), "start", "-w", "-D", self._data, "-l", log, "-o", words)
        self.is_running = True

    def kill(self) -> None:
        """As a crash would: what is under way is lost, what was committed is recovered."""
        if self.is_running:
            _as_postgres(_tool("pg_ctl"), "stop", "-m", "immediate", "-D", self._data)
        self.is_running = False

    def pids(self) -> list[int]:
        if not self.is_running:
            return []
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def cut(self) -> None:
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'stampwire%'"
        )

    def run(self, sql: str, database: str = "postgres") -> None:
        """Run a statement as the superuser."""
        admin = _Admin(f"postgresql://postgres@127.0.0.1:{self.port}/{database}")
        try:
            admin.run(sql)
        finally:
            admin.close()

    def fresh(self, name: str, like: str = "template1") -> str:
        """The URL of a new database."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.run(f"CREATE DATABASE {name} OWNER {LOGIN} TEMPLATE {like}")
        return f"postgresql://{LOGIN}@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """End it for good."""
        self.thaw()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
