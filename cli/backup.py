"""`stampwire backup`, `restore` and `verify`: the database as one file, back again, and proven."""

import json
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import fail, on_database, settings_of, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from db import Database

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_KEEP_THE_KEY = (
    "The secret key is NOT in it, on purpose. Keep {key} somewhere else: without it no API key, "
    "session or signing secret of this backup works any more."
)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Write the whole database into a file, beside a server that runs.

    What was acknowledged before the command began is in it. Only its owner may read the file: it
    holds personal data. PostgreSQL needs pg_dump of at least its own version.
    """
    from db.backup import CannotBackUp, back_up  # noqa: PLC0415

    settings = settings_of()
    began, at = time.monotonic(), datetime.now(UTC)
    try:
        back_up(settings.database, file)
    except CannotBackUp as reason:
        fail(str(reason))
    told = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "recoveryPoint": at.isoformat(timespec="milliseconds"),
        "seconds": round(time.monotonic() - began, 2),
    }
    _tell(told, as_json=as_json)
    typer.echo(_KEEP_THE_KEY.format(key=_where_the_key_is(settings)), err=True)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `stampwire backup` wrote.")],
    *,
    force: Annotated[
        bool,
        typer.Option(help="Replace a database that holds something: a file is put aside."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the database. Servers and workers must be stopped.

    What happened after the backup is gone: receivers and subscribers may have seen more.
    """
    from db.backup import CannotBackUp  # noqa: PLC0415
    from db.backup import restore as put_back  # noqa: PLC0415

    settings = settings_of()
    began = time.monotonic()
    try:
        aside = put_back(settings.database, file, force=force)
    except CannotBackUp as reason:
        fail(str(reason))
    upgrade(settings)
    told = {
        "database": _name(settings),
        "recoveryPoint": on_database(settings, _last_event),
        "putAside": str(aside) if aside else None,
        "seconds": round(time.monotonic() - began, 2),
    }
    _tell(told, as_json=as_json)
    if warning := on_database(settings, partial(_key_trouble, settings)):
        typer.echo(warning, err=True)


def verify(
    file: Annotated[Path, typer.Argument(help="A file that `stampwire backup` wrote.")],
    *,
    into: Annotated[
        str,
        typer.Option(
            help="An empty PostgreSQL database to restore into, emptied again after it; "
            "for backups of PostgreSQL."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Prove a backup on a copy: its pages and references, its revision, and the whole audit.

    Exit code 1 where anything is wrong.
    """
    from db.backup import CannotBackUp, copy_of, empty, kind_of  # noqa: PLC0415
    from db.backup import restore as put_back  # noqa: PLC0415

    settings = settings_of()
    began = time.monotonic()
    try:
        if kind_of(file) == "sqlite":
            with tempfile.TemporaryDirectory(prefix="stampwire-verify-") as folder:
                told = _verified(settings, copy_of(file, Path(folder)))
        elif not into:
            fail("A backup of PostgreSQL is proven by restoring it: --into an empty database.")
        else:
            into = into.replace("postgres://", "postgresql://", 1)
            put_back(into, file, force=False)
            try:
                told = _verified(settings, into)
            finally:
                empty(into)
    except CannotBackUp as reason:
        fail(str(reason))
    told["seconds"] = round(time.monotonic() - began, 2)
    _tell(told, as_json=as_json)
    if told["findings"]:
        fail(f"{len(told['findings'])} findings.")


def _verified(settings: Settings, url: str) -> dict[str, Any]:
    """What is to be said of a copy at this address."""
    from db.backup import faults  # noqa: PLC0415
    from db.revision import revision_of  # noqa: PLC0415

    found = faults(url)
    if found:
        return {"findings": found}
    copy = Settings(**{**settings.model_dump(), "database_url": url})
    revision = revision_of(url)
    if revision is None:
        return {"revision": None, "findings": ["it holds no database of ours"]}
    upgrade(copy)
    businesses, more = on_database(copy, _audited)
    if warning := on_database(copy, partial(_key_trouble, settings)):
        typer.echo(warning, err=True)
    return {
        "revision": revision,
        "businesses": businesses,
        "recoveryPoint": on_database(copy, _last_event),
        "findings": more,
    }


async def _audited(database: "Database") -> tuple[int, list[str]]:
    from services.audit import Finding, audit, audited  # noqa: PLC0415

    found: list[str] = []

    def tell(finding: Finding) -> None:
        found.append(f"{finding.rule} {finding.subject}: {finding.message}")

    businesses = await audited(database)
    for business in businesses:
        await audit(database, business, tell)
    return len(businesses), found


async def _last_event(database: "Database") -> str | None:
    from services.operator import last_recorded  # noqa: PLC0415

    moment = await database.read(None, last_recorded)
    return moment.isoformat(timespec="milliseconds") if moment else None


async def _key_trouble(settings: Settings, database: "Database") -> str | None:
    """What is to be said where the configured key does not open what is stored."""
    from core.secrets import Secrets  # noqa: PLC0415
    from services.secret_keys import look  # noqa: PLC0415

    if not settings.secret_key and not (settings.data_dir / "secret.key").exists():
        return "There is no secret key here: put back the one it was made with."
    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    sealed = await look(database, secrets)
    if not sealed.closed:
        return None
    return (
        f"The secret key here opens {sealed.all - sealed.closed} of {sealed.all} stored secrets: "
        "it is not the one this database was made with. Put that one back."
    )


def _where_the_key_is(settings: Settings) -> str:
    if settings.secret_key:
        return "STAMPWIRE_SECRET_KEY"
    return str(settings.data_dir / "secret.key")


def _name(settings: Settings) -> str:
    return "SQLite" if settings.is_sqlite else "PostgreSQL"


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told))
        return
    words = {"recoveryPoint": "recovery point", "putAside": "put aside as"}
    for name, value in told.items():
        if isinstance(value, list):
            for line in value or ["none"]:
                typer.echo(f"{name:<16} {line}")
        elif value is not None:
            typer.echo(f"{words.get(name, name):<16} {value}")
