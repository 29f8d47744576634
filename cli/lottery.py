"""`stampwire verify-draw`: whether a lottery ticket was drawn as it was promised."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import demo_of, fail, settings_of

if TYPE_CHECKING:
    from models import Variant

_TICKET = """
query VerifyDraw($id: ID!) {
  node(id: $id) {
    ... on LotteryTicket {
      id status commitment seed chain roll result { type name greeting }
      odds { variantId type name limited probability effectiveProbability leftOut }
    }
  }
}
"""


def verify_draw(
    ticket: Annotated[
        str,
        typer.Argument(
            help="A ticket's id, or a file with what GraphQL tells of it; `-` reads that from "
            "standard input."
        ),
    ] = "-",
    *,
    commitment: Annotated[
        str | None, typer.Option(help="What you were given with the ticket, before the draw.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The server; absent: the demo's, or the one of the settings.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="STAMPWIRE_KEY",
            show_envvar=True,
            help="The API key to read the ticket with; absent: that of the demo's owner.",
        ),
    ] = None,
) -> None:
    """Repeat the draw of a lottery ticket from its revealed seed. Exits 1 where it differs."""
    from core.ids import is_id  # noqa: PLC0415

    told = _fetched(ticket, url, key) if is_id(ticket) else _read(ticket)
    if not told.get("seed"):
        fail("The seed of this ticket is not revealed: it was not played.")
    checks = list(_checks(told, commitment))
    for passed, what in checks:
        typer.echo(f"{'ok ' if passed else 'NO '} {what}")
    if not all(passed for passed, _ in checks):
        fail("This draw does not follow from its promise.")
    typer.echo(f"{told['id']} drew {told['roll']}: {told['result']['name']}")


def _checks(told: dict[str, Any], commitment: str | None) -> Iterator[tuple[bool, str]]:
    """Every part of the proof, and whether it holds."""
    from models import commitment_of, draw  # noqa: PLC0415
    from models.lotteries import CERTAIN, LAST_CHAIN  # noqa: PLC0415

    seed, odds = told["seed"], told["odds"]
    outcomes = [_outcome(item) for item in odds]
    left_out = {item["variantId"] for item in odds if item["leftOut"]}
    never_again = told["chain"] >= LAST_CHAIN
    yield commitment_of(seed) == told["commitment"], "the commitment is the SHA-256 of the seed"
    if commitment is not None:
        yield commitment == told["commitment"], "it is the commitment that was given before"
    yield (
        sum(item.probability for item in outcomes) == CERTAIN,
        f"the promised odds sum to {CERTAIN}",
    )
    yield (
        all(_may_be_left_out(item, never_again) for item in outcomes if item.id in left_out),
        "only what could run out, or TRY_AGAIN in the last draw of a chain, was left out",
    )
    drawn = draw(seed, outcomes, left_out)
    yield (
        drawn.odds == [item["effectiveProbability"] for item in odds],
        "the effective odds follow from the promised ones",
    )
    yield drawn.roll == told["roll"], f"the seed draws {drawn.roll}"
    yield (
        (drawn.outcome.type.name, drawn.outcome.name)
        == (told["result"]["type"], told["result"]["name"]),
        f"which is {drawn.outcome.name}",
    )


def _may_be_left_out(outcome: "Variant", never_again: bool) -> bool:
    from models import VariantType  # noqa: PLC0415

    return outcome.limited or (never_again and outcome.type is VariantType.TRY_AGAIN)


def _outcome(told: dict[str, Any]) -> "Variant":
    from models import Variant, VariantType  # noqa: PLC0415

    return Variant(
        id=told["variantId"],
        type=VariantType[told["type"]],
        probability=told["probability"],
        name=told["name"],
        limited=told["limited"],
    )


def _read(source: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        found = _ticket_in(json.loads(text))
    except (OSError, ValueError) as error:
        fail(f"{source}: {error}")
    if found is None:
        fail(f"{source}: there is no ticket with commitment, seed, odds and roll in it.")
    return found


def _ticket_in(told: Any) -> dict[str, Any] | None:
    """The ticket in an answer of GraphQL, however deep it lies."""
    if isinstance(told, dict):
        if {"commitment", "seed", "odds", "roll", "chain", "result"} <= set(told):
            return told
        told = list(told.values())
    if isinstance(told, list):
        return next((found for item in told if (found := _ticket_in(item))), None)
    return None


def _fetched(id: str, url: str | None, key: str | None) -> dict[str, Any]:
    import httpx2  # noqa: PLC0415

    settings = settings_of()
    demo = demo_of(settings) or {}
    key = key or demo.get("owner", {}).get("apiKey")
    if key is None:
        fail("Give an API key with --key or STAMPWIRE_KEY.")
    place = (url or demo.get("url") or settings.url).rstrip("/")
    place = place if place.endswith("/graphql") else f"{place}/graphql"
    try:
        answer = httpx2.post(
            place,
            json={"query": _TICKET, "variables": {"id": id}},
            headers={"authorization": f"Bearer {key}"},
            timeout=15,
        )
        body = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        fail(f"{place}: {error}")
    if errors := body.get("errors"):
        fail(errors[0]["message"])
    found: dict[str, Any] | None = body["data"]["node"]
    if not found:
        fail("There is no such ticket.")
    return found
