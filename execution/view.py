"""GraphQL over HTTP and sockets: Strawberry's view, with callers, caps and typed errors of ours."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
import strawberry
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from graphql import GraphQLError, OperationType
from graphql.utilities import get_operation_ast
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLRequestData
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.types import ExecutionResult

from core.errors import Denied, RateLimited
from core.metrics import REQUESTS, SOCKETS, SUBSCRIPTIONS
from execution.documents import check_document
from execution.fanout import Fanout, Member, TooSlow
from execution.protocols import EXTENSION, SEND_SECONDS, Blocked, Exchange, Socket, frames_of
from execution.subscriptions import LogSubscription, log_subscription
from models import Actor, encode_cursor
from resolvers.callers import caller_of, secret_in
from resolvers.context import Context, Deployment

BODY_LIMIT = 100_000
SUBSCRIPTIONS_PER_SOCKET = 50
INIT_WITHIN = timedelta(seconds=5)
SSE_PROTOCOL = "graphql-sse"
TOO_SLOW = 4008


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
    view: "GraphQLView"

    async def handle(self) -> None:
        """Serve the socket to its end."""
        self._members = {}
        self._frames = self.websocket.ws.scope["extensions"].get(EXTENSION)  # type: ignore[attr-defined]
        if self._frames is not None:
            self._frames.farewell = self._farewell
        try:
            with SOCKETS.held("websocket"):
                await super().handle()
        finally:
            if self._rights_task is not None:
                self._rights_task.cancel()

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

    async def run_operation(self, operation: Any) -> None:
        """Subscriptions of the log share what they have in common; the rest runs as ever."""
        said = self._frames and log_subscription(
            self.schema, operation.query, operation.variables, operation.operation_name
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
        member = self._members[operation.id] = await fanout.start(said, self.context, outlet)
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


class GraphQLView(GraphQL[Context, None]):
    """The one GraphQL endpoint."""

    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, schema: BaseSchema, deployment: Deployment) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, SSE_PROTOCOL),
            connection_init_wait_timeout=INIT_WITHIN,
            max_subscriptions_per_connection=SUBSCRIPTIONS_PER_SOCKET,
            allowed_origins=deployment.settings.allowed_origins,
        )
        self._deployment = deployment
        self.fanout = Fanout(deployment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a socket."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, _capped(receive))
        try:
            response: Response = await self.run(request)
        except HTTPException as error:
            unresolved = isinstance(error.__cause__, CannotGetOperationTypeError)
            code = "OPERATION_RESOLUTION_FAILURE" if unresolved else "BAD_REQUEST"
            response = _refusal(error.status_code, error.reason, code)
        except _TooLarge:
            response = _refusal(413, f"A request has at most {BODY_LIMIT} bytes.")
        except RateLimited as error:  # who calls could not be looked up
            response = _refusal(503, str(error), error.code)
            response.headers["Retry-After"] = str(max(1, round(error.retry_after_ms / 1000)))
        context: Context | None = getattr(request.state, "context", None)
        if isinstance(response, StreamingResponse) and context is not None and context.caller:
            await _serve_with_rights(response, context, scope, receive, send)
        else:
            await response(scope, receive, send)

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: Context,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Execute what is answered once; Strawberry would run a subscription like a query."""
        document = check_document(self.schema._schema, request_data.query or "").document  # type: ignore[attr-defined]  # noqa: SLF001
        operation = document and get_operation_ast(document, request_data.operation_name)
        if operation and operation.operation is OperationType.SUBSCRIPTION:
            raise HTTPException(400, "A subscription needs a socket or Accept: text/event-stream.")
        return await super().execute_single(
            request, request_adapter, sub_response, context, root_value, request_data
        )

    async def get_context(
        self,
        request: Request | WebSocket,
        response: Response | WebSocket,  # noqa: ARG002
    ) -> Context:
        """Who calls, by the Authorization header; sockets tell it in connection_init."""
        client = request.client
        context = Context(self._deployment, remote_address=client.host if client else "")
        if isinstance(request, Request):
            secret = secret_in({"Authorization": request.headers.get("authorization")})
            context.caller = await caller_of(self._deployment, secret)
            context.is_operator = _is_operator(self._deployment, secret)
            context.idempotency_header = request.headers.get("idempotency-key")
            request.state.context = context
        return context

    async def on_ws_connect(self, context: Context) -> Any:
        """Let the socket in, or close it with 4403."""
        try:
            async with asyncio.timeout(2):
                context.caller = await caller_of(
                    self._deployment, secret_in(context.connection_params)
                )
        except Exception:  # noqa: BLE001 -- whatever it was, this caller is not known
            raise ConnectionRejectionError from None
        if context.caller is None:
            raise ConnectionRejectionError
        return strawberry.UNSET

    def parse_json(self, data: str | bytes) -> Any:
        """A body (bytes) or a part of a query string (text); a body is an object."""
        parsed = super().parse_json(data)
        if isinstance(data, bytes) and not isinstance(parsed, dict | list):
            raise HTTPException(400, "A request is a JSON object.")
        return parsed

    def decode_json(self, data: str | bytes) -> Any:
        """JSON as the standard has it: no NaN, no lone surrogates, bounded depth."""
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None

    def encode_json(self, data: Any) -> str:
        """Text, for sockets send text frames."""
        return orjson.dumps(data).decode()


async def _end_of_rights(context: Context, secret: str | None) -> None:
    """Wait until the caller's key, session or staff lost its rights; told within a second."""
    deployment, changed = context.deployment, asyncio.Event()
    with deployment.stream.watch_access(context.actor.business_id, changed.set):
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_until_an_end(context)):
                    await changed.wait()
            changed.clear()
            try:
                actor = await caller_of(deployment, secret)
            except Exception:  # noqa: BLE001 -- a database that is away is asked again
                await asyncio.sleep(1)
                changed.set()
                continue
            if not _is_same(actor, context.actor):
                return
            context.caller = actor


def _until_an_end(context: Context) -> float | None:
    """Seconds until the caller's key or session ends by itself, None if it does not."""
    now, actor = context.deployment.clock.now(), context.actor
    key, session = actor.api_key, actor.session
    ends = [key.expires_at, key.former_until] if key else [session.expires_at] if session else []
    ends += [actor.token.expires_at] if actor.token else []
    left = [(end - now).total_seconds() for end in ends if end is not None and end > now]
    return min(left, default=None)


async def _serve_with_rights(
    response: Response, context: Context, scope: Scope, receive: Receive, send: Send
) -> None:
    """A stream of answers, which ends with the rights of whoever asked for it."""
    has_begun = False

    async def told(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)
        except TimeoutError:
            connection: Exchange | None = scope.get("extensions", {}).get(EXTENSION)
            if connection is not None:
                connection.cut()
            raise

    secret = secret_in({"Authorization": Headers(scope=scope).get("authorization")})
    serving = asyncio.create_task(response(scope, receive, told))
    rights = asyncio.create_task(_end_of_rights(context, secret))
    going_away = asyncio.create_task(_going_away(scope))
    try:
        with SOCKETS.held("event-stream"):
            await asyncio.wait((serving, rights, going_away), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            return
        serving.cancel()
        await asyncio.wait((serving,))
        if has_begun:
            with suppress(TimeoutError):
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _refusal(401, "Your rights have ended.")(scope, receive, send)
    finally:
        for task in (serving, rights, going_away):
            task.cancel()
        await asyncio.gather(serving, rights, going_away, return_exceptions=True)


async def _going_away(scope: Scope) -> None:
    """Wait until the server stops."""
    going_away: asyncio.Event | None = scope.get("state", {}).get("going_away")
    await (going_away or asyncio.Event()).wait()


class _TooLarge(Exception):
    """The body is over the limit."""


def _capped(receive: Receive) -> Receive:
    """The same, but counting: a body over the limit is cut off while it is read."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY_LIMIT:
            raise _TooLarge
        return message

    return counted


def _refusal(status: int, message: str, code: str = "BAD_REQUEST") -> Response:
    error = {"message": message, "extensions": {"code": code}}
    return JSONResponse({"errors": [error]}, status_code=status)


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
