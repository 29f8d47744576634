"""The way out by HTTP: bounded, guarded, and true about whether a request may have arrived."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from backends import free_port
from fakes.raw import Serve, always, speaking
from integrations.http import NoAnswer, NotReached, Outgoing, Reply


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers that speak bytes."""
    async with speaking() as start:
        yield start


@pytest.fixture
async def outgoing() -> AsyncIterator[Outgoing]:
    """The way out, to loopback too."""
    made = Outgoing(allow_insecure=True)
    yield made
    await made.close()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer in bytes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_it_tells_the_status_the_headers_and_the_body(
    serve: Serve, outgoing: Outgoing
) -> None:
    url = await serve(always(answer(b'{"a":1}', "201 Created", "X-Word: yes")))

    reply = await outgoing.request("POST", url, json={"b": 2})

    assert (reply.status, reply.is_good, reply.json()) == (201, True, {"a": 1})
    assert reply.headers["x-word"] == "yes"
    assert "yes" not in repr(reply)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff"])
async def test_what_is_no_json_is_none(serve: Serve, outgoing: Outgoing, body: bytes) -> None:
    reply = await outgoing.request("GET", await serve(always(answer(body, "500 Oh"))))

    assert (reply.status, reply.is_good, reply.json()) == (500, False, None)


async def test_it_sends_what_it_is_told(outgoing: Outgoing) -> None:
    got: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        body = await reader.readexactly(int(size[0].split(b":")[1])) if size else b""
        got.append(head + body)
        writer.write(answer(b"{}"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?a=1"
    await outgoing.request("GET", url, params={"b": "2 3"}, headers={"X-Key": "k"})
    await outgoing.request("POST", url, json={"a": 1})
    await outgoing.request("POST", url, form={"a": "1 2"})
    await outgoing.request("POST", url, multipart={"a": "1"})
    server.close()

    assert got[0].startswith(b"GET /x?a=1&b=2+3 ")
    assert b"X-Key: k" in got[0]
    assert got[1].endswith(b'\r\n\r\n{"a":1}')
    assert b"application/json" in got[1].lower()
    assert got[2].endswith(b"a=1+2")
    assert b"multipart/form-data" in got[3].lower()


@pytest.mark.parametrize("length", [1_000_000, 1_000_001])
async def test_an_answer_has_at_most_a_million_bytes(
    serve: Serve, outgoing: Outgoing, length: int
) -> None:
    url = await serve(always(answer(b"x" * length)))

    if length <= 1_000_000:
        assert len((await outgoing.request("GET", url)).body) == length
    else:
        with pytest.raises(NoAnswer, match="too long"):
            await outgoing.request("GET", url)


async def test_a_redirect_is_not_followed(serve: Serve, outgoing: Outgoing) -> None:
    inner = await serve(always(answer(b"inner")))
    url = await serve(always(answer(b"", "302 Found", f"Location: {inner}")))

    assert (await outgoing.request("GET", url)).status == 302


async def test_who_does_not_answer_is_left_at_the_deadline(serve: Serve) -> None:
    outgoing = Outgoing(allow_insecure=True, deadline=0.1)

    async def dawdle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    for handler in (dawdle, drip):
        with pytest.raises(NoAnswer):
            await outgoing.request("GET", await serve(handler))
    await outgoing.close()


async def test_where_nobody_listens_nothing_arrived(outgoing: Outgoing) -> None:
    with pytest.raises(NotReached):
        await outgoing.request("POST", f"http://127.0.0.1:{free_port()}/")


async def test_where_the_line_breaks_it_may_have_arrived(serve: Serve, outgoing: Outgoing) -> None:
    for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"):
        with pytest.raises(NoAnswer):
            await outgoing.request("POST", await serve(always(said)), body=b"{}")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "x",
     "https://169.254.169.254/", "https://localhost/", "https://user:pw@example.com/"],
)  # fmt: skip
async def test_no_inner_address_is_asked(url: str) -> None:
    outgoing = Outgoing()

    with pytest.raises(ValueError):  # noqa: PT011 -- whatever is wrong with it
        await outgoing.request("GET", url)


async def test_no_name_that_leads_inside_is_asked() -> None:
    class Leads(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
                )
            ]

        async def close(self) -> None:
            return

    outgoing = Outgoing(resolver=Leads())
    with pytest.raises(NotReached):
        await outgoing.request("GET", "https://till.example.com/")
    await outgoing.close()


def test_no_error_tells_the_address() -> None:
    async def ask() -> None:
        outgoing = Outgoing(allow_insecure=True)
        try:
            await outgoing.request("GET", f"http://127.0.0.1:{free_port()}/?token=secret")
        finally:
            await outgoing.close()

    with pytest.raises(NotReached) as told:
        asyncio.run(ask())

    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("999999999999", 86_400.0), ("-1", None), ("", None),
     ("soon", None), ("1.5", None), ("\u0667", None), ("Mon, 02 Mar 2020 12:00:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after_is_seconds(text: str, seconds: float | None) -> None:
    assert Reply(status=429, headers={"retry-after": text}, body=b"").retry_after == seconds


def test_retry_after_is_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)

    waits = Reply(status=503, headers={"retry-after": later}, body=b"").retry_after

    assert waits is not None
    assert 90 < waits <= 100


def test_without_retry_after_nothing_is_told() -> None:
    assert Reply(status=503, headers={}, body=b"").retry_after is None
