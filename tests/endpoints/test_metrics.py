"""`/metrics`: what is told, to whom, and that none of it is personal or without bound."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import col, select

from clients import Client
from conftest import serving
from core.clock import ManualClock
from core.settings import Settings
from db import BUSINESS, Database, Query, Transaction, query
from factories import Cafe, a_card, stamps
from fakes.receiver import receiving
from models import WebhookEndpoint
from partners import BEGINNING, Api, operations, subscriber
from patience import until
from processes import RunningServer

_ENDPOINT: Query[WebhookEndpoint] = query(
    select(WebhookEndpoint).where(col(WebhookEndpoint.business_id) == BUSINESS)
)


@dataclass(frozen=True)
class Told:
    """What was told, by name and labels."""

    text: str

    def of(self, name: str, **labels: str) -> float:
        """The sample of this name and these labels; 0 where nothing was counted yet."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == f"stampwire_{name}" and sample.labels == labels
        )


async def test_the_lag_of_an_endpoint_is_the_age_of_what_it_was_not_sent(
    server: RunningServer, database: Database, cafe: Cafe
) -> None:
    async with Api(server.graphql, cafe.api_key) as api, receiving() as receiver:
        card = await a_card(database, cafe.owner)
        made = await api.do("CreateWebhookEndpoint", url=receiver.at("/"), name="Ana's till")
        endpoint = made["endpoint"]["id"]
        await stamps(database, cafe.owner, card)
        await receiver.wait_for(1)
        await _settled(database, cafe)
        calm = await told(server)
        assert (calm.of("webhook_lag_seconds"), endpoint in calm.text) == (0, False)

        # As if nobody had served it for three minutes.
        held_until = datetime.now(UTC) + timedelta(hours=1)
        await _change(database, cafe, lease_owner="another", lease_until=held_until)
        await stamps(database, cafe.owner, card)
        await asyncio.sleep(0.2)
        late = await told(server)

    assert 0.2 <= late.of("webhook_endpoint_lag_seconds", endpoint=endpoint) < 30
    assert late.of("webhook_endpoint_behind_events", endpoint=endpoint) == 1
    assert late.of("webhook_lag_seconds") == late.of(
        "webhook_endpoint_lag_seconds", endpoint=endpoint
    )


async def test_what_happens_is_counted(
    server: RunningServer, database: Database, cafe: Cafe
) -> None:
    before = await told(server)
    async with Api(server.graphql, cafe.api_key) as api, receiving() as receiver:
        await api.do("CreateWebhookEndpoint", url=receiver.at("/"))
        async with subscriber(
            server.socket, cafe.api_key, operations()["Events"], after=BEGINNING
        ) as heard:
            card = await a_card(database, cafe.owner)
            await stamps(database, cafe.owner, card)
            await heard.wait_for(2)
            await receiver.wait_for(2)
            await api.send("query { viewer { __typename } }")
            await api.send("query { nothing }")
            during = await told(server)

        async def has_left() -> bool:
            return (await told(server)).of("sockets", transport="websocket") == 0

        await until(has_left)
        after = await told(server)

    assert during.of("sockets", transport="websocket") == 1
    assert during.of("subscriptions") == 1
    assert after.of("sockets", transport="websocket") == 0
    assert after.of("subscriptions") == 0
    for name, labels, least in [
        ("requests_total", {"kind": "query", "status": "ok"}, 1),
        ("requests_total", {"kind": "mutation", "status": "ok"}, 1),
        ("requests_total", {"kind": "invalid", "status": "denied"}, 1),
        ("requests_total", {"kind": "subscription", "status": "ok"}, 1),
        ("request_seconds_count", {"kind": "query"}, 1),
        ("webhook_attempts_total", {"answer": "2xx"}, 2),
        ("webhook_attempt_seconds_count", {}, 2),
        ("webhook_deliveries_total", {"outcome": "delivered"}, 1),
    ]:
        assert after.of(name, **labels) - before.of(name, **labels) >= least, name
    assert after.of("webhook_endpoints", status="active") == 1
    assert after.of("log_events") == 2
    assert after.of("database_connections") >= 1
    assert after.of("doorbell_healthy") in (0, 1)


async def test_a_loop_that_was_blocked_for_a_second_is_told_of(server: RunningServer) -> None:
    """Whatever held it; the log has the stack."""
    before = (await told(server)).of("event_loop_blocked_total")
    with structlog.testing.capture_logs() as said:
        while not said:
            time.sleep(0.05)  # noqa: ASYNC251 -- as a resolver might that forgot to await
        await until(lambda: "event loop goes on" in [line["event"] for line in said])

    assert (await told(server)).of("event_loop_blocked_total") == before + 1
    [blocked] = [line for line in said if line["event"] == "event loop blocked"]
    assert blocked["where"][-1].endswith("test_a_loop_that_was_blocked_for_a_second_is_told_of")


async def test_without_the_database_what_the_process_counts_is_told(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(server.app.state.deployment.database, "read", lost)

    said = await told(server)

    assert said.of("database_up") == 0
    assert "stampwire_webhook_lag_seconds" not in said.text
    assert "stampwire_event_loop_delay_seconds_count" in said.text


async def test_nothing_of_callers_is_in_it(
    server: RunningServer, cafe: Cafe, client_of: Callable[..., Client]
) -> None:
    """Neither names nor addresses nor the words of a document; so it has a bound, too."""
    async with Api(server.graphql, cafe.api_key) as api, receiving() as receiver:
        url = receiver.at("/secret-path")
        await api.do("CreateWebhookEndpoint", url=url, name="Canary of names")
        for number in range(20):
            await api.send(f"query Canary{number} {{ viewer {{ __typename }} }}")
        text = (await told(server)).text

    for canary in ("canary", "secret-path", url, cafe.business.name, cafe.login, cafe.api_key):
        assert canary.lower() not in text.lower()
    assert set(re.findall(r'kind="(\w+)"', text)) <= {
        "query",
        "mutation",
        "subscription",
        "invalid",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"via": "1.1 proxy"},
        {"host": "stamps.example"},
        {"authorization": "Bearer anything"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_without_a_token_only_this_machine_reads_it(
    server: RunningServer, http: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await http.get("/metrics", headers=headers)

    assert answer.status_code == (200 if "authorization" in headers else 403)


async def test_with_a_token_only_its_bearer_reads_it(
    settings: Settings, clock: ManualClock
) -> None:
    told = settings.model_copy(update={"metrics_token": "a long random token"})
    async with serving(told, clock) as server, httpx2.AsyncClient(base_url=server.url) as http:
        codes = [
            (await http.get("/metrics", headers=headers)).status_code
            for headers in (
                {},
                {"authorization": "Bearer a wrong token"},
                {"authorization": "Bearer a long random token", "x-forwarded-for": "203.0.113.9"},
            )
        ]

    assert codes == [403, 403, 200]
    assert "a long random token" not in repr(told)


async def told(server: RunningServer) -> Told:
    """What is told now."""
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Told(answer.text)


async def _settled(database: Database, cafe: Cafe) -> None:
    """Wait until the endpoint is nobody's and has nothing more to get."""
    async with asyncio.timeout(10):
        while True:
            endpoint = await database.read(cafe.business.id, lambda tx: tx.one(_ENDPOINT))
            if endpoint.cursor_sequence == 2 and endpoint.lease_until <= datetime.now(UTC):
                return
            await asyncio.sleep(0.05)


async def _change(database: Database, cafe: Cafe, **values: object) -> None:
    async def work(tx: Transaction) -> None:
        await tx.change(await tx.one(_ENDPOINT), **values)

    await database.write(cafe.business.id, work)
