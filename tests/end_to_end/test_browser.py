"""Pages in a real browser: one of an allowed origin may do everything, any other nothing."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from selenium import webdriver

from core.settings import Settings
from partners import BEGINNING, Api, operations
from processes import Process

pytestmark = pytest.mark.browser

_PAGE = b"<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>Partner</title>"
_POST = """
    const [url, key, query, variables, done] = arguments;
    fetch(url, {
        method: "POST",
        headers: {"content-type": "application/json", "authorization": "Bearer " + key},
        body: JSON.stringify({query, variables}),
    }).then((answer) => answer.json()).then(
        (told) => done({told}),
        (error) => done({refused: error.name}),
    );
"""
_SUBSCRIBE = """
    const [url, key, query, variables, done] = arguments;
    const socket = new WebSocket(url, "graphql-transport-ws");
    let opened = false;
    const send = (message) => socket.send(JSON.stringify(message));
    socket.onopen = () => {
        opened = true;
        send({type: "connection_init", payload: {Authorization: "Bearer " + key}});
    };
    socket.onmessage = (frame) => {
        const message = JSON.parse(frame.data);
        if (message.type === "connection_ack") {
            send({type: "subscribe", id: "1", payload: {query, variables}});
        } else if (message.type === "next") {
            done({told: message.payload});
            socket.close();
        }
    };
    socket.onclose = (event) => done({opened, refused: event.code});
"""
# Without a preflight: what any page may send anywhere, and read nowhere.
_POST_BLINDLY = """
    const [url, key, query, variables, done] = arguments;
    const body = JSON.stringify({query, variables});
    const plain = {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body};
    fetch(url, plain).then((answer) => done({type: answer.type}), (e) => done({refused: e.name}));
"""


class _Page(BaseHTTPRequestHandler):
    """An empty page, which scripts are run in."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()
        thread.join()


@pytest.fixture
def allowed() -> Iterator[str]:
    """The origin of a page that the settings name."""
    yield from _origin()


@pytest.fixture
def other() -> Iterator[str]:
    """The origin of any other page."""
    yield from _origin()


@pytest.fixture
def process(request: pytest.FixtureRequest, settings: Settings, allowed: str) -> Iterator[Process]:
    """A server that allows one origin; by `none` the default, which allows no page at all."""
    origins = () if getattr(request, "param", "") == "none" else (allowed,)
    started = Process(settings.model_copy(update={"allowed_origins": origins}), demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()


async def _in_page(browser: webdriver.Chrome, script: str, *words: Any) -> Any:
    return await asyncio.to_thread(browser.execute_async_script, script, *words)


async def test_a_page_of_an_allowed_origin_may_do_everything(
    process: Process, browser: webdriver.Chrome, allowed: str
) -> None:
    key = process.demo["owner"]["apiKey"]
    await asyncio.to_thread(browser.get, allowed)

    viewer = await _in_page(browser, _POST, process.graphql, key, operations()["Viewer"], {})
    issue = {"input": _card(process)}
    issued = await _in_page(browser, _POST, process.graphql, key, operations()["IssueCard"], issue)
    beginning = {"after": BEGINNING}
    heard = await _in_page(
        browser, _SUBSCRIBE, process.socket, key, operations()["Events"], beginning
    )

    assert viewer["told"]["data"]["viewer"]["actor"]["role"] == "OWNER"
    assert issued["told"]["data"]["issueCard"]["created"] is True
    [event] = issued["told"]["data"]["issueCard"]["events"]
    assert heard["told"]["data"]["events"]["id"] == event["id"]
    assert heard["told"]["data"]["events"]["type"] == "CARD_ISSUED"


@pytest.mark.parametrize("process", ["one", "none"], indirect=True)
async def test_a_page_of_another_origin_can_do_nothing(
    process: Process, browser: webdriver.Chrome, other: str
) -> None:
    key = process.demo["owner"]["apiKey"]
    await asyncio.to_thread(browser.get, other)

    viewer = await _in_page(browser, _POST, process.graphql, key, operations()["Viewer"], {})
    issue = {"input": _card(process)}
    issued = await _in_page(browser, _POST, process.graphql, key, operations()["IssueCard"], issue)
    blind = await _in_page(
        browser, _POST_BLINDLY, process.graphql, key, operations()["IssueCard"], issue
    )
    heard = await _in_page(
        browser, _SUBSCRIBE, process.socket, key, operations()["Events"], {"after": BEGINNING}
    )

    assert viewer == {"refused": "TypeError"}
    assert issued == {"refused": "TypeError"}
    assert blind == {"type": "opaque"}
    assert heard == {"opened": False, "refused": 1006}
    async with Api(process.graphql, key) as api:
        assert await api.journal() == []
        assert (await api.ask("Cards"))["totalCount"] == 0


def _card(process: Process) -> dict[str, Any]:
    template = process.demo["cardTemplate"]["id"]
    return {"templateId": template, "customer": {"email": "ana@mail.example"}}
