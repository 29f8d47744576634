"""Loaders: who stops asking stops nobody else."""

import asyncio
from collections.abc import Sequence

from resolvers.loaders import Loader


async def test_one_who_stops_asking_stops_nobody_who_asked_for_the_same() -> None:
    """Two subscriptions of a socket share its loaders; one of them is completed."""
    go_on = asyncio.Event()

    async def load(keys: Sequence[str]) -> dict[str, str]:
        await go_on.wait()
        return {key: key.upper() for key in keys}

    loader: Loader[str, str] = Loader(load)

    async def ask() -> str | None:
        return await loader.get("a")

    first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()

    assert await second == "A"
    assert first.cancelled()
