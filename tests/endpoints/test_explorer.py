"""GraphiQL's page: shown to browsers where it is wanted, with nothing but files of our own."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from clients import Client
from conftest import serving
from core.clock import ManualClock
from core.settings import Settings
from endpoints.explorer import explorer
from factories import Cafe
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


async def test_a_browser_is_shown_the_page_and_its_files(http: httpx2.AsyncClient) -> None:
    page = await http.get("/graphql", headers={"accept": BROWSER})

    files = re.findall(r"/console/\w+/graphiql\.\w+", page.text)
    got = [await http.get(path) for path in files]
    kinds = [answer.headers["content-type"].partition(";")[0] for answer in got]
    made = [(ROOT / "console" / "graphiql" / Path(path).name).read_bytes() for path in files]
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["cache-control"] == "no-store"
    assert kinds == ["text/css", "text/javascript"]
    assert [answer.content for answer in got] == made
    assert {answer.headers["cache-control"] for answer in got} == {
        "public, max-age=31536000, immutable"
    }


async def test_the_policy_admits_no_script_of_anybody_elses(http: httpx2.AsyncClient) -> None:
    answers = [await http.get("/graphql", headers={"accept": BROWSER}) for _ in range(2)]

    rules = dict(
        rule.strip().partition(" ")[::2]
        for rule in answers[0].headers["content-security-policy"].split(";")
    )
    nonces = {re.findall(r'name="nonce" content="([^"]+)"', answer.text)[0] for answer in answers}
    assert len(nonces) == 2
    assert rules.pop("style-src").startswith("'self' 'nonce-")
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_who_asks_for_data_gets_no_page(
    http: httpx2.AsyncClient, cafe: Cafe, client_of: Callable[..., Client]
) -> None:
    asked = {"query": "{ viewer { business { id } } }"}
    with_key = {"authorization": f"Bearer {cafe.api_key}"}

    answers = [
        await http.get("/graphql", headers={"accept": "application/json, text/html"}),
        await http.get("/graphql", headers={"accept": "*/*"}),
        await http.get("/graphql", params=asked, headers={"accept": BROWSER}),
        await http.get("/graphql", params=asked, headers={"accept": BROWSER, **with_key}),
        await http.post("/graphql", json=asked, headers={"accept": BROWSER, **with_key}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 200, 200]
    assert {answer.headers["content-type"].partition(";")[0] for answer in answers} == {
        "application/json"
    }


async def test_nothing_else_is_served(http: httpx2.AsyncClient) -> None:
    mark = "/console/0000000000000000"
    paths = [f"{mark}/graphiql.js", f"{mark}/page.html", f"{mark}/..%2f..%2fpyproject.toml"]

    assert [(await http.get(path)).status_code for path in paths] == [404, 404, 404]


@pytest.mark.parametrize(
    ("values", "is_shown"),
    [
        ({}, True),
        ({"public_url": "https://stamps.example"}, False),
        ({"public_url": "https://stamps.example", "demo": True}, True),
        ({"public_url": "https://stamps.example", "graphiql": True}, True),
        ({"graphiql": False}, False),
        ({"graphiql": False, "demo": True}, False),
    ],
)
def test_where_it_is_shown(values: dict[str, object], is_shown: bool) -> None:
    assert Settings(**values).has_graphiql is is_shown  # type: ignore[arg-type]


async def test_where_it_is_off_there_is_nothing_of_it(
    settings: Settings, clock: ManualClock
) -> None:
    off = settings.model_copy(update={"graphiql": False})
    files = re.findall(r"/console/\w+/graphiql\.\w+", bytes(explorer().body).decode())

    async with serving(off, clock) as server, httpx2.AsyncClient(base_url=server.url) as http:
        page = await http.get("/graphql", headers={"accept": BROWSER})
        statuses = [(await http.get(path)).status_code for path in files]

    assert (page.status_code, statuses) == (401, [404, 404])
