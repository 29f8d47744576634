"""Public clients for tests: the contract's operations by name over HTTP, and a gql subscriber."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import gql
import httpx2
import websockets
from gql.transport.websockets import WebsocketsTransport
from graphql import OperationDefinitionNode, parse

CONTRACT = Path(__file__).parent / "contract" / "operations.graphql"
BEGINNING = "ZXZ0OjA"
"""The cursor before the first event of any business."""


@cache
def operations() -> dict[str, str]:
    """The text of every operation of the contract, verbatim, by its name."""
    text = CONTRACT.read_text()
    return {
        node.name.value: text[node.loc.start : node.loc.end]
        for node in parse(text).definitions
        if isinstance(node, OperationDefinitionNode) and node.name and node.loc
    }


class Unanswered(Exception):
    """The server gave errors instead of the answer."""


class Api:
    """A caller over HTTP, with a key, a session or nothing."""

    def __init__(self, graphql: str, secret: str | None = None) -> None:
        self.graphql = graphql
        self.secret = secret
        self._client = httpx2.AsyncClient(timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def by(self, secret: str | None) -> AsyncIterator["Api"]:
        """Another caller at the same server."""
        async with Api(self.graphql, secret) as other:
            yield other

    async def send(self, query: str, /, **variables: Any) -> Any:
        """The whole answer to any document."""
        headers = {"authorization": f"Bearer {self.secret}"} if self.secret else {}
        body = {"query": query, "variables": variables}
        answer = await self._client.post(self.graphql, json=body, headers=headers)
        return answer.json()

    async def ask(self, name: str, /, **variables: Any) -> Any:
        """What an operation of the contract gives for its (first) field; refusals too."""
        answer = await self.send(operations()[name], **variables)
        if answer.get("errors"):
            raise Unanswered(name, answer["errors"])
        return next(iter(answer["data"].values()))

    async def do(self, name: str, /, **input: Any) -> Any:
        """What a mutation of the contract gives; it is not refused."""
        given = await self.ask(name, input=input)
        assert given["userErrors"] == [], (name, given)
        return given

    async def journal(self, after: str = BEGINNING) -> list[Any]:
        """The whole log beyond a cursor, oldest first."""
        events: list[Any] = []
        while True:
            page = await self.ask("EventsSince", after=after)
            events += page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                return events
            after = page["pageInfo"]["endCursor"]


class Told:
    """What a subscriber or a receiver has been told so far."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._news = asyncio.Condition()

    async def add(self, item: Any) -> None:
        """Another one."""
        async with self._news:
            self.all.append(item)
            self._news.notify_all()

    async def wait_for(
        self, enough: int | Callable[[list[Any]], bool], patience: float = 20
    ) -> list[Any]:
        """Wait until there are so many, or until it holds; hands back all there are."""

        def is_enough() -> bool:
            return len(self.all) >= enough if isinstance(enough, int) else enough(self.all)

        async with self._news:
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait_for(is_enough)
            except TimeoutError:
                message = f"not enough within {patience} s, only {len(self.all)}: {self.all[-3:]}"
                raise AssertionError(message) from None
        return list(self.all)


async def closing_code(socket: websockets.ClientConnection, patience: float) -> int:
    """The code with which the server closes a socket; what it says before is not listened to."""
    try:
        async with asyncio.timeout(patience):
            while True:
                await socket.recv()
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


@contextlib.asynccontextmanager
async def subscriber(
    socket: str, secret: str, document: str, **variables: Any
) -> AsyncIterator[Told]:
    """A subscription by the public gql client; give `after` for one without a gap at its start."""
    transport = WebsocketsTransport(
        url=socket,
        init_payload={"Authorization": f"Bearer {secret}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    told = Told()
    async with gql.Client(transport=transport) as session:

        async def listen() -> None:
            asked = gql.gql(document)
            asked.variable_values = variables
            async for answer in session.subscribe(asked):
                await told.add(next(iter(answer.values())))

        task = asyncio.create_task(listen())
        try:
            yield told
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
