"""What tests of commands start from: a way to run one without the second a process takes."""

import os
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from cli import app
from core.settings import Settings
from processes import Process

Run = Callable[..., str]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the deployment of `settings`, in this process; what it printed."""
    for name in set(os.environ) - {"PATH", "HOME"}:
        if not name.startswith("PYTEST_"):
            monkeypatch.delenv(name)

    def here(*words: str) -> str:
        done = CliRunner().invoke(app, words, env=Process(settings).environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        if done.exit_code:
            raise RuntimeError(f"stampwire {' '.join(words)}\n{done.stderr}")
        return done.stdout_bytes.decode()  # its newlines as they are

    return here


@pytest.fixture
def run_process(settings: Settings) -> Run:
    """Run a command on the deployment of `settings`, as a process; what it printed."""
    return Process(settings).run
