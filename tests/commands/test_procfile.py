"""`honcho start` runs the whole Procfile: web, worker and release."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from processes import ROOT, Process


@pytest.fixture
def honcho(settings: Settings) -> Iterator[Process]:
    """The Procfile, run as a developer would; `PORT` is honcho's to give."""
    runner = Process(settings, demo=True)
    environment = runner.environment
    del environment["STAMPWIRE_PORT"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    program = shutil.which("honcho", path=environment["PATH"])
    assert program
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with runner.log.open("ab") as log:
        running = subprocess.Popen(
            [program, "start", "-p", str(settings.port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    runner.adopt(running)
    try:
        runner.wait_until_ready()
        yield runner
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            running.wait(30)


@pytest.mark.slow
@pytest.mark.on("sqlite")  # on both in tests/end_to_end/test_honcho.py
def test_every_process_of_the_procfile_goes_on(honcho: Process) -> None:
    for name in ("web", "worker", "release"):
        assert f"{name}.1 started" in honcho.logs

    assert honcho.answers("/livez") == 200
    assert "stopped" not in honcho.logs
    assert "Traceback" not in honcho.logs
    assert honcho.demo["url"] == honcho.url


def test_the_requirements_name_no_package_index() -> None:
    for path in sorted((ROOT / "requirements").iterdir()):
        text = path.read_text()
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
