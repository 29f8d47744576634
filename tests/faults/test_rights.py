"""Rights across processes: what ends at one web process, ends at the others within a second.

Proves rows 19, 38 and 39 of research/reliability.md §2, and for rights "Redis stopped" of its §3:
sockets and streams of server-sent events are closed, those of access tokens too, also without a
broker.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aiohttp
import pytest
import websockets

from backends import free_port
from core.settings import Settings
from faults.servers import Redis
from partners import BEGINNING, Api, closing_code, operations
from processes import Process

pytestmark = [pytest.mark.on("postgres"), pytest.mark.slow, pytest.mark.calm]

SOON = 1.5
"""Closed within a second or so: the poll's period, and what a busy machine takes for the rest."""
FOLLOW = "subscription($after: String) { events(after: $after) { sequence } }"
SIGN_OUT = "mutation { signOut(input: {}) { userErrors { code } } }"
_number = count(1)


@dataclass
class Pair:
    """Two web processes on one database; rights end at the first, and are used at the second."""

    first: Process
    second: Process
    owner: Api
    http: aiohttp.ClientSession


@pytest.fixture
def processes(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[list[Process]]:
    """Two of `stampwire serve --no-worker`, with Redis as their doorbell."""
    with contextlib.ExitStack() as started:
        made = []
        for name in ("first", "second"):
            told = {"data_dir": tmp_path / name, "broadcast_url": redis.url, "port": free_port()}
            one = Process(
                Settings(**{**settings.model_dump(), **told}),
                "serve --no-worker",
                demo=name == "first",
            )
            started.callback(one.stop)
            one.start()
            made.append(one)
        yield made


@pytest.fixture
async def pair(processes: list[Process]) -> AsyncIterator[Pair]:
    """They, and the owner as a caller of the first."""
    first, second = processes
    key = first.demo["owner"]["apiKey"]
    async with Api(first.graphql, key) as owner, aiohttp.ClientSession() as http:
        yield Pair(first, second, owner, http)
    first.run("audit")  # fails on any finding


@dataclass
class Person:
    """A staff login with a key and a session."""

    id: str
    key_id: str
    key: str
    session: str


async def hire(pair: Pair) -> Person:
    """Another manager."""
    number = next(_number)
    login = {"login": f"bar{number}@kopi.example", "password": "long enough 1"}
    made = await pair.owner.do("CreateStaff", role="MANAGER", name="Bar", **login)
    key = await pair.owner.do("GenerateApiKey", staffId=made["staff"]["id"])
    signed = await pair.owner.do("SignIn", **login)
    return Person(
        made["staff"]["id"], key["apiKey"]["id"], key["secret"], signed["session"]["secret"]
    )


async def regenerate(pair: Pair, person: Person) -> None:
    await pair.owner.do("RegenerateApiKey", id=person.key_id)


async def delete(pair: Pair, person: Person) -> None:
    await pair.owner.do("DeleteApiKey", id=person.key_id)


async def sign_out(pair: Pair, person: Person) -> None:
    async with pair.owner.by(person.session) as caller:
        assert (await caller.send(SIGN_OUT))["data"]["signOut"]["userErrors"] == []


async def disable(pair: Pair, person: Person) -> None:
    await pair.owner.do("DisableStaff", id=person.id)


async def demote(pair: Pair, person: Person) -> None:
    await pair.owner.do("UpdateStaff", id=person.id, role="SCANNER")


CHANGES: dict[str, Callable[[Pair, Person], Awaitable[None]]] = {
    "key regenerated": regenerate,
    "key deleted": delete,
    "session ended": sign_out,
    "staff disabled": disable,
    "role changed": demote,
}


async def test_what_loses_its_rights_at_one_process_is_closed_at_the_other_within_a_second(
    pair: Pair, redis: Redis, figure: Callable[[str], None]
) -> None:
    late = {}
    for broker in ("with Redis", "without Redis"):
        if broker == "without Redis":
            redis.kill()
        for name in CHANGES:
            took = await closing(pair, name)
            if max(took) > SOON:  # once more: the machine may have been busy
                took = await closing(pair, name)
            told = ", ".join(f"{1000 * one:.0f}" for one in took)
            figure(f"{broker}, {name}: closed after {told} ms (socket, stream, token's socket)")
            if max(took) > SOON:
                late[broker, name] = took

    assert late == {}


async def closing(pair: Pair, name: str) -> list[float]:
    """How long after a change the second process closes what its rights had opened.

    A socket, a stream of server-sent events, and the socket of an access token.
    """
    person = await hire(pair)
    secret = person.session if name == "session ended" else person.key
    async with pair.owner.by(secret) as caller:
        token = (await caller.do("CreateAccessToken", events={}))["secret"]
    async with (
        socket_of(pair, secret) as one,
        stream_of(pair, secret) as two,
        socket_of(pair, token) as three,
    ):
        ends = [asyncio.create_task(end) for end in (one, two, three)]
        began = time.monotonic()
        await CHANGES[name](pair, person)
        return [moment - began for moment in await asyncio.gather(*ends)]


@contextlib.asynccontextmanager
async def socket_of(pair: Pair, secret: str) -> AsyncIterator[Awaitable[float]]:
    """A subscribing socket at the second process; when it is closed with 4403."""
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with websockets.connect(pair.second.socket, subprotocols=[protocol]) as socket:
        init = {"Authorization": f"Bearer {secret}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": init}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        asked = {"query": operations()["Events"], "variables": {"after": BEGINNING}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": asked}))

        async def closed() -> float:
            assert await closing_code(socket, 15) == 4403
            return time.monotonic()

        yield closed()


@contextlib.asynccontextmanager
async def stream_of(pair: Pair, secret: str) -> AsyncIterator[Awaitable[float]]:
    """A subscribing stream of server-sent events at the second process; when it ends."""
    headers = {"authorization": f"Bearer {secret}", "accept": "text/event-stream"}
    asked = {"query": FOLLOW, "variables": {"after": BEGINNING}}
    async with pair.http.post(pair.second.graphql, json=asked, headers=headers) as answer:
        assert answer.status == 200

        async def ended() -> float:
            async with asyncio.timeout(15):
                await answer.content.read()
            return time.monotonic()

        yield ended()
