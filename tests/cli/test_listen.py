"""`stampwire listen`: one line per event, nothing missed over a lost connection, signed copies."""

import asyncio
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from db import Database
from factories import Cafe, a_business, a_card, a_card_template, stamps
from fakes.receiver import Receiver, receiving
from forks import Forked
from kits.lines import line_to
from models import Card, encode_cursor
from partners import BEGINNING, Api
from processes import Process, RunningServer
from services.businesses import update_business
from services.retention import prune
from webhooks.completeness import Flaw, Stored, check

SECRET = "whsec_c2l4dGVlbiBieXRlcyBvZiBhIHNlY3JldCBrZXk="


class Terminal:
    """A command that runs: what it has said on each of its two streams."""

    def __init__(self, process: Forked, out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = (path.open("a+", encoding="utf-8") for path in (out, err))
        self._out.seek(0)
        self._err.seek(0)

    async def line(self, *, aside: bool = False) -> str:
        """Its next line; nothing, once it has ended."""
        stream, text = self._err if aside else self._out, ""
        async with asyncio.timeout(30):
            while not text.endswith("\n"):
                has_ended = self.process.poll() is not None
                text += (more := stream.readline())
                if not more and has_ended:
                    break
                if not more:
                    await asyncio.sleep(0.01)
        return text.rstrip("\n")

    async def aside(self, words: str) -> str:
        """Its next line on standard error with these words."""
        while words not in (line := await self.line(aside=True)):
            assert line, f"it ended without saying {words!r}"
        return line

    async def ended(self) -> int:
        """Its exit code."""
        return await asyncio.to_thread(self.process.wait, 30)

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()


Listen = Callable[..., AbstractAsyncContextManager[Terminal]]


@asynccontextmanager
async def _listening(process: Process, *words: str, **more: str) -> AsyncIterator[Terminal]:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        running = process.fork("listen", *words, out=out, err=err, **more)
        terminal = Terminal(running, out, err)
        try:
            yield terminal
        finally:
            terminal.close()


@pytest.fixture
def listen(server: RunningServer) -> Listen:
    """Run `stampwire listen` beside the server."""

    def run(*words: str, **more: str) -> AbstractAsyncContextManager[Terminal]:
        return _listening(Process(server.settings), *words, **more)

    return run


@pytest.fixture
def database(server: RunningServer) -> Database:
    """The running server's own database, so that its doorbell rings."""
    found: Database = server.app.state.deployment.database
    return found


@pytest.fixture
async def cafe(server: RunningServer, database: Database, clock: ManualClock) -> Cafe:
    """A café whose API key opens the server's doors."""
    return await a_business(database, server.app.state.deployment.secrets, clock.now())


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    """A card of three stamps; its issue is the first event of the log."""
    template = await a_card_template(database, cafe.owner, now=clock.now())
    return await a_card(database, cafe.owner, template.id, clock.now())


async def test_it_prints_a_line_per_event(
    listen: Listen, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    async with listen("--key", cafe.api_key) as terminal:
        await terminal.aside("listening to ws://")
        await stamps(database, cafe.owner, card, 3, clock.now())
        lines = [await terminal.line() for _ in range(4)]

    told = [line.split(maxsplit=3) for line in lines]
    assert [(sequence, name) for _, sequence, name, _ in told] == [
        ("#2", "stamp_added"),
        ("#3", "goal_reached"),
        ("#4", "reward_issued"),
        ("#5", "voucher_issued"),
    ]
    assert told[0][3] == f"+3 · 3 of 3 · {card.id}"
    assert told[3][3].startswith("A free coffee · ")


async def test_it_prints_the_bodies_beyond_a_cursor(
    listen: Listen, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    await stamps(database, cafe.owner, card, 3, clock.now())
    words = ("--json", "--after", BEGINNING, "--types", "kartu_diterbitkan,voucher_issued")

    async with listen(*words, "--vocabulary", "id", STAMPWIRE_KEY=cafe.api_key) as terminal:
        bodies = [json.loads(await terminal.line()) for _ in range(2)]

    assert [(body["event"], body["sequence"]) for body in bodies] == [
        ("kartu_diterbitkan", 1),
        ("voucher_diterbitkan", 5),
    ]
    assert bodies[0]["bisnis_id"] == cafe.business.id


async def test_it_forwards_what_a_webhook_would_be_sent(
    listen: Listen, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    async with receiving() as receiver:
        words = ("--forward", receiver.at("/mine"), "--secret", SECRET, "--json")
        async with listen("--key", cafe.api_key, *words) as terminal:
            said = await terminal.aside("forwarding to")
            await terminal.aside("listening to")
            await stamps(database, cafe.owner, card, 1, clock.now())
            printed, first = await terminal.line(), await terminal.aside("→")
            receiver.status = 500
            await stamps(database, cafe.owner, card, 1, clock.now())
            second = await terminal.aside("→")
        one, other = receiver.to("/mine")

    assert SECRET in said
    assert one.body == printed.encode()
    assert one.verified_by(SECRET)["event"] == "stamp_added"
    assert one.id == one.data["id"]
    assert other.data["sequence"] == 3
    assert "webhook-previous-id" not in one.headers
    assert other.headers["webhook-previous-id"] == one.id
    assert first.strip().startswith("#2 → 204")
    assert second.strip().startswith("#3 → 500")


async def test_a_receiver_that_is_away_is_only_told(
    listen: Listen, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    async with receiving() as receiver:
        nowhere = receiver.at("/")
    async with listen("--key", cafe.api_key, "--forward", nowhere) as terminal:
        assert "whsec_" in await terminal.aside("forwarding to")
        await terminal.aside("listening to")
        await stamps(database, cafe.owner, card, 1, clock.now())
        assert "failed" in await terminal.aside("→")
        await stamps(database, cafe.owner, card, 1, clock.now())
        assert "#3" in await terminal.aside("→")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give an API key with --key or STAMPWIRE_KEY."),
        (("--key", "nonsense"), "The server refused: Forbidden (4403)."),
        (("--key", "{key}", "--after", "tomorrow"), "This is not a cursor"),
        (("--key", "{key}", "--types", "stamp_eaten"), "There is no event type 'stamp_eaten'."),
        (("--key", "{key}", "--state", "README.md"), "README.md is not a place that"),
        (("--key", "{key}", "--vocabulary", "DE"), "The vocabulary is EN or ID."),
        (("--key", "{key}", "--forward", "http://x", "--secret", "no!"), "A signing secret is"),
    ],
)
async def test_what_cannot_work_ends_with_a_word(
    listen: Listen, cafe: Cafe, words: tuple[str, ...], message: str
) -> None:
    async with listen(*(word.format(key=cafe.api_key) for word in words)) as terminal:
        assert await terminal.aside(message)
        assert await terminal.ended() == 1


@pytest.mark.slow
async def test_nothing_is_missed_while_the_server_is_away(process: Process) -> None:
    demo = process.demo
    async with (
        _listening(process) as terminal,
        Api(process.graphql, demo["owner"]["apiKey"]) as owner,
    ):
        await terminal.aside("listening to")
        card = await _issue(owner, demo)
        first = await terminal.line()

        await asyncio.to_thread(process.restart)
        lost = await terminal.aside("connection lost")
        await _stamp(owner, card)
        second = await terminal.line()

    assert "#1 " in first
    assert "again in 1 s" in lost
    assert "#2 " in second


@pytest.mark.on("sqlite")
async def test_whatever_closes_the_line_nothing_is_missed_or_told_twice(
    server: RunningServer,
    listen: Listen,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    card: Card,
    tmp_path: Path,
) -> None:
    """1012, 4008, a cut line: again, beyond the last event; 4403: no more."""
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"cursor": BEGINNING, "event_id": "evt_before"}))
    async with line_to(server.socket) as line, receiving() as receiver:
        words = ("--key", cafe.api_key, "--url", line.url, "--state", str(state))
        async with listen(*words, "--forward", receiver.url) as terminal:
            await terminal.aside("listening to")
            await receiver.wait_for(1)
            for code, word in ((1012, "goes away"), (4008, "too many"), (None, "line is cut")):
                if code is None:
                    line.cut()
                else:
                    await line.close(code, f"cursor={BEGINNING}")
                assert word in await terminal.aside("connection lost")
                await stamps(database, cafe.owner, card, 1, clock.now())
                await terminal.aside("listening to")
            await receiver.wait_for(7)
            await line.close(4403, "Forbidden")
            assert await terminal.aside("The server refused: Forbidden (4403).")
            assert await terminal.ended() == 1

    assert [one.data["sequence"] for one in receiver.all] == [1, 2, 3, 4, 5, 6, 7]
    assert receiver.all[0].headers["webhook-previous-id"] == "evt_before"
    assert check(_stored(receiver)).findings == []


@pytest.mark.on("sqlite")
async def test_it_goes_on_from_the_file_in_which_it_keeps_its_place(
    listen: Listen,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    card: Card,
    tmp_path: Path,
) -> None:
    """Also when it was ended before the first event came."""
    state = tmp_path / "state.json"
    async with receiving() as receiver:
        words = ("--key", cafe.api_key, "--state", str(state), "--forward", receiver.url)
        async with listen(*words) as terminal:
            await terminal.aside("listening to")
        await stamps(database, cafe.owner, card, 1, clock.now())
        async with listen(*words, "--after", BEGINNING) as terminal:
            await terminal.aside("#2 → 204")
            terminal.process.send_signal(signal.SIGINT)
            assert await terminal.ended() == 0

    [one] = receiver.all
    assert one.data["sequence"] == 2
    assert json.loads(state.read_text()) == {"cursor": encode_cursor(2), "event_id": one.id}


def _stored(receiver: Receiver) -> list[Stored]:
    """What a receiver got, as it would store it."""
    return [
        Stored(one.id, one.headers.get("webhook-previous-id"), None, one.data["sequence"])
        for one in receiver.all
    ]


async def _issue(owner: Api, demo: dict[str, Any]) -> str:
    answer = await owner.send(
        "mutation($input: IssueCardInput!) { issueCard(input: $input) { card { id } } }",
        input={"templateId": demo["cardTemplate"]["id"], "customer": {"email": "a@mail.example"}},
    )
    card: str = answer["data"]["issueCard"]["card"]["id"]
    return card


async def _stamp(owner: Api, card: str) -> None:
    answer = await owner.send(
        "mutation($input: AddStampsInput!) { addStamps(input: $input) { card { stamps } } }",
        input={"card": {"id": card}, "count": 1},
    )
    assert answer["data"]["addStamps"]["card"] == {"stamps": 1}


async def test_a_cursor_older_than_the_log_is_told_of_and_the_oldest_there_are_follow(
    listen: Listen,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    card: Card,
    tmp_path: Path,
) -> None:
    given = {"event_retention_days": 30}
    await database.write(
        cafe.business.id, lambda tx: update_business(tx, cafe.owner, given, clock.now())
    )
    clock.advance(timedelta(days=31))
    await stamps(database, cafe.owner, card, 1, clock.now())
    assert await prune(database, clock.now()) == 1

    state = tmp_path / "state.json"
    state.write_text(json.dumps({"cursor": BEGINNING, "event_id": "evt_handled"}))
    async with receiving() as receiver:
        words = ("--key", cafe.api_key, "--state", str(state), "--forward", receiver.url)
        async with listen(*words) as terminal:
            await terminal.aside("events were thrown away before they came here")
            line = await terminal.line()
            await receiver.wait_for(1)
            await stamps(database, cafe.owner, card, 1, clock.now())
            await receiver.wait_for(2)

    assert "#2" in line
    assert [flaw.flaw for flaw in check([Stored("evt_handled"), *_stored(receiver)]).findings] == [
        Flaw.UNPROVEN
    ], "it does not claim that they have everything"
