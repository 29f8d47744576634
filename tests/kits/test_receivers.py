"""The receiver's kit: each receiver of the page takes what a real server sends it, and no more."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlmodel import col, select
from standardwebhooks import Webhook
from typer.testing import CliRunner

import cli
from backends import free_port
from clients import Client
from conftest import serving
from core.secrets import new_signing_secret
from core.settings import Settings
from db import BUSINESS, query
from factories import a_business, a_card, stamps
from models import WebhookEndpoint
from patience import until
from processes import ROOT, Process, RunningServer

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

KIT = ROOT / "docs" / "kits" / "receiver"
PAGE = ROOT / "docs" / "receiver-kit.md"
NEEDED = {"node": "nodejs", "php": "php-cli", "go": "golang-go"}
"""The Debian package of each program."""
KITS = ("python", "starlette", "node", "php", "go")

CREATE = """mutation($input: CreateWebhookEndpointInput!) {
  createWebhookEndpoint(input: $input) { endpoint { id } signingSecret userErrors { message } } }"""
ROTATE = """mutation($id: ID!) {
  rotateSigningSecret(input: {id: $id}) { signingSecret userErrors { message } } }"""
REDELIVER = """mutation($id: ID!, $event: ID!) {
  redeliver(input: {id: $id, eventId: $event}) { attempt { status } userErrors { message } } }"""
TEST = """mutation($id: ID!) { sendTestEvent(input: {id: $id, type: CARD_SAVED}) {
  attempt { status } userErrors { message } } }"""


ENDPOINT = query(select(WebhookEndpoint).where(col(WebhookEndpoint.business_id) == BUSINESS))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The command that starts each receiver at `{port}`; the one in Go is built once."""
    built = tmp_path_factory.mktemp("go") / "receive"

    def command(kit: str) -> list[str]:
        if kit == "python":
            return [sys.executable, str(KIT / "python" / "receive.py")]
        if kit == "starlette":
            folder = ["--app-dir", str(KIT / "python")]
            return [
                *(sys.executable, "-m", "uvicorn", *folder, "with_starlette:app"),
                *("--port", "{port}", "--log-level", "warning"),
            ]
        program = shutil.which(kit)
        assert program, f"{kit} is missing: apt-get install {NEEDED[kit]}"
        if kit == "node":
            return [program, str(KIT / "node" / "receive.mjs")]
        if kit == "php":
            return [program, "-q", "-S", "127.0.0.1:{port}", str(KIT / "php" / "receive.php")]
        if not built.exists():
            made = subprocess.run(
                [program, "build", "-o", str(built), str(KIT / "go" / "receive.go")],
                capture_output=True,
                text=True,
                check=False,
                cwd=KIT / "go",
                timeout=100,
            )
            assert made.returncode == 0, made.stderr
        return [str(built)]

    return command


@dataclass
class Kit:
    """A receiver at work, in a process of its own."""

    command: list[str]
    port: int
    file: Path
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where it receives."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def stored(self) -> list[dict[str, Any]]:
        """What it has stored, oldest first; a line that is still being written is not there."""
        lines, _, _ = self.file.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in lines.splitlines()]

    @contextlib.asynccontextmanager
    async def at_work(self, secret: str) -> AsyncIterator[None]:
        """Run it with a signing secret."""
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.port),
            "DELIVERIES": str(self.file),
            "WEBHOOK_SECRET": secret,
        }
        with self._log.open("ab") as log:
            running = await asyncio.create_subprocess_exec(
                *(word.format(port=self.port) for word in self.command),
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            await self.until(self._listens)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.kill()
            await running.wait()

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.file.with_name("said")

    async def until(self, condition: Callable[[], Any], patience: float = 90) -> None:
        """Wait until something is so."""
        until = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            assert time.monotonic() < until, self.said
            await asyncio.sleep(0.02)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port)).close()
        return True

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        """What it answers to a request."""
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            return answer.status


def signed(
    secret: str, id: str, body: bytes, at: float | None = None, **more: str
) -> dict[str, str]:
    """The headers of a request, signed by the public library."""
    moment = datetime.fromtimestamp(int(time.time() if at is None else at), UTC)
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, moment, body.decode()),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


@pytest.fixture
async def kit(
    request: pytest.FixtureRequest, programs: Callable[[str], list[str]], tmp_path: Path
) -> AsyncIterator[Kit]:
    """One of the receivers, not yet started."""
    async with aiohttp.ClientSession() as session:
        file = tmp_path / "deliveries.jsonl"
        yield Kit(programs(request.param), free_port(), file, session)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A server on real time: receivers compare it with theirs."""
    async with serving(settings) as running:
        yield running


EACH_KIT = pytest.mark.parametrize("kit", KITS, indirect=True)


@EACH_KIT
async def test_it_takes_what_is_ours_once_and_refuses_all_else(kit: Kit) -> None:
    secret = new_signing_secret()
    body = '{"event":"x","sequence":7,"name":"Kopi \u2028 ☕ </b>"}'.encode()
    good = signed(secret, "evt_1", body, webhook_previous_id="evt_0")
    given = good["webhook-signature"]
    other = signed(new_signing_secret(), "evt_1", body)["webhook-signature"]
    now = time.time()
    async with kit.at_work(secret):
        refused = {
            "a wrong signature": (body, {**good, "webhook-signature": other}),
            "no signature": (body, {**good, "webhook-signature": ""}),
            "letters that are not ASCII": (body, {**good, "webhook-signature": "v1,é"}),
            "another version": (body, {**good, "webhook-signature": f"v1a{given[2:]}"}),
            "a changed body": (body + b" ", good),
            "a changed id": (body, {**good, "webhook-id": "evt_2"}),
            "an old timestamp": (body, signed(secret, "evt_1", body, now - 320)),
            "a timestamp of the future": (body, signed(secret, "evt_1", body, now + 320)),
            "a timestamp that is none": (body, {**good, "webhook-timestamp": "9" * 30}),
            "no timestamp": (body, {n: v for n, v in good.items() if n != "webhook-timestamp"}),
            "nothing at all": (b"", {}),
            "too much": (b"x" * 1_000_001, good),
        }
        answers = {name: await kit.post(*told) for name, told in refused.items()}
        assert {name: status for name, status in answers.items() if status // 100 != 4} == {}
        assert not kit.file.exists() or kit.stored == []

        rotated = {**good, "webhook-signature": f"{other} {given}"}
        assert await kit.post(body, rotated) // 100 == 2
        assert await kit.post(body, good) // 100 == 2
        old_but_not_too_old = signed(secret, "evt_3", b"{}", now - 280)
        assert await kit.post(b"{}", old_but_not_too_old) // 100 == 2
        await kit.until(lambda: "evt_3" in kit.said)
    whole = kit.file.read_bytes()
    kit.file.write_bytes(whole + b'{"webhook-id": "evt_4", "webh')  # it died while it wrote this
    async with kit.at_work(secret):
        assert await kit.post(body, good) // 100 == 2
        assert await kit.post(b"{}", signed(secret, "evt_4", b"{}")) // 100 == 2
        await kit.until(lambda: "evt_4" in kit.said)

    assert kit.file.read_bytes().startswith(whole)
    assert kit.stored[0] == {
        "webhook-id": "evt_1",
        "webhook-previous-id": "evt_0",
        "webhook-attempt-kind": None,
        "sequence": 7,
        "body": body.decode(),
    }
    assert [line["webhook-id"] for line in kit.stored] == ["evt_1", "evt_3", "evt_4"]


@EACH_KIT
@pytest.mark.timeout(300)
async def test_it_has_everything_that_a_real_server_sends(
    kit: Kit, server: RunningServer, client_of: Callable[..., Client]
) -> None:
    """Live, sent again, tested, rotated: the checker proves that all is there.

    Before it is ended it has answered, too: what it stored and did not answer comes again only
    seconds or half a minute later, as the schedule has it.
    """
    deployment, now = server.app.state.deployment, datetime.now(UTC)

    async def is_answered(sequence: int) -> bool:
        endpoint = await deployment.database.read(
            cafe.owner.business_id, lambda tx: tx.one(ENDPOINT)
        )
        return bool(endpoint.cursor_sequence >= sequence)

    cafe = await a_business(deployment.database, deployment.secrets, now)
    owner = client_of(cafe.api_key)
    made = (await owner.do(CREATE, {"input": {"url": kit.url}}))["createWebhookEndpoint"]
    assert made["userErrors"] == []
    id, secret = made["endpoint"]["id"], made["signingSecret"]

    async with kit.at_work(secret):
        card = await a_card(deployment.database, cafe.owner, now=now)
        await stamps(deployment.database, cafe.owner, card, 3, now)
        await kit.until(lambda: len(kit.stored) == 5)
        await until(lambda: is_answered(5))
        again = {"id": id, "event": kit.stored[0]["webhook-id"]}
        answered = [
            (await owner.do(REDELIVER, again))["redeliver"],
            (await owner.do(TEST, {"id": id}))["sendTestEvent"],
        ]
        rotated = (await owner.do(ROTATE, {"id": id}))["rotateSigningSecret"]["signingSecret"]
        await stamps(deployment.database, cafe.owner, card, 1, now)
        await kit.until(lambda: len(kit.stored) == 7)
        await until(lambda: is_answered(6))
    async with kit.at_work(rotated):
        await stamps(deployment.database, cafe.owner, card, 1, now)
        await kit.until(lambda: len(kit.stored) == 8)

    assert [one["attempt"]["status"] for one in answered] == ["SUCCEEDED"] * 2
    bodies = [json.loads(line["body"]) for line in kit.stored]
    assert sorted(body["sequence"] for body in bodies) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [body["sequence"] for body in bodies] == [line["sequence"] for line in kit.stored]
    assert [line["webhook-attempt-kind"] for line in kit.stored if line["sequence"] == 0] == [
        "test"
    ]
    first, last = (
        next(line["webhook-id"] for line in kit.stored if line["sequence"] == sequence)
        for sequence in (1, 7)
    )
    words = ["check-deliveries", str(kit.file), "--from", first, "--to", last]
    checked = CliRunner().invoke(cli.app, words)
    assert (checked.exit_code, checked.output.splitlines()[-1]) == (
        0,
        f"  complete to the end, which is {last} (#7)",
    )


def test_the_page_can_be_followed_as_it_stands(process: Process) -> None:
    """Only the ports and the data dir are others; whoever types waits for what they see."""
    port, var = free_port(), process.data_dir
    text = PAGE.read_text()
    for word, other in {
        "http://127.0.0.1:8000": process.url,
        "127.0.0.1:9000": f"127.0.0.1:{port}",
        "PORT=9000": f"PORT={port}",
        "var/d": f"{var}/d",
    }.items():
        assert word in text
        text = text.replace(word, other)
    make, start, send, happen, check = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    file = var / "deliveries.jsonl"

    def seen(condition: str) -> str:
        return f"for _ in $(seq 300); do {condition} && break; sleep 0.1; done\n"

    typed = [
        "set -e\ntrap 'kill $(jobs -p)' EXIT\n",
        make + start + seen(f"curl -s -o {var}/get http://127.0.0.1:{port}/"),
        send + seen(f"grep -q voucher_ditebus {file}") + happen + seen(f"grep -q kartu_d {file}"),
        check,
    ]
    environment = {**os.environ, "STAMPWIRE_DATA_DIR": str(var)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(typed)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"SUCCEEDED","responseStatus":204' in done.stdout
    assert '"userErrors":[]' in done.stdout
    assert f"receiving on http://127.0.0.1:{port}/" in done.stdout
    assert "1 tests" in done.stdout
    assert "complete to the end" in done.stdout


def test_the_page_shows_the_kit_as_it_is() -> None:
    page = PAGE.read_text()

    shown = {
        str(file.relative_to(KIT)): file.read_text() in page
        for file in KIT.rglob("*.*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    names = ("python/receive.py", "python/with_starlette.py", "node/receive.mjs")
    assert shown == dict.fromkeys((*names, "php/receive.php", "go/receive.go"), True)
