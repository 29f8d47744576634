"""A TCP proxy that does harm on command: it delays, cuts, goes silent, or refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

from backends import free_port


class FaultProxy:
    """Stands between a client and a server on this machine; forwards until told otherwise."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self.delay = 0.0
        """Seconds by which everything is late, both ways."""
        self.cut_after: bytes | None = None
        """Cut a client off right after this went to the server: it never learns the answer."""
        self.accepted = 0
        """Connections that were let in so far."""
        self.cuts = 0
        """Clients that were cut off so."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._door: asyncio.Server | None = None
        self._wires: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.admit()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection there is; new ones are let in."""
        for wire in [*self._wires]:
            wire.transport.abort()

    def silence(self) -> None:
        """Keep every connection and let new ones in, but forward nothing: half-open."""
        self._flows.clear()

    def resume(self) -> None:
        """Forward again, also what has waited."""
        self._flows.set()

    def abandon(self) -> None:
        """Keep the connections there are and forward nothing more on them; new ones are well."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def refuse(self) -> None:
        """Let nobody in any more; the connections there are stay."""
        if self._door is not None:
            self._door.close()
            self._door = None

    async def admit(self) -> None:
        """Let clients in again."""
        if self._door is None:
            self._door = await asyncio.start_server(self._let_in, "127.0.0.1", self.port)

    @contextlib.asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        """Be silent for as long as the block lasts."""
        self.silence()
        try:
            yield
        finally:
            self.resume()

    def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._keep(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wires.add(writer)
        flows = self._flows
        try:
            await flows.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            self._wires.add(far)
            try:
                ways = (
                    self._forward(reader, far, flows, writer),
                    self._forward(far_reader, writer, flows),
                )
                tasks = [asyncio.create_task(way) for way in ways]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                self._wires.discard(far)
                far.transport.abort()
        except OSError:
            pass  # the server is gone: so is the client's connection
        finally:
            self._wires.discard(writer)
            writer.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flows: asyncio.Event,
        client: asyncio.StreamWriter | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await flows.wait()
                writer.write(data)
                await writer.drain()
                if client is not None and self.cut_after and self.cut_after in data:
                    self.cuts += 1
                    client.transport.abort()
                    await asyncio.sleep(0.02)  # the server has it, and does it

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
