"""What a message to a subscriber costs: by groups, and as Strawberry alone would send it.

Two servers in processes of their own, the same but for their websocket class: with uvicorn's own
there are no groups, each subscriber's event is executed and encoded for itself. Rounds alternate;
the figure is the server's CPU time per message, and the ratio of the two.
`python benchmarks/fanout.py [sockets] [events]`
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

EVENTS = """subscription { events { id type sequence cursor occurredAt payload(vocabulary: ID)
    ... on StampAdded { card { id stamps stampsRequired } count channel } } }"""
ROUNDS = 3
SOCKETS_PER_KEY = 100


async def serve(way: str, data_dir: str, sockets: int) -> None:
    """A server whose standard input says how many events to make, told in its standard output."""
    import structlog  # noqa: PLC0415
    import uvicorn  # noqa: PLC0415

    from core.settings import Settings  # noqa: PLC0415
    from db.migrate import upgrade  # noqa: PLC0415
    from factories import a_business, a_card, a_card_template, an_award_goal, stamps  # noqa: PLC0415  # noqa: PLC0415
    from server import create_app, server_options  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = Settings(data_dir=Path(data_dir))
    await asyncio.to_thread(upgrade, settings.database)
    app = create_app(settings)
    options = {**server_options(settings), "loop": "none", "log_level": "error"}
    if way == "alone":
        options["ws"] = "websockets-sansio"
    host = uvicorn.Server(uvicorn.Config(app, port=0, **options))
    task = asyncio.create_task(host.serve())
    while not host.started:  # noqa: ASYNC110 -- uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    deployment = app.state.deployment
    cafe = await a_business(deployment.database, deployment.secrets)
    template = await a_card_template(deployment.database, cafe.owner, 50, [an_award_goal(50)])
    card = await a_card(deployment.database, cafe.owner, template.id)
    port = host.servers[0].sockets[0].getsockname()[1]
    keys = [await a_key(deployment, cafe.owner) for _ in range(0, sockets, SOCKETS_PER_KEY)]
    print(json.dumps({"port": port, "keys": keys}), flush=True)  # noqa: T201
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(int(line)):
            await stamps(deployment.database, cafe.owner, card, 1)
        await loop.run_in_executor(None, sys.stdin.readline)  # all of them have arrived
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"cpu": used, "sockets": sockets}), flush=True)  # noqa: T201
    host.should_exit = True
    await task


async def a_key(deployment: Any, owner: Any) -> str:
    """A manager's key: a key has a hundred sockets at most."""
    from factories import a_staff, an_api_key  # noqa: PLC0415
    from models import Role  # noqa: PLC0415

    staff = (await a_staff(deployment.database, owner, Role.MANAGER)).staff
    return await an_api_key(deployment.database, owner, staff, deployment.secrets)


class Side:
    """One of the two servers, with its subscribers."""

    def __init__(self, way: str, sockets: int) -> None:
        self.way = way
        self.sockets = sockets
        self.seen = 0
        self.cost: list[float] = []

    async def start(self) -> None:
        """Start the server, and subscribe."""
        folder = tempfile.mkdtemp()
        environment = {**os.environ, "STAMPWIRE_DATA_DIR": folder}
        self.server = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            self.way,
            folder,
            str(self.sockets),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        told = await self._told()
        self.wires = [
            await self._subscriber(told["port"], told["keys"][number // SOCKETS_PER_KEY])
            for number in range(self.sockets)
        ]
        await asyncio.sleep(1)

    async def round(self, events: int) -> None:
        """Make events, and wait until every subscriber has each."""
        wanted = self.seen + events * self.sockets
        began = time.perf_counter()
        self._say(events)
        while self.seen < wanted:  # noqa: ASYNC110 -- a thousand readers count
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        self._say("")
        cpu = (await self._told())["cpu"]
        self.cost.append(cpu / events / self.sockets)
        print(f"{self.way:7} {events * self.sockets / took:9.0f} messages/s")  # noqa: T201

    def _say(self, word: Any) -> None:
        self.server.stdin.write(f"{word}\n".encode())

    async def _told(self) -> Any:
        return json.loads(await self.server.stdout.readline())

    async def _subscriber(self, port: int, key: str) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        bearer = {"Authorization": f"Bearer {key}"}
        writer.write(_frame({"type": "connection_init", "payload": bearer}))
        await reader.readexactly(2)
        await reader.readuntil(b"}")
        writer.write(_frame({"id": "1", "type": "subscribe", "payload": {"query": EVENTS}}))

        async def count() -> None:
            while chunk := await reader.read(1 << 20):
                self.seen += chunk.count(b'"type":"next"')

        task = asyncio.create_task(count())
        return task, writer


def _frame(message: Any) -> bytes:
    text = json.dumps(message).encode()
    head = (
        bytes((0x81, 0x80 | len(text)))
        if len(text) < 126
        else (bytes((0x81, 0xFE)) + len(text).to_bytes(2, "big"))
    )
    return head + b"\x00\x00\x00\x00" + text


async def main(sockets: int, events: int) -> None:
    """Both sides in turn."""
    sides = [Side("groups", sockets), Side("alone", sockets)]
    for side in sides:
        await side.start()
    for _ in range(ROUNDS):
        for side in sides:
            await side.round(events)
    groups, alone = (statistics.median(side.cost) * 1e6 for side in sides)
    print(f"server's CPU per message: groups {groups:.1f} µs, alone {alone:.1f} µs")  # noqa: T201
    print(f"ratio {alone / groups:.0f} to 1, {sockets} sockets")  # noqa: T201
    for side in sides:
        side.server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        import uvloop

        uvloop.run(serve(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        given = [int(word) for word in sys.argv[1:]]
        asyncio.run(main(*(given + [100, 100][len(given) :])))
