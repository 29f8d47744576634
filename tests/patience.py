"""Waiting until something holds: as long as a busy machine needs, and not a moment longer."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

import pytest

from core.sweeper import ManyHanded

PATIENCE = 20.0
"""Seconds that nothing here takes, even while every core is busy with something else."""


async def until(holds: Callable[[], bool | Awaitable[bool]], patience: float = PATIENCE) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(patience):
        while not await _is_so(holds):  # noqa: ASYNC110 -- what is watched tells nobody
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def carry(hand: ManyHanded[None]) -> int:
    """Have it do all that can be done now; says how much it was, or raises what it died of."""
    done = 0
    while did := await hand.sweep():
        done += did
        await asyncio.gather(*hand._in_hand)
    return done


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker that begins now look what time and campaigns bring every twentieth second."""
    from services.postman import Postman  # noqa: PLC0415 -- few ask for it
    from services.timekeeper import Timekeeper  # noqa: PLC0415 -- see above

    monkeypatch.setattr(Timekeeper, "rest_seconds", 0.05)
    monkeypatch.setattr(Postman, "rest_seconds", 0.05)


async def _is_so(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    told = holds()
    return bool(await told if inspect.isawaitable(told) else told)
