"""The fault proxy itself: each kind of harm it does is the one that was asked for."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from faults.proxy import FaultProxy

pytestmark = pytest.mark.on("sqlite")


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says everything back."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        yield port


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(echo) as made:
        yield made


class Caller:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, said: bytes, patience: float = 2) -> bytes:
        self.writer.write(said)
        async with asyncio.timeout(patience):
            return await self.reader.read(1024)


@contextlib.asynccontextmanager
async def calling(proxy: FaultProxy) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Caller(reader, writer)
    writer.transport.abort()


async def test_it_forwards(proxy: FaultProxy) -> None:
    async with calling(proxy) as one, calling(proxy) as other:
        assert await one.ask(b"one") == b"one"
        assert await other.ask(b"other") == b"other"
    assert proxy.accepted == 2


async def test_it_delays_both_ways(proxy: FaultProxy) -> None:
    async with calling(proxy) as caller:
        proxy.delay = 0.05
        began = time.monotonic()
        assert await caller.ask(b"late") == b"late"
        assert time.monotonic() - began >= 0.1


async def test_it_cuts_what_there_is_and_lets_in_what_comes(proxy: FaultProxy) -> None:
    async with calling(proxy) as caller:
        await caller.ask(b"hello")
        proxy.cut()
        with contextlib.suppress(ConnectionResetError):
            assert await caller.ask(b"still there?") == b""
    async with calling(proxy) as caller:
        assert await caller.ask(b"again") == b"again"


async def test_it_goes_silent_and_nothing_is_closed(proxy: FaultProxy) -> None:
    async with calling(proxy) as caller:
        await caller.ask(b"hello")
        async with proxy.silent():
            with pytest.raises(TimeoutError):
                await caller.ask(b"anybody?", patience=0.1)
            async with calling(proxy) as newcomer:
                with pytest.raises(TimeoutError):
                    await newcomer.ask(b"anybody?", patience=0.1)
            assert not caller.reader.at_eof()
        async with asyncio.timeout(2):
            assert await caller.reader.read(1024) == b"anybody?"


async def test_it_abandons_what_there_is_and_serves_newcomers(proxy: FaultProxy) -> None:
    async with calling(proxy) as caller:
        await caller.ask(b"hello")
        proxy.abandon()
        with pytest.raises(TimeoutError):
            await caller.ask(b"anybody?", patience=0.1)
        async with calling(proxy) as newcomer:
            assert await newcomer.ask(b"anybody?") == b"anybody?"


async def test_it_lets_a_request_through_and_not_its_answer(proxy: FaultProxy) -> None:
    proxy.cut_after = b"COMMIT"
    async with calling(proxy) as caller:
        assert await caller.ask(b"BEGIN") == b"BEGIN"
        with contextlib.suppress(ConnectionResetError):
            assert await caller.ask(b"COMMIT") == b""
    assert proxy.cuts == 1


async def test_it_refuses_newcomers_and_keeps_who_is_there(proxy: FaultProxy) -> None:
    async with calling(proxy) as caller:
        await caller.ask(b"hello")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await caller.ask(b"still there?") == b"still there?"
    await proxy.admit()
    async with calling(proxy) as caller:
        assert await caller.ask(b"again") == b"again"


async def test_a_server_that_is_gone_closes_the_connection(proxy: FaultProxy) -> None:
    async with FaultProxy(proxy.target) as further:
        await proxy.refuse()
        further.target = proxy.port
        async with calling(further) as caller:
            with contextlib.suppress(ConnectionResetError):
                assert await caller.ask(b"anybody?") == b""
