"""SQLite on a disk that is full, failing or locked: told as such, read on where that is possible.

Proves case 19 and the first half of 20 of research/webhooks.md §6, and of research/reliability.md
§3 the rows of a full disk, a failed sync, and a process out of file descriptors. That kill -9
loses nothing is in test_log.py.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import serving
from core.errors import Overloaded, Unavailable
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Transaction
from db.sqlite import SqliteDatabase
from events.log import head_of
from factories import Cafe, a_business, a_card, a_card_template, an_award_goal, stamps
from partners import Api, Unanswered
from patience import until
from processes import Process
from services.audit import Finding, audit, audited

pytestmark = pytest.mark.on("sqlite")

FULL = 3 * 2**20
"""Bytes of the small disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={FULL}".encode()
    mounted = libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options)
    assert mounted == 0, os.strerror(ctypes.get_errno())
    yield folder
    libc.umount2(bytes(folder), 2)


@pytest.mark.surroundings("mounts")
async def test_a_full_disk_takes_nothing_reads_on_and_recovers(
    settings: Settings, small_disk: Path, figure: Callable[[str], None]
) -> None:
    shutil.copyfile(settings.data_dir / "stampwire.db", small_disk / "stampwire.db")
    database = SqliteDatabase(str(small_disk / "stampwire.db"))
    await database.open()
    cafe = await a_business(database)
    card = await _card(database, cafe)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4_096):
            continue

    acknowledged, told = 0, None
    while told is None:
        try:
            await stamps(database, cafe.owner, card)
            acknowledged += 1
        except Unavailable as error:
            told = str(error)
        assert acknowledged < 10_000
    assert told == "The disk is full; nothing was stored."
    assert not database.is_broken
    before = await database.read(cafe.business.id, head_of)
    with pytest.raises(Unavailable):
        await a_card(database, cafe.owner)
    assert (await database.read(cafe.business.id, head_of)).sequence == before.sequence

    ballast.unlink()
    began = time.monotonic()
    await stamps(database, cafe.owner, card)
    took = time.monotonic() - began
    figure(
        f"full after {acknowledged} stamps; stored again {1000 * took:.0f} ms after there was room"
    )
    assert took <= 5
    assert await _findings(database) == []
    await database.close()


async def test_a_file_that_may_not_grow_takes_nothing_and_reads_on(database: Database) -> None:
    """The same where no disk can be mounted: the database's own bound says that it is full."""
    cafe = await a_business(database)
    card = await _card(database, cafe)
    assert isinstance(database, SqliteDatabase)
    pages = await database.read(None, _pages)

    async def limit(tx: Transaction) -> None:
        tx._connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    await database.write(None, limit)

    async def fill() -> None:
        for _ in range(2_000):
            await stamps(database, cafe.owner, card)

    with pytest.raises(Unavailable, match="full"):
        await fill()
    await database.read(cafe.business.id, head_of)

    async def unlimit(tx: Transaction) -> None:
        tx._connection.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]

    await database.write(None, unlimit)
    await stamps(database, cafe.owner, card)
    assert await _findings(database) == []


async def test_a_file_that_may_not_be_written_is_told_as_such(database: Database) -> None:
    cafe = await a_business(database)

    async def only_read(tx: Transaction) -> None:
        tx._connection.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]

    await database.write(None, only_read)
    with pytest.raises(Unavailable, match="cannot be written"):
        await a_card(database, cafe.owner)
    await database.read(cafe.business.id, head_of)


async def test_a_database_that_another_process_holds_is_told_as_busy(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 20: who waits longer than the bound is told so, and the writer goes on after."""
    cafe = await a_business(database)

    async def hurry(tx: Transaction) -> None:
        tx._connection.execute("PRAGMA busy_timeout = 200")  # type: ignore[attr-defined]

    await database.write(None, hurry)
    other = sqlite3.connect(settings.database.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    calls = [a_card(database, cafe.owner) for _ in range(5)]
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in told} == {Overloaded}
    assert time.monotonic() - began < 5
    await database.read(cafe.business.id, head_of)
    other.execute("ROLLBACK")
    other.close()
    await a_card(database, cafe.owner)


async def test_a_caller_is_told_that_the_database_is_busy(settings: Settings) -> None:
    """Over the API it is a code and a time to wait, not a fault of ours."""
    async with serving(settings) as server:
        database = server.app.state.deployment.database
        secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
        cafe = await a_business(database, secrets)

        async def hurry(tx: Transaction) -> None:
            tx._connection.execute("PRAGMA busy_timeout = 100")  # type: ignore[attr-defined]

        await database.write(None, hurry)
        async with Api(server.graphql, cafe.api_key) as api:
            other = sqlite3.connect(
                settings.database.removeprefix("sqlite:///"), isolation_level=None
            )
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unanswered) as told:
                await api.do("CreateLocation", name="Menteng")
            other.execute("ROLLBACK")
            other.close()
            assert told.value.args[1][0]["extensions"] == {
                "code": "RATE_LIMITED",
                "retryAfterMs": 1_000,
            }
            await api.do("CreateLocation", name="Menteng")


async def test_after_a_failed_sync_nothing_is_acknowledged(database: Database) -> None:
    """A second sync would not tell what the first one lost: nothing more is stored."""
    cafe = await a_business(database)
    told: list[bool] = []
    database.on_broken = lambda: told.append(database.is_broken)

    async def fails(tx: Transaction) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with pytest.raises(Unavailable, match="disk failed"):
        await database.write(None, fails)
    with pytest.raises(Unavailable, match="disk failed"):
        await a_card(database, cafe.owner)
    await until(lambda: told == [True])
    await database.read(cafe.business.id, head_of)


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.mark.surroundings("traces")
async def test_a_disk_that_fails_to_sync_ends_the_server(
    process: Process, figure: Callable[[str], None]
) -> None:
    """EIO from every sync: no acknowledgement, not ready, and the process ends with an error."""
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api:
        await api.do("CreateLocation", name="before")
        inject = "inject=fdatasync,fsync:error=EIO"
        tracer = await asyncio.create_subprocess_exec(
            *(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject),
            *("-p", str(process.pid)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await until(lambda: _is_traced(process.pid))
            began = time.monotonic()
            with pytest.raises(Unanswered) as told:
                await api.do("CreateLocation", name="during")
            assert told.value.args[1][0]["extensions"]["code"] == "RATE_LIMITED"
            readiness = await asyncio.to_thread(process.answers, "/readyz")
            assert readiness in (503, 0)
            running: Any = process._running
            code = await asyncio.to_thread(running.wait, 15)
            figure(f"ended {time.monotonic() - began:.1f} s after the failed sync, with {code}")
            assert code == 74
        finally:
            if tracer.returncode is None:
                tracer.terminate()
            await tracer.wait()
    process._running = None
    await asyncio.to_thread(process.start)
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api:
        await api.do("CreateLocation", name="after")
    process.run("audit")


async def test_out_of_file_descriptors_old_connections_are_kept(
    process: Process, figure: Callable[[str], None]
) -> None:
    """256 descriptors: newcomers wait, who is in is served, and all is well after."""
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))
    key = process.demo["owner"]["apiKey"]
    crowd: list[asyncio.StreamWriter] = []
    async with Api(process.graphql, key) as api:
        await api.do("CreateLocation", name="before")
        port = process.settings.port
        for _ in range(400):
            with contextlib.suppress(OSError):
                crowd.append((await asyncio.open_connection("127.0.0.1", port))[1])
        served = 0
        for number in range(20):
            await api.do("CreateLocation", name=f"during {number}")
            served += 1
        for writer in crowd:
            writer.transport.abort()
    began = time.monotonic()
    await until(lambda: asyncio.to_thread(lambda: process.answers("/readyz") == 200))
    async with Api(process.graphql, key) as api:
        await api.do("CreateLocation", name="after")
    figure(
        f"{len(crowd)} more connections: {served} of 20 calls served over an old one; "
        f"a new one served {time.monotonic() - began:.1f} s after they had gone"
    )


async def _card(database: Database, cafe: Cafe) -> Any:
    goals = [an_award_goal(50)]
    template = await a_card_template(database, cafe.owner, 50, goals)
    return await a_card(database, cafe.owner, template.id)


async def _pages(tx: Transaction) -> int:
    [count] = tx._connection.execute("PRAGMA page_count").fetchone()  # type: ignore[attr-defined]
    return int(count) + 4


async def _findings(database: Database) -> list[Finding]:
    found: list[Finding] = []
    for business in await audited(database):
        await audit(database, business, found.append)
    return found


def _is_traced(pid: int) -> bool:
    """Whether every thread of the process is watched."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads)
