"""Whatever is sent as JSON or over a socket is answered in time, with a code, and logged as theirs.

Rows 8, 24 of the threat table; what comes is made by Hypothesis, the same in every run.
"""

import asyncio
import json
from typing import Any

import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from clients import Answer, bare_socket

pytestmark = pytest.mark.on("sqlite")

VIEWER = "{ viewer { actor { id } } }"
CODES = {
    "BAD_REQUEST", "BAD_USER_INPUT", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED",
    "OPERATION_RESOLUTION_FAILURE", "QUERY_TOO_COMPLEX",
}  # fmt: skip
CLOSES = {None, 1002, 1007, 4400, 4401, 4403, 4409, 4429}
"""How a socket may end; None: it goes on."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
documents = st.sampled_from(
    (VIEWER, "query($n: Int) { cards(first: $n) { totalCount } }", "query A { __typename }", "{")
) | st.text(alphabet='{}()[]:$@!."#,\\ \n\ufeffaviewer19', max_size=40)  # fmt: skip
envelopes = st.fixed_dictionaries(
    {"query": documents},
    optional={
        "variables": values | st.dictionaries(st.just("n"), values, max_size=1),
        "operationName": values | st.just("A"),
        "extensions": values,
    },
)


def written(what: Any) -> bytes:
    """JSON, or nearly: it may have NaN in it."""
    return json.dumps(what).encode()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good body of which a byte was changed, or the end is lost."""
    body = bytearray(written(draw(envelopes)))
    place = draw(st.integers(0, len(body) - 1))
    if draw(st.booleans()):
        body[place] = draw(st.integers(0, 255))
        return bytes(body)
    return bytes(body[:place])


bodies = st.one_of(
    st.binary(max_size=60), values.map(written), envelopes.map(written), broken(),
    envelopes.map(lambda told: written(told).decode().encode("utf-16")),
)  # fmt: skip
types = st.sampled_from(("application/json",) * 6 + (
    "application/json; charset=utf-8", "application/json; charset=utf-7", "application/json;",
    "APPLICATION/JSON", 'application/json; charset="', "text/plain", "multipart/form-data",
    "multipart/form-data; boundary=", "/", ";", "application/json, text/html",
))  # fmt: skip
accepts = st.sampled_from(("*/*",) * 6 + (
    "application/json;q=x", "application/json;q=1e999", ";;;", "text/event-stream, */*;q=0", ",",
    "multipart/mixed;subscriptionSpec", "*",
))  # fmt: skip

usual = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(usual, max_examples=200)
@given(body=bodies, kind=types, accept=accepts)
async def test_whatever_body_comes_is_answered_with_a_code(
    house: Any, body: bytes, kind: str, accept: str
) -> None:
    headers = {**house.owner.headers, "content-type": kind, "accept": accept}
    url, session = house.owner.server.graphql, house.owner.session
    with capture_logs() as logs:
        async with asyncio.timeout(5), session.post(url, data=body, headers=headers) as told:
            if "json" not in told.headers["content-type"]:
                assert told.status == 200  # as a stream, which was asked for
                return
            answer = Answer(told.status, await told.json(content_type=None))

    assert answer.status in (200, 400, 406, 415)
    assert set(answer.codes) <= CODES
    assert answer.codes or "data" in answer.body
    assert blamed(logs) == []


def blamed(logs: list[Any]) -> list[Any]:
    """What is logged as a fault of ours; making up examples holds up the loop, which is told."""
    told = [line for line in logs if line["log_level"] in ("warning", "error")]
    return [line for line in told if not line["event"].startswith("event loop")]


kinds = st.sampled_from(
    ("connection_init", "ping", "pong", "subscribe", "complete", "start", "next", "error", "stop")
)
messages = st.fixed_dictionaries(
    {"type": kinds | values},
    optional={"id": st.sampled_from(("1", "2")) | values, "payload": envelopes | values},
).map(lambda told: written(told).decode())
frames = st.one_of(
    messages, messages, values.map(lambda told: written(told).decode()), st.text(max_size=30),
    st.binary(max_size=30), st.sampled_from((b"\xff\xfe", b"\xed\xa0\x80")).map(lambda raw: (raw,)),
)  # fmt: skip
LAST = {"type": "ping", "payload": {"last": True}}


@settings(usual, max_examples=100)
@given(told=st.lists(frames, min_size=1, max_size=5), greets=st.booleans())
async def test_whatever_frames_come_a_socket_goes_on_or_closes_with_a_code(
    house: Any, told: list[Any], greets: bool
) -> None:
    first = {"type": "connection_init", "payload": {"Authorization": f"Bearer {house.owner.key}"}}
    with capture_logs() as logs:
        async with asyncio.timeout(10), bare_socket(house.owner.server) as wire:
            try:
                if greets:
                    await wire.send(json.dumps(first))
                for frame in told:
                    if isinstance(frame, tuple):  # as text, though it is none
                        await wire.send(frame[0], text=True)
                    else:
                        await wire.send(frame)
                await wire.send(json.dumps(LAST))
                while json.loads(await wire.recv()).get("payload") != LAST["payload"]:
                    pass
                code = None
            except websockets.ConnectionClosed:
                await wire.wait_closed()
                code = wire.close_code

    assert code in CLOSES
    assert blamed(logs) == []
