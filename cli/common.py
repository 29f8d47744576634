"""What the commands share: settings, an up-to-date database, refusals told on standard error.

The commands load what they need when they run, so that each starts quickly.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from core.settings import Settings

if TYPE_CHECKING:
    from db import Database
    from models import Business

T = TypeVar("T")


def settings_of(**given: Any) -> Settings:
    """The settings of the environment, with what the command line gave."""
    from core.logs import configure_logs  # noqa: PLC0415

    try:
        settings = Settings(**given)
    except ValueError as error:
        typer.echo(f"Settings: {error}", err=True)
        raise typer.Exit(2) from None
    configure_logs(settings.log_level)
    return settings


def upgrade(settings: Settings) -> None:
    """Bring the database up to date."""
    from db.revision import is_current  # noqa: PLC0415

    if is_current(settings.database):
        return
    from db.migrate import upgrade as migrate  # noqa: PLC0415 -- alembic, only where it is needed

    migrate(settings.database)


def on_database(settings: Settings, work: Callable[["Database"], Awaitable[T]]) -> T:
    """Do the work on the open database, beside a server that may run."""

    async def done() -> T:
        from db import database_of  # noqa: PLC0415

        database = database_of(settings, visiting=True)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return until_stopped(done())


def until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """Do the work; ^C ends it quietly, and a refusal with its message."""
    from core.errors import Denied, Refused  # noqa: PLC0415

    try:
        return asyncio.run(work)
    except (Refused, Denied) as refusal:
        fail(str(refusal))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def fail(message: str) -> NoReturn:
    """End the command: it could not be done."""
    typer.echo(message, err=True)
    raise typer.Exit(1)


def demo_of(settings: Settings) -> dict[str, Any] | None:
    """What `demo.json` says, None where there is no demo café."""
    try:
        told: dict[str, Any] = json.loads((settings.data_dir / "demo.json").read_text())
    except FileNotFoundError:
        return None
    return told


async def business_named(database: "Database", settings: Settings, id: str | None) -> "Business":
    """The business of this id; without one the only one there is, or the demo café."""
    from services.operator import businesses  # noqa: PLC0415

    known = await database.read(None, businesses)
    if id is None and len(known) > 1:
        demo = demo_of(settings)
        id = demo["business"]["id"] if demo else None
    found = [business for business in known if id in (None, business.id)]
    if len(found) == 1:
        return found[0]
    names = "".join(f"\n  {business.id}  {business.name}" for business in known)
    fail(f"Say which business with --business:{names}" if known else "There is no business yet.")
