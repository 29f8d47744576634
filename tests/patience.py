"""Waiting until something holds: as long as a busy machine needs, and not a moment longer."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE = 20.0
"""Seconds that nothing here takes, even while every core is busy with something else."""


async def until(holds: Callable[[], bool | Awaitable[bool]], patience: float = PATIENCE) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(patience):
        while not await _is_so(holds):  # noqa: ASYNC110 -- what is watched tells nobody
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _is_so(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    told = holds()
    return bool(await told if inspect.isawaitable(told) else told)
