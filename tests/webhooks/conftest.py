"""What tests of webhooks start from: a café with a log, receivers on loopback, and a pusher."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from cafes import Cafe, FakeDocuments, Receiver, a_stamp, found_cafe, receiving
from core.clock import ManualClock
from core.secrets import Secrets
from db import Database
from events import CardOpened
from events.base import Event
from events.catalogue import WalletCardPart
from events.stream import Stream
from webhooks.pusher import Pusher
from webhooks.sender import Sender


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the present until it is moved: receivers check the time."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def make_receiver() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    """Start a receiver on loopback."""
    async with receiving() as make:
        yield make


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
def documents() -> FakeDocuments:
    """What executes documents."""
    return FakeDocuments()


@pytest.fixture
def pusher(
    database: Database,
    stream: Stream,
    sender: Sender,
    secrets: Secrets,
    clock: ManualClock,
    documents: FakeDocuments,
) -> Pusher:
    """A pusher without jitter."""
    return Pusher(database, stream, sender, secrets, clock, documents=documents, chance=lambda: 0.5)


@pytest.fixture
async def cafe(database: Database, secrets: Secrets, clock: ManualClock) -> Cafe:
    """A business with an empty log."""
    return await found_cafe(database, secrets, clock)


@pytest.fixture
def stamp() -> Callable[..., Event]:
    """An event on a card: a stamp."""
    return a_stamp


@pytest.fixture
def opening() -> Event:
    """An event of another type: a card is opened."""
    return CardOpened.sample().model_copy(update={"card": WalletCardPart.sample()})
