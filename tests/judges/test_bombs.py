"""Our own corpus of bombs: none of them keeps the server, over HTTP or over a socket."""

import json
import time
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from typing import Any

import pytest

from clients import bare_socket
from houses import House
from judges.bombs import ROOM, bombs
from judges.panel import BOMBS, Judge

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow, pytest.mark.alone]

MEDIAN = 0.050
EACH = 0.250
CORPUS = dict(bombs())


class Stopwatch:
    """Measures the server's own time: from the last it received to the first it answers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seconds: float | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()

        async def received() -> Any:
            nonlocal began
            message = await receive()
            began, self.seconds = time.perf_counter(), None
            return message

        async def sent(message: Any) -> None:
            if self.seconds is None:
                self.seconds = time.perf_counter() - began
            await send(message)

        await self.app(scope, received, sent)


@pytest.fixture
def stopwatch(house: House, server: Any) -> Stopwatch:
    """The server's, put around the whole application."""
    watch: Stopwatch
    watch = server.app.middleware_stack = Stopwatch(server.app.middleware_stack)
    return watch


Ask = Callable[[str], Awaitable[list[Any]]]
_NUMBERS = count()


async def measured(ask: Ask, watch: Stopwatch) -> dict[str, float]:
    """The server's time for each bomb; a slow one is tried once more, as another document."""
    found = {}
    for name, text in CORPUS.items():
        tries = []
        while not tries or (len(tries) == 1 and tries[0] > EACH):
            for error in await ask(f"{text} #{next(_NUMBERS)}"):  # never seen before
                assert error["extensions"]["code"] != "INTERNAL_SERVER_ERROR", name
            assert watch.seconds is not None
            tries.append(watch.seconds)
        found[name] = min(tries)
    return found


async def test_no_bomb_keeps_the_server(
    house: House,
    stopwatch: Stopwatch,
    figure: Callable[[str], None],
    verdict: Callable[[Judge, str], None],
) -> None:
    async def over_http(text: str) -> list[Any]:
        answer = await house.owner.call(text)
        assert answer.status < 500
        return list(answer.body.get("errors", []))

    by_http = await measured(over_http, stopwatch)
    async with bare_socket(house.owner.server) as wire:
        payload = {"Authorization": f"Bearer {house.owner.key}"}
        await wire.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(await wire.recv())["type"] == "connection_ack"

        async def over_socket(text: str) -> list[Any]:
            own, errors = str(next(_NUMBERS)), []
            asked = {"id": own, "type": "subscribe", "payload": {"query": text}}
            await wire.send(json.dumps(asked, ensure_ascii=False))
            while (message := json.loads(await wire.recv()))["type"] == "next":
                errors += message["payload"].get("errors", [])
            assert message["id"] == own, message
            return errors + (message["payload"] if message["type"] == "error" else [])

        by_socket = await measured(over_socket, stopwatch)

    both = {"HTTP": by_http, "socket": by_socket}
    told = [
        f"{way}: median {median(found.values()) * 1000:.1f} ms, "
        f"slowest {max(found.values()) * 1000:.0f} ms ({max(found, key=lambda one: found[one])})"
        for way, found in both.items()
    ]
    figure("; ".join(told))
    verdict(BOMBS, f"{len(CORPUS)} bombs; " + "; ".join(one.partition(" (")[0] for one in told))
    for found in both.values():
        assert {name: seconds for name, seconds in found.items() if seconds > EACH} == {}
        assert median(found.values()) <= MEDIAN


def test_every_bomb_fits_into_a_message() -> None:
    assert [
        name
        for name, text in CORPUS.items()
        if len(json.dumps(text, ensure_ascii=False).encode()) > ROOM
    ] == []
