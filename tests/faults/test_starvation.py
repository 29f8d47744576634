"""Too little memory, too little processor: newcomers may be refused, who is there is served.

Proves of research/reliability.md §3 the rows "memory cap" (256 file descriptors are in
test_disk.py) and "CPU starvation".
"""

import asyncio
import contextlib
import re
import resource
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.settings import Settings
from fakes.receiver import receiving
from partners import Api
from processes import Process

pytestmark = pytest.mark.slow

ROOM = 72 * 2**20
"""Bytes that a process under a cap may still take."""
HELD = 12_000_000
"""Of these, what it lets a crowd make it hold."""
JSON = {"content-type": "application/json"}
CROWD = 400
BODY = b'{"query": "{ viewer { __typename } }", "variables": {"text": "' + b"x" * 99_900
BURN = "while True: pass"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A process that knows that it has little room."""
    return settings.model_copy(update={"receiving_bytes": HELD})


@pytest.mark.on("sqlite")  # where one process does it all
async def test_a_server_short_of_memory_serves_who_is_there(
    process: Process, figure: Callable[[str], None]
) -> None:
    await press(process, figure, seconds=5)


@pytest.mark.soak
@pytest.mark.on("sqlite")
async def test_a_server_short_of_memory_for_a_minute_serves_who_is_there(
    process: Process, figure: Callable[[str], None]
) -> None:
    await press(process, figure, seconds=60)


async def press(process: Process, figure: Callable[[str], None], *, seconds: float) -> None:
    """Cap its memory, and let a crowd send large bodies that never end, for so long."""
    key = process.demo["owner"]["apiKey"]
    answers: Counter[Any] = Counter()
    stored = 0
    async with Api(process.graphql, key) as api:
        await api.do("CreateLocation", name="before")
        cap = memory_of(process.pid, "VmSize") + ROOM
        resource.prlimit(process.pid, resource.RLIMIT_AS, (cap, cap))
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(crowd_in(process, answers, end))
            while time.monotonic() < end:
                with contextlib.suppress(Exception):
                    await api.do("CreateLocation", name=f"during {stored}")
                    stored += 1
                await asyncio.sleep(0.1)
        most = memory_of(process.pid, "VmHWM")
        await api.do("CreateLocation", name="after")
    figure(
        f"{answers.total()} large bodies in {seconds:.0f} s under a cap: {dict(answers)}; {stored} "
        f"calls of an old client served; {most // 2**20} MB at most"
    )
    assert stored > 0
    assert process.answers("/readyz") == 200
    process.run("audit")


async def crowd_in(process: Process, answers: Counter[Any], end: float) -> None:
    """Send a large body whose end never comes, again and again."""

    async def body() -> AsyncIterator[bytes]:
        yield BODY
        await asyncio.sleep(0.3)

    timeout = aiohttp.ClientTimeout(total=5)
    while time.monotonic() < end:
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(process.graphql, data=body(), headers=JSON) as answer,
            ):
                answers[answer.status] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            answers[type(error).__name__] += 1


@pytest.mark.soak
@pytest.mark.timeout(240)
async def test_with_the_processors_taken_it_answers_and_keeps_its_leases(
    process: Process, figure: Callable[[str], None]
) -> None:
    """Four burning processes: /livez within a second, and no lease is lost; tried twice."""
    key = process.demo["owner"]["apiKey"]
    for is_last in (False, True):
        async with Api(process.graphql, key) as api, receiving() as receiver:
            await api.do("CreateWebhookEndpoint", url=receiver.at("/hook"))
            async with burning(4):
                slowest, lost = 0.0, metric(process, "stampwire_webhook_leases_lost_total")
                for number in range(60):
                    began = time.monotonic()
                    status = await asyncio.to_thread(process.answers, "/livez")
                    slowest = max(slowest, time.monotonic() - began)
                    assert status == 200
                    if number % 5 == 0:
                        await api.do("CreateLocation", name=f"during {number}")
                    await asyncio.sleep(0.3)
                flaps = metric(process, "stampwire_webhook_leases_lost_total") - lost
        figure(f"four processes burning: slowest /livez {slowest:.2f} s, {flaps:.0f} leases lost")
        if slowest <= 1 and not flaps:
            return
        assert not is_last


@contextlib.asynccontextmanager
async def burning(count: int) -> AsyncIterator[None]:
    """So many processes that take whatever processor they get."""
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", BURN) for _ in range(count)
    ]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            await each.wait()


def memory_of(pid: int, name: str) -> int:
    """Bytes, as the kernel counts them."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def metric(process: Process, name: str) -> float:
    """What the process counts under a name."""
    with urllib.request.urlopen(f"{process.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])
