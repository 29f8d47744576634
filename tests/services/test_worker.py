"""The worker's end: each of its hands finishes what it has in hand."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import worker


class Hand:
    """Works until told to stop; then it ends badly, or takes a moment."""

    def __init__(self, *, is_bad: bool) -> None:
        self.is_bad = is_bad
        self.has_finished = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work."""
        await self._stop.wait()
        if self.is_bad:
            raise ConnectionError
        for _ in range(5):
            await asyncio.sleep(0)
        self.has_finished = True

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop.set()


async def test_one_that_ends_badly_does_not_cut_the_others_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = Hand(is_bad=True), Hand(is_bad=False)
    monkeypatch.setattr(worker, "_hands", lambda _: [bad, good])

    deployment: Any = SimpleNamespace(settings=SimpleNamespace(is_sqlite=False))
    async with worker.working(deployment):
        await asyncio.sleep(0)

    assert good.has_finished
