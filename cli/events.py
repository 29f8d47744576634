"""`stampwire events`: the log of a business, read from the database."""

import asyncio
import csv
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import business_named, fail, on_database, settings_of, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from db import Database
    from models import Business, Vocabulary

_PAGE = 500
_PAUSE = 0.5
_EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))

events_app = typer.Typer(help="The log of a business.")


class Format(StrEnum):
    """How events are written."""

    JSONL = "jsonl"
    CSV = "csv"


@events_app.callback(invoke_without_command=True)
def events(
    context: typer.Context,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")
    ] = False,
    business: Annotated[str | None, typer.Option(help="The business's id.")] = None,
    after: Annotated[str | None, typer.Option(help="Only events beyond this cursor.")] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these types, comma-separated, in either vocabulary.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="EN or ID; absent: the business's own.")
    ] = None,
) -> None:
    """Print the log of a business as JSON lines: the bodies that webhooks carry."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of()
    upgrade(settings)
    on_database(
        settings,
        lambda database: _print(
            database, settings, business, after, types_of(types), vocabulary, follow=follow
        ),
    )


@events_app.command()
def export(
    *,
    business: Annotated[str | None, typer.Option(help="The business's id.")] = None,
    form: Annotated[
        Format, typer.Option("--format", help="JSON lines, or a table with a head.")
    ] = Format.JSONL,
    since: Annotated[
        str | None,
        typer.Option(
            help="From this day or moment on, such as 2026-05-01, in the business's time."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this day or moment.")] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these types, comma-separated, in either vocabulary.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="EN or ID; absent: the business's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """Write the log of a business to a file or to standard output, for CRM, ERP and analytics.

    A table has a column for each place in a body, named by its path, such as voucher.redeem_code;
    lists are joined by |. What a spreadsheet would take for a formula gets a ' before it.
    """
    settings = settings_of()
    upgrade(settings)
    on_database(
        settings,
        lambda database: _export(
            database, settings, business, form, since, until, types_of(types), vocabulary, out
        ),
    )


def types_of(words: str | None) -> list[str] | None:
    """The event types of a comma-separated list of words, None for all."""
    if words is None:
        return None
    from events.vocabulary import type_named  # noqa: PLC0415

    found = [(word, type_named(word)) for word in words.split(",")]
    unknown = [word for word, name in found if name is None]
    if unknown:
        fail(f"There is no event type {unknown[0]!r}.")
    return [name for _, name in found if name]


def vocabulary_of(word: str | None) -> "Vocabulary | None":
    """The vocabulary of this name, None where none was named."""
    if word is None:
        return None
    from models import Vocabulary  # noqa: PLC0415

    try:
        return Vocabulary(word.lower())
    except ValueError:
        fail("The vocabulary is EN or ID.")


async def _print(
    database: "Database",
    settings: Settings,
    business_id: str | None,
    after: str | None,
    types: list[str] | None,
    word: str | None,
    *,
    follow: bool,
) -> None:
    from events import payload  # noqa: PLC0415
    from events.log import events_after  # noqa: PLC0415
    from models import decode_cursor  # noqa: PLC0415

    business = await business_named(database, settings, business_id)
    vocabulary = vocabulary_of(word) or business.vocabulary
    place = decode_cursor(after) if after else 0
    while True:
        rows = await database.read(business.id, partial(events_after, sequence=place, limit=_PAGE))
        for row in rows:
            place = row.sequence
            if types is None or row.type in types:
                typer.echo(payload(row.body, vocabulary))
        if len(rows) < _PAGE:
            if not follow:
                return
            await asyncio.sleep(_PAUSE)


async def _export(
    database: "Database",
    settings: Settings,
    business_id: str | None,
    form: Format,
    since: str | None,
    until: str | None,
    types: list[str] | None,
    word: str | None,
    out: Path | None,
) -> None:
    from events.table import cells, columns  # noqa: PLC0415

    business = await business_named(database, settings, business_id)
    vocabulary = vocabulary_of(word) or business.vocabulary
    span = (_moment(since, business) or _EVER[0], _moment(until, business) or _EVER[1])
    bodies = _bodies(database, business, span, types, vocabulary)
    # Opened here, not awaited: a command has nothing else to do meanwhile.
    opened = nullcontext(sys.stdout) if out is None else out.open("w", encoding="utf-8", newline="")
    with opened as file:
        if form is Format.JSONL:
            async for body in bodies:
                file.write(f"{body}\n")
            return
        table = csv.writer(file)
        table.writerow(columns(vocabulary))
        async for body in bodies:
            table.writerow(cells(body, vocabulary))


async def _bodies(
    database: "Database",
    business: "Business",
    span: tuple[datetime, datetime],
    types: list[str] | None,
    vocabulary: "Vocabulary",
) -> AsyncIterator[str]:
    """The bodies of the events of a span, page by page."""
    from events import payload  # noqa: PLC0415
    from events.log import events_between  # noqa: PLC0415

    place, (since, until) = 0, span
    while True:
        rows = await database.read(
            business.id,
            partial(events_between, sequence=place, since=since, until=until, limit=_PAGE),
        )
        for row in rows:
            place = row.sequence
            if types is None or row.type in types:
                yield payload(row.body, vocabulary)
        if len(rows) < _PAGE:
            return


def _moment(text: str | None, business: "Business") -> datetime | None:
    """The moment that a day or time names, by the business's clock where it has no offset."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is not a day or moment, such as 2026-05-01 or 2026-05-01T08:00:00Z.")
    return moment if moment.tzinfo else moment.replace(tzinfo=business.zone)
