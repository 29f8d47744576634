"""`stampwire business`: businesses with all they need to begin."""

import json
from typing import Annotated, Any

import typer

from cli.common import on_database, settings_of, upgrade
from core.settings import Settings

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
    made = make(settings, name=name, timezone=timezone, currency=currency, login=login, test=test)
    typer.echo(json.dumps(made) if as_json else readable(made))


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


def make(settings: Settings, *, test: bool = False, **given: Any) -> dict[str, Any]:
    """Make a business with all it needs; what there is to tell of it."""
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
