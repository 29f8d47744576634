"""Several processes on one PostgreSQL: what one of them does, listeners at another are told."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websockets

from backends import free_port, wait_until_open
from core.settings import Settings
from events.stream import POLL_SECONDS
from fakes.receiver import receiving
from partners import BEGINNING, Api, closing_code, operations, subscriber
from processes import Process

pytestmark = [pytest.mark.on("postgres"), pytest.mark.slow, pytest.mark.calm]

SOON = 1.5
"""A socket without rights is closed within a second or so; a busy machine is forgiven the rest."""
POLLED = POLL_SECONDS + 1


@dataclass
class Cluster:
    """Two web processes and a worker."""

    first: Process
    second: Process
    demo: dict[str, Any]
    redis: subprocess.Popen[bytes] | None = None

    def stop_redis(self) -> None:
        """Nobody rings any more."""
        assert self.redis
        self.redis.kill()
        self.redis.wait(10)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A broker of this test's own, which it may stop."""
    program = shutil.which("redis-server")
    assert program
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    running = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
    try:
        wait_until_open(port)
        yield f"redis://127.0.0.1:{port}", running
    finally:
        running.kill()
        running.wait(10)


@pytest.fixture(params=["redis", "postgres"])
def cluster(
    request: pytest.FixtureRequest,
    settings: Settings,
    redis: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> Iterator[Cluster]:
    """With Redis as the doorbell, or with the database itself."""
    url, running = redis if request.param == "redis" else ("", None)

    def process(name: str, command: str, *, demo: bool = False) -> Process:
        told = {"data_dir": tmp_path / name, "broadcast_url": url, "port": free_port()}
        return Process(Settings(**{**settings.model_dump(), **told}), command, demo=demo)

    first = process("first", "serve --no-worker", demo=True)
    second = process("second", "serve --no-worker")
    worker = process("worker", "worker")
    with contextlib.ExitStack() as started:  # each is ended, whatever becomes of the others
        for one in (first, second, worker):
            started.callback(one.stop)
            one.start()
        yield Cluster(first, second, first.demo, running)


async def test_what_happens_at_one_is_told_at_the_other(
    cluster: Cluster, figure: Callable[[str], None]
) -> None:
    async with _story(cluster) as (api, heard, receiver, made):
        clock = asyncio.get_running_loop().time
        await api.do("AddStamps", card=await _card(api, cluster), count=1)
        began = clock()
        await heard.wait_for(2)
        figure(f"at the other process's subscriber {1000 * (clock() - began):.0f} ms later")
        delivered = await receiver.wait_for(2)

        bodies = {one.verified_by(made["signingSecret"])["id"]: one.body for one in delivered}
        assert bodies == {event["id"]: event["payload"].encode() for event in heard.all}


async def test_a_regenerated_key_closes_its_sockets_at_the_other(
    cluster: Cluster, figure: Callable[[str], None]
) -> None:
    took = 0.0
    async with Api(cluster.first.graphql, cluster.demo["owner"]["apiKey"]) as api:
        for _ in range(2):
            took = await _time_to_close(cluster, api)
            figure(f"closed {1000 * took:.0f} ms after the key was regenerated")
            if took <= SOON:
                break
    assert took <= SOON


@pytest.mark.parametrize("cluster", ["redis"], indirect=True)
async def test_without_redis_an_event_comes_with_the_next_look(
    cluster: Cluster, figure: Callable[[str], None]
) -> None:
    async with _story(cluster) as (api, heard, receiver, _):
        card, took = await _card(api, cluster), 0.0
        await heard.wait_for(1)
        await receiver.wait_for(1)
        await asyncio.to_thread(cluster.stop_redis)

        for count in (2, 3):
            began = time.monotonic()
            await api.do("AddStamps", card=card, count=1)
            answered = time.monotonic() - began
            await heard.wait_for(count)
            took = time.monotonic() - began
            await receiver.wait_for(count)
            pushed = time.monotonic() - began
            figure(
                f"without Redis: answered in {1000 * answered:.0f} ms, told after "
                f"{1000 * took:.0f} ms, webhook after {1000 * pushed:.0f} ms"
            )
            if took <= POLLED:
                break
        assert took <= POLLED


@contextlib.asynccontextmanager
async def _story(cluster: Cluster) -> AsyncIterator[Any]:
    """A caller at the first process, a subscriber at the second, a receiver of the worker's."""
    key = cluster.demo["owner"]["apiKey"]
    async with (
        Api(cluster.first.graphql, key) as api,
        receiving() as receiver,
        subscriber(cluster.second.socket, key, operations()["Events"], after=BEGINNING) as heard,
    ):
        made = await api.do("CreateWebhookEndpoint", url=receiver.at("/"), vocabulary="ID")
        yield api, heard, receiver, made


async def _card(api: Api, cluster: Cluster) -> dict[str, str]:
    template = cluster.demo["cardTemplate"]["id"]
    customer = {"email": "ana@mail.example"}
    issued = await api.do("IssueCard", templateId=template, customer=customer)
    return {"id": issued["card"]["id"]}


async def _time_to_close(cluster: Cluster, api: Api) -> float:
    """Regenerate a fresh key at the first process; how long its socket at the second lives."""
    number = time.monotonic_ns()
    staff = {"name": "Bar", "login": f"bar{number}@kopi.example", "password": "long enough 1"}
    made = await api.do("CreateStaff", role="SCANNER", **staff)
    key = await api.do("GenerateApiKey", staffId=made["staff"]["id"])
    async with websockets.connect(
        cluster.second.socket, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
    ) as socket:
        init = {"Authorization": f"Bearer {key['secret']}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": init}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        asked = {"query": operations()["Events"], "variables": {"after": BEGINNING}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": asked}))
        await api.do("RegenerateApiKey", id=key["apiKey"]["id"])
        began = time.monotonic()
        assert await closing_code(socket, 15) == 4403
        return time.monotonic() - began
