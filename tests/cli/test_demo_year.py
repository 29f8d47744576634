"""`stampwire demo --year`: cut off, begun anew, kept, and not made twice."""

import json
import signal
import stat
import subprocess
from datetime import UTC, datetime

import pytest

from core.secrets import Secrets
from core.settings import Settings
from db import database_of
from models import Actor
from processes import ROOT, Process, stampwire
from services.access import authenticate
from services.year import shape

SHORT = ("demo", "--year", "--scale", "0.01", "--days", "12", "--json")


@pytest.mark.on("sqlite")  # the story itself is told on both in tests/services/test_year.py
async def test_the_year_is_begun_anew_where_it_was_cut_off_and_made_once(
    settings: Settings, secrets: Secrets
) -> None:
    command = Process(settings)
    path = settings.data_dir / "year.json"

    cut_off(command)
    assert not path.exists()
    told = json.loads(command.run(*SHORT))
    with pytest.raises(RuntimeError, match="exists already") as refused:
        command.run(*SHORT)

    assert told["business"]["id"] in str(refused.value)
    assert str(path) in str(refused.value)
    assert json.loads(path.read_text()) == told
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert command.run("audit") == f"{told['business']['id']}  {shape.NAME}: all is well\n"
    for who in ("owner", "scanner"):
        caller = await caller_of(settings, secrets, told[who]["apiKey"])
        assert caller
        assert caller.business.name == shape.NAME
        assert caller.staff
        assert caller.staff.login == told[who]["login"]


def cut_off(command: Process) -> None:
    """Begin the year, and end it with ^C when its first month is over."""
    with subprocess.Popen(
        [*stampwire(), "demo", "--year", "--scale", "0.02"],
        cwd=ROOT,
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as begun:
        assert begun.stderr
        assert begun.stderr.readline().startswith(b"2026-01")
        begun.send_signal(signal.SIGINT)
        rest = begun.stderr.read()
    assert b"Traceback" not in rest
    assert begun.returncode == 0


async def caller_of(settings: Settings, secrets: Secrets, key: str) -> Actor | None:
    """Whom a key stands for."""
    database = database_of(settings, visiting=True)
    await database.open()
    try:
        now = datetime.now(UTC)
        return await database.read(None, lambda tx: authenticate(tx, key, secrets, now))
    finally:
        await database.close()
