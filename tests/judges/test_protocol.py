"""Our own list of graphql-transport-ws and of GraphQL over HTTP: a regression suite, no verdict."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import pytest
import websockets

from clients import Client
from core.settings import Settings
from judges.points import (
    ACK,
    EXCHANGES,
    HEAR,
    INIT,
    KEY,
    ORIGIN,
    POINTS,
    TRANSPORT_WS,
    Exchanged,
    Point,
)

pytestmark = pytest.mark.on("sqlite")
_LAST = {"type": "ping", "payload": {"last": True}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Who says nothing is let go sooner than in earnest."""
    return settings.model_copy(update={"init_seconds": 2.0})


def _written(frame: Any, client: Client) -> str | bytes:
    if isinstance(frame, bytes):
        return frame
    return (frame if isinstance(frame, str) else json.dumps(frame)).replace(KEY, client.key or "")


def _says(message: Any, least: Any) -> bool:
    """Whether a message says at least this."""
    if isinstance(least, dict):
        return isinstance(message, dict) and all(
            name in message and _says(message[name], said) for name, said in least.items()
        )
    if isinstance(least, list):
        return len(message) == len(least) and all(map(_says, message, least))
    return bool(message == least)


async def _hear(wire: websockets.ClientConnection, point: Point, said: list[Any]) -> None:
    """Add what comes until the socket closes, or until the answer to a last ping."""
    try:
        while True:
            if point.code is None and len(said) == len(point.told):
                await wire.send(json.dumps(_LAST))
            message = json.loads(await wire.recv())
            if message.get("payload") == _LAST["payload"]:
                return
            said.append(message)
    except websockets.ConnectionClosed:
        await wire.wait_closed()


async def _try(point: Point, client: Client) -> str:
    """What is wrong with a point, nothing if it holds."""
    server = client.server
    try:
        async with (
            asyncio.timeout(20),
            websockets.connect(
                server.socket,
                subprotocols=[websockets.Subprotocol(name) for name in point.offers] or None,
                origin=websockets.Origin(point.origin.replace(ORIGIN, server.url))
                if point.origin
                else None,
                compression=None,
            ) as wire,
        ):
            if point.greets:
                await wire.send(_written(INIT, client))
                assert json.loads(await wire.recv()) == ACK
            said: list[Any] = []
            try:
                for frame in point.send:
                    if frame is HEAR:
                        said.append(json.loads(await wire.recv()))
                    else:
                        await wire.send(_written(frame, client))
            except websockets.ConnectionClosed:
                pass
            await _hear(wire, point, said)
            agreed = wire.subprotocol
            code = wire.close_code
    except websockets.InvalidStatus as refused:
        status = refused.response.status_code
        return "" if status == point.status else f"refused with {status}"
    except TimeoutError:
        return "nothing came"
    if point.status is not None:
        return "it was let in"
    if code != point.code:
        return f"closed with {code}, after {said}"
    if not _says(said, [*point.told]):
        return f"it said {said}"
    return "" if code == 4406 or agreed == TRANSPORT_WS else f"agreed on {agreed}"


async def _in_turns(tries: Iterable[Any]) -> list[Any]:
    few = asyncio.Semaphore(20)

    async def one(what: Any) -> Any:
        async with few:
            return await what

    return await asyncio.gather(*map(one, tries))


async def test_all_66_points_of_graphql_transport_ws_hold(
    house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    faults = await _in_turns(_try(point, house.owner) for point in POINTS)

    wrong = {point.name: fault for point, fault in zip(POINTS, faults, strict=True) if fault}
    assert wrong == {}
    assert len({point.name for point in POINTS}) == 66
    assert [record for record in caplog.records if record.exc_info] == []


async def _ask(point: Exchanged, client: Client) -> str:
    """What is wrong with a point, nothing if it holds."""
    body = point.body
    headers = client.headers if point.key else {}
    headers |= {"content-type": point.content_type} if point.content_type else {}
    headers |= {"accept": point.accept} if point.accept else {}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    async with client.session.request(
        point.method, client.server.graphql, params=point.query, data=data, headers=headers
    ) as answer:
        kind = answer.headers.get("content-type", "").partition(";")[0]
        told = [answer.status, kind, answer.headers.get("allow")]
        code = None
        if kind.endswith("json"):
            said = await answer.json(content_type=None)
            code = said["errors"][0]["extensions"]["code"] if "errors" in said else None
            if "charset=utf-8" not in answer.headers["content-type"]:
                return "it does not say its charset"
            if (code is None) != ("data" in said):
                return "it has data although it did not run, or the other way"
        answer.close()
    due = [point.status, point.media_type, point.allow]
    return "" if (told, code) == (due, point.code) else f"{told} {code}"


async def test_every_request_has_the_status_media_type_and_code_of_the_table(house: Any) -> None:
    faults = await _in_turns(_ask(point, house.owner) for point in EXCHANGES)

    wrong = {point.name: fault for point, fault in zip(EXCHANGES, faults, strict=True) if fault}
    assert wrong == {}


async def _lines(answer: aiohttp.ClientResponse, until: Callable[[bytes], bool]) -> bytes:
    said = b""
    async with asyncio.timeout(10):
        while not until(said):
            piece = await answer.content.readany()
            if not piece:
                break
            said += piece
    return said


async def test_an_event_stream_has_lf_lines_keep_alives_and_complete_at_its_true_end(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """graphql-sse in distinct mode; 15 seconds between comments are 0.2 here."""
    session, url = house.owner.session, house.owner.server.graphql
    headers = {**house.owner.headers, "accept": "text/event-stream"}
    graphql = house.owner.server.app.routes[0].app
    monkeypatch.setattr(graphql._get_stream_transport("sse"), "heartbeat_interval", 0.2)

    async with session.post(
        url, json={"query": "{ viewer { actor { id } } }"}, headers=headers
    ) as answer:
        ended = await _lines(answer, lambda _: False)
    async with session.post(
        url, json={"query": "subscription { events { type } }"}, headers=headers
    ) as answer:
        kept = await _lines(answer, lambda said: said.count(b":") >= 2)
        going = answer.status, answer.headers["cache-control"]

    event, complete, rest = ended.split(b"\n\n")
    assert event.startswith(b'event: next\ndata: {"data":{"viewer":')
    assert (complete, rest) == (b"event: complete\ndata: ", b"")
    assert b"\r" not in ended + kept
    assert kept.startswith(b": ping\n\n: ping\n\n")
    assert going == (200, "no-cache, no-transform")


async def test_a_key_has_so_many_sockets_and_streams_and_no_more(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.view.seats, "most", 2)
    stream = {**house.owner.headers, "accept": "text/event-stream"}
    body = {"query": "subscription { events { type } }"}

    async with house.owner.socket(), house.owner.socket():
        refused = await _try(Point("", (INIT,), code=4429, greets=False), house.owner)
        async with house.owner.session.post(
            house.owner.server.graphql, json=body, headers=stream
        ) as answer:
            told = answer.status, (await answer.json())["errors"][0]["extensions"]["code"]
    for _ in range(50):
        if await _try(Point("", ()), house.owner) == "":
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the seats are not free again")

    assert refused == ""
    assert told == (429, "RATE_LIMITED")


async def test_no_mistake_is_answered_with_names_of_the_schema(house: Any) -> None:
    """Neither fields, arguments, types and enum values, nor what variables name."""
    stranger = house.client_of(None)
    by_variable = "query($f: EventFilter) { events(filter: $f) { totalCount } }"
    asks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("{ viewr { actor { id } } }", {}),
        ("{ cards(frst: 1) { totalCount } }", {}),
        ("query($f: EventFiltr) { events(filter: $f) { totalCount } }", {}),
        ("{ events(filter: {typs: []}) { totalCount } }", {}),
        ("{ events(filter: {types: [STAMP_ADED]}) { totalCount } }", {}),
        (by_variable, {"f": {"typs": []}}),
        (by_variable, {"f": {"types": ["STAMP_ADED"]}}),
    )
    for ask, variables in asks:
        answer = await stranger.call(ask, variables)

        assert answer.codes, ask
        assert "Did you mean" not in json.dumps(answer.body), ask


async def test_where_no_route_leads_json_says_so(house: Any) -> None:
    url = house.owner.server.url
    for method, path, status in (("GET", "/nowhere", 404), ("POST", "/livez", 405)):
        async with house.owner.session.request(method, url + path) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["message"]
