"""The README's story, run as it stands there: only the ports and the data dir are others."""

import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from standardwebhooks import Webhook

from backends import free_port, moments

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_the_story_of_the_readme_runs_as_written(tmp_path: Path):
    port, receiver_port, var = free_port(), free_port(), tmp_path / "var"
    text = (ROOT / "README.md").read_text()
    for word, other in {
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "127.0.0.1:9000": f"127.0.0.1:{receiver_port}",
        "receiver.py 9000": f"receiver.py {receiver_port}",
        "var/demo.json": str(var / "demo.json"),
    }.items():
        assert word in text
        text = text.replace(word, other)
    serve, listen, read_demo, hook, issue, stamp, redeem = re.findall(
        r"```bash\n(.*?)```", text, re.DOTALL
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "STAMPWIRE_PORT": str(port),
        "STAMPWIRE_DATA_DIR": str(var),
    }

    with (
        Terminal(tmp_path / "serve.log", environment) as first,
        Terminal(tmp_path / "listen.log", environment) as second,
        Terminal(tmp_path / "third.log", environment) as third,
        a_receiver() as (receiver_url, received),
    ):
        first.type(serve)
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), first)
        second.type(listen)
        wait_for(lambda: "listening" in second.said, second)
        key = json.loads((var / "demo.json").read_text())["owner"]["apiKey"]
        secret = register(f"http://127.0.0.1:{port}/hooks", key, receiver_url)

        third.type(read_demo + hook)
        wait_for(lambda: "receiving on" in third.said, third)
        third.type(issue)
        wait_for(lambda: "signature: good" in third.said, third)
        third.type(stamp + redeem)
        wait_for(lambda: '"voucher_ditebus"' in third.said, third)
        third.type(stamp)
        wait_for(lambda: third.said.count('"addStamps"') == 2, third)
        wait_for(lambda: "voucher_redeemed" in second.said, second)
        wait_for(lambda: len(received) >= 8, third)

    assert "BAD" not in third.said
    assert '"errors"' not in third.said
    answers_to_stamp = re.findall(
        r'\{"data":\{"addStamps".*?\}\]?,"userErrors":\[\]\}\}', third.said
    )
    assert len(answers_to_stamp) == 2
    assert answers_to_stamp[0] == answers_to_stamp[1]
    bodies = [Webhook(secret).verify(body, headers) for headers, body in received]
    assert sorted(body["sequence"] for body in bodies) == list(range(1, 9))
    [redeemed] = [body for body in bodies if body["event"] == "voucher_ditebus"]
    assert shape(redeemed) == shape(shown_body(text))


class Terminal:
    """A shell in which somebody types, and all that stands on its screen."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        self._environment = environment

    def __enter__(self) -> Self:
        with self._log.open("wb") as screen:
            self._shell = subprocess.Popen(
                ["bash"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._shell.pid, signal.SIGTERM)
        if self._shell.stdin:
            self._shell.stdin.close()
        self._shell.wait(20)

    def type(self, text: str) -> None:
        """Type something; it runs while the test goes on."""
        assert self._shell.stdin
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    @property
    def said(self) -> str:
        """What stands on the screen."""
        return self._log.read_text()


@contextmanager
def a_receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver of the test's own: its URL, and the requests it got."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", received
        server.shutdown()
        thread.join()


def register(hooks: str, key: str, url: str) -> str:
    """Register an endpoint; its signing secret."""
    request = urllib.request.Request(
        hooks,
        data=json.dumps({"url": url}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        secret: str = json.load(answer)["signingSecret"]
        return secret


def answers(url: str) -> bool:
    """Whether there is somebody at this address who is well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], terminal: Terminal, patience: float = 60) -> None:
    """Wait until something is so."""
    for _ in moments(patience):
        if condition():
            return
    raise TimeoutError(terminal.said)


def shown_body(text: str) -> Any:
    """The webhook's body that the README shows."""
    [block] = re.findall(r"```\nwebhook-id: .*?(\{.*?)```", text, re.DOTALL)
    return json.loads(block)


def shape(value: Any) -> Any:
    """The keys of an object, in their order, without the values."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return None
