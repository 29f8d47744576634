"""Figures: from a field to what was counted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from events.log import head_of
from resolvers.context import Context
from services import overview as figures
from services.overview import Asked, Overview, Pulse

PULSES_APART = 0.4
"""Seconds between two pulses of one subscription: what happens meanwhile is told together."""


async def overview(context: Context, asked: Asked) -> Overview:
    """The dashboard's start page, in one read."""
    actor, now = context.actor, context.now
    return await context.read(lambda tx: figures.overview(tx, actor, asked, now))


async def pulse(context: Context) -> AsyncIterator[Pulse]:
    """Today's figures now, and whenever they changed; a new day begins within half a minute."""
    told: Pulse | None = None
    with context.deployment.stream.follow(context.actor.business_id) as follower:
        while True:
            head, now = await _look(context)
            if now != told:
                told = now
                yield now
            await asyncio.sleep(PULSES_APART)
            await follower.news(head)


async def _look(context: Context) -> tuple[int, Pulse]:
    """How far the log reaches, and today's figures then or later."""

    async def work(tx: Any) -> tuple[int, Pulse]:
        # The head is read first: all up to it is counted in what is read next.
        head = (await head_of(tx)).sequence
        return head, await figures.pulse(tx, context.actor, context.now)

    return await context.read(work)
