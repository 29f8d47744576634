"""What an operation costs the server, beside the least that stock Strawberry asks for.

Three servers in processes of their own: ours on SQLite, with keys, limits, costs, idempotency and
the log, once with plans and once with graphql-core alone; and Strawberry's own view, which is asked
for `{ __typename }` alone. Rounds alternate; the figure is the server's CPU time per operation
(user and system, by the kernel), and how many times that is of the others. Then how long it takes
from a mutation's call to a subscriber's frame, and how much memory is resident.
`python benchmarks/floors.py [operations] [subscribers]`
"""

import asyncio
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

ROUNDS = 3
CLIENTS = 16
SOCKETS_PER_KEY = 100
DASHBOARD = """query Dashboard {
  viewer { business { name } }
  locations(first: 20) { nodes { id name } }
  cards(first: 50) { nodes { id status stamps customer { id name language }
    vouchers(first: 3) { nodes { id status redeemCode } } } } }"""
CARD = """query Card($card: ID!) { card(ref: {id: $card}) { id stamps status customer { id name }
  history(first: 10) { nodes { id type occurredAt } } } }"""
STAMP = """mutation AddStamps($card: ID!, $key: String!) {
  addStamps(input: {card: {id: $card}, count: 1, idempotencyKey: $key}) {
    card { id stamps } events { id type sequence } userErrors { code } } }"""
EVENTS = "subscription { events { id type sequence cursor occurredAt payload } }"
WORKLOADS = {"Q1": "{ __typename }", "Q2": DASHBOARD, "Q3": CARD, "M1": STAMP}


# -- The servers ----------------------------------------------------------------------------------


async def ours(folder: str, subscribers: int, execution: str = "auto") -> None:
    """Our server, with a café of 20 locations, 60 cards and 180 vouchers."""
    import structlog  # noqa: PLC0415

    from core.settings import Execution, Settings  # noqa: PLC0415
    from db.migrate import upgrade  # noqa: PLC0415
    from factories import (  # noqa: PLC0415
        a_business,
        a_card,
        a_card_template,
        a_location,
        a_staff,
        a_voucher_goal,
        an_api_key,
        stamps,
    )
    from models import Role  # noqa: PLC0415
    from server import create_app, server_options  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    wide = 1_000_000_000
    settings = Settings(
        data_dir=Path(folder),
        cost_bucket=wide,
        connections_per_address=subscribers + 100,
        execution=Execution(execution),
    )
    await asyncio.to_thread(upgrade, settings.database)
    app = create_app(settings)

    async def seed() -> dict[str, Any]:
        deployment = app.state.deployment
        database, cafe = (
            deployment.database,
            await a_business(deployment.database, deployment.secrets),
        )
        for _ in range(19):
            await a_location(database, cafe.owner)
        goal = await a_voucher_goal(database, cafe.owner, 5)
        template = await a_card_template(database, cafe.owner, 5, [goal])
        cards = [await a_card(database, cafe.owner, template.id) for _ in range(60)]
        for card in cards:
            for _ in range(3):
                await stamps(database, cafe.owner, card, 5)
        keys = []
        for _ in range(1 + -(-subscribers // SOCKETS_PER_KEY)):
            staff = (await a_staff(database, cafe.owner, Role.MANAGER)).staff
            keys.append(await an_api_key(database, cafe.owner, staff, deployment.secrets))
        return {"keys": keys, "cards": [card.id for card in cards]}

    options = {**server_options(settings), "loop": "none", "log_level": "error"}
    await _serve(app, options, seed)


async def ours_by_graphql(folder: str, subscribers: int) -> None:
    """The same, without plans."""
    await ours(folder, subscribers, "graphql")


async def stock(_: str, __: int) -> None:
    """Strawberry's own view, as its documentation has it."""
    import strawberry  # noqa: PLC0415
    from strawberry.asgi import GraphQL  # noqa: PLC0415

    @strawberry.type
    class Query:
        hello: str = "world"

    async def seed() -> dict[str, Any]:
        return {"keys": ["none"], "cards": ["none"]}

    app = GraphQL(strawberry.Schema(Query))
    await _serve(app, {"loop": "none", "log_level": "error", "lifespan": "off"}, seed)


async def _serve(app: Any, options: dict[str, Any], seed: Any) -> None:
    import uvicorn  # noqa: PLC0415

    host = uvicorn.Server(uvicorn.Config(app, **options))
    with socket.create_server(("127.0.0.1", 0), backlog=2_048) as door:
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(host.serve(sockets=[door]))
        while not host.started:  # noqa: ASYNC110 -- uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        told = {"port": door.getsockname()[1], **await seed()}
        gc.freeze()  # as `stampwire serve` does
        print(json.dumps(told), flush=True)  # noqa: T201
        await task


# -- What calls them ------------------------------------------------------------------------------


class Side:
    """One of the servers, and what it cost."""

    def __init__(self, name: str, subscribers: int) -> None:
        self.name = name
        self.cost: dict[str, list[float]] = {workload: [] for workload in WORKLOADS}
        self._process = subprocess.Popen(  # noqa: S603 -- ourselves
            [sys.executable, __file__, "--serve", name, tempfile.mkdtemp(), str(subscribers)],
            stdout=subprocess.PIPE,
        )
        told = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        self.keys, self.cards = told["keys"], told["cards"]
        self.url = f"http://127.0.0.1:{told['port']}/graphql"

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    @property
    def seconds(self) -> float:
        """CPU time that all of its threads have used."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(one.read_text().split()[0]) for one in threads) / 1e9

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000

    async def run(self, session: aiohttp.ClientSession, workload: str, count: int) -> None:
        """So many operations by all clients together."""
        text, left = WORKLOADS[workload], iter(range(count))
        headers = {"authorization": f"Bearer {self.keys[0]}"}

        async def call() -> None:
            for number in left:
                card = self.cards[number % len(self.cards)]
                told = {"card": card, "key": f"{time.time_ns()}-{number}"}
                wanted = {name: told[name] for name in told if f"${name}" in text}
                async with session.post(
                    self.url, json={"query": text, "variables": wanted}, headers=headers
                ) as answer:
                    if "errors" in (said := await answer.json()):
                        raise RuntimeError(said)

        began = self.seconds
        await asyncio.gather(*(call() for _ in range(CLIENTS)))
        self.cost[workload].append((self.seconds - began) / count)


async def frames(side: Side, session: aiohttp.ClientSession, count: int) -> list[float]:
    """How long from the call of a mutation to its event's frame, idle; in milliseconds."""
    took = []
    async with session.ws_connect(side.url, protocols=["graphql-transport-ws"]) as wire:
        await _subscribe(wire, side.keys[0])
        headers = {"authorization": f"Bearer {side.keys[0]}"}
        await asyncio.sleep(1)
        for number in range(count):
            told = {"card": side.cards[number % 50], "key": f"frame-{time.time_ns()}"}
            began = time.perf_counter()
            calling = asyncio.create_task(
                session.post(side.url, json={"query": STAMP, "variables": told}, headers=headers)
            )
            while "STAMP_ADDED" not in (await wire.receive()).data:
                continue
            took.append((time.perf_counter() - began) * 1_000)
            (await calling).close()
            await asyncio.sleep(0.01)
    return sorted(took)


async def memory_with(side: Side, session: aiohttp.ClientSession, subscribers: int) -> float:
    """Resident memory with so many subscribers."""
    wires = []
    for number in range(subscribers):
        wire = await session.ws_connect(side.url, protocols=["graphql-transport-ws"])
        await _subscribe(wire, side.keys[1 + number // SOCKETS_PER_KEY])
        wires.append(wire)
    await asyncio.sleep(1)
    most = side.megabytes
    for wire in wires:
        with suppress(Exception):
            wire._response.close()  # noqa: SLF001 -- a thousand polite farewells take long
    return most


async def _subscribe(wire: Any, key: str) -> None:
    bearer = {"Authorization": f"Bearer {key}"}
    await wire.send_json({"type": "connection_init", "payload": bearer})
    await wire.receive()
    await wire.send_json({"id": "1", "type": "subscribe", "payload": {"query": EVENTS}})


async def main(count: int, subscribers: int) -> None:
    """All sides in turn."""
    mine, other = Side("ours", subscribers), Side("stock", 0)
    slow = Side("ours_by_graphql", 0)
    sides = (mine, slow, other)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        rounds = [(other, "Q1"), *((side, name) for name in WORKLOADS for side in (mine, slow))]
        for side, workload in rounds:
            await side.run(session, workload, CLIENTS)
        for side in sides:
            side.cost = {workload: [] for workload in WORKLOADS}
        for _ in range(ROUNDS):
            for side, workload in rounds:
                await side.run(session, workload, count // (5 if workload == "Q2" else 1))
        unit = statistics.median(other.cost["Q1"]) * 1e6
        print(f"stock Strawberry, Q1: {unit:.0f} µs of CPU")  # noqa: T201
        for workload in WORKLOADS:
            cost = statistics.median(mine.cost[workload]) * 1e6
            slower = statistics.median(slow.cost[workload]) * 1e6
            print(  # noqa: T201
                f"{workload}: {cost:7.0f} µs of CPU ({1e6 / cost:5.0f}/s on a core), "
                f"{cost / unit:6.2f} times; by graphql-core {slower:7.0f} µs ({slower / cost:.1f} "
                "times as much)"
            )
        took = await frames(mine, session, 200)
        print(  # noqa: T201
            f"E2: p50 {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms, "
            "the mutation included"
        )
        reading = mine.megabytes
        most = await memory_with(mine, session, subscribers)
        print(f"R: {reading:.0f} MB; with {subscribers} subscribers {most:.0f} MB")  # noqa: T201
    for side in sides:
        side.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        import uvloop

        serve = {"ours": ours, "ours_by_graphql": ours_by_graphql, "stock": stock}[sys.argv[2]]
        uvloop.run(serve(sys.argv[3], int(sys.argv[4])))
    else:
        given = [int(word) for word in sys.argv[1:]]
        asyncio.run(main(*(given + [2_000, 1_000][len(given) :])))
