"""Loaders: what many fields ask for in one turn of the event loop is read at once.

Nothing is remembered between turns, so a loader may live as long as a socket and never goes
stale. (The loaders of the GraphQL libraries either cache for ever or need rebuilding for each
event of a subscription.)
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Loader(Generic[K, V]):
    """Collects keys until the turn ends, then loads them together."""

    def __init__(self, load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._load = load
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: K) -> "asyncio.Future[V | None]":
        """What belongs to the key, None if nothing does."""
        known = self._asked.get(key)
        if known is not None:
            return asyncio.shield(known)
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)
        known = self._asked[key] = loop.create_future()
        # Whoever stops waiting takes it away from nobody else.
        return asyncio.shield(known)

    def give_up(self) -> None:
        """Nobody waits for anything any more."""
        for task in self._tasks:
            task.cancel()

    def _start(self) -> None:
        task = asyncio.ensure_future(self._answer(self._asked))
        self._asked = {}
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: dict[K, "asyncio.Future[V | None]"]) -> None:
        try:
            found = await self._load(list(asked))
        except Exception as error:  # noqa: BLE001 -- handed to every field that asked
            for future in asked.values():
                if not future.done():
                    future.set_exception(error)
            return
        for key, future in asked.items():
            if not future.done():
                future.set_result(found.get(key))
