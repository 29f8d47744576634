"""Waiting until something holds."""

import asyncio
import time
from collections.abc import Callable


async def until(holds: Callable[[], bool], patience: float = 10) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(patience):
        while not holds():  # noqa: ASYNC110 -- what is watched tells nobody
            await asyncio.sleep(0.01)
    return time.monotonic() - began
