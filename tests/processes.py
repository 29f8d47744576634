"""Servers for tests: one inside the test's event loop, one as a process that can be killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import moments
from core.settings import Settings
from forks import ROOT, Forked, run_stampwire


@dataclass
class RunningServer:
    """A server in the test's own event loop."""

    url: str
    app: Any
    settings: Settings
    connections: Any = ()
    """The open connections, as uvicorn keeps them."""
    protocol: Any = None
    """The class of those of HTTP."""

    @property
    def graphql(self) -> str:
        """Where GraphQL is spoken over HTTP."""
        return f"{self.url}/graphql"

    @property
    def socket(self) -> str:
        """Where GraphQL is spoken over websockets."""
        return self.graphql.replace("http", "ws", 1)


class Process:
    """`stampwire <command>` as a process, its options too; `restart` keeps database and port.

    It is forked from one that has loaded the program, or started as it was `installed`.
    """

    def __init__(
        self,
        settings: Settings,
        command: str = "serve",
        *,
        demo: bool = False,
        installed: bool = False,
    ) -> None:
        self.settings = settings
        self.url = settings.url
        self.graphql = f"{self.url}/graphql"
        self.socket = self.graphql.replace("http", "ws", 1)
        self.data_dir = settings.data_dir
        self._command = command.split()
        self.log = settings.data_dir / f"{self._command[0]}.log"
        self._demo = demo
        self._installed = installed
        self._running: subprocess.Popen[bytes] | Forked | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings as environment variables, and nothing of the test run's own."""
        settings = self.settings
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONUNBUFFERED": "1",
            "STAMPWIRE_HOST": settings.host,
            "STAMPWIRE_PORT": str(settings.port),
            "STAMPWIRE_DATA_DIR": str(settings.data_dir),
            "STAMPWIRE_DATABASE_URL": settings.database,
            "STAMPWIRE_BROADCAST_URL": settings.broadcast,
            "STAMPWIRE_SECRET_KEY": settings.secret_key,
            "STAMPWIRE_DEMO": str(int(self._demo)),
            "STAMPWIRE_ALLOW_INSECURE_WEBHOOKS": str(int(settings.allow_insecure_webhooks)),
            "STAMPWIRE_ALLOWED_ORIGINS": ",".join(settings.allowed_origins),
            "STAMPWIRE_TRUSTED_PROXIES": ",".join(settings.trusted_proxies),
            "STAMPWIRE_TRUSTED_HOSTS": ",".join(settings.trusted_hosts),
            "STAMPWIRE_OPERATOR_KEY": settings.operator_key,
            "STAMPWIRE_METRICS_TOKEN": settings.metrics_token,
            "STAMPWIRE_WORKER_PORT": str(settings.worker_port),
            "STAMPWIRE_SHUTDOWN_DELAY": str(settings.shutdown_delay),
            "STAMPWIRE_COST_BUCKET": str(settings.cost_bucket),
            "STAMPWIRE_COST_PER_SECOND": str(settings.cost_per_second),
            "STAMPWIRE_STRANGER_COST_BUCKET": str(settings.stranger_cost_bucket),
            "STAMPWIRE_RECEIVING_BYTES": str(settings.receiving_bytes),
            "STAMPWIRE_MISSES_PER_MINUTE": str(settings.misses_per_minute),
        }

    @property
    def demo(self) -> dict[str, Any]:
        """The demo café's credentials, as `demo.json` has them."""
        said: dict[str, Any] = json.loads((self.data_dir / "demo.json").read_text())
        return said

    @property
    def logs(self) -> str:
        """Everything it has written so far, over all its lives."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of its present life."""
        assert self._running
        return self._running.pid

    def start(self, patience: float = 30) -> None:
        """Start, and wait until it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._installed:
            with self.log.open("ab") as log:
                self._running = subprocess.Popen(
                    [*stampwire(), *self._command],
                    cwd=ROOT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        else:
            self._running = self.fork(*self._command, out=self.log)
        if self._command[0] == "serve":
            self.wait_until_ready(patience)

    def start_later(self) -> None:
        """Start after a kill, so much later that whatever it had leased is free again.

        That is half a minute. On SQLite there is no wait: whoever starts takes over.
        """
        if not self.settings.is_sqlite:
            asyncio.run(_let_leases_run_out(self.settings))
        self.start()

    def adopt(self, running: subprocess.Popen[bytes]) -> None:
        """Watch over a process that somebody else started with this environment."""
        self._running = running

    def wait_until_ready(self, patience: float = 30) -> None:
        """Wait for /readyz."""
        for _ in moments(patience):
            if self._running is None or self._running.poll() is not None:
                raise RuntimeError(f"it ended at once:\n{self.logs}")
            if self.answers("/readyz") == 200:
                return
        raise TimeoutError(f"it is not ready:\n{self.logs}")

    def answers(self, path: str) -> int:
        """The status it answers a GET with; 0 if it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=2) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def run(self, *words: str) -> str:
        """Run another `stampwire` command on the same deployment; what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            running = self.fork(*words, out=out, err=err)
            try:
                code = running.wait(60)
            finally:
                running.kill()
            if code:
                raise RuntimeError(f"stampwire {' '.join(words)}\n{err.read_text()}")
            return out.read_bytes().decode()

    def fork(self, *words: str, out: Path, err: Path | None = None, **more: str) -> Forked:
        """Another command on the same deployment, which runs on."""
        environment = {**self.environment, **more}
        return Forked(run_stampwire, [*words], environment, out, err)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it politely (SIGTERM); its exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> int:
        running = self._running
        if running is None:
            return 0
        if running.poll() is None:
            running.send_signal(how)
        try:
            code = running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        self._running = None
        return code


async def _let_leases_run_out(settings: Settings) -> None:
    from server import deployment_of  # noqa: PLC0415 -- most tests start no process
    from worker import Leaseholder, _hands  # noqa: PLC0415

    deployment = deployment_of(settings)
    await deployment.database.open()
    try:
        for hand in _hands(deployment):
            if isinstance(hand, Leaseholder):
                await hand.take_over()
    finally:
        await deployment.database.close()


def stampwire() -> list[str]:
    """The command as it was installed; where it was not, the same by its module."""
    installed = Path(sys.executable).parent / "stampwire"
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from cli import main; main()"]
