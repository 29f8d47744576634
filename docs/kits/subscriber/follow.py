"""Following the events with gql: nothing missed, nothing twice, whatever becomes of the line."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from gql import Client, gql
from gql.transport.exceptions import (
    TransportClosed,
    TransportConnectionFailed,
    TransportQueryError,
    TransportServerError,
)
from gql.transport.websockets import WebsocketsTransport

RIGHTS_ENDED = 4403
LINE_IS_DEAD = (TransportConnectionFailed, TransportClosed, TransportServerError, TimeoutError)
EVENTS = """subscription($after: String) {
    events(after: $after) { cursor type payload } }"""


async def follow(
    url: str,
    secret: str,
    cursor: str | None,
    handle: Callable[[Any], Awaitable[None]],
    missed: Callable[[str | None, str], None],
    ping_every: float = 10,
) -> None:
    """Handle each event beyond a cursor; returns when our rights have ended (4403).

    `handle` does its work and keeps `event["cursor"]` with it. `missed(after, oldest)` is told when
    the log no longer goes back to the cursor (CURSOR_EXPIRED).
    """
    tries = 0
    while True:
        # A machine that slept holds a dead line: a ping without an answer tells.
        transport = WebsocketsTransport(
            url=url,
            subprotocols=["graphql-transport-ws"],
            init_payload={"Authorization": f"Bearer {secret}"},
            ping_interval=ping_every,
            pong_timeout=ping_every / 2,
        )
        try:
            async with Client(transport=transport) as session:
                asked = gql(EVENTS)
                asked.variable_values = {"after": cursor}
                async for told in session.subscribe(asked):
                    await handle(told["events"])
                    cursor, tries = told["events"]["cursor"], 0
        except TransportQueryError as error:
            oldest = oldest_cursor(error)
            if oldest is None:
                raise
            missed(cursor, oldest)
            cursor = oldest
            continue
        except LINE_IS_DEAD as error:
            if close_code(error) == RIGHTS_ENDED:
                return
        # 1012 (the server restarts), 4008 (we were too slow), 1006 (the line is cut): again.
        await asyncio.sleep(random.random() * min(30, 0.5 * 2 ** min(tries, 10)))  # noqa: S311 -- no secret
        tries += 1


def oldest_cursor(error: TransportQueryError) -> str | None:
    """Where the log begins now, if an error is CURSOR_EXPIRED."""
    for told in error.errors or []:
        extensions = told.get("extensions") or {}
        if extensions.get("code") == "CURSOR_EXPIRED":
            return str(extensions["oldestCursor"])
    return None


def close_code(error: BaseException | None) -> int | None:
    """The code with which the server closed the socket."""
    while error is not None:
        received = getattr(error, "rcvd", None)
        if received is not None:
            return int(received.code)
        error = error.__cause__
    return None
