"""`stampwire business` and `stampwire demo`: businesses with all they need to begin."""

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import demo_of, on_database, settings_of, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from db import Database

business_app = typer.Typer(no_args_is_help=True, help="Businesses.")


@business_app.callback()
def _business() -> None:
    """Businesses."""


@business_app.command("create")
def business_create(
    *,
    name: Annotated[str, typer.Option(help="What customers read.")],
    timezone: Annotated[str, typer.Option(help="IANA timezone, such as Asia/Jakarta.")] = "UTC",
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "EUR",
    login: Annotated[str | None, typer.Option(help="The owner's login.")] = None,
    test: Annotated[bool, typer.Option(help="A TEST business, with a clock of its own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a business with an owner, a scanner, a card and a voucher to begin with."""
    settings = settings_of()
    upgrade(settings)
    made = _make(settings, name=name, timezone=timezone, currency=currency, login=login, test=test)
    typer.echo(json.dumps(made) if as_json else readable(made))


def demo(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make the demo café, once, and show how to get in; `demo.json` in the data dir keeps it."""
    settings = settings_of()
    upgrade(settings)
    told = the_demo(settings)
    typer.echo(json.dumps(told) if as_json else readable(told))


def the_demo(settings: Settings) -> dict[str, Any]:
    """The demo café, made where there is none (any more); `demo.json` says the address of now."""
    known = demo_of(settings)
    if known is not None and not on_database(settings, partial(_exists, known["business"]["id"])):
        known = None
    told = known or _make(settings, name="Kopi Demo", timezone="Asia/Jakarta", currency="IDR")
    if known is None or told["url"] != settings.url:
        told["url"] = settings.url
        _write(settings, told)
    return told


def readable(made: dict[str, Any]) -> str:
    """What was made, for people."""
    return "\n".join(
        [
            f"Stampwire         {made['url']}/graphql",
            f"owner             {made['owner']['login']}  {made['owner']['password']}",
            f"owner's API key   {made['owner']['apiKey']}",
            f"scanner           {made['scanner']['login']}  {made['scanner']['password']}",
            f"scanner's API key {made['scanner']['apiKey']}",
            f"card template     {made['cardTemplate']['id']}",
            f"voucher template  {made['voucherTemplate']['id']}",
        ]
    )


def _make(settings: Settings, *, test: bool = False, **given: Any) -> dict[str, Any]:
    from core.clock import SystemClock  # noqa: PLC0415
    from core.secrets import Secrets  # noqa: PLC0415
    from models import Mode  # noqa: PLC0415
    from services.demo import make_business  # noqa: PLC0415

    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    mode, now = Mode.TEST if test else Mode.LIVE, SystemClock().now()
    starter = on_database(
        settings, lambda database: make_business(database, secrets, now, mode=mode, **given)
    )
    return starter.told(settings.url)


async def _exists(id: str, database: "Database") -> bool:
    from services.operator import businesses  # noqa: PLC0415

    known = await database.read(None, businesses)
    return any(business.id == id for business in known)


def _write(settings: Settings, told: dict[str, Any]) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "demo.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(told, file, indent=2)
