"""A café with a log and endpoints, receivers on loopback, and receivers in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from sqlmodel import select

from core.clock import ManualClock
from core.ids import new_id
from core.secrets import Secrets, new_signing_secret
from db import Database, Transaction, query
from events import CardOpened, StampAdded, record
from events.base import CardPart, CustomerPart, Event
from events.catalogue import WalletCardPart
from events.stream import Stream
from factories import a_card, a_card_template, an_award_goal
from models import (
    Actor,
    Attempt,
    Business,
    Delivery,
    EndpointStatus,
    EventRow,
    LogHead,
    Notice,
    Rendering,
    SigningSecret,
    Vocabulary,
    WebhookEndpoint,
)
from services.audit import audit, audited
from webhooks.parcels import Parcel
from webhooks.pusher import Pusher
from webhooks.sender import Answer, Sender
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


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    """Start receivers on loopback, for as long as the block lasts."""
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
        found = await self.database.read(None, lambda tx: tx.many(query(select(kind))))
        return sorted(found, key=lambda row: (row.sequence, row.__dict__.get("id", "")))

    async def endpoints(self) -> list[WebhookEndpoint]:
        """Every endpoint."""
        return await self.database.read(None, lambda tx: tx.many(query(select(WebhookEndpoint))))

    async def attempts(self) -> list[Attempt]:
        """Every attempt."""
        return await self.rows(Attempt)

    async def notices(self) -> list[Notice]:
        """Every notice to the owner."""
        return await self.database.read(None, lambda tx: tx.many(query(select(Notice))))

    async def exceptions(self) -> list[Delivery]:
        """Every exception to a cursor."""
        return await self.rows(Delivery)

    async def renderings(self) -> list[Rendering]:
        """Everything that documents came to and that is still kept."""
        return await self.rows(Rendering)


async def found_cafe(database: Database, secrets: Secrets, clock: Any) -> Cafe:
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


def a_stamp(card: str | None = None, customer: str | None = None) -> Event:
    """An event on a card: a stamp."""
    parts: dict[str, Any] = {"card": CardPart(id=card or new_id("card"))}
    if customer:
        parts["customer"] = CustomerPart(id=customer, wallet_pass_id=None, language="en")
    return StampAdded.sample().model_copy(update=parts)


BROKEN = "broken"
"""A text that is no document."""


def an_opening(card: str | None = None) -> Event:
    """An event on a card that tells of no other row, so that the auditor misses none."""
    part = WalletCardPart.sample().model_copy(update={"id": card or new_id("card")})
    return CardOpened.sample().model_copy(update={"card": part})


async def a_known_card(cafe: Cafe) -> str:
    """The id of a card that the café has really issued."""
    template = await a_card_template(cafe.database, cafe.actor, 50, [an_award_goal(50)])
    return (await a_card(cafe.database, cafe.actor, template.id)).id


async def findings(database: Database) -> list[str]:
    """What the auditor finds, in every business."""
    found: list[str] = []
    for business in await audited(database):
        await audit(database, business, lambda finding: found.append(str(finding)))
    return found


class FakeDocuments:
    """Stands in for the execution of documents: `said` is what a document makes of an event."""

    def __init__(self) -> None:
        self.said: Callable[[Actor, str, EventRow], str | None] = lambda _, text, event: (
            f'{{"{text}":{event.sequence}}}'
        )
        self.during: Callable[[], Awaitable[Any]] | None = None
        self.asked: list[int] = []
        self.actors: list[Actor] = []

    def check(self, text: str) -> None:
        """Everything is a document but BROKEN."""
        if text == BROKEN:
            raise ValueError("This is no document.")

    async def render(self, actor: Actor, text: str, event: EventRow) -> str | None:
        """What `said` says."""
        self.asked.append(event.sequence)
        self.actors.append(actor)
        if self.during is not None:
            await self.during()
        return self.said(actor, text, event)


@dataclass
class Sent:
    """A request in virtual time."""

    at: datetime
    parcel: Parcel


class VirtualSender(Sender):
    """Sends nothing: what a receiver says is a function of the parcel and the moment."""

    def __init__(self, clock: ManualClock, replies: Callable[[Parcel, datetime], Any]) -> None:
        super().__init__(clock)
        self.clock = clock
        self.replies = replies
        self.sent: list[Sent] = []

    @property
    def times(self) -> list[datetime]:
        """When each request left."""
        return [sent.at for sent in self.sent]

    async def send(self, parcel: Parcel) -> Answer:
        at = self.clock.now()
        self.sent.append(Sent(at, parcel))
        await asyncio.sleep(0)
        said = self.replies(parcel, at)
        values = said if isinstance(said, dict) else {"status": said}
        return Answer(at, 1, **values)


class VirtualTime:
    """Pushers whose clock moves only when they wait."""

    def __init__(
        self, cafe: Cafe, stream: Stream, clock: ManualClock, sender: VirtualSender
    ) -> None:
        self.cafe = cafe
        self.stream = stream
        self.clock = clock
        self.sender = sender

    def pusher(self, **options: Any) -> Pusher:
        """A worker without jitter."""
        cafe = self.cafe
        return Pusher(
            cafe.database,
            self.stream,
            self.sender,
            cafe.secrets,
            self.clock,
            **{"chance": lambda: 0.5, "time": self._time, "sleep": self._sleep, **options},
        )

    async def pass_by(
        self, endpoint: WebhookEndpoint, *pushers: Pusher, until: datetime
    ) -> WebhookEndpoint:
        """Let these workers serve an endpoint by turns, and time pass wherever nothing is due."""
        while True:
            for pusher in pushers:
                if await pusher.sweep():
                    break
            else:
                now = await self.cafe.now_of(endpoint)
                due = [now.next_attempt_at, now.retry_due_at]
                later = [moment for moment in due if moment and moment > self.clock.now()]
                if now.status is not EndpointStatus.ACTIVE or not later or min(later) > until:
                    return now
                self.clock.moment = min(later)
            if self.clock.now() > until:
                return await self.cafe.now_of(endpoint)
            pushers = (*pushers[1:], pushers[0])

    def _time(self) -> float:
        return self.clock.now().timestamp()

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)
