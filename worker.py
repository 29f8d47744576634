"""The worker: what backlogs and time cause, inside the server or in processes of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

import structlog

from core.metrics import LAST_PASS
from core.sweeper import Sweeper
from integrations.mail import Mailer
from resolvers.context import Deployment
from services.cashier import Cashier
from services.housekeeping import keep_house
from services.importer import Importer
from services.join_mails import JoinPost
from services.notices import NoticePost
from services.pass_keeper import PassKeeper
from services.postman import Postman
from services.timekeeper import Timekeeper
from webhooks.pusher import Pusher
from webhooks.replays import Replayer

log = structlog.get_logger("stampwire.worker")


class Hand(Protocol):
    """Somebody who works until told to stop, and then finishes what is in flight."""

    async def run(self) -> None:
        """Work."""
        ...

    def stop(self) -> None:
        """Begin nothing more."""
        ...


@runtime_checkable
class Leaseholder(Protocol):
    """Somebody who holds leases, for which others wait when it dies."""

    async def take_over(self) -> None:
        """Release every lease, whoever holds it."""
        ...


@asynccontextmanager
async def working(deployment: Deployment) -> AsyncIterator[None]:
    """Work for as long as the block lasts; what is in flight at its end is finished."""
    hands = _hands(deployment)
    if deployment.settings.is_sqlite:
        # One process at a time: whoever held a lease is dead.
        for hand in hands:
            if isinstance(hand, Leaseholder):
                await hand.take_over()
    tasks = [asyncio.create_task(hand.run(), name=type(hand).__name__) for hand in hands]
    try:
        yield
    finally:
        for hand in hands:
            hand.stop()
        # Each to its own end: the others still need the database when one has ended badly.
        for task, end in zip(
            tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True
        ):
            if isinstance(end, BaseException):
                log.error("hand ended badly", hand=task.get_name(), error=type(end).__name__)
        LAST_PASS.values.clear()


def _hands(deployment: Deployment) -> list[Hand]:
    database, clock, settings = deployment.database, deployment.clock, deployment.settings
    stream, sender, secrets = deployment.stream, deployment.sender, deployment.secrets
    hands: list[Hand] = [
        Pusher(database, stream, sender, secrets, clock, documents=deployment.documents),
        Replayer(database, sender, secrets, deployment.documents, clock),
        Timekeeper(database, clock),
        Postman(database, stream, deployment.channels, clock, settings.url),
        Importer(database, clock),
        JoinPost(database, deployment.channels, secrets, clock, settings.url),
        Cashier(database, stream, deployment.outgoing, secrets, clock, settings.url),
        Housekeeper(deployment),
    ]
    if deployment.wallets.all:
        hands.append(PassKeeper(database, stream, deployment.wallets, clock, settings.url))
    if (mailer := Mailer.of(settings)) is not None:
        hands.append(NoticePost(database, mailer, clock, settings.url))
    return hands


class Housekeeper(Sweeper):
    """Throws away, once an hour, what was promised to be kept only for a while."""

    name = "housekeeper"
    rest_seconds = 3_600.0

    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self._deployment = deployment

    async def sweep(self) -> int:
        """Keep house once: each of its steps stands alone. Says that it may rest."""
        deployment = self._deployment
        await keep_house(deployment.database, deployment.clock.now(), self._stop.is_set)
        return 0
