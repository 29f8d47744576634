"""`stampwire audit`: whether what is stored keeps every promise."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import fail, on_database, settings_of, upgrade

if TYPE_CHECKING:
    from db import Database
    from services.audit import Finding


def audit(
    *,
    business: Annotated[
        str | None, typer.Option(help="Only the business of this id; absent: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Check that what is stored keeps every promise; a line for each that is broken, then exit 1.

    Only reads, beside a server that may run: each business as it stands at one moment.
    """
    settings = settings_of()
    upgrade(settings)
    number = on_database(settings, lambda database: _audit(database, business, as_json=as_json))
    if number:
        fail(f"{number} findings.")


async def _audit(database: "Database", id: str | None, *, as_json: bool) -> int:
    from services.audit import audit, audited  # noqa: PLC0415

    number = 0

    def tell(finding: "Finding") -> None:
        nonlocal number
        number += 1
        typer.echo(json.dumps(asdict(finding)) if as_json else _line(finding))

    found = await audited(database, id)
    if id is not None and not found:
        fail("There is no such business.")
    for business in found:
        before = number
        await audit(database, business, tell)
        if not as_json:
            outcome = "all is well" if number == before else f"{number - before} findings"
            typer.echo(f"{business.id}  {business.name}: {outcome}")
    return number


def _line(finding: "Finding") -> str:
    return f"{finding.rule:<12} {finding.subject}  {finding.message}"
