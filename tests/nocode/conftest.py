"""What tests of no-code tools start from: the Zapier app at work, a server, and hooks."""

import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from conftest import serving
from core.settings import Settings
from fakes.receiver import Receiver, receiving
from houses import House, database, deployment, house, open_house
from nocode.tools import APP, HERE, AppRun, Zapier, connected, copied, environment
from npm import installed, node
from processes import RunningServer

__all__ = ["database", "deployment", "house", "open_house"]


@pytest.fixture(scope="session")
def tester(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppRun]:
    """The app in Zapier's tester, started once."""
    place = copied(tmp_path_factory.mktemp("app"))
    (place / "node_modules").symlink_to(installed(APP, with_dev=False) / "node_modules")
    shutil.copy(HERE / "tester.cjs", place)
    log = place / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [node(), "tester.cjs"],
            cwd=place,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    yield AppRun(process, threading.Lock(), log)
    process.kill()
    process.communicate()


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A server on real time: a trigger looks how old a signature is."""
    async with serving(settings) as running:
        yield running


@pytest.fixture
def zapier(tester: AppRun, house: House) -> Zapier:
    """The app, connected with the owner's key."""
    return connected(tester, house.owner)


@pytest.fixture
async def hooks() -> AsyncIterator[Receiver]:
    """What stands in for Zapier's hook URLs, and for those of Make and n8n."""
    async with receiving() as receiver:
        yield receiver
