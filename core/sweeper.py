"""Sweepers: look for work again and again, until they are told to stop."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, TypeVar

import structlog

from core.metrics import passed

DRAIN_SECONDS = 10.0
"""How long what is in hand may take to its end, once nothing more is begun."""

T = TypeVar("T")
log = structlog.get_logger("stampwire.worker")


class Sweeper(ABC):
    """One of the worker's hands: sweeps while there is something to do, and rests when not."""

    name: ClassVar[str]
    """As logs and metrics call it."""
    rest_seconds: ClassVar[float]

    def __init__(self) -> None:
        self._stop = asyncio.Event()

    @abstractmethod
    async def sweep(self) -> int:
        """Do what waits; says how much that was. What it raises is logged, and tried again."""

    async def run(self) -> None:
        """Sweep until told to stop; the sweep under way is finished."""
        while not self._stop.is_set():
            passed(self.name)
            try:
                did = await self.sweep()
            except Exception as error:  # noqa: BLE001 -- the next sweep may succeed
                log.warning("sweep failed", hand=self.name, error=type(error).__name__)
                did = 0
            if not did:
                await self._rest()

    def stop(self) -> None:
        """Begin nothing more; `run` ends when the sweep under way has ended."""
        self._stop.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self.rest_seconds):
                await self._stop.wait()
        except TimeoutError:
            return


class ManyHanded(Sweeper, Generic[T]):
    """A sweeper that has several things in hand at once, and is woken by a bell.

    Its sweeps begin with `_news.clear()`, and begin what is to be done; they do not wait for its
    end. Each thing in hand has a word of its own: whose it is.
    """

    pause_seconds: ClassVar[float] = 0.05
    """After the bell, which rings at every stamp: what comes together is seen to together."""

    def __init__(self, bell: Callable[[], AbstractContextManager[asyncio.Event]]) -> None:
        super().__init__()
        self._bell = bell
        self._news = asyncio.Event()
        self._in_hand: dict[asyncio.Task[None], T] = {}

    async def run(self) -> None:
        """Sweep until told to stop; what is in hand is finished, or left to the next one."""
        with self._bell() as self._news:
            try:
                await super().run()
            finally:
                await self.drain()

    def stop(self) -> None:
        """Begin nothing more; `run` ends when nothing is in hand."""
        super().stop()
        self._news.set()

    async def finish(self) -> None:
        """Do all that can be done now, and wait until it is done."""
        while await self.sweep() or self._in_hand:
            if self._in_hand:
                await asyncio.wait(self._in_hand)

    async def drain(self) -> None:
        """Finish what is in hand, within ten seconds; a lease that is not let go runs out."""
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=DRAIN_SECONDS)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None], whose: T) -> None:
        """Take something in hand."""
        task = asyncio.create_task(work, name=f"{self.name}: serve")
        self._in_hand[task] = whose
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_hand.pop(task, None)
        self._news.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self.rest_seconds):
                await self._news.wait()
        except TimeoutError:
            return
        if not self._stop.is_set():
            await asyncio.sleep(self.pause_seconds)
