"""GraphQL over HTTP: what a request must be, what may answer it, and one table of statuses."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from enum import Enum
from functools import lru_cache
from typing import Any, ClassVar

from cross_web import HTTPException
from graphql import OperationType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from strawberry.http import GraphQLRequestData
from strawberry.http.streaming import MultipartSubscriptionTransport, SSETransport
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, MULTIPART_SUBSCRIPTION_PROTOCOL

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/mixed"
METHODS = "GET, POST"
_NOTHING_ACCEPTED = f"Accept one of {JSON}, {GRAPHQL}, {EVENT_STREAM}."
_BOM = b"\xef\xbb\xbf"


class Outcome(Enum):
    """What may become of a request: the status, the status as plain JSON, the code, the meaning."""

    ANSWERED = (200, 200, "", "It ran. Errors of single fields stand beside the data.")
    STREAMED = (200, 200, "", "It runs, and answers for as long as it does.")
    OPTIONS = (204, 204, "", "`OPTIONS`: `Allow` tells the methods.")
    REQUEST_ERROR = (
        400,
        200,
        (
            "GRAPHQL_PARSE_FAILED, GRAPHQL_VALIDATION_FAILED, OPERATION_RESOLUTION_FAILURE, "
            "BAD_USER_INPUT, QUERY_TOO_COMPLEX, UNAUTHENTICATED"
        ),
        (
            "It did not run: the document, the choice of an operation or a variable is wrong, or "
            "a stranger asks for the schema. The answer has no `data`."
        ),
    )
    UNREADABLE = (
        400,
        400,
        "BAD_REQUEST",
        (
            "The body is not JSON in UTF-8 (a byte order mark is passed over), names a key twice, "
            "is not an object, is a batch, or `query`, `variables`, `operationName` or "
            "`extensions` is of a wrong type."
        ),
    )
    NO_STREAM = (400, 400, "BAD_REQUEST", "A subscription, but nothing that streams is accepted.")
    STRANGER = (401, 401, "UNAUTHENTICATED", "`GET` is for callers with a key or session.")
    WRONG_METHOD = (405, 405, "BAD_REQUEST", "Neither `GET` nor `POST`; `Allow` tells them.")
    NOT_BY_GET = (405, 405, "BAD_REQUEST", "A mutation comes by `POST` only.")
    NOT_ACCEPTABLE = (406, 406, "BAD_REQUEST", "`Accept` has none of the media types above.")
    LATE = (408, 408, "BAD_REQUEST", "The headers or the body did not arrive in time.")
    TOO_LARGE = (413, 413, "BAD_REQUEST", "The body is over the limit; it is cut off while read.")
    LONG_URL = (414, 414, "BAD_REQUEST", "The address is over the limit.")
    MEDIA_TYPE = (
        415,
        415,
        "BAD_REQUEST",
        "The body's `Content-Type` is not `application/json` (in UTF-8).",
    )
    THROTTLED = (429, 429, "RATE_LIMITED", "It did not run: the bucket is empty for now.")
    TOO_MANY_STREAMS = (429, 429, "RATE_LIMITED", "The key has too many sockets and streams open.")
    TOO_MANY_CONNECTIONS = (
        429,
        429,
        "RATE_LIMITED",
        "The address has too many connections open; `Retry-After` tells when to come again.",
    )
    HEADERS = (431, 431, "BAD_REQUEST", "The headers are over a limit.")
    AWAY = (503, 503, "RATE_LIMITED", "Who calls could not be looked up; `Retry-After` tells when.")
    FULL = (
        503,
        503,
        "RATE_LIMITED",
        (
            "The process has no room for one more connection, or for a body that was long on its "
            "way; `Retry-After` tells when to come again."
        ),
    )

    def __init__(self, status: int, as_json: int, code: str, meaning: str) -> None:
        self.status = status
        self.as_json = as_json
        self.code = code
        self.meaning = meaning

    def status_as(self, media_type: str) -> int:
        """The status of an answer in this media type."""
        return self.as_json if media_type == JSON else self.status


class Unfit(HTTPException):
    """A request that is not even tried."""

    def __init__(self, outcome: Outcome, message: str, code: str = "", **headers: str) -> None:
        super().__init__(outcome.status, message)
        self.outcome = outcome
        self.code = code or outcome.code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refusal(
    status: int, message: str, code: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that says why there is none."""
    error = {"message": message, "extensions": {"code": code}}
    return JSONResponse({"errors": [error]}, status, headers, media_type=f"{JSON}; charset=utf-8")


# -- What is accepted -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """The media types of an Accept header that we can answer in, the dearest first."""

    types: tuple[str, ...]

    @classmethod
    @lru_cache(256)
    def of(cls, header: str | None) -> "Accepted":
        """By weight, then in the order in which they were written; JSON where nothing is said."""
        if header is None or not header.strip():
            return cls((JSON,))
        told = [_media_range(text) for text in header.split(",")[:50] if text.strip()]
        never = {kind for kind, _, weight in told if weight <= 0}
        told.sort(key=lambda row: -row[2])
        found = (ours for kind, text, weight in told if weight > 0 for ours in _ours(kind, text))
        return cls(tuple(dict.fromkeys(kind for kind in found if kind not in never)))

    @property
    def for_answer(self) -> str | None:
        """The one for a single answer, None if there is none."""
        return next((kind for kind in self.types if kind != MULTIPART), None)

    @property
    def for_stream(self) -> str | None:
        """The one for a stream of answers, None if there is none."""
        return next((kind for kind in self.types if kind in (EVENT_STREAM, MULTIPART)), None)


def _media_range(text: str) -> tuple[str, str, float]:
    """A media range with its parameters in small letters, and its weight."""
    kind, *parameters = (part.strip() for part in text.lower().split(";"))
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return kind, ";".join(parameters), weight


def _ours(kind: str, parameters: str) -> Iterator[str]:
    if kind in (JSON, GRAPHQL, EVENT_STREAM):
        yield kind
    elif kind in ("*/*", "application/*"):
        yield from (JSON, GRAPHQL)
    elif kind == "text/*":
        yield EVENT_STREAM
    elif kind == MULTIPART and "subscriptionspec=1.0" in parameters.replace('"', ""):
        yield MULTIPART


# -- What is asked --------------------------------------------------------------------------------


def check_request(request: Request) -> None:
    """Look at what can be told before the body is read. Unfit if the request cannot be answered."""
    if request.method not in ("GET", "POST"):
        raise Unfit(Outcome.WRONG_METHOD, "GET or POST, please.", Allow=METHODS)
    if not Accepted.of(request.headers.get("accept")).types:
        raise Unfit(Outcome.NOT_ACCEPTABLE, _NOTHING_ACCEPTED)


async def read_request(request: Request, parse: Callable[[str | bytes], Any]) -> GraphQLRequestData:
    """What a request asks for. Unfit if it cannot be read."""
    if request.method == "GET":
        asked = _in_query_string(request, parse)
    else:
        _check_content_type(request.headers.get("content-type"))
        asked = parse((await request.body()).removeprefix(_BOM))
    if isinstance(asked, list):
        raise Unfit(Outcome.UNREADABLE, "Batches are not taken: send one operation per request.")
    if not isinstance(asked, dict):
        raise Unfit(Outcome.UNREADABLE, "A request is a JSON object.")
    if not isinstance(asked.get("query"), str):
        raise Unfit(Outcome.UNREADABLE, "`query` is the document, a text.")
    for name, kind, said in (
        ("variables", dict, "an object"),
        ("extensions", dict, "an object"),
        ("operationName", str, "a text"),
    ):
        if asked.get(name) is not None and not isinstance(asked[name], kind):
            raise Unfit(Outcome.UNREADABLE, f"`{name}` is {said}, or null.")
    return GraphQLRequestData(
        query=asked["query"],
        variables=asked.get("variables"),
        operation_name=asked.get("operationName"),
        extensions=asked.get("extensions"),
        protocol="http",
    )


def _in_query_string(request: Request, parse: Callable[[str | bytes], Any]) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in asked:
            raise Unfit(Outcome.UNREADABLE, "The query string names a parameter twice.")
        asked[name] = value
    for name in ("variables", "extensions"):
        if name in asked:
            asked[name] = parse(asked[name]) if asked[name] else None
    if asked.get("operationName") == "":
        del asked["operationName"]
    return asked


@lru_cache(256)
def _is_json(header: str | None) -> bool:
    """Whether a Content-Type is JSON in UTF-8."""
    said = Message()
    said["content-type"] = header or ""
    charset = said.get_param("charset") or "utf-8"
    given = (header or "").partition(";")[0].strip().lower()
    return given == JSON and isinstance(charset, str) and charset.lower() in ("utf-8", "utf8")


def _check_content_type(header: str | None) -> None:
    if not _is_json(header):
        raise Unfit(
            Outcome.MEDIA_TYPE,
            "Send `Content-Type: application/json` (in UTF-8).",
            Accept_Post=JSON,
        )


def protocol_for(accept: str | None, method: str, kind: OperationType | None) -> tuple[str, str]:
    """The media type of the answer to an operation, and Strawberry's name for how it is sent.

    Unfit if it may not come this way, or nothing that is accepted can carry the answer.
    """
    accepted = Accepted.of(accept)
    if method == "GET" and kind is OperationType.MUTATION:
        raise Unfit(Outcome.NOT_BY_GET, "A mutation comes by POST.", Allow="POST")
    streams = kind is OperationType.SUBSCRIPTION
    if streams and accepted.for_stream is None and accepted.types:
        message = "A subscription needs a socket or Accept: text/event-stream."
        raise Unfit(Outcome.NO_STREAM, message)
    chosen = accepted.for_stream if streams else accepted.for_answer
    if chosen is None:
        raise Unfit(Outcome.NOT_ACCEPTABLE, _NOTHING_ACCEPTED)
    return chosen, {EVENT_STREAM: "sse", MULTIPART: "multipart-subscription"}.get(chosen, "http")


def strict_json(said: str | bytes) -> None:
    """Look at JSON that was read already once more: JSONDecodeError if an object repeats a key."""
    try:
        _STRICT.decode(said if isinstance(said, str) else said.decode())
    except (RecursionError, ValueError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("An object names a key twice.")


_STRICT = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=str, parse_float=str)


# -- Streams --------------------------------------------------------------------------------------


class EventStream(SSETransport):
    """graphql-sse in distinct mode; its lines end as every reader of them expects."""

    def encode_event(self, event: str, data: str | None = None) -> str:
        """One event; what carries no data carries an empty one, which browsers want."""
        return f"event: {event}\ndata: {data or ''}\n\n"

    def encode_comment(self, comment: str) -> str:
        """What readers pass over."""
        return f": {comment}\n\n"


class Streams:
    """How streams are sent, by Strawberry's names."""

    by_protocol: ClassVar[Mapping[str, type[Any]]] = {
        GRAPHQL_SSE_PROTOCOL: EventStream,
        MULTIPART_SUBSCRIPTION_PROTOCOL: MultipartSubscriptionTransport,
    }
