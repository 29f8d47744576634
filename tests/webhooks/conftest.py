"""What tests of webhooks start from: a café with a log, receivers on loopback, and a pusher."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from core.clock import ManualClock
from core.ids import new_id
from core.secrets import Secrets, new_signing_secret
from db import Database, Transaction
from events import CardOpened, StampAdded, record
from events.base import CardPart, CustomerPart, Event
from events.catalogue import WalletCardPart
from events.stream import Stream
from models import (
    Actor,
    Attempt,
    Business,
    Delivery,
    EventRow,
    LogHead,
    Notice,
    SigningSecret,
    Vocabulary,
    WebhookEndpoint,
)
from webhooks.pusher import Pusher
from webhooks.sender import Sender
from webhooks.signatures import seal

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Got:
    """A request that a receiver got."""

    id: str
    body: bytes
    headers: dict[str, str]


@dataclass
class Receiver:
    """Takes everything, unless `replies` says otherwise: by turn, or by event id."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    turns: list[Any] = field(default_factory=list)
    by_id: dict[str, Any] = field(default_factory=dict)
    delay: float = 0
    at_once: int = 0
    most_at_once: int = 0

    @property
    def ids(self) -> list[str]:
        """The events it got, in their order."""
        return [got.id for got in self.got]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Note the request, and answer."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            event = request.headers["webhook-id"]
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.got.append(Got(event, await request.read(), headers))
            if self.delay:
                await asyncio.sleep(self.delay)
            reply = self.by_id.get(event) or (self.turns.pop(0) if self.turns else 200)
            if callable(reply):
                return await reply(request)  # type: ignore[no-any-return]
            status, headers = reply if isinstance(reply, tuple) else (reply, {})
            return web.Response(status=status, headers=headers, text=f"said {status}")
        finally:
            self.at_once -= 1


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the present until it is moved: receivers check the time."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def make_receiver() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    """Start a receiver on loopback."""
    runners: list[web.AppRunner] = []

    async def make() -> Receiver:
        receiver = Receiver()
        app = web.Application()
        app.router.add_post("/hooks", receiver.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        return receiver

    yield make
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def receiver(make_receiver: Callable[[], Awaitable[Receiver]]) -> Receiver:
    """A receiver that takes everything."""
    return await make_receiver()


@pytest.fixture
async def sender(clock: ManualClock) -> AsyncIterator[Sender]:
    """A sender that may reach loopback, with little patience."""
    made = Sender(clock, allow_insecure=True, deadline=1)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def stream(database: Database) -> AsyncIterator[Stream]:
    """The stream of this process."""
    made = Stream(database, "memory://")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def pusher(
    database: Database, stream: Stream, sender: Sender, secrets: Secrets, clock: ManualClock
) -> Pusher:
    """A pusher without jitter."""
    return Pusher(database, stream, sender, secrets, clock, chance=lambda: 0.5)


@dataclass
class Cafe:
    """A business, with its log and endpoints at hand."""

    database: Database
    secrets: Secrets
    clock: ManualClock
    business: Business
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """The system, in this business."""
        return Actor(self.business)

    async def happens(self, *events: Event) -> list[EventRow]:
        """Record events in the log, in one transaction."""

        async def work(tx: Transaction) -> list[EventRow]:
            for event in events:
                record(tx, self.actor, event, self.clock.now())
            return tx.recorded

        return await self.database.write(self.business.id, work)

    async def endpoint(self, url: str, **values: Any) -> WebhookEndpoint:
        """An endpoint that begins with the first event."""
        now = self.clock.now()
        made = WebhookEndpoint(
            **{
                "id": new_id("we"),
                "business_id": self.business.id,
                "url": url,
                "vocabulary": Vocabulary.EN,
                "cursor_sequence": 0,
                "created_at": now,
                "next_attempt_at": now,
                "lease_until": now,
            }
            | values
        )
        key = self.keys[made.id] = new_signing_secret()
        secret = SigningSecret(
            id=new_id("sec"),
            business_id=self.business.id,
            endpoint_id=made.id,
            ciphertext=seal(self.secrets, made.id, key),
            created_at=now,
        )
        await self.add(made, secret)
        return made

    async def add(self, *rows: Any) -> None:
        """Store rows."""
        await self.database.write(self.business.id, lambda tx: tx.add(*rows))

    async def now_of(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """The endpoint as it is stored."""
        found = await self.database.read(
            self.business.id, lambda tx: tx.get(WebhookEndpoint, endpoint.id)
        )
        assert found
        return found

    async def change(self, endpoint: WebhookEndpoint, **values: Any) -> None:
        """Change the stored endpoint."""
        await self.database.write(self.business.id, lambda tx: tx.change(endpoint, **values))

    async def rows(self, kind: type[Any]) -> list[Any]:
        """Every row of a kind, in the order of sequence and id."""
        from sqlmodel import select  # noqa: PLC0415

        from db import query  # noqa: PLC0415

        found = await self.database.read(None, lambda tx: tx.many(query(select(kind))))
        return sorted(found, key=lambda row: (row.sequence, row.__dict__.get("id", "")))

    async def attempts(self) -> list[Attempt]:
        """Every attempt."""
        return await self.rows(Attempt)

    async def notices(self) -> list[Notice]:
        """Every notice to the owner."""
        from sqlmodel import select  # noqa: PLC0415

        from db import query  # noqa: PLC0415

        return await self.database.read(None, lambda tx: tx.many(query(select(Notice))))

    async def exceptions(self) -> list[Delivery]:
        """Every exception to a cursor."""
        return await self.rows(Delivery)


@pytest.fixture
async def cafe(database: Database, secrets: Secrets, clock: ManualClock) -> Cafe:
    """A business with an empty log."""
    made = Business(
        id=new_id("b"),
        name="Kopi",
        timezone="Asia/Jakarta",
        currency="IDR",
        created_at=clock.now(),
    )

    async def work(tx: Transaction) -> None:
        await tx.add(made, LogHead(business_id=made.id))

    await database.write(None, work)
    return Cafe(database, secrets, clock, made)


@pytest.fixture
def stamp() -> Callable[..., Event]:
    """An event on a card: a stamp."""

    def make(card: str | None = None, customer: str | None = None) -> Event:
        sample = StampAdded.sample()
        parts: dict[str, Any] = {"card": CardPart(id=card or new_id("card"))}
        if customer:
            parts["customer"] = CustomerPart(id=customer, wallet_pass_id=None, language="en")
        return sample.model_copy(update=parts)

    return make


@pytest.fixture
def opening() -> Event:
    """An event of another type: a card is opened."""
    return CardOpened.sample().model_copy(update={"card": WalletCardPart.sample()})
