"""gql for Python as a client: four transports, four things asked of each."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import gql
import pytest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from judges.conftest import Judged, Verdict
from judges.panel import GQL, Judge

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

BUSINESS = "{ viewer { business { id } } }"
NODE = "query($id: ID!) { node(id: $id) { id } }"
WRONG = "{ viewer { noSuchField } }"
ISSUE = """mutation($input: IssueCardInput!) {
  issueCard(input: $input) { events { sequence cursor } userErrors { code } }
}"""
EVENTS = "subscription($after: String) { events(after: $after) { sequence cursor } }"


def transports(judged: Judged) -> dict[str, Any]:
    """Each way of gql to reach the server."""
    headers = {"Authorization": f"Bearer {judged.key}"}
    return {
        "aiohttp": AIOHTTPTransport(judged.graphql, headers=headers),
        "httpx": HTTPXAsyncTransport(judged.graphql, headers=headers),
        "websockets": WebsocketsTransport(judged.socket, init_payload=headers),
        "aiohttp, a socket": AIOHTTPWebsocketsTransport(judged.socket, init_payload=headers),
    }


class Scenarios:
    """What is asked over one transport."""

    def __init__(self, session: Any, template_id: str) -> None:
        self.session = session
        self.template_id = template_id

    async def run(self, document: str, **variables: Any) -> Any:
        """What a document is answered."""
        return await self.session.execute(gql.GraphQLRequest(document, variable_values=variables))

    async def issue(self) -> list[Any]:
        """Cause events."""
        somebody = {"email": f"{uuid.uuid4()}@judges.example"}
        asked = {"templateId": self.template_id, "customer": somebody}
        said = await self.run(ISSUE, input=asked)
        assert said["issueCard"]["userErrors"] == []
        events: list[Any] = said["issueCard"]["events"]
        return events

    async def a_query(self) -> None:
        assert (await self.run(BUSINESS))["viewer"]["business"]["id"]

    async def variables(self) -> None:
        assert await self.run(NODE, id="none") == {"node": None}

    async def a_mutation(self) -> None:
        assert await self.issue()

    async def an_error(self) -> None:
        with pytest.raises(TransportQueryError) as error:
            await self.run(WRONG)
        told: Any = error.value.errors
        assert told[0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"

    async def a_subscription(self) -> None:
        """It goes on from its cursor: nothing missed, nothing twice."""
        [first, *_] = await self.issue()
        await self.issue()
        [heard] = await self.events(first["cursor"], 1)
        last = (await self.issue())[-1]
        count = last["sequence"] - heard["sequence"]
        later = [event["sequence"] for event in await self.events(heard["cursor"], count)]
        assert later == list(range(heard["sequence"] + 1, last["sequence"] + 1))

    async def events(self, after: str, count: int) -> list[Any]:
        """So many events beyond a cursor."""
        found: list[Any] = []
        stream = self.session.subscribe(
            gql.GraphQLRequest(EVENTS, variable_values={"after": after})
        )
        async for event in stream:
            found.append(event["events"])
            if len(found) == count:
                break
        await stream.aclose()
        return found


async def test_gql_is_content(judged: Judged, verdict: Callable[[Judge, str], None]) -> None:
    said = []
    for name, transport in transports(judged).items():
        async with gql.Client(transport=transport) as session:
            scenarios = Scenarios(session, judged.template_id)
            asked: list[Callable[[], Awaitable[None]]] = [
                scenarios.a_query,
                scenarios.a_mutation,
                scenarios.an_error,
                scenarios.a_subscription if "socket" in name else scenarios.variables,
            ]
            for one in asked:
                try:
                    async with asyncio.timeout(15):
                        await one()
                except Exception as error:  # noqa: BLE001 -- whatever it was, it is told
                    said.append(
                        Verdict(f"{name}: {one.__name__}", passed=False, reason=repr(error))
                    )
                else:
                    said.append(Verdict(f"{name}: {one.__name__}", passed=True))

    verdict(GQL, f"{sum(one.passed for one in said)} of {len(said)}")
    assert [one for one in said if not one.passed] == []
    assert len(said) == 16
