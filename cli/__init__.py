"""The `stampwire` command: serve, work, migrate, make a business, watch what happens."""

import typer

from cli.audit import audit
from cli.backup import backup, restore, verify
from cli.business import business_app
from cli.check_deliveries import check_deliveries
from cli.demo import demo
from cli.doctor import doctor
from cli.events import events_app
from cli.keys import keys_app, staff_app
from cli.listen import listen
from cli.lottery import verify_draw
from cli.mcp import mcp
from cli.schema import schema_app
from cli.secret_keys import secrets_app
from cli.serve import db_app, serve, worker

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # logs are read line by line, and local variables hold secrets
    help=__doc__,
)
for _command in (
    serve, worker, demo, listen, check_deliveries, verify_draw, audit, backup, restore, verify,
    doctor, mcp,
):  # fmt: skip
    app.command()(_command)
for _name, _group in {
    "business": business_app,
    "staff": staff_app,
    "keys": keys_app,
    "secrets": secrets_app,
    "events": events_app,
    "schema": schema_app,
    "db": db_app,
}.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command line."""
    app()
