"""A sweeper: looks for work again and again, until it is told to stop."""

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar

import structlog

from core.metrics import passed

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
