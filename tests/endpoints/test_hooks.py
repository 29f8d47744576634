"""Hooks for tools that do not speak GraphQL, as Zapier and Make call them."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from sqlmodel import col, select
from standardwebhooks import Webhook

from core.clock import ManualClock
from db import BUSINESS, Database, query
from events import event_types
from events.vocabulary import EVENTS
from factories import Cafe, a_business, a_staff, an_api_key
from models import Role, Vocabulary, WebhookEndpoint
from processes import RunningServer

_ENDPOINTS = query(
    select(WebhookEndpoint).where(
        col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.deleted_at).is_(None)
    )
)
URL = "https://hooks.example/catch/1"


def _as(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **more}


async def _endpoints(database: Database, cafe: Cafe) -> list[WebhookEndpoint]:
    return await database.read(cafe.business.id, lambda tx: tx.many(_ENDPOINTS))


async def _refusal(
    http: httpx2.AsyncClient, method: str, path: str, **asked: Any
) -> tuple[int, str]:
    answer = await http.request(method, path, **asked)
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_hook_is_an_endpoint(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe
) -> None:
    answer = await http.post(
        "/hooks",
        headers=_as(cafe.api_key),
        json={"url": URL, "types": ["Stamp_ditambahkan", "voucher_redeemed", "CARD_ISSUED"]},
    )

    (endpoint,) = await _endpoints(database, cafe)
    made = answer.json()
    assert answer.status_code == 201
    assert list(made) == ["id", "url", "types", "signingSecret"]
    assert (made["id"], made["url"]) == (endpoint.id, URL)
    assert made["types"] == ["kartu_diterbitkan", "Stamp_ditambahkan", "voucher_ditebus"]
    assert endpoint.types == ["card_issued", "stamp_added", "voucher_redeemed"]
    assert endpoint.vocabulary is Vocabulary.ID
    assert endpoint.is_rest_hook
    Webhook(made["signingSecret"])


async def test_without_types_it_is_due_the_thirteen(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe
) -> None:
    answer = await http.post(
        "/hooks", headers=_as(cafe.api_key), json={"url": URL, "vocabulary": "EN"}
    )

    (endpoint,) = await _endpoints(database, cafe)
    assert answer.json()["types"] == list(EVENTS)
    assert (endpoint.types, endpoint.vocabulary) == (None, Vocabulary.EN)


async def test_a_deleted_hook_is_gone(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe
) -> None:
    headers = _as(cafe.api_key)
    made = (await http.post("/hooks", headers=headers, json={"url": URL})).json()

    first = await http.delete(f"/hooks/{made['id']}", headers=headers)
    second = await _refusal(http, "DELETE", f"/hooks/{made['id']}", headers=headers)

    assert (first.status_code, first.content) == (204, b"")
    assert second == (404, "NOT_FOUND")
    assert await _endpoints(database, cafe) == []


async def test_nobody_deletes_anothers_hook(
    http: httpx2.AsyncClient,
    server: RunningServer,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
) -> None:
    secrets = server.app.state.deployment.secrets
    foreign = await a_business(database, secrets, clock.now())
    scanner = await a_staff(database, cafe.owner, Role.SCANNER, clock.now())
    assert scanner.staff
    key = await an_api_key(database, cafe.owner, scanner.staff, secrets, clock.now())
    made = (await http.post("/hooks", headers=_as(cafe.api_key), json={"url": URL})).json()

    for other in (foreign.api_key, key):
        refusal = await _refusal(http, "DELETE", f"/hooks/{made['id']}", headers=_as(other))
        assert refusal == (404, "NOT_FOUND")
    assert len(await _endpoints(database, cafe)) == 1


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"content": b"{"}, (400, "BAD_REQUEST")),
        ({"content": b"[]"}, (400, "BAD_REQUEST")),
        ({"content": b""}, (400, "BAD_REQUEST")),
        ({"content": b'{"url": "' + b"x" * 100_000 + b'"}'}, (413, "BAD_REQUEST")),
        ({"json": {}}, (422, "INVALID")),
        ({"json": {"url": 1}}, (422, "INVALID")),
        ({"json": {"url": "no address"}}, (422, "ADDRESS_NOT_ALLOWED")),
        ({"json": {"url": "http://10.0.0.1/"}}, (422, "ADDRESS_NOT_ALLOWED")),
        ({"json": {"url": URL, "types": "stamp_added"}}, (422, "INVALID")),
        ({"json": {"url": URL, "types": ["stamp_eaten"]}}, (422, "INVALID")),
        ({"json": {"url": URL, "types": [None]}}, (422, "INVALID")),
        ({"json": {"url": URL, "types": []}}, (422, "INVALID")),
        ({"json": {"url": URL, "vocabulary": "DE"}}, (422, "INVALID")),
        ({"json": {"url": URL}, "headers": {"idempotency-key": "x" * 129}}, (422, "INVALID")),
    ],
)
async def test_what_cannot_be_done_is_told_as_json(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    asked: dict[str, Any],
    refusal: tuple[int, str],
) -> None:
    asked = {**asked, "headers": _as(cafe.api_key, **asked.get("headers", {}))}

    assert await _refusal(http, "POST", "/hooks", **asked) == refusal
    assert await _endpoints(database, cafe) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/hooks"), ("DELETE", "/hooks/we_1"), ("GET", "/hooks/sample/card_issued")],
)
@pytest.mark.parametrize("key", ["", "Bearer nonsense", "Basic b3duZXI6", "Bearer " + "x" * 300])
async def test_strangers_are_refused(
    http: httpx2.AsyncClient, method: str, path: str, key: str
) -> None:
    headers = {"authorization": key} if key else {}

    assert await _refusal(http, method, path, headers=headers) == (401, "UNAUTHENTICATED")


async def test_one_idempotency_key_makes_one_hook(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe
) -> None:
    headers = _as(cafe.api_key, **{"idempotency-key": "zap-1"})

    first = await http.post("/hooks", headers=headers, json={"url": URL})
    again = await http.post("/hooks", headers=headers, json={"url": URL})
    other = await _refusal(http, "POST", "/hooks", headers=headers, json={"url": URL + "2"})

    assert again.status_code == 201
    assert again.json() == {**first.json(), "signingSecret": None}
    assert other == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(await _endpoints(database, cafe)) == 1


@pytest.mark.parametrize("name", event_types())
async def test_a_sample_is_a_list_of_one_body(
    http: httpx2.AsyncClient, cafe: Cafe, name: str
) -> None:
    headers, word = _as(cafe.api_key), EVENTS.get(name, name)

    english = await http.get(f"/hooks/sample/{name.upper()}?vocabulary=en", headers=headers)
    plain = await http.get(f"/hooks/sample/{word}", headers=headers)

    (told,), (said,) = english.json(), plain.json()
    assert (told["event"], told["business_id"], told["sequence"]) == (name, cafe.business.id, 0)
    assert (said["event"], said["bisnis_id"]) == (word, cafe.business.id)


async def test_there_is_no_sample_of_nothing(http: httpx2.AsyncClient, cafe: Cafe) -> None:
    headers = _as(cafe.api_key)

    nothing = await _refusal(http, "GET", "/hooks/sample/stamp_eaten", headers=headers)
    words = await _refusal(http, "GET", "/hooks/sample/card_issued?vocabulary=DE", headers=headers)

    assert nothing == (404, "NOT_FOUND")
    assert words == (422, "INVALID")


async def test_a_body_that_never_ends_is_cut_off(
    http: httpx2.AsyncClient, server: RunningServer, cafe: Cafe
) -> None:
    """In chunks, so that no header tells how long it is."""

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 10_000
            await asyncio.sleep(0)

    answer = await http.post("/hooks", headers=_as(cafe.api_key), content=chunks())

    assert answer.status_code == 413
    assert json.loads(answer.content)["error"]["code"] == "BAD_REQUEST"
