"""The customer's pages in a real browser: somebody joins at the counter and looks at her card."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from core.settings import Settings
from processes import Process

pytestmark = [pytest.mark.browser, pytest.mark.on("sqlite")]


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """A server with the demo café, whose join page is open."""
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def _mail(settings: Settings) -> dict[str, Any]:
    file, until = settings.data_dir / "outbox" / "email.jsonl", time.monotonic() + 20
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < until, "nothing was mailed"
        time.sleep(0.05)
    told: dict[str, Any] = json.loads(file.read_text().splitlines()[0])
    return told


def _join(browser: webdriver.Chrome, process: Process, settings: Settings) -> None:
    base, template = process.url, process.demo["cardTemplate"]["id"]
    browser.get(f"{base}/join/{template}")
    browser.find_element(By.NAME, "email").send_keys("budi@mail.example")
    browser.find_element(By.NAME, "name").send_keys("Budi")
    browser.find_element(By.NAME, "mail").click()
    browser.find_element(By.TAG_NAME, "button").click()
    browser.get(_mail(settings)["url"])
    browser.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, 20).until(lambda shown: "/c/" in shown.current_url)


def _look(browser: webdriver.Chrome) -> str | None:
    """Wait for the button that only our script shows, tell something, and read what is said."""
    WebDriverWait(browser, 20).until(lambda shown: shown.find_element(By.ID, "push").is_displayed())
    browser.find_element(By.TAG_NAME, "summary").click()
    browser.find_element(By.NAME, "day").send_keys("7")
    browser.find_element(By.CSS_SELECTOR, "select[name=month] option[value='11']").click()
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    said = WebDriverWait(browser, 20).until(
        lambda shown: shown.find_element(By.CSS_SELECTOR, "[role=status]")
    )
    return str(said.text)


async def test_somebody_joins_and_tells_her_birthday(
    process: Process, browser: webdriver.Chrome, settings: Settings
) -> None:
    await asyncio.to_thread(_join, browser, process, settings)

    said = await asyncio.to_thread(_look, browser)

    assert said == "Saved."
    refused = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert refused == []
