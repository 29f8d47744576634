"""`stampwire serve` as a process: ready quickly, one at a time, told to stop, killed."""

import os
import stat
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from processes import ROOT, Process, RunningServer, stampwire


async def test_the_server_of_the_tests_is_ready(server: RunningServer) -> None:
    async with httpx2.AsyncClient() as client:
        alive = await client.get(f"{server.url}/livez")
        ready = await client.get(f"{server.url}/readyz")

    assert (alive.status_code, ready.status_code) == (200, 200)


@pytest.mark.slow
@pytest.mark.on("sqlite")
def test_the_demos_credentials_are_the_owners_alone(process: Process) -> None:
    path = process.data_dir / "demo.json"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(process.demo) == {
        "url",
        "business",
        "owner",
        "scanner",
        "cardTemplate",
        "voucherTemplate",
    }
    assert process.demo["url"] == process.url
    assert process.demo["owner"]["apiKey"] in process.logs


@pytest.mark.slow
@pytest.mark.on("sqlite")
@pytest.mark.alone
def test_the_second_start_is_ready_within_two_seconds(installed: Process) -> None:
    """As `bin/serve` is: the best of three; where others keep the machine busy, as much longer."""
    demo = installed.demo
    limit = 2 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))

    took = []
    while len(took) < 3 and (not took or min(took) >= limit):
        installed.stop()
        started = time.monotonic()
        installed.start()
        took.append(time.monotonic() - started)

    assert min(took) < limit, took
    assert installed.demo == demo


@pytest.mark.slow
@pytest.mark.on("sqlite")  # on both in tests/end_to_end/test_kill.py, as a fork
def test_a_killed_server_starts_again(installed: Process) -> None:
    demo = installed.demo

    installed.restart()

    assert installed.answers("/readyz") == 200
    assert installed.demo == demo


@pytest.mark.slow
@pytest.mark.on("sqlite")
def test_a_second_server_on_the_same_file_is_refused(process: Process) -> None:
    second = subprocess.run(
        [*stampwire(), "serve", "--port", "0"],
        cwd=ROOT,
        env=process.environment,
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == 1
    assert b"Another server runs" in second.stderr
    assert process.answers("/readyz") == 200


def test_every_command_is_executable() -> None:
    for path in [*(ROOT / "bin").glob("[a-z]*"), ROOT / ".ci" / "run"]:
        if path.suffix != ".py" and path.is_file():
            assert path.stat().st_mode & stat.S_IXUSR, path
            assert Path(path).read_text().startswith("#!")
