"""The worker: what backlogs and time cause, inside the server or in processes of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from resolvers.context import Deployment
from services.housekeeping import keep_house
from services.importer import Importer
from services.postman import Postman
from services.timekeeper import Timekeeper
from webhooks.pusher import Pusher

_HOUSEKEEPING_SECONDS = 3_600.0

log = structlog.get_logger("stampwire.worker")


class Hand(Protocol):
    """Somebody who works until told to stop, and then finishes what is in flight."""

    async def run(self) -> None:
        """Work."""
        ...

    def stop(self) -> None:
        """Begin nothing more."""
        ...


@asynccontextmanager
async def working(deployment: Deployment) -> AsyncIterator[None]:
    """Work for as long as the block lasts; what is in flight at its end is finished."""
    hands: list[Hand] = [
        await _pusher(deployment),
        await _timekeeper(deployment),
        await _postman(deployment),
        await _importer(deployment),
        Housekeeper(deployment),
    ]
    tasks = [asyncio.create_task(hand.run(), name=type(hand).__name__) for hand in hands]
    try:
        yield
    finally:
        for hand in hands:
            hand.stop()
        await asyncio.gather(*tasks)


async def _pusher(deployment: Deployment) -> Pusher:
    pusher = Pusher(
        deployment.database,
        deployment.stream,
        deployment.sender,
        deployment.secrets,
        deployment.clock,
    )
    if deployment.settings.is_sqlite:  # one process at a time: nobody waits for a dead one's leases
        await pusher.take_over()
    return pusher


async def _timekeeper(deployment: Deployment) -> Timekeeper:
    timekeeper = Timekeeper(deployment.database, deployment.clock)
    if deployment.settings.is_sqlite:
        await timekeeper.take_over()
    return timekeeper


async def _postman(deployment: Deployment) -> Postman:
    postman = Postman(
        deployment.database,
        deployment.stream,
        deployment.channels,
        deployment.clock,
        deployment.settings.url,
    )
    if deployment.settings.is_sqlite:
        await postman.take_over()
    return postman


async def _importer(deployment: Deployment) -> Importer:
    importer = Importer(deployment.database, deployment.clock)
    if deployment.settings.is_sqlite:
        await importer.take_over()
    return importer


class Housekeeper:
    """Throws away, once an hour, what was promised to be kept only for a while."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Keep house until told to stop."""
        while not self._stopped.is_set():
            try:
                await keep_house(self._deployment.database, self._deployment.clock.now())
            except Exception as error:  # noqa: BLE001 -- the next hour may be better
                log.warning("house not kept", error=type(error).__name__)
            try:
                async with asyncio.timeout(_HOUSEKEEPING_SECONDS):
                    await self._stopped.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """End at once: each of its steps stands alone."""
        self._stopped.set()
