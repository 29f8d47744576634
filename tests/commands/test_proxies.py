"""Behind nginx and Caddy as docs/proxies.md configures them: sockets and event streams pass."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import orjson
import pytest

from backends import free_port, wait_until_open
from conftest import serving
from core.clock import ManualClock
from core.settings import Settings
from factories import a_business, a_card, stamps
from partners import BEGINNING, operations, subscriber
from processes import ROOT

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

NEEDED = {"nginx": "nginx-light", "caddy": "caddy"}
"""The Debian package of each program."""
PAGE = (ROOT / "docs" / "proxies.md").read_text()
AT_ONCE = 1.5
"""Seconds within which an event must be through; a buffering proxy keeps it for much longer."""


def configured(language: str, upstream: int, port: int) -> str:
    """The configuration as it is shown, but for the certificate, the name and the ports."""
    [shown] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    shown = re.sub(r" *ssl_certificate.*\n", "", shown)
    shown = shown.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    shown = shown.replace("stamps.example {", f"http://127.0.0.1:{port} {{")
    shown = shown.replace("10.0.0.1:8000 10.0.0.2:8000", f"127.0.0.1:{upstream}")
    return shown.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")


@contextlib.asynccontextmanager
async def proxied(kind: str, upstream: int, folder: Path) -> AsyncIterator[str]:
    """A proxy in front of the server, for as long as the block lasts: its address."""
    port = free_port()
    if kind == "nginx":
        file = folder / "nginx.conf"
        paths = "".join(
            f"{name}_temp_path {folder};" for name in
            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )  # fmt: skip
        file.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;\n"
            f"events {{}} http {{ access_log off; {paths}\n"
            f"{configured('nginx', upstream, port)} }}"
        )
        words = ["nginx", "-c", str(file), "-p", str(folder), "-e", f"{folder}/error.log"]
    else:
        file = folder / "Caddyfile"
        file.write_text("{\n\tadmin off\n}\n" + configured(kind, upstream, port))
        words = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
    program = shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, f"{kind} is missing: apt-get install {NEEDED[words[0]]}"
    with (folder / "said").open("wb") as said:
        running = subprocess.Popen(  # noqa: ASYNC220 -- it starts at once
            [program, *words[1:]], stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        await asyncio.to_thread(wait_until_open, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.parametrize("kind", ["nginx", "caddy", "caddy-several"])
async def test_what_happens_comes_through_at_once(
    kind: str, settings: Settings, clock: ManualClock, tmp_path: Path
) -> None:
    told = settings.model_copy(update={"trusted_proxies": ("127.0.0.1",)})
    async with serving(told, clock) as server, proxied(kind, settings.port, tmp_path) as url:
        deployment = server.app.state.deployment
        cafe = await a_business(deployment.database, deployment.secrets, clock.now())
        card = await a_card(deployment.database, cafe.owner)
        now = asyncio.get_running_loop().time
        async with (
            httpx2.AsyncClient(base_url=url) as http,
            subscriber(
                url.replace("http", "ws") + "/graphql",
                cafe.api_key,
                operations()["Events"],
                after=BEGINNING,
            ) as socket,
            _stream(http, cafe.api_key) as stream,
        ):
            await _until_ready(http)
            metrics = await http.get("/metrics")
            await socket.wait_for(1)
            await stream.next()
            for number in (2, 3):
                began = now()
                await stamps(deployment.database, cafe.owner, card)
                await asyncio.gather(socket.wait_for(number), stream.next())
                took = now() - began
                if took < AT_ONCE:
                    break

    assert metrics.status_code == 404
    assert took < AT_ONCE


class _Events:
    """Event stream, one event after another."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> object:
        """The next event."""
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith("data:") and '"sequence"' in line:
                    return orjson.loads(line.removeprefix("data:"))
        raise EOFError


@contextlib.asynccontextmanager
async def _stream(http: httpx2.AsyncClient, key: str) -> AsyncIterator[_Events]:
    query = "subscription ($after: String) { events(after: $after) { sequence } }"
    async with http.stream(
        "POST",
        "/graphql",
        json={"query": query, "variables": {"after": BEGINNING}},
        headers={"authorization": f"Bearer {key}", "accept": "text/event-stream"},
        timeout=30,
    ) as answer:
        assert answer.status_code == 200
        yield _Events(answer.aiter_lines())


async def _until_ready(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/readyz")
    assert answer.status_code == 200
