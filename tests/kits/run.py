"""Runs the kit of the subscriber for Python and says what it is told, a line of JSON each."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any


def say(told: Any) -> None:
    """Say something."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def main(kit: str, url: str, token: str, cursor: str) -> None:
    """Follow until the rights have ended."""
    sys.path.insert(0, str(Path(kit).parent))
    from follow import follow  # noqa: PLC0415 -- the kit is where the tests say

    async def handle(event: Any) -> None:
        say({"cursor": event["cursor"], "payload": event["payload"]})

    await follow(
        url,
        token,
        cursor,
        handle,
        lambda after, oldest: say({"missed": [after, oldest]}),
        ping_every=0.4,
    )
    say({"ended": True})


asyncio.run(main(*sys.argv[1:]))
