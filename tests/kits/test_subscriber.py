"""The subscriber's kit: each snippet of the page follows the real server through every mishap."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col

from clients import Client
from db import BUSINESS, Transaction, command, param
from events.log import head_of
from factories import (
    a_business,
    a_card,
    a_card_template,
    a_staff,
    an_api_key,
    an_award_goal,
    stamps,
)
from kits.lines import Line, line_to
from models import EventRow, LogHead, Role, encode_cursor
from partners import BEGINNING, Told
from processes import ROOT, RunningServer

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

HERE = Path(__file__).parent
KIT = ROOT / "docs" / "kits" / "subscriber"
PAGE = ROOT / "docs" / "subscriber-kit.md"
KITS = ("graphql-ws.mjs", "apollo.mjs", "urql.mjs", "follow.py")
CREATE = """mutation { createAccessToken(input: {events: {}}) { secret } }"""
DELETE = "mutation($id: ID!) { deleteApiKey(input: {id: $id}) { userErrors { code } } }"
FORGET = command(
    delete(EventRow).where(
        col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) <= param("upto")
    )
)
PRUNED = command(
    update(LogHead)
    .where(col(LogHead.business_id) == BUSINESS)
    .values(pruned_sequence=param("upto"))
)


class Subscriber(Told):
    """A kit at work: what it is told, in a process of its own, over a line of its own."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line
        self.errors = ""

    @property
    def cursors(self) -> list[str]:
        """The cursors of the events it has handled."""
        return [item["cursor"] for item in self.all if "cursor" in item]

    @property
    def missed(self) -> list[Any]:
        """What it was told it had missed."""
        return [item["missed"] for item in self.all if "missed" in item]

    async def reaches(self, sequence: int) -> None:
        """Wait until it has handled an event."""
        wanted = encode_cursor(sequence)
        try:
            await self.wait_for(lambda items: any(one.get("cursor") == wanted for one in items))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.errors}") from None


@contextlib.asynccontextmanager
async def subscriber(
    kit: str, packages: Path, folder: Path, server: RunningServer, token: str
) -> AsyncIterator[Subscriber]:
    """Run a kit as somebody would who copied it: beside the packages, and nothing else."""
    place = folder / kit
    shutil.copytree(KIT, place)
    (place / "node_modules").symlink_to(packages / "node_modules")
    if kit.endswith(".py"):
        command_ = [sys.executable, str(HERE / "run.py")]
    else:
        shutil.copy(HERE / "run.mjs", place)
        node = shutil.which("node")
        assert node, "Node is missing: apt-get install nodejs"
        command_ = [node, str(place / "run.mjs")]
    async with line_to(server.socket) as line:
        running = await asyncio.create_subprocess_exec(
            *command_,
            str(place / kit),
            line.url,
            token,
            BEGINNING,
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        told = Subscriber(line)

        async def read() -> None:
            assert running.stdout
            async for said in running.stdout:
                await told.add(json.loads(said))

        async def complain() -> None:
            assert running.stderr
            async for said in running.stderr:
                told.errors += said.decode()

        readers = [asyncio.create_task(read()), asyncio.create_task(complain())]
        try:
            yield told
        finally:
            if running.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    running.kill()
            await running.wait()
            await asyncio.gather(*readers)


async def test_each_kit_follows_through_every_mishap(
    server: RunningServer,
    client_of: Callable[..., Client],
    clock: Any,
    packages: Path,
    tmp_path: Path,
) -> None:
    """Replay, live, 1012, 4008, a cut line, sleep, CURSOR_EXPIRED, 4403: all, once, in order."""
    deployment = server.app.state.deployment
    database, secrets = deployment.database, deployment.secrets
    cafe = await a_business(database, secrets, clock.now())
    template = await a_card_template(database, cafe.owner, 50, [an_award_goal(50)])
    card = await a_card(database, cafe.owner, template.id)
    staff = await a_staff(database, cafe.owner, Role.MANAGER)
    assert staff.staff
    issuer = client_of(await an_api_key(database, cafe.owner, staff.staff, secrets))
    token = (await issuer.do(CREATE))["createAccessToken"]["secret"]

    async def stamp() -> int:
        await stamps(database, cafe.owner, card, 1)
        return (await database.read(cafe.owner.business_id, head_of)).sequence

    async def prune(tx: Transaction) -> None:
        await tx.run(PRUNED, upto=pruned)
        await tx.run(FORGET, upto=pruned)

    async with contextlib.AsyncExitStack() as stack:
        heard = {
            kit: await stack.enter_async_context(subscriber(kit, packages, tmp_path, server, token))
            for kit in KITS
        }
        lines = [one.line for one in heard.values()]

        async def all_reach(sequence: int) -> None:
            await asyncio.gather(*(one.reaches(sequence) for one in heard.values()))

        await all_reach(1)
        await all_reach(await stamp())
        for code in (1012, 4008):
            here = encode_cursor(await stamp())
            await asyncio.gather(*(line.close(code, f"cursor={here}") for line in lines))
            await all_reach(await stamp())
        for line in lines:
            line.cut()
        await all_reach(await stamp())
        for line in lines:
            line.freeze()
        await all_reach(await stamp())
        before = await stamp()
        await all_reach(before)
        for line in lines:
            line.shut()
        await stamp()
        pruned = await stamp()
        last = await stamp()
        await database.write(cafe.owner.business_id, prune)
        for line in lines:
            line.let_in()
        await all_reach(last)
        came = [line.connections for line in lines]
        viewer = await issuer.do("{ viewer { apiKey { id } } }")
        await client_of(cafe.api_key).do(DELETE, {"id": viewer["viewer"]["apiKey"]["id"]})
        for one in heard.values():
            await one.wait_for(lambda items: {"ended": True} in items)
        await asyncio.sleep(1)

    told = [encode_cursor(place) for place in range(1, last + 1) if not before < place <= pruned]
    missed = [[encode_cursor(before), encode_cursor(pruned)]]
    assert {kit: one.cursors for kit, one in heard.items()} == dict.fromkeys(KITS, told)
    assert {kit: one.missed for kit, one in heard.items()} == dict.fromkeys(KITS, missed)
    assert [line.connections for line in lines] == came, "whoever lost its rights comes no more"
    assert min(came) >= 6
    assert {kit: one.errors for kit, one in heard.items() if kit == "follow.py"} == {
        "follow.py": ""
    }


def test_the_page_shows_the_kit_as_it_is() -> None:
    page = PAGE.read_text()

    shown = {file.name: file.read_text() in page for file in KIT.iterdir() if file.is_file()}
    assert shown == dict.fromkeys(("resuming.mjs", *KITS), True)
