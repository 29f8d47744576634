"""A migration under traffic: the former release works on the new schema (reliability.md §3).

The former release is run as it was: its code is taken from this repository's own history, its
database is made by its own migrations, and filled by its own server.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from backends import Backend, free_port
from core.settings import Settings
from db.migrate import _config, upgrade
from db.revision import latest, revision_of
from fakes.receiver import receiving
from partners import Api
from processes import ROOT, Process
from surroundings import FORMER

_PROGRAM = (sys.executable, "-c", "from cli import main; main()")
"""Its code is found first, for it is in the folder where this is started."""
CLIENTS = 6
SHORT = 5.0
"""Seconds a call may take while the schema changes, on a busy machine; the figure is printed."""


@pytest.fixture(scope="session")
def former_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the former release, in a folder of its own."""
    folder = tmp_path_factory.mktemp("former")
    archive = folder / "former.tar"
    taken = ["git", "-C", str(ROOT), "archive", "--output", str(archive), FORMER]
    subprocess.run(taken, capture_output=True, check=True)
    shutil.unpack_archive(archive, folder)
    archive.unlink()
    return folder


class Former(Process):
    """A process of the former release."""

    code: Path

    def once(self, *words: str) -> str:
        """Run one of its commands; what it printed."""
        done = subprocess.run(
            [*_PROGRAM, *words],
            cwd=self.code,
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode()

    def start(self, patience: float = 30) -> None:
        """Start its code, not ours."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.adopt(
                subprocess.Popen(
                    [*_PROGRAM, *self._command],
                    cwd=self.code,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
        if self._command[0] == "serve":
            self.wait_until_ready(patience)


@pytest.fixture
def at_former(settings: Settings, backend: Backend, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a deployment whose database holds nothing yet."""
    folder = tmp_path / "upgraded"
    folder.mkdir()
    told = {"data_dir": folder, "database_url": backend.empty(folder)}
    made = Settings(**{**settings.model_dump(), **told})
    yield made
    backend.drop(made.database)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.surroundings("history")
async def test_the_former_release_works_on_while_its_database_is_upgraded(
    at_former: Settings, former_code: Path, figure: Callable[[str], None]
) -> None:
    """No call fails and no event is lost: before, during, beside the new release, and after."""
    former = Former(at_former, demo=True)
    former.code = former_code
    workers = _workers(at_former, former_code)
    fresh = Process(Settings(**{**at_former.model_dump(), "port": free_port()}))
    with contextlib.ExitStack() as started:
        for one in (former, *workers):
            started.callback(one.stop)
            await asyncio.to_thread(one.start)
        assert revision_of_elsewhere(at_former) == "0001"
        key = former.demo["owner"]["apiKey"]
        async with (
            Api(former.graphql, key) as api,
            Api(fresh.graphql, key) as other,
            receiving() as receiver,
        ):
            made = await api.do("CreateWebhookEndpoint", url=receiver.at("/"))
            async with _traffic(api, former.demo["cardTemplate"]["id"]) as traffic:
                await traffic.until(60)
                began = time.monotonic()
                await asyncio.to_thread(fresh.run, "db", "upgrade")
                took = time.monotonic() - began
                slowest = traffic.slowest_since(began)
                before = len(traffic.events)
                await traffic.until(before + 60)
                if not at_former.is_sqlite:  # on SQLite there is one server process
                    started.callback(fresh.stop)
                    await asyncio.to_thread(fresh.start)
                    traffic.use(api, other)
                    await traffic.until(len(traffic.events) + 60)
            await receiver.wait_for(lambda all: traffic.events <= {one.id for one in all}, 40)
            for request in receiver.all:
                request.verified_by(made["signingSecret"])
        for one in (former, *workers):
            await asyncio.to_thread(one.stop)
        if at_former.is_sqlite:
            started.callback(fresh.stop)
            await asyncio.to_thread(fresh.start)
        async with Api(fresh.graphql, key) as api:
            log = await api.journal()
        await asyncio.to_thread(fresh.stop)

    assert traffic.errors == []
    assert revision_of_elsewhere(at_former) == latest()
    assert traffic.events <= {event["id"] for event in log}
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
    assert await asyncio.to_thread(fresh.run, "audit")
    assert slowest < SHORT
    figure(
        f"upgraded in {took:.1f} s (most of it the start of the command) under traffic: "
        f"{len(traffic.events)} events, 0 errors, slowest call {slowest * 1000:.0f} ms"
    )


@pytest.mark.slow
@pytest.mark.surroundings("history")
def test_up_down_and_up_again_keeps_what_is_there(at_former: Settings, former_code: Path) -> None:
    former, now = Former(at_former), Process(at_former)
    former.code = former_code
    url, config = at_former.database, _config(at_former.database)
    made = former.once("demo", "--json")

    upgrade(url)
    command.downgrade(config, "0001")
    assert revision_of(url) == "0001"
    assert former.once("demo", "--json") == made
    upgrade(url)

    assert revision_of(url) == latest()
    assert "all is well" in now.run("audit")


def _workers(settings: Settings, code: Path) -> list[Former]:
    if settings.is_sqlite:
        return []
    worker = Former(settings, "worker")
    worker.code = code
    return [worker]


def revision_of_elsewhere(settings: Settings) -> str | None:
    """The revision, asked from within an event loop."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(revision_of, settings.database).result()


class _Traffic:
    """Callers who do all day what tills do."""

    def __init__(self, api: Api, template: str) -> None:
        self._apis: tuple[Api, ...] = (api,)
        self._template = template
        self._numbers = count(1)
        self._changed = asyncio.Condition()
        self._took: list[tuple[float, float]] = []
        self.events: set[str] = set()
        self.errors: list[str] = []

    def use(self, *apis: Api) -> None:
        """Call these, in turn."""
        self._apis = apis

    def slowest_since(self, moment: float) -> float:
        """The longest that a call took which ended since then."""
        return max((took for ended, took in self._took if ended >= moment), default=0.0)

    async def until(self, number: int) -> None:
        """Wait until so many events were told."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.events) >= number or self.errors)
        assert self.errors == []

    async def go_on(self) -> None:
        """Issue a card, stamp it, issue a voucher and redeem it, look; again and again."""
        while True:
            number = next(self._numbers)
            customer = {"email": f"c{number}@mail.example", "name": f"Ana {number}"}
            made = await self._do("IssueCard", templateId=self._template, customer=customer)
            card = {"id": made["card"]["id"]}
            await self._do("AddStamps", card=card, count=1)
            await self._do("AddStamps", card=card, count=2)
            voucher = await self._do("IssueVoucher", card=card, custom={"title": "A cookie"})
            await self._do("RedeemVoucher", voucher={"id": voucher["voucher"]["id"]})
            await self._call("ask", "CardState", card=card)

    async def _do(self, name: str, **input: Any) -> Any:
        made = await self._call("do", name, **input)
        async with self._changed:
            self.events |= {event["id"] for event in made.get("events", ())}
            self._changed.notify_all()
        return made

    async def _call(self, how: str, name: str, **told: Any) -> Any:
        api, began = self._apis[next(self._numbers) % len(self._apis)], time.monotonic()
        try:
            made = await getattr(api, how)(name, **told)
        except Exception as error:
            async with self._changed:
                self.errors.append(f"{name}: {error!r}")
                self._changed.notify_all()
            raise
        self._took.append((time.monotonic(), time.monotonic() - began))
        await asyncio.sleep(0.05)  # tills are no load test: the migration needs the processor too
        return made


@contextlib.asynccontextmanager
async def _traffic(api: Api, template: str) -> AsyncIterator[_Traffic]:
    """Callers for as long as the block lasts; what they had in hand is finished."""
    traffic = _Traffic(api, template)
    going = [asyncio.create_task(traffic.go_on()) for _ in range(CLIENTS)]
    try:
        yield traffic
    finally:
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
