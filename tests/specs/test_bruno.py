"""The Bruno collection: read by Bruno's own parser, and run against a running server.

Bruno's command itself takes half a minute to install: it runs it with --soak.
"""

import asyncio
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from docs.generate.bruno import REQUESTS, SECRETS
from factories import PASSWORD
from fakes.receiver import receiving
from houses import House
from npm import installed, node
from processes import ROOT

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

COLLECTION = ROOT / "docs" / "specs" / "bruno"
HERE = Path(__file__).parent


def secrets_of(house: House) -> dict[str, str]:
    return {"apiKey": house.cafe.api_key, "login": house.cafe.login, "password": PASSWORD}


async def test_each_request_is_answered_as_it_asserts(house: House, ask: Callable[..., Any]):
    read = await asyncio.to_thread(ask, "bruno.mjs", COLLECTION)
    assert read["collection"]["auth"] == {"mode": "bearer", "bearer": {"token": "{{apiKey}}"}}
    assert [one["meta"]["name"] for one in read["requests"]] == [one.name for one in REQUESTS]

    async with receiving() as receiver:
        known = {one["name"]: one["value"] for one in read["environment"]["variables"]}
        known |= secrets_of(house) | {"receiver": receiver.at("/hooks")}
        known |= {"url": house.owner.server.graphql}
        for request in read["requests"]:
            await run(house, request, known)


async def run(house: House, request: dict[str, Any], known: dict[str, str]) -> None:
    """Send a request as Bruno would: fill in, send, compare, keep."""
    name, http, told = request["meta"]["name"], request["http"], request["body"]["graphql"]
    filled = told["variables"]
    for variable, value in {
        **known, "$guid": str(uuid.uuid4()), "$timestamp": str(int(time.time())),
    }.items():  # fmt: skip
        filled = filled.replace(f"{{{{{variable}}}}}", value)
    assert "{{" not in filled, name
    body = {"query": told["query"], "variables": json.loads(filled)}
    caller = house.owner if http["auth"] == "inherit" else house.client_of(None)

    assert (http["method"], http["url"]) == ("post", "{{url}}")
    answer = await caller.post(json.dumps(body).encode())
    res = {"status": answer.status, "body": answer.body}

    assert request["assertions"], name
    for assertion in request["assertions"]:
        found, (how, *wanted) = at(res, assertion["name"]), assertion["value"].split(" ", 1)
        holds = found is None if how == "isUndefined" else str(found) == wanted[0]
        assert holds, f"{name}: {assertion}: {found}: {answer.body}"
    for kept in request.get("vars", {}).get("res", []):
        known[kept["name"]] = at(res, kept["value"])
        assert known[kept["name"]], f"{name}: {kept}"


def at(res: dict[str, Any], path: str) -> Any:
    """What stands at a path such as `res.body.data.rewards[1].id`."""
    steps = re.findall(r"[A-Za-z]+|\d+", path.removeprefix("res."))
    return reduce(step_into, steps, res)


def step_into(value: Any, step: str) -> Any:
    if step == "length":
        return len(value)
    return value[int(step)] if step.isdigit() else value.get(step)


@pytest.mark.soak
async def test_brunos_own_command_runs_it_from_the_first_request_to_the_last(
    house: House, tmp_path: Path
):
    packages = await asyncio.to_thread(installed, HERE / "bruno")
    written = tmp_path / "said.json"
    async with receiving() as receiver:
        variables = secrets_of(house) | {
            "url": house.owner.server.graphql,
            "receiver": receiver.at("/hooks"),
        }
        running = await asyncio.create_subprocess_exec(
            *(node(), packages / "node_modules" / ".bin" / "bru", "run", "--env", "local"),
            *("--reporter-json", written),
            *(word for pair in variables.items() for word in ("--env-var", "=".join(pair))),
            cwd=COLLECTION,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await running.communicate()

    assert running.returncode == 0, printed.decode()
    [said] = json.loads(written.read_text())
    assert [result["name"] for result in said["results"]] == [request.name for request in REQUESTS]
    assert said["summary"]["failedRequests"] == said["summary"]["failedAssertions"] == 0


def test_no_secret_stands_in_the_collection():
    environment = (COLLECTION / "environments" / "local.bru").read_text()

    shown, hidden = environment.split("vars:secret")
    assert all(name in hidden and name not in shown for name in SECRETS)
