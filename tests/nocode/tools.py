"""The Zapier app in Zapier's own tester, as tests of no-code tools use it."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import Client
from fakes.receiver import Delivered
from npm import installed, node
from processes import ROOT

HERE = Path(__file__).parent
APP = ROOT / "integrations" / "zapier"


class Failed(Exception):
    """The app threw: the name by which Zapier knows the error, and what it says."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        first = message.partition("\nWhat happened:")[0]
        self.told: Any = json.loads(first) if first.startswith("{") else first


@dataclass
class AppRun:
    """The app, run by `createAppTester` in a process of Node."""

    process: subprocess.Popen[str]
    lock: threading.Lock
    log: Path

    async def run(self, method: str, **bundle: Any) -> Any:
        """What a function of the app gives for a bundle."""
        said = await asyncio.to_thread(self._ask, {"method": method, "bundle": bundle})
        if "error" in said:
            raise Failed(said["error"], said["message"])
        return said["result"]

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        with self.lock:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)


@dataclass
class Zapier:
    """The app with a connection to one server, as one user of Zapier has it."""

    tester: AppRun
    auth: dict[str, str]

    async def run(self, method: str, /, inputs: dict[str, Any] | None = None, **more: Any) -> Any:
        """Run a function of the app by its path."""
        bundle = {"authData": self.auth, "inputData": inputs or {}, "meta": {}, **more}
        return await self.tester.run(method, **bundle)

    async def do(self, create: str, /, **inputs: Any) -> Any:
        """Run a create."""
        return await self.run(f"creates.{create}.operation.perform", inputs)

    async def find(self, search: str, /, **inputs: Any) -> Any:
        """Run a search."""
        return await self.run(f"searches.{search}.operation.perform", inputs)

    async def trigger(self, key: str, step: str, /, **bundle: Any) -> Any:
        """Run a function of a trigger."""
        return await self.run(f"triggers.{key}.operation.{step}", **bundle)

    async def caught(self, key: str, kept: Any, came: Delivered, **inputs: Any) -> Any:
        """What a trigger makes of a request, handed to it as Zapier hands on what its hook got."""
        return await self.trigger(key, "perform", inputs=inputs, **bundle_of(came, kept))


def bundle_of(came: Delivered, kept: Any) -> dict[str, Any]:
    """A request and what the subscription kept, as Zapier hands them to `perform`."""
    known = {"content-type", "user-agent", "accept", "accept-encoding"}
    return {
        "subscribeData": kept,
        "cleanedRequest": came.data,
        "rawRequest": {
            "method": "POST",
            "querystring": "",
            "headers": {
                name.title() if name in known else f"Http-{name.title()}": value
                for name, value in came.headers.items()
            },
            "content": came.body.decode(),
        },
    }


def copied(place: Path) -> Path:
    """The app's files in another folder."""
    for file in [*APP.glob("*.js"), *APP.glob("*.json")]:
        shutil.copy(file, place)
    return place


def environment() -> dict[str, str]:
    """What Node is told of this machine."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


def connected(tester: AppRun, client: Client) -> Zapier:
    """The app, connected with a client's key."""
    return Zapier(tester, {"server_url": client.server.url, "api_key": client.key or ""})


def node_22(place: Path) -> str:
    """A Node that Zapier's command line accepts: the machine's own, or npm's copy of 22."""
    said = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
    if int(re.findall(r"\d+", said.stdout)[0]) >= 22:
        return node()
    found = [*(installed(place, patience=300) / "node_modules").glob("node-linux-*/bin/node")]
    assert found, "Node is older than 22: install a newer one"
    return str(found[0])
