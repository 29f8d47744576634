"""A pusher as a process of its own, to be killed, frozen and stopped; its words are JSON."""

import asyncio
import json
import signal
import sys
from datetime import timedelta

from core.clock import SystemClock
from core.secrets import Secrets
from core.settings import Settings
from db import database_of
from events.stream import Stream
from webhooks.pusher import Pusher
from webhooks.sender import Sender


async def push(settings: Settings, lease: float, deadline: float, leases: int) -> None:
    """Push until SIGTERM."""
    database, clock = database_of(settings), SystemClock()
    await database.open()
    stream = Stream(database, settings.broadcast)
    await stream.open()
    sender = Sender(clock, allow_insecure=True, deadline=deadline)
    await sender.open()
    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    length = timedelta(seconds=lease)
    pusher = Pusher(database, stream, sender, secrets, clock, lease=length, leases=leases)
    if settings.is_sqlite:
        await pusher.take_over()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pusher.stop)
    sys.stdout.write(f"ready: {pusher.owner}\n")
    sys.stdout.flush()
    await pusher.run()
    await sender.close()
    await stream.close()
    await database.close()


def main() -> None:
    """Push as the command's only word says."""
    given = json.loads(sys.argv[1])
    asyncio.run(
        push(Settings(**given["settings"]), given["lease"], given["deadline"], given["leases"])
    )
