"""GraphiQL in a real browser: a query and a subscription run, and it asks nobody else."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from partners import Api
from patience import until
from processes import Process

pytestmark = [pytest.mark.browser, pytest.mark.on("sqlite")]

# Before the page runs: what its policy blocks, and what it asks for itself.
_WATCH = """
    window.blocked = [];
    addEventListener("securitypolicyviolation", (event) =>
        blocked.push([event.effectiveDirective, event.blockedURI]));
    window.sockets = [];
    const Real = WebSocket;
    window.WebSocket = class extends Real {
        constructor(url, protocol) { super(url, protocol); sockets.push([String(url), protocol]); }
    };
"""
_SET = """
    const [query] = arguments;
    document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.setValue(query);
"""
_SHOWN = """
    const pane = document.querySelector(".result-window .CodeMirror");
    return pane ? pane.CodeMirror.getValue() : "";
"""
_ASKED = """
    const entries = performance.getEntriesByType("resource").map((entry) => entry.name);
    return [...entries, location.href];
"""


class Page:
    """The explorer, as somebody at the keyboard uses it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    async def do(self, act: Callable[..., Any], *words: Any) -> Any:
        return await asyncio.to_thread(act, *words)

    async def click(self, selector: str) -> None:
        async def is_clicked() -> bool:
            for found in await self.do(self.browser.find_elements, By.CSS_SELECTOR, selector):
                await self.do(found.click)
                return True
            return False

        await until(is_clicked)

    async def write(self, query: str) -> None:
        await self.do(self.browser.execute_script, _SET, query)
        # The button acts on what was read of the text, a moment after it was typed.
        label = "return document.querySelector('.graphiql-tab-active')?.innerText ?? ''"
        name = query.split()[1]

        async def is_read() -> bool:
            return str(await self.do(self.browser.execute_script, label)).strip() == name

        await until(is_read)

    async def shows(self, told: str) -> dict[str, Any]:
        async def is_shown() -> bool:
            return told in await self.do(self.browser.execute_script, _SHOWN)

        await until(is_shown)
        said: dict[str, Any] = json.loads(await self.do(self.browser.execute_script, _SHOWN))
        return said


async def test_a_query_and_a_subscription_run_and_nobody_else_is_asked(
    process: Process, browser: webdriver.Chrome
) -> None:
    page, key = Page(browser), process.demo["owner"]["apiKey"]
    watch = {"source": _WATCH}
    await page.do(browser.execute_cdp_cmd, "Page.addScriptToEvaluateOnNewDocument", watch)
    await page.do(browser.get, process.graphql)
    field = await page.do(browser.find_element, By.ID, "key")
    await page.do(field.send_keys, key)
    await page.click(".stampwire-key button")
    await page.click("[aria-label*='Documentation']")

    await page.write("query Who { viewer { business { name } actor { name role } } }")
    await page.click(".graphiql-execute-button")
    viewer = (await page.shows('"role"'))["data"]["viewer"]

    await page.write("subscription Live { events { type } }")
    await page.click(".graphiql-execute-button")
    sockets = "return sockets"
    await until(lambda: _any(page, sockets))
    async with Api(process.graphql, key) as api:
        number = 0

        async def is_heard() -> bool:
            nonlocal number
            number += 1
            await api.do("IssueCard", **_card(process, number))
            return "CARD_ISSUED" in await page.do(browser.execute_script, _SHOWN)

        await until(is_heard)
    heard = await page.shows("CARD_ISSUED")

    asked = await page.do(browser.execute_script, _ASKED)
    origin = process.graphql.removesuffix("/graphql")
    assert viewer["actor"]["role"] == "OWNER"
    assert heard["data"]["events"] == {"type": "CARD_ISSUED"}
    assert {url for url in asked if not url.startswith((f"{origin}/", "data:"))} == set()
    assert await page.do(browser.execute_script, sockets) == [
        [process.socket, "graphql-transport-ws"]
    ]
    assert await page.do(browser.execute_script, "return blocked") == []
    assert await page.do(browser.get_cookies) == []
    assert await page.do(browser.execute_script, "return localStorage.length") == 0


async def _any(page: Page, script: str) -> bool:
    return bool(await page.do(page.browser.execute_script, script))


def _card(process: Process, number: int) -> dict[str, Any]:
    template = process.demo["cardTemplate"]["id"]
    return {"templateId": template, "customer": {"email": f"ana{number}@mail.example"}}
