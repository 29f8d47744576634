"""A till's own server on loopback, for as long as a block lasts."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def standing_in(app: Starlette) -> AsyncIterator[str]:
    """Its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as door:
        host = _Quiet(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(host.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            host.should_exit = host.force_exit = True
            await task
