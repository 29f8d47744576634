"""`stampwire schema`: the GraphQL schema as a document."""

from pathlib import Path
from typing import Annotated

import typer

schema_app = typer.Typer(no_args_is_help=True, help="The GraphQL schema.")


@schema_app.callback()
def _schema() -> None:
    """The GraphQL schema."""


@schema_app.command("export")
def schema_export(
    *, out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None
) -> None:
    """Print the GraphQL schema, for code generators and editors."""
    from schema import make_schema  # noqa: PLC0415 -- other commands start without it

    text = make_schema().as_str().rstrip() + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)
