"""The power fails: what SQLite acknowledged is on the disk, whatever became of unsynced writes.

Proves the row "power cut (SQLite)" of research/reliability.md §3. strace records every write and
every sync of a server's database; the record is then cut off at random places, and of what was not
yet synced each write is kept, lost or torn.
"""

import asyncio
import random
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.settings import Settings
from processes import ROOT

pytestmark = [
    pytest.mark.on("sqlite"),
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.surroundings("traces"),
]

CUTS = 400
SECTOR = 512
WRITER = """
import asyncio, sys
import db.sqlite
from core.settings import Settings
from db import database_of
from factories import a_business, a_card, a_card_template, an_award_goal, stamps

db.sqlite._PRAGMAS += (f"synchronous = {sys.argv[2]}",)

async def main():
    database = database_of(Settings(data_dir=sys.argv[1]))
    await database.open()

    async def checkpoint_often(tx):
        tx._connection.execute("PRAGMA wal_autocheckpoint = 60")

    await database.write(None, checkpoint_often)
    cafe = await a_business(database)
    template = await a_card_template(database, cafe.owner, 50, [an_award_goal(50)])
    card = await a_card(database, cafe.owner, template.id)
    for _ in range(60):
        added = await stamps(database, cafe.owner, card)
        print(added.operation.id, flush=True)

asyncio.run(main())
"""
_CALL = re.compile(
    r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<fd>\d+)<(?P<path>[^>]*)>"
    r'(?:, "(?P<data>[^"]*)", \d+(?:, (?P<offset>\d+))?|, (?P<length>\d+))?'
)
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>f(?:data)?sync) resumed>")


@dataclass
class Disk:
    """A file: what is surely on the disk, and what was written since the last sync."""

    sure: bytearray
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def sync(self) -> None:
        """Everything written so far is on the disk."""
        for offset, data in self.pending:
            _put(self.sure, offset, data)
        self.pending.clear()

    def after_a_cut(self, chance: random.Random) -> bytes:
        """What is found there when the power is back."""
        found = bytearray(self.sure)
        for offset, data in self.pending:
            fate = chance.choice(("kept", "lost", "torn"))
            if fate == "kept":
                _put(found, offset, data)
            elif fate == "torn":
                for start in range(0, len(data), SECTOR):
                    if chance.random() < 0.5:
                        _put(found, offset + start, data[start : start + SECTOR])
        return bytes(found)


async def test_no_acknowledged_commit_is_lost_when_the_power_fails(
    settings: Settings, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    cuts, lost, most = await _cut_off(settings, tmp_path, "FULL", CUTS)
    figure(f"{cuts} cuts, up to {most} acknowledged commits: lost in {lost}, none corrupt")
    assert most >= 50
    assert lost == 0


async def test_with_fewer_syncs_commits_would_be_lost(
    settings: Settings, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """The control: the same cuts tell where synchronous is NORMAL, SQLite's own advice for WAL."""
    cuts, lost, _ = await _cut_off(settings, tmp_path, "NORMAL", CUTS // 4)
    figure(f"{cuts} cuts: acknowledged commits would be lost in {lost}")
    assert lost > 0


async def _cut_off(
    settings: Settings, tmp_path: Path, synchronous: str, cuts: int
) -> tuple[int, int, int]:
    """How many cuts there were, how many lost something, and how much was acknowledged at most."""
    assert shutil.which("strace"), "strace is missing: apt-get install strace"
    file = settings.data_dir / "stampwire.db"
    _use_a_write_ahead_log(file)
    before = file.read_bytes()
    steps = await _recorded(settings.data_dir, tmp_path / "trace", synchronous)
    chance = random.Random(7)  # the same cuts each time
    lost = most = 0
    for number in range(cuts):
        cut = chance.randrange(len(steps))
        disks = {file.name: Disk(bytearray(before)), f"{file.name}-wal": Disk(bytearray())}
        acknowledged = _played(steps[:cut], disks)
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        for name, disk in disks.items():
            (folder / name).write_bytes(disk.after_a_cut(chance))
        stored, health = _looked_at(folder / file.name)
        assert health == "ok", cut
        lost += not acknowledged <= stored
        most = max(most, len(acknowledged))
        shutil.rmtree(folder)
    return cuts, lost, most


def _use_a_write_ahead_log(file: Path) -> None:
    """As after the very first start, which changes the file's mode by another journal."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


async def _recorded(
    data_dir: Path, trace: Path, synchronous: str
) -> list[tuple[str, str, int, bytes]]:
    """What a writer wrote, synced and acknowledged, in order."""
    calls = "trace=pwrite64,write,fdatasync,fsync,ftruncate"
    writer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-qq", "-y", "-xx", "-s", "70000", "-e", calls, "-e", "signal=none"),
        *("-o", str(trace), sys.executable, "-c", WRITER, str(data_dir), synchronous),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await writer.communicate()
    assert writer.returncode == 0
    steps = list(_steps(trace))
    told = b"".join(data for name, _, _, data in steps if name == "told")
    assert told == said
    return steps


def _steps(trace: Path) -> Iterator[tuple[str, str, int, bytes]]:
    syncing: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        if resumed := _RESUMED.match(line):
            yield "sync", syncing.pop(resumed["pid"]), 0, b""
            continue
        call = _CALL.match(line)
        if call is None:
            continue
        path = Path(bytes.fromhex(call["path"].replace("\\x", "")).decode()).name
        data = bytes.fromhex((call["data"] or "").replace("\\x", ""))
        if call["fd"] == "1" and call["name"] == "write":
            yield "told", "", 0, data
        elif not path.startswith("stampwire.db") or path.endswith("-shm"):
            continue
        elif call["name"] == "pwrite64":
            yield "write", path, int(call["offset"]), data
        elif call["name"] == "ftruncate":
            yield "truncate", path, int(call["length"]), b""
        elif "<unfinished" in line:
            syncing[call["pid"]] = path
        elif call["name"] in ("fsync", "fdatasync"):
            yield "sync", path, 0, b""


def _played(steps: list[tuple[str, str, int, bytes]], disks: dict[str, Disk]) -> set[str]:
    """The disks as the steps leave them; what was acknowledged by then."""
    told = b""
    for name, path, number, data in steps:
        if name == "told":
            told += data
        elif name == "write":
            disks[path].pending.append((number, data))
        elif name == "sync":
            disks[path].sync()
        else:
            disks[path].sync()
            del disks[path].sure[number:]
    return set(told.decode().split())


def _looked_at(file: Path) -> tuple[set[str], str]:
    connection = sqlite3.connect(file)
    try:
        health: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return {row[0] for row in connection.execute("SELECT id FROM operation")}, health
    finally:
        connection.close()


def _put(file: bytearray, offset: int, data: bytes) -> None:
    if len(file) < offset:
        file.extend(bytes(offset - len(file)))
    file[offset : offset + len(data)] = data
