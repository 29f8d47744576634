"""`stampwire check-deliveries`: whether a receiver has every event it was due."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import fail

if TYPE_CHECKING:
    from webhooks.completeness import Finding, Report, Stored

_REDELIVER = 'mutation {{ redeliver(input: {{id: "{endpoint}", eventId: "{event}"}}) {{ userErrors {{ message }} }} }}'  # noqa: E501 -- one line, to be copied
_REPLAY = 'mutation {{ replayEvents(input: {{id: "{endpoint}", since: "{since}"}}) {{ replay {{ total }} userErrors {{ message }} }} }}'  # noqa: E501 -- the same


def check_deliveries(
    files: Annotated[
        list[str],
        typer.Argument(help="Files of JSON lines, one delivery a line; `-` reads standard input."),
    ],
    *,
    first: Annotated[
        str | None,
        typer.Option("--from", help="The id of the first event that must be there."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="The id of the last event that must be there.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(help="The endpoint's id, for the mutations that are shown.")
    ] = "we_…",
) -> None:
    """Prove from stored webhooks that none is missing; name each gap, then exit 1.

    A line is an object with webhook-id, webhook-previous-id, webhook-attempt-kind and body. Each
    file is of one endpoint, unless its lines say which (endpoint). Order and repeats do not matter.
    """
    from webhooks.completeness import check  # noqa: PLC0415

    endpoints: dict[str, list[Stored]] = {}
    for file in files:
        for name, stored in _read(file):
            endpoints.setdefault(name, []).append(stored)
    if len(endpoints) > 1 and (first or last):
        fail("--from and --to are events of one endpoint, and here are several.")
    number = 0
    for name, deliveries in endpoints.items():
        report = check(deliveries, first_id=first, last_id=last)
        number += len(report.findings)
        for line in _lines(name, report, endpoint):
            typer.echo(line)
    if not endpoints:
        fail("There is no delivery.")
    if number:
        fail(f"{number} findings.")


def _lines(name: str, report: "Report", endpoint: str) -> Iterator[str]:
    yield f"{name}: {report.events} events, {report.repeats} repeats, {report.tests} tests"
    if report.not_linked:
        yield f"  {report.not_linked} that were sent again from before the first are not checked"
    if report.first is not None:
        before = report.first.previous_id
        comes = f"before it came {before}" if before else "nothing came before it"
        yield f"  begins with {report.first}; {comes}"
    for finding in report.findings:
        yield from _told(finding, endpoint)
    if report.last is not None:
        outcome = "ends" if report.findings else "complete to the end, which is"
        yield f"  {outcome} {report.last}"


def _told(finding: "Finding", endpoint: str) -> Iterator[str]:
    from core.ids import is_id, moment_of  # noqa: PLC0415
    from webhooks.completeness import Flaw  # noqa: PLC0415

    between = f"between {finding.before} and {finding.after}"
    if finding.before is None:
        yield f"  MISSING {finding.missing_id}"
    elif finding.flaw is Flaw.ORDER:
        yield f"  ORDER: {finding.after} follows {finding.before}; are these one endpoint's?"
        return
    elif finding.flaw is Flaw.MISSING:
        yield f"  MISSING {finding.missing_id}, and maybe others, {between}"
    else:
        yield f"  NOT PROVEN: nothing says that none is missing {between}"
    if finding.missing_id:
        yield f"    {_REDELIVER.format(endpoint=endpoint, event=finding.missing_id)}"
    if finding.before is not None:
        since = finding.before.at
        if since is None and is_id(finding.before.id):
            since = f"{datetime.fromtimestamp(moment_of(finding.before.id), UTC):%FT%TZ}"
        yield f"    {_REPLAY.format(endpoint=endpoint, since=since or '…')}"


def _read(file: str) -> "Iterator[tuple[str, Stored]]":
    """Every delivery of a file, by the name of its endpoint; a last line cut short is left out."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        fail(f"{file}: {error}")
    *lines, rest = text.split("\n")
    for number, line in enumerate([*lines, rest] if rest else lines, start=1):
        try:
            told = json.loads(line)
            yield told.get("endpoint") or file, _stored(told)
        except (ValueError, TypeError, KeyError, AttributeError):
            if number <= len(lines):
                fail(f"{file}:{number}: this is no delivery: an object with webhook-id and body.")
            typer.echo(f"{file}:{number}: the last line is cut short, and left out", err=True)


def _stored(told: dict[str, Any]) -> "Stored":
    from webhooks.completeness import Stored  # noqa: PLC0415

    headers = {name.lower().replace("_", "-"): value for name, value in told.items()}
    body = headers.get("body") or {}
    body = json.loads(body) if isinstance(body, str) else body
    sequence = headers.get("sequence", body.get("sequence"))
    if not isinstance(sequence, int | None):
        raise TypeError
    return Stored(
        str(headers["webhook-id"]),
        headers.get("webhook-previous-id") or None,
        headers.get("webhook-attempt-kind") or None,
        sequence,
        body.get("timestamp"),
    )
