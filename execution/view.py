"""GraphQL over HTTP and sockets: Strawberry's view, with callers, caps and typed errors of ours."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import strawberry
import structlog
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from graphql import GraphQLError, GraphQLSchema, OperationType
from graphql.utilities import get_operation_ast
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.subscriptions import (
    GRAPHQL_SSE_PROTOCOL,
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    MULTIPART_SUBSCRIPTION_PROTOCOL,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.types import ExecutionResult

from core.errors import Denied, Overloaded, RateLimited
from core.metrics import REQUESTS, SOCKETS, SUBSCRIPTIONS
from endpoints.explorer import explorer, is_for_people
from execution.cost import charge_subscription, limit_headers
from execution.documents import check_document, is_remembered
from execution.fanout import Fanout, Member, TooSlow
from execution.gate import AGAIN_SECONDS
from execution.protocols import (
    EXTENSION,
    TOO_MANY,
    TRY_AGAIN,
    Blocked,
    Exchange,
    Socket,
    frames_of,
)
from execution.running import Answer, Ready, Runner
from execution.subscriptions import LogSubscription, log_subscription
from execution.transport import (
    EVENT_STREAM,
    GRAPHQL,
    METHODS,
    Outcome,
    Streams,
    Unfit,
    check_request,
    protocol_for,
    read_request,
    refusal,
    strict_json,
)
from models import Actor, encode_cursor
from resolvers.callers import caller_of, secret_in, secret_of
from resolvers.charges import charge_reading, charge_stranger
from resolvers.context import Context, Deployment

TOO_SLOW = 4008
_LOOK_UP_SECONDS = 2
_FAREWELL = b": the server goes away; go on from the cursor of the last event\n\n"

log = structlog.get_logger("stampwire.view")


class _Subscriber:
    """Where the answers of one operation of a socket go."""

    def __init__(self, socket: Socket, operation_id: str) -> None:
        self._socket = socket
        self._prefix = b'{"id":' + orjson.dumps(operation_id) + b',"type":"next","payload":'

    @property
    def is_writable(self) -> bool:
        return self._socket.is_writable

    def write(self, payloads: Sequence[bytes]) -> None:
        """Send each as a message of its own, all in one write."""
        if payloads:
            self._socket.write(frames_of(self._prefix, payloads))

    async def drained(self) -> None:
        await self._socket.drained()


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """A socket: its messages checked, its caller's rights watched."""

    _rights_task: asyncio.Task[None] | None = None
    _frames: Socket | None = None
    _members: dict[str, Member]
    _storing: set[asyncio.Task[Any]]
    """Mutations whose caller does not wait for them any more."""
    view: "GraphQLView"

    async def handle(self) -> None:
        """Serve the socket to its end."""
        self._members, self._storing = {}, set()
        self._frames = self.websocket.ws.scope["extensions"].get(EXTENSION)  # type: ignore[attr-defined]
        if self._frames is not None:
            self._frames.farewell = self._farewell
        try:
            with SOCKETS.held("websocket"):
                await super().handle()
        finally:
            if self._rights_task is not None:
                self._rights_task.cancel()
            self.view.seats.leave(self.context)

    async def handle_connection_init(self, message: Any) -> None:
        """Let the caller in, unless it has too many sockets open."""
        try:
            await super().handle_connection_init(message)
        except _NoSeat:
            await self.websocket.close(code=TOO_MANY, reason="Too many sockets")
        except RateLimited:
            await self.websocket.close(code=TOO_MANY, reason="Too many tries")
        except _NotNow:
            await self.websocket.close(code=TRY_AGAIN, reason="Try again later")

    async def handle_ping(self, message: Any) -> None:
        """Answer with what the ping carried."""
        payload = message.get("payload")
        pong = {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
        await self.send_message(pong)  # type: ignore[arg-type]

    async def handle_subscribe(self, message: Any) -> None:
        """Start an operation; one too many is refused with a code, and the socket goes on."""
        is_new = message["id"] not in self.operations
        most = self.max_subscriptions_per_connection
        running = len(self.operations) + len(self._storing)
        if self.connection_acknowledged and is_new:
            if most and running >= most:
                said = f"A socket carries at most {most} operations at once."
                await self._refuse(message, said, {"code": "RATE_LIMITED"})
                return
            try:
                await self.view.pay_for_reading(self.context, message["payload"]["query"])
            except RateLimited as error:
                await self._refuse(message, str(error), error.extensions)
                return
        await super().handle_subscribe(message)

    async def _refuse(self, message: Any, said: str, extensions: dict[str, Any]) -> None:
        error = GraphQLError(said, extensions=extensions)
        await self.send_message(
            {"id": message["id"], "type": "error", "payload": [error.formatted]}
        )

    async def handle_message(self, message: Any) -> None:
        """Any message; one of a wrong shape closes the socket with 4400."""
        fault = _fault_of(message)
        if fault is not None:
            await self.handle_invalid_message(fault)
            return
        if message.get("payload") is None:
            message.pop("payload", None)
        await super().handle_message(message)
        if self.connection_acknowledged and self._rights_task is None:
            self._rights_task = asyncio.create_task(self._close_without_rights())

    async def cleanup_operation(self, operation_id: str) -> None:
        """Nobody waits for an operation any more; what stores something goes on to its end."""
        operation: Any = self.operations.get(operation_id)
        task = operation and operation.task
        if task is None or not self.view.stores(operation.query, operation.operation_name):
            await super().cleanup_operation(operation_id)
            return
        del self.operations[operation_id]
        operation.completed = True  # and so nothing more is sent
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def run_operation(self, operation: Any) -> None:
        """Subscriptions of the log share what they have in common; the rest runs as ever."""
        said = self._frames and log_subscription(
            self.schema,
            operation.query,
            operation.variables,
            operation.operation_name,
            self.view.limits,
        )
        if not said:
            await super().run_operation(operation)
            return
        try:
            await self._follow(operation, said)
        except Denied as denied:
            error = GraphQLError(str(denied), extensions=denied.extensions)
            await operation.send_initial_errors([error])
        except (Blocked, WebSocketDisconnected):
            self.operations.pop(operation.id, None)

    async def _follow(self, operation: Any, said: LogSubscription) -> None:
        assert self._frames is not None  # noqa: S101 -- asked before
        fanout = self.view.fanout
        outlet = _Subscriber(self._frames, operation.id)
        core = self.schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        cost = await charge_subscription(self.context, core, said)
        member = await fanout.start(said, self.context, outlet, cost)
        self._members[operation.id] = member
        try:
            REQUESTS.count("subscription", "ok")
            with SUBSCRIPTIONS.held():
                await fanout.follow(said, member)
        except TooSlow:
            await self.websocket.close(code=TOO_SLOW, reason=self._farewell())
        finally:
            if self._members.get(operation.id) is member:
                del self._members[operation.id]

    def _farewell(self) -> str:
        """Where to go on from, as the reason of a close: the place that every subscription has."""
        places = [member.place for member in self._members.values()]
        return f"cursor={encode_cursor(min(places))}" if places else ""

    async def _close_without_rights(self) -> None:
        await _end_of_rights(self.context, secret_in(self.context.connection_params))
        with suppress(Exception):  # it may be closing already
            await self.websocket.close(code=4403, reason="Forbidden")

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:  # noqa: ARG004
        """A document that does not parse fails its own operation, not the whole socket."""
        return None


class _Asked(StarletteRequestAdapter):
    """A request as Strawberry sees it, which remembers itself."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.itself = request


class GraphQLView(GraphQL[Context, None]):
    """The one GraphQL endpoint."""

    request_adapter_class = _Asked
    graphql_transport_ws_handler_class = SocketHandler
    stream_transport_classes_by_protocol = Streams.by_protocol

    def __init__(self, schema: BaseSchema, deployment: Deployment) -> None:
        settings = deployment.settings
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(
                GRAPHQL_TRANSPORT_WS_PROTOCOL,
                GRAPHQL_SSE_PROTOCOL,
                MULTIPART_SUBSCRIPTION_PROTOCOL,
            ),
            connection_init_wait_timeout=timedelta(seconds=settings.init_seconds),
            max_subscriptions_per_connection=settings.operations_per_socket,
            allowed_origins=settings.allowed_origins,
        )
        self._deployment = deployment
        self._body_bytes = settings.body_bytes
        self._core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        self.limits = settings.document_limits
        self._runner = Runner(schema, settings)
        self.fanout = Fanout(deployment)
        self.seats = _Seats(settings.sockets_per_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a socket."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":  # what asks for CORS was answered before
            await Response(status_code=204, headers={"Allow": METHODS})(scope, receive, send)
            return
        request = Request(scope, _capped(receive, _told_length(scope), self._body_bytes))
        response = await _unless_left(request, self._answer(request))
        if response is None:
            return
        context: Context | None = getattr(request.state, "context", None)
        if isinstance(response, StreamingResponse) and context is not None and context.caller:
            await self._stream(response, context, scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """The answer to a request, or why it has none."""
        if is_for_people(request, self._deployment.settings):
            return explorer()
        try:
            check_request(request)
            response = await self._run(request)
        except Unfit as error:
            return refusal(error.status_code, error.reason, error.code, error.headers)
        except HTTPException as error:
            if not isinstance(error.__cause__, CannotGetOperationTypeError):
                return refusal(error.status_code, error.reason, "BAD_REQUEST")
            request.state.outcome = Outcome.REQUEST_ERROR
            response = refusal(200, error.reason, "OPERATION_RESOLUTION_FAILURE")
            self._finish(request, response)
        except _TooLarge:
            said = f"A request has at most {self._body_bytes} bytes."
            return refusal(Outcome.TOO_LARGE.status, said, Outcome.TOO_LARGE.code)
        except RateLimited as error:  # who calls could not be looked up, or guesses
            outcome = Outcome.AWAY if isinstance(error, Overloaded) else Outcome.THROTTLED
            seconds = str(max(1, round(error.retry_after_ms / 1000)))
            return refusal(outcome.status, str(error), error.code, {"Retry-After": seconds})
        return response

    async def _run(self, request: Request) -> Response:
        """Answer at once what can be; what streams, or is wrong, is Strawberry's to answer."""
        context = await self.get_context(request)
        try:
            data = await self.parse_http_body(_Asked(request))
        except json.JSONDecodeError as error:
            raise HTTPException(400, "Unable to parse request body as JSON") from error
        ready: Ready | None = request.state.ready
        if data.protocol == "http" and ready is not None:
            return _told(await self._runner.run(context, ready), request.state.media_type)
        request.state.data = data
        response: Response = await self.run(request, context=context)
        if not isinstance(response, StreamingResponse):
            self._finish(request, response)
        return response

    @staticmethod
    def _finish(request: Request, response: Response) -> None:
        """Give an answer the media type that was asked for, and the status that goes with it."""
        media_type: str = request.state.media_type
        response.headers["content-type"] = f"{media_type}; charset=utf-8"
        response.headers["vary"] = "Accept, Authorization"
        if response.status_code == Outcome.ANSWERED.status:
            response.status_code = request.state.outcome.status_as(media_type)

    async def _stream(
        self, response: Response, context: Context, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a stream of answers, if its caller has not too many open."""
        try:
            self.seats.take(context)
        except _NoSeat:
            outcome = Outcome.TOO_MANY_STREAMS
            said = f"A key has at most {self.seats.most} sockets and streams open."
            await refusal(outcome.status, said, outcome.code)(scope, receive, send)
            return
        if (connection := _connection_of(scope)) is not None:
            connection.streams()
        try:
            await _serve_with_rights(response, context, scope, receive, send)
        finally:
            self.seats.leave(context)

    async def pay_for_reading(self, context: Context, text: str) -> None:
        """Charge its caller for a document that nobody sent before. RateLimited if it cannot."""
        if not is_remembered(self._core, text, self.limits):
            await charge_reading(context, len(text))

    def stores(self, text: str, operation_name: str | None) -> bool:
        """Whether a document asks for a mutation."""
        document = check_document(self._core, text, self.limits).document
        operation = get_operation_ast(document, operation_name) if document else None
        return operation is not None and operation.operation is OperationType.MUTATION

    def should_render_graphql_ide(self, request: Any) -> bool:  # noqa: ARG002
        """There is none here."""
        return False

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        """What is asked, and how its answer is to be sent. Unfit if either cannot be."""
        assert isinstance(request, _Asked)  # noqa: S101 -- we said so above
        asked = request.itself
        if (known := getattr(asked.state, "data", None)) is not None:
            return cast("GraphQLRequestData", known)
        context: Context = asked.state.context
        if asked.method == "GET" and context.caller is None and not context.is_operator:
            raise Unfit(
                Outcome.STRANGER, "GET is for callers with a key.", WWW_Authenticate="Bearer"
            )
        data = await read_request(asked, self.parse_json)
        await self.pay_for_reading(context, data.query or "")
        kind, asked.state.ready = self._runner.ready(data, context)
        asked.state.only_reads = kind is OperationType.QUERY
        media_type, protocol = protocol_for(asked.headers.get("accept"), asked.method, kind)
        asked.state.media_type = media_type if protocol == "http" else GRAPHQL
        data.protocol = protocol  # type: ignore[assignment]
        return data

    async def process_result(
        self, request: Request, result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        """The answer as it is sent; one to what never ran has no data."""
        response = await super().process_result(request, result)
        errors = result.errors
        if result.data is None and errors and all(error.path is None for error in errors):
            request.state.outcome = Outcome.REQUEST_ERROR
            response.pop("data", None)
        else:
            request.state.outcome = Outcome.ANSWERED
        return response

    async def get_context(
        self,
        request: Request | WebSocket,
        response: Response | WebSocket | None = None,  # noqa: ARG002
    ) -> Context:
        """Who calls, by the Authorization header; sockets tell it in connection_init."""
        client, headers = request.client, request.headers
        context = Context(
            self._deployment,
            remote_address=client.host if client else "",
            user_agent=headers.get("user-agent", "")[:200],
        )
        if isinstance(request, Request):
            told = headers.getlist("authorization")
            secret = secret_of(told)
            context.caller = await caller_of(self._deployment, secret)
            context.is_operator = _is_operator(self._deployment, secret)
            context.idempotency_header = headers.get("idempotency-key")
            request.state.context = context
            if told and told[0] and context.caller is None and not context.is_operator:
                await charge_stranger(context)  # a secret that opens no door is a guess
        return context

    async def on_ws_connect(self, context: Context) -> Any:
        """Let the socket in, or close it with 4403; with 4429 after too many tries."""
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                context.caller = await caller_of(
                    self._deployment, secret_in(context.connection_params)
                )
        except Exception as error:  # noqa: BLE001 -- whatever it was, it may pass
            log.warning("caller not looked up", error=type(error).__name__)
            raise _NotNow from None
        await charge_stranger(context)
        if context.caller is None:
            raise ConnectionRejectionError
        self.seats.take(context)
        return strawberry.UNSET

    def decode_json(self, data: str | bytes) -> Any:
        """JSON as the standard has it: no NaN, no lone surrogates, bounded depth, each key once."""
        try:
            said = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
        strict_json(data)
        return said

    def encode_json(self, data: Any) -> str:
        """Text, for sockets send text frames."""
        return orjson.dumps(data).decode()


async def _end_of_rights(context: Context, secret: str | None) -> None:
    """Wait until the caller's key, session or staff lost its rights; told within a second."""
    deployment, changed = context.deployment, asyncio.Event()
    asked_at = deployment.clock.now()
    with deployment.stream.watch_access(context.actor.business_id, changed.set):
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_until_an_end(context, asked_at)):
                    await changed.wait()
            changed.clear()
            asked_at = deployment.clock.now()
            try:
                actor = await caller_of(deployment, secret)
            except Exception:  # noqa: BLE001 -- a database that is away is asked again
                await asyncio.sleep(1)
                changed.set()
                continue
            if not _is_same(actor, context.actor):
                return
            context.caller = actor


def _until_an_end(context: Context, asked_at: datetime) -> float | None:
    """Seconds until the caller's key or session ends by itself, None if it does not.

    One that ended since its rights were asked for ends at once: nobody else tells of it.
    """
    now, actor = context.deployment.clock.now(), context.actor
    key, session = actor.api_key, actor.session
    ends = [key.expires_at, key.former_until] if key else [session.expires_at] if session else []
    ends += [actor.token.expires_at] if actor.token else []
    left = [max(0.0, (end - now).total_seconds()) for end in ends if end and end > asked_at]
    return min(left, default=None)


async def _serve_with_rights(
    response: Response, context: Context, scope: Scope, receive: Receive, send: Send
) -> None:
    """A stream of answers, which ends with the rights of whoever asked for it."""
    has_begun, patience = False, context.deployment.settings.send_seconds

    async def told(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        try:
            async with asyncio.timeout(patience):
                await send(message)
        except TimeoutError:
            connection = _connection_of(scope)
            if connection is not None:
                connection.cut()
            raise

    secret = secret_of(Headers(scope=scope).getlist("authorization"))
    serving = asyncio.create_task(response(scope, receive, told))
    rights = asyncio.create_task(_end_of_rights(context, secret))
    going_away = asyncio.create_task(_going_away(scope))
    try:
        with SOCKETS.held("event-stream"):
            await asyncio.wait((serving, rights, going_away), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            return
        goes_away = going_away.done()
        serving.cancel()
        await asyncio.wait((serving,))
        if has_begun:
            is_events = response.headers["content-type"].startswith(EVENT_STREAM)
            last = _FAREWELL if goes_away and is_events else b""
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await send({"type": "http.response.body", "body": last, "more_body": False})
        elif goes_away:
            said, again = "The server goes away; try again.", {"Retry-After": str(AGAIN_SECONDS)}
            await refusal(Outcome.FULL.status, said, Outcome.FULL.code, again)(scope, receive, send)
        else:
            ended = refusal(401, "Your rights have ended.", "UNAUTHENTICATED")
            await ended(scope, receive, send)
    finally:
        for task in (serving, rights, going_away):
            task.cancel()
        await asyncio.gather(serving, rights, going_away, return_exceptions=True)


def _connection_of(scope: Scope) -> Exchange | None:
    """The connection that a request came by, where it is one of ours."""
    found: Exchange | None = scope.get("extensions", {}).get(EXTENSION)
    return found


async def _unless_left(request: Request, answer: Coroutine[Any, Any, Response]) -> Response | None:
    """An answer; None if its caller leaves before it is there.

    What only reads is then given up. What stores something goes on to its end, as ever.
    """
    connection, task, has_left = _connection_of(request.scope), asyncio.current_task(), False

    def leave() -> None:
        nonlocal has_left
        if task is not None and getattr(request.state, "only_reads", False):
            has_left = True
            task.cancel()

    if connection is not None:
        connection.on_leaving = leave
    try:
        return await answer
    except ClientDisconnect:
        return None
    except asyncio.CancelledError:
        if not has_left:
            raise
        return None
    finally:
        if connection is not None:
            connection.on_leaving = None
        if has_left and task is not None:
            task.uncancel()
            request.state.context.give_up()


async def _going_away(scope: Scope) -> None:
    """Wait until the server stops."""
    going_away: asyncio.Event | None = scope.get("state", {}).get("going_away")
    await (going_away or asyncio.Event()).wait()


def _told(answer: Answer, media_type: str) -> Response:
    """An answer as a response, with what is left of its caller's bucket."""
    outcome = Outcome.ANSWERED if answer.has_run else Outcome.REQUEST_ERROR
    status = outcome.status_as(media_type)
    if isinstance(answer.charge.refusal, RateLimited):
        status = Outcome.THROTTLED.status
    headers = {
        "content-type": f"{media_type}; charset=utf-8",
        "vary": "Accept, Authorization",
        **limit_headers(answer.charge),
    }
    return Response(answer.body, status, headers)


class _TooLarge(Exception):
    """The body is over the limit."""


def _told_length(scope: Scope) -> int:
    """How long the body says it is."""
    told = Headers(scope=scope).get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else 0


def _capped(receive: Receive, told: int, most: int) -> Receive:
    """The same, but counting: a body over the limit is cut off while it is read, or before."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        if told > most:
            raise _TooLarge
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _TooLarge
        return message

    return counted


class _NotNow(Exception):
    """Who calls could not be looked up at this moment."""


class _NoSeat(Exception):
    """The caller's key has too many sockets and streams open."""


class _Seats:
    """Which sockets and streams are open, by the key, session or token that opened them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: dict[str, set[int]] = defaultdict(set)

    def take(self, context: Context) -> None:
        """One more. _NoSeat if there are too many."""
        seats = self._open[_whose(context)]
        if len(seats) >= self.most:
            raise _NoSeat
        seats.add(id(context))

    def leave(self, context: Context) -> None:
        """One less, if it was one."""
        if context.caller is not None:
            whose = _whose(context)
            seats = self._open[whose]
            seats.discard(id(context))
            if not seats:
                del self._open[whose]


def _whose(context: Context) -> str:
    """What the caller came in by."""
    actor = context.actor
    credential = actor.token or actor.api_key or actor.session
    return credential.id if credential is not None else str(actor.staff_id)


_SHAPES: dict[str, tuple[bool, bool]] = {
    "connection_init": (False, False),
    "ping": (False, False),
    "pong": (False, False),
    "subscribe": (True, True),
    "complete": (True, False),
}
"""Which messages carry an id, and which must carry a payload."""


def _fault_of(message: Any) -> str | None:
    """What is wrong with the shape of a socket message, None if nothing is."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message is an object with a type."
    if message["type"] not in _SHAPES:
        return "Unknown message type."
    has_id, has_payload = _SHAPES[message["type"]]
    if has_id and not (isinstance(message.get("id"), str) and 0 < len(message["id"]) <= 128):
        return "An operation's id has 1–128 characters."
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        return "A payload is an object."
    if has_payload:
        asked = payload or {}
        optional = (("variables", dict), ("operationName", str), ("extensions", dict))
        if not isinstance(asked.get("query"), str) or any(
            asked.get(name) is not None and not isinstance(asked[name], kind)
            for name, kind in optional
        ):
            return "A subscribe payload has a query, and may have variables and operationName."
    return None


def _is_operator(deployment: Deployment, secret: str | None) -> bool:
    key = deployment.settings.operator_key
    return bool(key and secret) and deployment.secrets.digest(secret or "") == (
        deployment.secrets.digest(key)
    )


def _is_same(now: Actor | None, before: Actor) -> bool:
    """Whether a caller still has the rights with which its socket was opened."""
    return now is not None and (now.staff_id, now.role, now.location_id) == (
        before.staff_id,
        before.role,
        before.location_id,
    )
