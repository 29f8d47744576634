"""`stampwire verify-draw`, and the snippet of docs/lottery.md: every draw proves itself."""

import asyncio
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from clients import Client
from core.clock import ManualClock
from core.ids import Id
from db import Database
from factories import a_business, a_card, a_card_template, a_lottery_goal, stamps
from models import VariantType
from processes import ROOT, RunningServer
from services.card_templates import LotteryVariantInput

PLAY = """mutation($id: ID!) { playLottery(input: {ticketId: $id}) {
  ticket {
    id status commitment seed chain roll result { type name greeting }
    odds { variantId type name limited probability effectiveProbability leftOut }
  }
  nextTicket { id }
  userErrors { code }
} }"""
VARIANTS = [
    LotteryVariantInput(type=VariantType.TRY_AGAIN, probability=6_000, name="Again"),
    LotteryVariantInput(type=VariantType.AWARD, probability=1_500, name="Cake", stock=0),
    LotteryVariantInput(type=VariantType.AWARD, probability=1_500, name="Muffin"),
    LotteryVariantInput(type=VariantType.AWARD, probability=1_000, name="Tea"),
]


@pytest.fixture
async def answers(
    server: RunningServer, client_of: Callable[..., Client], clock: ManualClock
) -> list[Any]:
    """What played tickets tell of themselves, until a chain came to its last."""
    deployment = server.app.state.deployment
    database: Database = deployment.database
    cafe = await a_business(database, deployment.secrets, clock.now())
    template = await a_card_template(database, cafe.owner, 1, [a_lottery_goal(1, *VARIANTS)])
    told: list[Any] = []
    while not told or told[-1]["ticket"]["chain"] < 2:
        card = await a_card(database, cafe.owner, template.id)
        [ticket] = (await stamps(database, cafe.owner, card)).lottery_tickets
        following: dict[str, Any] | None = {"id": Id(ticket.id)}
        while following is not None:
            data = await client_of(cafe.api_key).do(PLAY, {"id": following["id"]})
            assert data["playLottery"]["userErrors"] == []
            told.append(data["playLottery"])
            following = told[-1]["nextTicket"]
    return told


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run the command on a ticket; its exit code, and what it said."""

    def verify(told: Any, *options: str) -> tuple[int, str]:
        path = tmp_path / "ticket.json"
        path.write_text(json.dumps(told))
        done = CliRunner().invoke(cli.app, ["verify-draw", str(path), *options])
        return done.exit_code, done.output

    return verify


async def test_every_stored_draw_verifies(answers: list[Any], run: Callable[..., Any]) -> None:
    page = (ROOT / "docs/lottery.md").read_text()
    [snippet] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shown: dict[str, Any] = {}
    exec(snippet, shown)

    for answer in answers:
        ticket = answer["ticket"]
        code, said = run({"data": {"playLottery": answer}}, "--commitment", ticket["commitment"])

        assert (code, "NO" in said) == (0, False), said
        assert said.endswith(f"{ticket['id']} drew {ticket['roll']}: {ticket['result']['name']}\n")
        assert shown["verify"](ticket) == ticket["result"]["name"]
    last = answers[-1]["ticket"]
    assert [item["leftOut"] for item in last["odds"]] == [True, True, False, False]
    assert [item["effectiveProbability"] for item in last["odds"]] == [0, 0, 6_000, 4_000]


async def test_a_draw_that_was_meddled_with_does_not_verify(
    answers: list[Any], run: Callable[..., Any]
) -> None:
    ticket = answers[-1]["ticket"]
    lies: list[Callable[[Any], Any]] = [
        lambda it: it.update(seed="0" * 64),
        lambda it: it.update(commitment="0" * 64),
        lambda it: it.update(roll=(it["roll"] + 1) % 10_000),
        lambda it: it["result"].update(name="A car"),
        lambda it: it["odds"][2].update(probability=1_600),
        lambda it: it["odds"][2].update(effectiveProbability=5_999),
        lambda it: it["odds"][2].update(leftOut=True),
        lambda it: it.update(chain=0),
    ]

    for lie in lies:
        told = copy.deepcopy(ticket)
        lie(told)
        code, said = run(told)
        assert (code, "NO " in said) == (1, True), said
    code, said = run(ticket, "--commitment", "0" * 64)
    assert (code, "NO  it is the commitment that was given before" in said) == (1, True), said


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"data": {"node": None}}, "there is no ticket"),
        ([], "there is no ticket"),
        (
            {"commitment": "", "seed": None, "odds": [], "roll": None, "chain": 0, "result": None},
            "it was not played",
        ),
    ],
)
def test_what_is_no_played_ticket_is_refused(told: Any, says: str, run: Callable[..., Any]) -> None:
    code, said = run(told)

    assert code == 1
    assert says in said


def test_a_file_that_is_not_there_is_refused() -> None:
    done = CliRunner().invoke(cli.app, ["verify-draw", "nowhere.json"])

    assert done.exit_code == 1
    assert "nowhere.json" in done.output


async def test_a_ticket_is_read_from_the_server_by_its_id(
    server: RunningServer, client_of: Callable[..., Client], clock: ManualClock
) -> None:
    deployment = server.app.state.deployment
    cafe = await a_business(deployment.database, deployment.secrets, clock.now())
    template = await a_card_template(
        deployment.database, cafe.owner, 1, [a_lottery_goal(1, *VARIANTS)]
    )
    card = await a_card(deployment.database, cafe.owner, template.id)
    [ticket] = (await stamps(deployment.database, cafe.owner, card)).lottery_tickets
    words = ["verify-draw", ticket.id, "--url", server.url, "--key", cafe.api_key]

    before = await asyncio.to_thread(CliRunner().invoke, cli.app, words)
    await client_of(cafe.api_key).do(PLAY, {"id": ticket.id})
    after = await asyncio.to_thread(CliRunner().invoke, cli.app, words)

    assert (before.exit_code, "it was not played" in before.output) == (1, True)
    assert (after.exit_code, f"{ticket.id} drew" in after.output) == (0, True), after.output
