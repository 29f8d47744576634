"""Processes of a test's own, forked from one that has loaded the program already.

To load it takes a processor two seconds, and tests start it hundreds of times. What is forked has a
process id, a memory and an end of its own. That the command also starts as it was installed is
shown by tests/commands.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).parent.parent

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["forks", "cli", "server", "worker", "db.migrate", "uvicorn.protocols.http.httptools_impl"]
)
_ONE_AT_A_TIME = threading.Lock()
"""The end of a process is told once: of two threads that ask at once, one would not learn it."""


class Forked:
    """A running process, to be handled as a `Popen`; what it says is added to files."""

    def __init__(
        self,
        main: Callable[[], None],
        words: list[str],
        environment: dict[str, str],
        out: Path,
        err: Path | None = None,
    ) -> None:
        """Without `err`, all that it says is in `out`."""
        told = (main, words, environment, str(out), str(err or out))
        self._process = _CONTEXT.Process(target=_run, args=told, daemon=True)
        with _ONE_AT_A_TIME:
            self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, less than zero for a signal; None while it runs."""
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Unless it has ended: its process id may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


def run_stampwire() -> None:
    """What the command runs, with the words of `sys.argv`."""
    from cli import main  # noqa: PLC0415 -- loaded before it was forked

    main()


def _run(
    main: Callable[[], None], words: list[str], environment: dict[str, str], out: str, err: str
) -> None:
    """Become a process as if it had been started, and run."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(ROOT)
    for stream, name in ((sys.stdout, out), (sys.stderr, err)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
        os.close(file)
        stream.reconfigure(encoding="utf-8", line_buffering=True, write_through=True)
    sys.argv = ["stampwire", *words]
    main()
