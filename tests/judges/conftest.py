"""What tests of judges start from: one running server, the tools, and a card for the verdicts."""

import base64
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, free_port
from core.settings import Settings
from houses import database, deployment, house, open_house
from judges.panel import CARD, HERE, PROTOCOL, WHEN, Judge, card_of
from judges.points import POINTS
from npm import installed, node
from processes import ROOT, Process

__all__ = ["database", "deployment", "house", "open_house"]

_RESULTS = pytest.StashKey[dict[str, str]]()
_PROTOCOL_TEST = "::test_all_66_points"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--score-card", action="store_true", help=f"write {CARD.name} of this run")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The card is not judged while it is being written."""
    if config.getoption("--score-card", default=False):
        dropped = [item for item in items if item.path.name == "test_score_card.py"]
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if call.when == "call" and _PROTOCOL_TEST in item.nodeid:
        told = f"{len(POINTS)} of {len(POINTS)}" if report.passed else "failed"
        item.config.stash[_RESULTS][PROTOCOL.name] = told
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--score-card", default=False):
        python = f"Python {platform.python_version()}"
        when = f"on {datetime.now(UTC):%Y-%m-%d} with {python}"
        CARD.write_text(card_of(session.config.stash[_RESULTS] | {WHEN: when}))


@dataclass(frozen=True)
class Judged:
    """The server that all judges call."""

    graphql: str
    socket: str
    key: str
    template_id: str


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one thing."""

    name: str
    passed: bool
    reason: str = ""


@pytest.fixture(scope="session")
def judged(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """`stampwire serve` with the demo café, for as long as the judges ask."""
    data_dir = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STAMPWIRE_")]:
            patch.delenv(name)
        settings = Settings(
            data_dir=data_dir,
            port=free_port(),
            secret_key=base64.b64encode(os.urandom(32)).decode(),
            cost_bucket=100_000_000,
            stranger_cost_bucket=100_000_000,
            misses_per_minute=1_000_000,
            **backend.fresh(data_dir),
        )
    running = Process(settings, demo=True)
    try:
        running.start()
        demo = running.demo
        yield Judged(
            running.graphql, running.socket, demo["owner"]["apiKey"], demo["cardTemplate"]["id"]
        )
    finally:
        running.stop()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the judges in JavaScript, their packages, and the schema."""
    place = tmp_path_factory.mktemp("workshop")
    (place / "node_modules").symlink_to(installed(HERE) / "node_modules")
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, place)
    shutil.copytree(HERE / "relay", place / "relay")
    shutil.copy(HERE / "released.graphql", place)
    shutil.copy(ROOT / "docs" / "schema.graphql", place)
    return place


@pytest.fixture(scope="session")
def ask(workshop: Path) -> Callable[..., list[Verdict]]:
    """Let a judge in JavaScript say its verdicts; one that calls a server is told which."""

    def run(script: str, *words: str, server: Judged | None = None) -> list[Verdict]:
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        if server:
            told = {"url": server.graphql, "key": server.key, "templateId": server.template_id}
            environment["JUDGED"] = json.dumps(told)
        done = subprocess.run(
            [node(), script, *words],
            cwd=workshop,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return [Verdict(**said) for said in json.loads(done.stdout)]

    return run


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Callable[[Judge, str], None]:
    """Put what a judge said on the card."""

    def say(judge: Judge, result: str) -> None:
        request.config.stash[_RESULTS][judge.name] = result

    return say
