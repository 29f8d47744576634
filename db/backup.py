"""Backups: the whole database as one file, beside a server that runs; and back again.

SQLite is copied by its own online backup, as it stands at one moment; PostgreSQL by pg_dump and
pg_restore, its own programs, which must be installed.
"""

import asyncio
import fcntl
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from db.migrations.security import ROLES

SQLITE_HEAD, POSTGRES_HEAD = b"SQLite format 3\x00", b"PGDMP"
_PREFIX = "sqlite:///"
_ROLES = ("stampwire_app", "stampwire_system")


class CannotBackUp(Exception):
    """What stands in the way, and what to do about it."""


def kind_of(file: Path) -> str:
    """`sqlite` or `postgresql`: which database a backup is of. CannotBackUp for anything else."""
    try:
        with file.open("rb") as opened:
            head = opened.read(len(SQLITE_HEAD))
    except OSError as error:
        raise CannotBackUp(f"{file} cannot be read: {error.strerror}.") from None
    if head == SQLITE_HEAD:
        return "sqlite"
    if head.startswith(POSTGRES_HEAD):
        return "postgresql"
    raise CannotBackUp(f"{file} is no backup of ours.")


def back_up(url: str, file: Path) -> None:
    """Write the database into a new file that only its owner may read; all of it, or no file."""
    if file.exists():
        raise CannotBackUp(f"{file} exists; nothing is overwritten.")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        if url.startswith(_PREFIX):
            _copy_sqlite(Path(url.removeprefix(_PREFIX)), partial)
        else:
            _dump_postgresql(url, partial)
        _sync(partial)
        partial.rename(file)
        _sync(file.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def restore(url: str, file: Path, *, force: bool) -> Path | None:
    """Put a backup in the place of the database; says where the file that was there is now.

    CannotBackUp where something runs on it, or where it holds something and `force` is not given.
    """
    kind = kind_of(file)
    if kind != ("sqlite" if url.startswith(_PREFIX) else "postgresql"):
        raise CannotBackUp(f"{file} is a backup of {_NAMES[kind]}; the database is another.")
    if kind == "sqlite":
        return _restore_sqlite(Path(url.removeprefix(_PREFIX)), file, force=force)
    _restore_postgresql(url, file, force=force)
    return None


def copy_of(file: Path, folder: Path) -> str:
    """A database in the folder that holds a SQLite backup: its URL. The backup stays as it is."""
    target = folder / "copy.db"
    shutil.copyfile(file, target)
    return f"{_PREFIX}{target}"


def empty(url: str) -> None:
    """Drop every table of ours in a PostgreSQL database that was restored into."""
    asyncio.run(_make_room(url, force=True))


def faults(url: str) -> list[str]:
    """What the database itself finds wrong in its pages, indexes and references."""
    if not url.startswith(_PREFIX):
        return []  # whatever is broken does not restore: each index and constraint was built anew
    try:
        with closing(_open(Path(url.removeprefix(_PREFIX)))) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(100)")]
            strays = connection.execute("PRAGMA foreign_key_check").fetchmany(100)
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [said for said in found if said != "ok"] + [
        f"a row of {table} refers to nothing in {parent}" for table, _, parent, _ in strays
    ]


_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

# -- SQLite ---------------------------------------------------------------------------------------


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy what is committed now, in one step: the writer goes on, and nothing is half there."""
    if not source.exists():
        raise CannotBackUp(f"There is no database at {source}.")
    with closing(_open(source, "ro")) as here, closing(_open(target)) as there:
        here.backup(there)
        # One file, without a log beside it.
        there.execute("PRAGMA journal_mode = DELETE").fetchall()


def _restore_sqlite(target: Path, file: Path, *, force: bool) -> Path | None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with nobody_serves(target.parent):
        is_there = target.exists() and _holds_something(target)
        if is_there and not force:
            raise CannotBackUp(f"{target} holds a database; --force puts it aside.")
        fresh = target.with_name(f"{target.name}.restoring")
        fresh.unlink(missing_ok=True)
        with closing(_open(file, "ro")) as here, closing(_open(fresh)) as there:
            here.backup(there)
        fresh.chmod(0o600)
        _sync(fresh)
        aside = _put_aside(target) if target.exists() else None
        fresh.rename(target)
        _sync(target.parent)
        return aside


def _put_aside(path: Path) -> Path:
    """Move a database and its log out of the way, under a name that says when."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.before-restore-{moment}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _holds_something(path: Path) -> bool:
    try:
        with closing(_open(path, "ro")) as connection:
            return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    except sqlite3.Error:
        return path.stat().st_size > 0  # something, though broken


@contextmanager
def nobody_serves(folder: Path) -> Iterator[None]:
    """Hold the server's lock; CannotBackUp while a server has it."""
    with (folder / "stampwire.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotBackUp(f"A server runs on {folder}: stop it first.") from None
        yield


def _open(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10)
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints are the server's
    return connection


# -- PostgreSQL -----------------------------------------------------------------------------------


def _dump_postgresql(url: str, target: Path) -> None:
    has_wall = asyncio.run(_has_wall(url))
    # Every row is behind a policy; `stampwire_system` is let through by its own.
    through = ["--enable-row-security", f"--role={_ROLES[1]}"] if has_wall else []
    _run("pg_dump", url, "--format=custom", "--no-owner", *through, f"--file={target}")


def _restore_postgresql(url: str, file: Path, *, force: bool) -> None:
    _tool("pg_restore")
    asyncio.run(_make_room(url, force=force))
    options = ["--no-owner", "--exit-on-error", "--single-transaction"]
    if not asyncio.run(_has_wall(url)):
        options.append("--no-privileges")
    _run("pg_restore", url, *options, str(file))


async def _has_wall(url: str) -> bool:
    wire = await _connect(url)
    try:
        count: int = await wire.fetchval(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1) AND pg_has_role(oid, 'MEMBER')",
            list(_ROLES),
        )
    finally:
        await wire.close()
    return count == len(_ROLES)


async def _make_room(url: str, *, force: bool) -> None:
    """See to it that nobody is connected and no table is there; make the roles of the wall."""
    wire = await _connect(url)
    try:
        others = await wire.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND application_name = 'stampwire'"
        )
        if others:
            raise CannotBackUp(f"{others} connections of servers or workers: stop those first.")
        tables = await wire.fetch(
            "SELECT quote_ident(tablename) AS name FROM pg_tables "
            "WHERE schemaname = current_schema AND tableowner = current_user"
        )
        if tables and not force:
            raise CannotBackUp(f"The database holds {len(tables)} tables; --force drops them.")
        if tables:
            names = ", ".join(row["name"] for row in tables)
            await wire.execute(f"DROP TABLE {names} CASCADE")
        await wire.execute(ROLES)
    finally:
        await wire.close()


async def _connect(url: str) -> "asyncpg.Connection[Any]":
    try:
        return await asyncpg.connect(
            url, timeout=10, server_settings={"application_name": "stampwire backup"}
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise CannotBackUp(f"The database cannot be reached ({type(error).__name__}).") from None


def _run(tool: str, url: str, *options: str) -> None:
    """Run one of PostgreSQL's programs; the password goes by the environment, where none looks."""
    parts = urlsplit(url)
    environment = {**os.environ, "PGAPPNAME": "stampwire backup"}
    if parts.password:
        environment["PGPASSWORD"] = unquote(parts.password)
    bare = parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@", 1)).geturl()
    done = subprocess.run(  # noqa: S603 -- our own words, and no shell
        [_tool(tool), f"--dbname={bare}", *options],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise CannotBackUp(f"{tool} failed: {said[0]}")


def _tool(name: str) -> str:
    """The newest of PostgreSQL's programs by this name; Debian keeps them off the PATH."""
    known = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if _version(path)]
    folders = [str(path) for path in sorted(known, key=_version, reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        raise CannotBackUp(
            f"{name} is not installed. It comes with PostgreSQL's client programs, such as: "
            "apt-get install postgresql-client"
        )
    return found


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdecimal() else 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
