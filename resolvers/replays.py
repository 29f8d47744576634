"""Replays: from a field to its operation."""

from core.errors import NotFound
from db import Transaction
from models import Replay
from resolvers.context import Context
from resolvers.perform import performs
from services import replays

replay_events = performs(replays.replay_events)
stop_replay = performs(replays.stop_replay)


async def replay(context: Context, id: str) -> Replay | None:
    """A replay, None if there is none, or none that the caller may see."""
    actor = context.actor

    async def work(tx: Transaction) -> Replay | None:
        try:
            return await replays.find_replay(tx, actor, id)
        except NotFound:
            return None

    return await context.read(work)
