"""Sweepers that have several things in hand: what is begun is finished, or left to the next."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core import sweeper
from core.sweeper import ManyHanded
from patience import until


class Juggler(ManyHanded[str]):
    """Takes all that waits in hand, and holds it until it is let go."""

    name = "juggler"
    rest_seconds = 60.0
    pause_seconds = 0.0

    def __init__(self, *waiting: str) -> None:
        super().__init__(self._bells)
        self.waiting = list(waiting)
        self.done: list[str] = []
        self.let_go = asyncio.Event()
        self.sweeps = 0

    @contextmanager
    def _bells(self) -> Iterator[asyncio.Event]:
        yield asyncio.Event()

    async def sweep(self) -> int:
        self._news.clear()
        self.sweeps += 1
        if self.sweeps == 1:
            raise OSError("broken")
        taken, self.waiting = self.waiting, []
        for one in taken:
            self._begin(self._hold(one), one)
        return len(taken)

    async def _hold(self, one: str) -> None:
        await self.let_go.wait()
        self.done.append(one)


async def test_a_bell_wakes_it_and_what_is_in_hand_at_its_end_is_finished() -> None:
    juggler = Juggler()
    working = asyncio.create_task(juggler.run())
    await until(lambda: juggler.sweeps == 1)
    juggler.waiting = ["a", "b"]
    juggler._news.set()
    await until(lambda: sorted(juggler._in_hand.values()) == ["a", "b"])
    juggler.stop()
    juggler.let_go.set()
    await working
    assert (sorted(juggler.done), juggler._in_hand) == (["a", "b"], {})


async def test_what_hangs_at_its_end_is_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "DRAIN_SECONDS", 0.01)
    juggler = Juggler("a")
    juggler.sweeps = 1
    working = asyncio.create_task(juggler.run())
    await until(lambda: bool(juggler._in_hand))
    juggler.stop()
    await working
    await until(lambda: juggler._in_hand == {})
    assert juggler.done == []
