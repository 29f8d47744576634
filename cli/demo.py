"""`stampwire demo`: a café to begin with, or one with a year behind it."""

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.business import make, readable
from cli.common import demo_of, fail, on_database, settings_of, until_stopped, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from db import Database
    from services.demo import Starter
    from services.year import MonthOver

YEAR_FILE = "year.json"


def demo(
    *,
    year: Annotated[
        bool, typer.Option("--year", help="A café with three places and a year behind it.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="With --year: another number tells another story.")
    ] = 2026,
    scale: Annotated[
        float, typer.Option(help="With --year: 1 is about 2000 customers.", min=0.005, max=50)
    ] = 1.0,
    days: Annotated[
        int, typer.Option(help="With --year: only so many days of it.", min=1, max=365)
    ] = 365,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the demo café, once, and show how to get in; `demo.json` in the data dir keeps it.

    With --year another café, whose whole year is told in minutes; `year.json` keeps it.
    """
    settings = settings_of()
    upgrade(settings)
    told = _the_year(settings, seed=seed, scale=scale, days=days) if year else the_demo(settings)
    typer.echo(json.dumps(told) if as_json else readable(told))


def the_demo(settings: Settings) -> dict[str, Any]:
    """The demo café, made where there is none (any more); `demo.json` says the address of now."""
    known = demo_of(settings)
    if known is not None and not on_database(settings, partial(_exists, known["business"]["id"])):
        known = None
    told = known or make(
        settings,
        name="Kopi Demo",
        timezone="Asia/Jakarta",
        currency="IDR",
        anybody_joins=True,
    )
    if known is None or told["url"] != settings.url:
        told["url"] = settings.url
        _write(settings, "demo.json", told)
    return told


def _the_year(settings: Settings, *, seed: int, scale: float, days: int) -> dict[str, Any]:
    """The café with a year behind it; how it comes along is told on standard error."""
    from core.clock import SystemClock  # noqa: PLC0415
    from core.secrets import Secrets  # noqa: PLC0415
    from db import database_of  # noqa: PLC0415
    from services.year import YearExists, make_year  # noqa: PLC0415
    from services.year.shape import CUSTOMERS  # noqa: PLC0415

    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    made: dict[str, Any] = {}

    def keep(starter: "Starter") -> None:
        made.update(starter.told(settings.url))
        _write(settings, YEAR_FILE, made)

    async def work() -> dict[str, int]:
        # It writes more than any other command: it moves what is written on by itself.
        database = database_of(settings)
        await database.open()
        try:
            return await make_year(
                database,
                secrets,
                SystemClock().now(),
                keep,
                _say_month,
                seed=seed,
                customers=round(CUSTOMERS * scale),
                days=days,
            )
        finally:
            await database.close()

    try:
        counts = until_stopped(work())
    except YearExists as exists:
        fail(
            f"The café with its year exists already: {exists}. "
            f"{settings.data_dir / YEAR_FILE} says how to get in."
        )
    typer.echo("".join(f"\n{name:<20}{count:>9}" for name, count in counts.items()), err=True)
    return made


def _say_month(month: "MonthOver") -> None:
    told = (f"{month.counts.get(name, 0):>8} {name}" for name in ("customers", "operations"))
    events = month.counts["events"]
    typer.echo(f"{month.first_day:%Y-%m}{''.join(told)}{events:>8} events", err=True)


async def _exists(id: str, database: "Database") -> bool:
    from services.operator import businesses  # noqa: PLC0415

    known = await database.read(None, businesses)
    return any(business.id == id for business in known)


def _write(settings: Settings, name: str, told: dict[str, Any]) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(told, file, indent=2)
