"""Tills under load: each stamp has a key of its own, and is asked for until it is acknowledged."""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import aiohttp
from sqlmodel import col, select

from db import BUSINESS, Database, query
from models import Business, EventRow
from models.cards import Operation
from services.audit import Finding, audit

STAMP = """mutation($input: AddStampsInput!) { addStamps(input: $input) {
    operation { id } events { id sequence } userErrors { code message } } }"""
_LEDGER = query(
    select(Operation).where(col(Operation.business_id) == BUSINESS).order_by(col(Operation.id))
)
_LOG = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS).order_by(col(EventRow.sequence))
)


class Tills:
    """Clients with a way to every server given; one that does not answer is left for the next."""

    def __init__(self, servers: list[str], api_key: str, cards: list[str]) -> None:
        self.servers = servers
        self.acknowledged: dict[str, Any] = {}
        self.acknowledged_at: dict[str, float] = {}
        self.refusals: Counter[str] = Counter()
        """What was said instead of the answer: codes, HTTP statuses, lost connections."""
        self.answered_at: list[tuple[float, bool]] = []
        """When each call was answered, and whether it was acknowledged."""
        self.longest = 0.0
        self.tries: Counter[str] = Counter()
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._cards = cards
        self._name = secrets.token_hex(4)
        self._numbers = count()
        self._closing = False

    @contextlib.asynccontextmanager
    async def at_work(self, tills: int = 8, pause: float = 0.0) -> AsyncIterator[None]:
        """Work for as long as the block lasts; at its end each has its last answer."""
        timeout = aiohttp.ClientTimeout(total=30)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            tasks = [asyncio.create_task(self._work(session, n, pause)) for n in range(tills)]
            try:
                yield
            finally:
                self._closing = True
                async with asyncio.timeout(60):
                    await asyncio.gather(*tasks)

    async def _work(self, session: aiohttp.ClientSession, number: int, pause: float) -> None:
        while not self._closing:
            key = f"sale-{self._name}-{next(self._numbers)}"
            card = self._cards[number % len(self._cards)]
            sale = {"card": {"id": card}, "count": 1, "idempotencyKey": key}
            server = number
            while key not in self.acknowledged:
                began = time.monotonic()
                self.tries[key] += 1
                said = await self._ask(session, self.servers[server % len(self.servers)], sale)
                ended = time.monotonic()
                self.longest = max(self.longest, ended - began)
                if said is None:
                    server += 1
                    await asyncio.sleep(0.05)
                else:
                    self.acknowledged[key], self.acknowledged_at[key] = said, ended
                self.answered_at.append((ended, said is not None))
            await asyncio.sleep(pause)

    async def _ask(self, session: aiohttp.ClientSession, server: str, sale: Any) -> Any:
        """What was acknowledged, None where the call is to be repeated."""
        body = {"query": STAMP, "variables": {"input": sale}}
        try:
            async with session.post(server, json=body, headers=self._headers) as answer:
                said = await answer.json(content_type=None)
                if answer.status != 200:
                    code = said["errors"][0]["extensions"]["code"]
                    wait = answer.headers.get("Retry-After")
                    self.refusals[f"{answer.status} {code}, Retry-After {wait}"] += 1
                    return None
        except aiohttp.ClientError as error:
            self.refusals[type(error).__name__] += 1
            return None
        if said.get("errors"):
            extensions = said["errors"][0]["extensions"]
            wait = extensions.get("retryAfterMs")
            self.refusals[f"200 {extensions['code']}, retryAfterMs {wait}"] += 1
            return None
        given = said["data"]["addStamps"]
        assert not given["userErrors"], given
        return given

    def is_served_since(self, moment: float) -> bool:
        """Whether something was acknowledged after a moment, and last."""
        return (
            bool(self.answered_at)
            and self.answered_at[-1] > (moment, False)
            and (self.answered_at[-1][1])
        )

    def healed_after(self, moment: float) -> float:
        """How long after a moment the first call was acknowledged."""
        return min(at for at, is_good in self.answered_at if is_good and at > moment) - moment

    async def check(self, database: Database, business: Business) -> None:
        """What was acknowledged is stored, each once; and the auditor finds nothing."""
        ledger = await database.read(business.id, lambda tx: tx.many(_LEDGER))
        stamps = {line.id for line in ledger if line.kind == "stamps"}
        known = {given["operation"]["id"] for given in self.acknowledged.values()}
        assert len(known) == len(self.acknowledged)
        assert stamps == known
        log = await database.read(business.id, lambda tx: tx.many(_LOG))
        assert [row.sequence for row in log] == list(range(1, len(log) + 1))
        by_id = {row.id: row.sequence for row in log}
        for given in self.acknowledged.values():
            for event in given["events"]:
                assert by_id[event["id"]] == event["sequence"]
        findings: list[Finding] = []
        await audit(database, business, findings.append)
        assert findings == []


TYPED = (
    "503 RATE_LIMITED, Retry-After 1",
    "200 RATE_LIMITED, retryAfterMs 1000",
)
"""How a server says that it cannot now, but soon."""
