"""The points of the protocols that are held to, one row each: what is sent, and what must come.

docs/protocol.md is generated from these tables; test_protocol.py proves them.
"""

from dataclasses import dataclass, field
from typing import Any

KEY = "KEY"
"""Stands for a valid key."""
HEAR = None
"""Among frames: wait for a message before going on."""
ORIGIN = "ORIGIN"
"""Stands for the server's own origin."""
TRANSPORT_WS = "graphql-transport-ws"
VIEWER = "{ viewer { actor { id } } }"
EVENTS = "subscription { events { sequence } }"
INIT = {"type": "connection_init", "payload": {"Authorization": f"Bearer {KEY}"}}
ACK = {"type": "connection_ack"}
PING, PONG = {"type": "ping"}, {"type": "pong"}


@dataclass(frozen=True)
class Point:
    """A point of graphql-transport-ws: frames sent after the greeting, messages and code due."""

    name: str
    send: tuple[Any, ...]
    told: tuple[Any, ...] = ()
    """Messages that must come, in this order and no others; each says at least this."""
    code: int | None = None
    """The code with which the server closes; None: the socket stays open."""
    greets: bool = True
    """Whether the socket is let in first."""
    offers: tuple[str, ...] = (TRANSPORT_WS,)
    origin: str | None = None
    status: int | None = None
    """The status with which the handshake is refused."""


def ask(query: Any = VIEWER, own: Any = "1", **more: Any) -> dict[str, Any]:
    """A subscribe message."""
    return {"id": own, "type": "subscribe", "payload": {"query": query, **more}}


def done(own: Any = "1") -> dict[str, Any]:
    """A complete message."""
    return {"id": own, "type": "complete"}


def answer(own: str = "1") -> dict[str, Any]:
    """An answer of VIEWER."""
    return {"id": own, "type": "next", "payload": {"data": {"viewer": {}}}}


def failure(code: str, own: str = "1") -> dict[str, Any]:
    """An operation that never ran."""
    return {"id": own, "type": "error", "payload": [{"extensions": {"code": code}}]}


def _init(payload: Any) -> tuple[dict[str, Any]]:
    return ({"type": "connection_init", "payload": payload},)


def _bearer(key: str = KEY, name: str = "Authorization", **more: Any) -> dict[str, Any]:
    return {name: f"Bearer {key}", **more}


def _new(name: str, *send: Any, **values: Any) -> Point:
    return Point(name, send, greets=False, **values)


def _in(name: str, *send: Any, **values: Any) -> Point:
    return Point(name, send, **values)


POINTS = (
    # The handshake
    _new("graphql-transport-ws is agreed on", INIT, told=(ACK,)),
    _new("the older graphql-ws is not", code=4406, offers=("graphql-ws",)),
    _new("no protocol at all is not", code=4406, offers=()),
    _new("of both the newer one, in any order", INIT, told=(ACK,),
         offers=("graphql-ws", TRANSPORT_WS)),
    _new("a page of another origin is refused", origin="https://evil.example", status=403),
    _new("so is a page without an origin", origin="null", status=403),
    _new("a page of our own origin is let in", INIT, told=(ACK,), origin=ORIGIN),
    # connection_init
    _new("a key is let in", *_init(_bearer()), told=(ACK,)),
    _new("its name may be written small", *_init(_bearer(name="authorization")), told=(ACK,)),
    _new("other names beside it are passed over", *_init(_bearer(client={"a": 1})), told=(ACK,)),
    _new("without a payload nobody is let in", {"type": "connection_init"}, code=4403),
    _new("a payload of null is none", *_init(None), code=4403),
    _new("an unknown key opens nothing", *_init(_bearer("7loc_sc_nobody")), code=4403),
    _new("a key that is no text opens nothing", *_init({"Authorization": 7}), code=4403),
    _new("an init payload is no array", *_init([]), code=4400),
    _new("an init payload is no text", *_init("Bearer"), code=4400),
    _in("a second init is one too many", INIT, code=4429),
    _new("also before the first is answered", INIT, INIT, told=(ACK,), code=4429),
    _new("who says nothing is let go", code=4408),
    _new("who only pings is let go", PING, told=(PONG,), code=4408),
    _new("nothing is run before init", ask(), code=4401),
    _new("an operation may follow init at once", INIT, ask(), told=(ACK, answer(), done())),
    # ping and pong
    _new("a ping before init is answered", PING, INIT, told=(PONG, ACK)),
    _in("a ping is answered", PING, told=(PONG,)),
    _in("a pong carries what the ping carried", {**PING, "payload": {"n": 1}},
        told=({**PONG, "payload": {"n": 1}},)),
    _in("a ping's payload may be null", {**PING, "payload": None}, told=(PONG,)),
    _in("a ping's payload is no array", {**PING, "payload": []}, code=4400),
    _in("a pong nobody asked for is passed over", PONG),
    _in("a pong may have a payload", {**PONG, "payload": {"n": 1}}),
    _in("a pong's payload is no text", {**PONG, "payload": "n"}, code=4400),
    # Messages
    _in("a message is JSON", "hello", code=4400),
    _in("an empty message is none", "", code=4400),
    _in("null is no message", "null", code=4400),
    _in("an array is no message", "[]", code=4400),
    _in("a number is no message", "7", code=4400),
    _in("a message has a type", {"payload": {}}, code=4400),
    _in("its type is a text", {"type": None}, code=4400),
    _in("its type is known", {"type": "start"}, code=4400),
    _in("its type is not the server's", {"id": "1", "type": "next", "payload": {}}, code=4400),
    _in("it names no key twice", '{"type": "ping", "type": "pong"}', code=4400),
    _in("it is not too deep", "[" * 30_000, code=4400),
    _in("it is text, not binary", b'{"type": "ping"}', code=4400),
    _in("it has at most 64 KiB", {**PING, "payload": {"a": "x" * 65_536}}, code=1009),
    # subscribe
    _in("an operation has an id", {"type": "subscribe", "payload": {"query": VIEWER}}, code=4400),
    _in("the id is a text", ask(own=1), code=4400),
    _in("the id is not empty", ask(own=""), code=4400),
    _in("the id is not too long", ask(own="x" * 129), code=4400),
    _in("an operation has a payload", {"id": "1", "type": "subscribe"}, code=4400),
    _in("the payload is an object", {"id": "1", "type": "subscribe", "payload": []}, code=4400),
    _in("the document is a text", ask(None), code=4400),
    _in("variables are an object", ask(variables=[]), code=4400),
    _in("the operation's name is a text", ask(operationName=7), code=4400),
    _in("what may be null may be null", ask(variables=None, operationName=None, extensions=None),
        told=(answer(), done())),
    # Operations
    _in("a query has one answer", ask(), told=(answer(), done())),
    _in("a document that does not parse fails alone", ask("{"),
        told=(failure("GRAPHQL_PARSE_FAILED"),)),
    _in("so does one that does not fit the schema", ask("{ nonsense }"),
        told=(failure("GRAPHQL_VALIDATION_FAILED"),)),
    _in("so does an operation nobody finds", ask(operationName="Nobody"),
        told=(failure("OPERATION_RESOLUTION_FAILURE"),)),
    _in("so does one of several that is not named", ask(f"query A {VIEWER} query B {VIEWER}"),
        told=(failure("OPERATION_RESOLUTION_FAILURE"),)),
    _in("an id is free after an error", ask("{"), HEAR, ask(),
        told=(failure("GRAPHQL_PARSE_FAILED"), answer(), done())),
    _in("an id in use is refused", ask(EVENTS), ask(), code=4409),
    _in("an id is free after complete", ask(EVENTS), done(), ask(), told=(answer(), done())),
    _in("complete is not answered", ask(EVENTS), done()),
    _in("complete for an unknown id is passed over", done("nobody")),
    _in("complete has an id", {"type": "complete"}, code=4400),
    _in("one operation more than fifty fails alone",
        *(ask(EVENTS, str(number)) for number in range(51)),
        told=(failure("RATE_LIMITED", "50"),)),
    _in("who floods is let go", *([PONG] * 450), code=4429),
)  # fmt: skip


@dataclass(frozen=True)
class Exchanged:
    """A point of GraphQL over HTTP: a request, and the status, type and code of its answer."""

    name: str
    status: int
    code: str | None = None
    body: Any = field(default_factory=lambda: {"query": VIEWER})
    method: str = "POST"
    accept: str | None = None
    content_type: str | None = "application/json"
    media_type: str = "application/json"
    key: bool = True
    query: dict[str, str] | None = None
    allow: str | None = None


GRAPHQL, JSON, STREAM = (
    "application/graphql-response+json",
    "application/json",
    "text/event-stream",
)
_MIXED = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
_URQL = f"{GRAPHQL}, application/graphql+json, {JSON}, {STREAM}, multipart/mixed"
_MUTATION = 'mutation { createLocation(input: {name: "x"}) { location { id } } }'


def _get(name: str, status: int, query: str = VIEWER, **values: Any) -> Exchanged:
    asked = values.pop("asked", {"query": query})
    return Exchanged(
        name, status, method="GET", body=None, content_type=None, query=asked, **values
    )


EXCHANGES = (
    # What the answer is
    Exchanged("who accepts nothing in particular gets JSON", 200),
    Exchanged("so does who accepts anything", 200, accept="*/*"),
    Exchanged("the type of GraphQL answers is given to who asks", 200, accept=GRAPHQL,
              media_type=GRAPHQL),
    Exchanged("the greater weight wins", 200, accept=f"{JSON};q=0.5, {GRAPHQL};q=0.9",
              media_type=GRAPHQL),
    Exchanged("of equals the first wins", 200, accept=f"{JSON}, {GRAPHQL}"),
    Exchanged("a weight of nought is a no", 200, accept=f"{JSON};q=0, */*", media_type=GRAPHQL),
    Exchanged("a stream offered last is not chosen for a query", 200, accept=_URQL,
              media_type=GRAPHQL),
    Exchanged("a stream is chosen for a subscription", 200, accept=_URQL,
              body={"query": EVENTS}, media_type=STREAM),
    Exchanged("so are several parts", 200, accept=f"{_MIXED}, {JSON}",
              body={"query": EVENTS}, media_type="multipart/mixed"),
    Exchanged("several parts are not chosen for a query", 200, accept=f"{_MIXED}, {JSON}"),
    Exchanged("a query may be answered as a stream", 200, accept=STREAM, media_type=STREAM),
    Exchanged("a subscription needs what streams", 400, "BAD_REQUEST", body={"query": EVENTS}),
    Exchanged("what we do not speak is not acceptable", 406, "BAD_REQUEST", accept="text/html"),
    # What never runs
    Exchanged("a document that does not parse, as GraphQL", 400, "GRAPHQL_PARSE_FAILED",
              {"query": "{"}, accept=GRAPHQL, media_type=GRAPHQL),
    Exchanged("the same as JSON", 200, "GRAPHQL_PARSE_FAILED", {"query": "{"}),
    Exchanged("one that does not fit, as GraphQL", 400, "GRAPHQL_VALIDATION_FAILED",
              {"query": "{ nonsense }"}, accept=GRAPHQL, media_type=GRAPHQL),
    Exchanged("the same as JSON too", 200, "GRAPHQL_VALIDATION_FAILED", {"query": "{ nonsense }"}),
    Exchanged("a variable that cannot be read", 400, "BAD_USER_INPUT",
              {"query": "query($id: ID!) { node(id: $id) { id } }"}, accept=GRAPHQL,
              media_type=GRAPHQL),
    Exchanged("an operation nobody finds", 400, "OPERATION_RESOLUTION_FAILURE",
              {"query": f"query A {VIEWER}", "operationName": "B"}, accept=GRAPHQL,
              media_type=GRAPHQL),
    Exchanged("a stranger does not see the schema", 400, "UNAUTHENTICATED",
              {"query": "{ __schema { queryType { name } } }"}, accept=GRAPHQL,
              media_type=GRAPHQL, key=False),
    # What cannot be read
    Exchanged("no JSON", 400, "BAD_REQUEST", b"{query"),
    Exchanged("JSON in another coding", 400, "BAD_REQUEST", '{"query": "{a}"}'.encode("utf-16")),
    Exchanged("a byte order mark is passed over", 200,
              body=b'\xef\xbb\xbf{"query": "{ viewer { actor { id } } }"}'),
    Exchanged("a key named twice", 400, "BAD_REQUEST", b'{"query": "{a}", "query": "{b}"}'),
    Exchanged("a batch", 400, "BAD_REQUEST", [{"query": VIEWER}]),
    Exchanged("null", 400, "BAD_REQUEST", b"null"),
    Exchanged("a text", 400, "BAD_REQUEST", b'"{a}"'),
    Exchanged("no document", 400, "BAD_REQUEST", {}),
    Exchanged("a document that is no text", 400, "BAD_REQUEST", {"query": {"a": 1}}),
    Exchanged("variables that are no object", 400, "BAD_REQUEST",
              {"query": VIEWER, "variables": []}),
    Exchanged("a name that is no text", 400, "BAD_REQUEST", {"query": VIEWER, "operationName": {}}),
    Exchanged("extensions that are no object", 400, "BAD_REQUEST",
              {"query": VIEWER, "extensions": "x"}),
    Exchanged("too large a body", 413, "BAD_REQUEST", b" " * 100_001),
    Exchanged("no content type", 415, "BAD_REQUEST", content_type="application/octet-stream"),
    Exchanged("a type pages can send by themselves", 415, "BAD_REQUEST", content_type="text/plain"),
    Exchanged("a form", 415, "BAD_REQUEST", content_type="application/x-www-form-urlencoded"),
    Exchanged("another charset", 415, "BAD_REQUEST",
              content_type="application/json; charset=iso-8859-1"),
    Exchanged("UTF-8 said in capitals", 200, content_type='Application/JSON; charset="UTF-8"'),
    # Methods
    _get("a query by GET", 200),
    _get("variables by GET", 200, asked={"query": VIEWER, "variables": "{}"}),
    _get("variables by GET that are no JSON", 400, code="BAD_REQUEST",
         asked={"query": VIEWER, "variables": "{"}),
    _get("a mutation by GET", 405, _MUTATION, code="BAD_REQUEST", allow="POST"),
    _get("GET without a document", 400, code="BAD_REQUEST", asked={}),
    _get("GET by a stranger", 401, code="UNAUTHENTICATED", key=False),
    Exchanged("another method", 405, "BAD_REQUEST", method="PUT", allow="GET, POST"),
    Exchanged("OPTIONS", 204, method="OPTIONS", body=None, media_type="", allow="GET, POST"),
)  # fmt: skip
