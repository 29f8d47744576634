"""kill -9: what was acknowledged stays, is told at least once, and always with the same bytes."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlmodel import col, select

from core.settings import Settings
from db import BUSINESS, Transaction, database_of, query
from fakes.receiver import receiving
from models import Card, LogHead
from models.cards import Operation
from partners import Api
from processes import Process

STAMPS = 200
CLIENTS = 20
AFTER = 60
"""How many acknowledged stamps there are when the server is killed."""
LEASE_PATIENCE = 45
"""Seconds that no successor takes to send what the dead one had leased."""
_LEDGER = query(
    select(Operation).where(col(Operation.business_id) == BUSINESS).order_by(col(Operation.id))
)
_HEAD = query(select(LogHead).where(col(LogHead.business_id) == BUSINESS))


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """A server that is killed; whatever became of it, it is ended, and audited."""
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()
    started.run("audit")  # fails on any finding


@pytest.mark.slow
async def test_an_event_under_way_is_sent_again_after_a_kill(
    process: Process, figure: Callable[[str], None]
) -> None:
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api, receiving() as partner:
        card = await _issue(api, process, "ana@mail.example")
        made = await api.do("CreateWebhookEndpoint", url=partner.at("/"), types=["STAMP_ADDED"])
        partner.answers.clear()

        stamped = await api.do("AddStamps", card={"id": card["id"]}, count=1)
        [first] = await partner.wait_for(1)
        await asyncio.to_thread(process.kill)
        partner.answers.set()
        await asyncio.to_thread(process.start_later)
        again = (await partner.wait_for(2, LEASE_PATIENCE))[1]

        assert first.id == again.id == stamped["events"][0]["id"]
        assert first.body == again.body
        assert again.verified_by(made["signingSecret"])["stamp"]["count"] == 1
        await _has_delivered(api, made["endpoint"]["id"], 1)
        assert len(partner.all) == 2
    figure(f"sent again {again.at - first.at:.1f} s after the first try")


async def test_an_event_is_sent_although_the_server_died_at_once(process: Process) -> None:
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api, receiving() as partner:
        card = await _issue(api, process, "ana@mail.example")
        # Nobody listens there: the event waits in the log, its endpoint is backing off.
        made = await api.do("CreateWebhookEndpoint", url=partner.at("/"), types=["STAMP_ADDED"])
        endpoint = {"id": made["endpoint"]["id"]}
        await api.do("PauseWebhookEndpoint", **endpoint)
        stamped = await api.do("AddStamps", card={"id": card["id"]}, count=1)
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start_later)
        assert partner.all == []

        await api.do("ResumeWebhookEndpoint", **endpoint)
        [request] = await partner.wait_for(1)

        assert request.id == stamped["events"][0]["id"]
        assert request.verified_by(made["signingSecret"])["id"] == request.id


async def test_what_was_acknowledged_in_a_burst_survives_a_kill(
    process: Process, figure: Callable[[str], None]
) -> None:
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api, receiving() as partner:
        cards = [await _issue(api, process, f"c{number}@mail.example") for number in range(5)]
        made = await api.do("CreateWebhookEndpoint", url=partner.at("/"), types=["STAMP_ADDED"])
        burst = _Burst(api, [card["id"] for card in cards])

        await burst.begin()
        await burst.until(AFTER)
        await asyncio.to_thread(process.kill)
        await burst.end()
        acknowledged = dict(burst.acknowledged)
        assert AFTER <= len(acknowledged) < STAMPS
        await asyncio.to_thread(process.start_later)

        log = await api.journal()
        by_id = {event["id"]: event for event in log}
        for key, given in acknowledged.items():
            for event in given["events"]:
                assert by_id[event["id"]]["sequence"] == event["sequence"], key
        await _the_books_are_right(process, log)

        # Whoever had no answer asks again under the same key: each stamp is there once.
        await burst.begin()
        await burst.end()
        assert len(burst.acknowledged) == STAMPS
        for key, given in acknowledged.items():
            assert burst.acknowledged[key]["operation"]["id"] == given["operation"]["id"]
        log = await api.journal()
        stamps = {event["id"] for event in log if event["type"] == "STAMP_ADDED"}
        assert len(stamps) == STAMPS
        await _the_books_are_right(process, log)

        # And every one of them reached the receiver, repeated only with the same bytes.
        await partner.wait_for(lambda all: {one.id for one in all} == stamps, LEASE_PATIENCE)
        texts = {event["id"]: event["payload"].encode() for event in log}
        for request in partner.all:
            request.verified_by(made["signingSecret"])
            assert request.body == texts[request.id]
        repeats = len(partner.all) - STAMPS
        figure(f"{len(acknowledged)} acknowledged before the kill, {repeats} requests repeated")


async def test_a_batch_that_was_cut_off_is_completed_by_a_repeat(
    process: Process, figure: Callable[[str], None]
) -> None:
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api:
        card = await _issue(api, process, "ana@mail.example")
        moment = datetime.now(UTC)
        items = [
            {
                "clientId": f"sale-{number}",
                "occurredAt": (moment - timedelta(minutes=100 - number)).isoformat(),
                "card": {"id": card["id"]},
                "count": 1,
            }
            for number in range(100)
        ]

        cut_off = asyncio.create_task(api.do("AddStampsBatch", items=items))
        while not await _stamps(api):
            assert not cut_off.done()
        await asyncio.to_thread(process.kill)
        with pytest.raises(httpx2.TransportError):
            await cut_off
        await asyncio.to_thread(process.start)
        before = await _stamps(api)
        assert 0 < before < 100

        results = (await api.do("AddStampsBatch", items=items))["results"]
        again = (await api.do("AddStampsBatch", items=items))["results"]

        assert [told["applied"] for told in results] == [True] * 100
        assert again == results
        assert len({told["operation"]["id"] for told in results}) == 100
        assert await _stamps(api) == 100
        await _the_books_are_right(process, await api.journal())
    figure(f"{before} of 100 were added before the kill")


async def _stamps(api: Api) -> int:
    return sum(event["type"] == "STAMP_ADDED" for event in await api.journal())


async def _issue(api: Api, process: Process, email: str) -> Any:
    template = process.demo["cardTemplate"]["id"]
    return (await api.do("IssueCard", templateId=template, customer={"email": email}))["card"]


async def _has_delivered(api: Api, endpoint: str, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            nodes = (await api.ask("Deliveries", endpointId=endpoint))["nodes"]
            if [node["status"] for node in nodes] == ["SUCCEEDED"] * count:
                return
            await asyncio.sleep(0.05)


class _Burst:
    """Stamps on a few cards by many clients at once, each under a key of its own."""

    def __init__(self, api: Api, cards: list[str]) -> None:
        self._api = api
        self._cards = cards
        self._changed = asyncio.Condition()
        self._clients: list[asyncio.Task[None]] = []
        self.acknowledged: dict[str, Any] = {}

    async def begin(self) -> None:
        """Let every client begin; keys that were acknowledged already are asked again too."""
        waiting = iter(range(STAMPS))
        self._clients = [asyncio.create_task(self._client(waiting)) for _ in range(CLIENTS)]

    async def until(self, count: int) -> None:
        """Wait until so many are acknowledged."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.acknowledged) >= count)

    async def end(self) -> None:
        """Wait for every client: at its end, or at its first call without an answer."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._clients)

    async def _client(self, waiting: Iterator[int]) -> None:
        for number in waiting:
            key = f"stamp-{number}"
            card = self._cards[number % len(self._cards)]
            try:
                given = await self._api.do(
                    "AddStamps", card={"id": card}, count=1, idempotencyKey=key
                )
            except httpx2.TransportError:
                return
            async with self._changed:
                self.acknowledged[key] = given
                self._changed.notify_all()


async def _the_books_are_right(process: Process, log: list[Any]) -> None:
    """The sequence is gapless, its head is where it ends, and each card is its ledger replayed."""
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))

    async def look(tx: Transaction) -> tuple[LogHead, list[Operation], dict[str, Card | None]]:
        ledger = await tx.many(_LEDGER)
        ids = {line.card_id for line in ledger if line.card_id}
        return await tx.one(_HEAD), ledger, {id: await tx.get(Card, id) for id in ids}

    database = database_of(process.settings, visiting=True)
    await database.open()
    try:
        head, ledger, cards = await database.read(process.demo["business"]["id"], look)
    finally:
        await database.close()

    assert head.sequence == len(log)
    stamps = [line for line in ledger if line.kind == "stamps"]
    assert len(stamps) == sum(event["type"] == "STAMP_ADDED" for event in log)
    for id, card in cards.items():
        assert card
        state = (0, 1)
        for line in (line for line in stamps if line.card_id == id):
            assert (line.before, line.cycle_before) == state
            assert line.after is not None
            assert line.cycle_after is not None
            state = (line.after, line.cycle_after)
        assert (card.stamps, card.cycle) == state
