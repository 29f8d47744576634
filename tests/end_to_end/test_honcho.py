"""The story under `honcho start`: on the defaults, and on PostgreSQL and Redis; it ends cleanly."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends import Backend, free_port, moments
from core.settings import Settings
from fakes.receiver import receiving
from partners import BEGINNING, Api, operations, subscriber
from processes import ROOT, Process

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(settings: Settings, backend: Backend, tmp_path: Path) -> Settings:
    """A first start: a database with nothing in it, and on SQLite no setting that names one."""
    database = "" if backend.name == "sqlite" else backend.empty(tmp_path)
    told = {"data_dir": tmp_path / "first", "database_url": database, "port": free_port()}
    return Settings(**{**settings.model_dump(), **told})


@contextmanager
def _honcho(settings: Settings) -> Iterator[tuple[Process, subprocess.Popen[bytes]]]:
    """The Procfile, as a developer runs it: `PORT` is honcho's to give."""
    runner = Process(settings, demo=True)
    settings.data_dir.mkdir(parents=True)
    environment = runner.environment
    del environment["STAMPWIRE_PORT"]
    if settings.is_sqlite:
        del environment["STAMPWIRE_DATABASE_URL"], environment["STAMPWIRE_BROADCAST_URL"]
        del environment["STAMPWIRE_SECRET_KEY"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    program = shutil.which("honcho", path=environment["PATH"])
    assert program, "honcho is missing from requirements/dev.txt"
    with runner.log.open("ab") as log:
        running = subprocess.Popen(
            [program, "start", "-p", str(settings.port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    runner.adopt(running)
    try:
        runner.wait_until_ready(60)
        yield runner, running
    finally:
        if running.poll() is None:
            running.terminate()
        running.wait(30)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_the_story_under_honcho(settings: Settings, how: signal.Signals) -> None:
    with _honcho(settings) as (honcho, running):
        await _story(honcho)
        children = _descendants(running.pid)
        assert len(children) >= 3

        if how is signal.SIGINT:  # a terminal's ^C reaches every process of the group
            os.killpg(running.pid, how)
        else:
            running.send_signal(how)
        code = await asyncio.to_thread(running.wait, 20)

        assert code in (0, 128 + how, -how)
        assert _gone(children)
        assert "Traceback" not in honcho.logs, honcho.logs


async def _story(process: Process) -> None:
    """The reference text's, from a card to the redeemed voucher at the receiver."""
    demo = process.demo
    async with (
        Api(process.graphql, demo["scanner"]["apiKey"]) as api,
        receiving() as receiver,
        subscriber(
            process.socket, demo["scanner"]["apiKey"], operations()["Events"], after=BEGINNING
        ) as heard,
    ):
        made = await api.do("CreateWebhookEndpoint", url=receiver.at("/crm"), vocabulary="ID")
        customer = {"email": "ana@example.com"}
        card = await api.do("IssueCard", templateId=demo["cardTemplate"]["id"], customer=customer)
        added = await api.do("AddStamps", card={"id": card["card"]["id"]}, count=6)
        voucher = added["rewards"][1]["voucher"]["id"]
        await api.do("RedeemVoucher", voucher={"id": voucher}, via="STAFF_SCANNER")
        told = await heard.wait_for(8)
        delivered = await receiver.wait_for(8)

    assert told[-1]["type"] == "VOUCHER_REDEEMED"
    bodies = {one.verified_by(made["signingSecret"])["id"]: one.body for one in delivered}
    assert bodies == {event["id"]: event["payload"].encode() for event in told}


def _descendants(pid: int) -> list[int]:
    """The processes it started, and those they started (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (int(child), *_descendants(int(child)))]


def _gone(pids: list[int]) -> bool:
    """Whether all of them end soon."""
    return any(not [pid for pid in pids if Path(f"/proc/{pid}").exists()] for _ in moments(5))
