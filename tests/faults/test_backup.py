"""The drill: a backup under writes, a kill, and all of it back (reliability.md §3, backup row)."""

import asyncio
import fcntl
import os
import stat
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest

from backends import Backend, free_port
from core.settings import Settings
from db import backup
from db.backup import CannotBackUp, back_up, copy_of, faults, restore
from db.revision import is_current
from fakes.receiver import receiving
from partners import Api
from processes import Process

CLIENTS = 8
WITHIN = 15.0
"""Seconds from the decision to restore until the restored server answers."""


@pytest.mark.slow
async def test_what_was_acknowledged_before_a_backup_is_there_after_the_restore(
    settings: Settings,
    backend: Backend,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    """Recovery point: the moment the backup began. Recovery time: seconds; both are printed."""
    process = Process(settings, demo=True)
    file = tmp_path / "backups" / "stampwire.backup"
    await asyncio.to_thread(process.start)
    try:
        key = process.demo["owner"]["apiKey"]
        async with Api(process.graphql, key) as api, receiving() as receiver:
            await api.do("CreateWebhookEndpoint", url=receiver.at("/"))
            till = _Till(api, process.demo["cardTemplate"]["id"])
            writing = [asyncio.create_task(till.write()) for _ in range(CLIENTS)]
            await till.until(40)
            before, began = dict(till.acknowledged), time.monotonic()
            said = orjson.loads(await asyncio.to_thread(process.run, "backup", str(file), "--json"))
            backed_up_in = time.monotonic() - began
            await till.until(len(till.acknowledged) + 20)
            await asyncio.to_thread(process.kill)
            await asyncio.gather(*writing)
    finally:
        process.stop()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert settings.secret_key.encode() not in file.read_bytes()

    began = time.monotonic()
    restored = _elsewhere(settings, backend, tmp_path)
    told = orjson.loads(await asyncio.to_thread(restored.run, "restore", str(file), "--json"))
    try:
        await asyncio.to_thread(restored.start)
        recovered_in = time.monotonic() - began
        async with Api(restored.graphql, key) as api:
            log = await api.journal()
    finally:
        restored.stop()
    into = [] if settings.is_sqlite else ["--into", backend.empty(tmp_path / "proof")]
    (tmp_path / "proof").mkdir(exist_ok=True)
    proof = orjson.loads(
        await asyncio.to_thread(restored.run, "verify", str(file), *into, "--json")
    )

    there = {event["id"] for event in log}
    after = [id for id in till.acknowledged if id not in before]
    assert set(before) <= there
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
    assert proof["findings"] == []
    assert told["recoveryPoint"] is not None
    assert recovered_in < WITHIN
    lost = sum(id not in there for id in after)
    figure(
        f"backup of {said['bytes'] // 1024} KiB under writes in {backed_up_in:.1f} s; recovery "
        f"point: its beginning, {len(before)} of {len(before)} acknowledged before it are there, "
        f"{lost} of {len(after)} after it are not; recovery time {recovered_in:.1f} s; "
        f"verified in {proof['seconds']} s"
    )


@pytest.mark.on("sqlite")
def test_a_restore_replaces_nothing_unasked(settings: Settings, tmp_path: Path) -> None:
    file, url = tmp_path / "a.backup", settings.database
    back_up(url, file)

    with pytest.raises(CannotBackUp, match="nothing is overwritten"):
        back_up(url, file)
    with pytest.raises(CannotBackUp, match="--force puts it aside"):
        restore(url, file, force=False)
    with (settings.data_dir / "stampwire.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotBackUp, match="stop it first"):
            restore(url, file, force=True)
    aside = restore(url, file, force=True)

    assert aside is not None
    assert aside.exists()
    assert (is_current(url), faults(url)) == (True, [])


@pytest.mark.on("postgres")
def test_a_restore_into_postgresql_replaces_nothing_unasked(
    settings: Settings, tmp_path: Path
) -> None:
    file, url = tmp_path / "a.backup", settings.database
    back_up(url, file)

    with pytest.raises(CannotBackUp, match="--force drops them"):
        restore(url, file, force=False)
    connected = asyncio.Runner()
    wire = connected.run(asyncpg.connect(url, server_settings={"application_name": "stampwire"}))
    with pytest.raises(CannotBackUp, match="1 connections of servers or workers"):
        restore(url, file, force=True)
    connected.run(wire.close())
    connected.close()
    restore(url, file, force=True)

    assert is_current(url)


@pytest.mark.on("postgres")
def test_without_postgresqls_programs_it_is_said_which(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup.shutil, "which", lambda *_, **__: None)

    with pytest.raises(CannotBackUp, match=r"pg_dump is not installed\..*postgresql-client"):
        back_up(settings.database, tmp_path / "a.backup")

    assert list(tmp_path.glob("*.backup*")) == []


@pytest.mark.on("sqlite")
def test_a_broken_backup_is_found(settings: Settings, tmp_path: Path) -> None:
    file, broken, other = (tmp_path / name for name in ("a", "broken", "other"))
    back_up(settings.database, file)
    body = bytearray(file.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 4_096 * 8] = os.urandom(4_096 * 8)
    broken.write_bytes(body)
    other.write_bytes(b"not a database")

    assert faults(copy_of(file, tmp_path)) == []
    assert faults(copy_of(broken, tmp_path)) != []
    with pytest.raises(CannotBackUp, match="is no backup of ours"):
        restore(settings.database, other, force=True)


def _elsewhere(settings: Settings, backend: Backend, tmp_path: Path) -> Process:
    """A deployment of its own with the same secret key: nothing of the first one is left."""
    folder = tmp_path / "restored"
    folder.mkdir()
    url = "" if settings.is_sqlite else backend.empty(folder)
    told = {"data_dir": folder, "port": free_port(), "database_url": url}
    return Process(Settings(**{**settings.model_dump(), **told}))


class _Till:
    """Clients that issue cards and stamp them until nobody answers any more."""

    def __init__(self, api: Api, template: str) -> None:
        self._api = api
        self._template = template
        self._numbers = count(1)
        self._changed = asyncio.Condition()
        self.acknowledged: dict[str, Any] = {}
        """The events that callers were told of, by their ids."""

    async def write(self) -> None:
        """Write until the server is gone."""
        try:
            while True:
                customer = {"email": f"c{next(self._numbers)}@mail.example"}
                made = await self._api.do("IssueCard", templateId=self._template, customer=customer)
                await self._keep(made)
                for _ in range(2):
                    card = {"id": made["card"]["id"]}
                    await self._keep(await self._api.do("AddStamps", card=card, count=1))
        except httpx2.TransportError:
            return

    async def until(self, number: int) -> None:
        """Wait until so many are acknowledged."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.acknowledged) >= number)

    async def _keep(self, outcome: Any) -> None:
        async with self._changed:
            self.acknowledged.update({event["id"]: event for event in outcome["events"]})
            self._changed.notify_all()
