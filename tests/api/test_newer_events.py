"""A newer release writes events that are not known here: they are passed over, and nothing stops.

While one release takes over from another, both serve; webhooks carry such events all the same.
"""

import asyncio
import json
from datetime import datetime

import pytest

from core.ids import new_id
from db import Transaction
from events import log
from factories import a_card, stamps
from houses import House
from models import Card, EventRow, encode_cursor

EVENTS = "query($after: String) { events(order: OLDEST_FIRST, first: 2, after: $after) {"
PAGE = (
    EVENTS
    + " nodes { id type } edges { cursor node { id } } pageInfo { hasNextPage endCursor } } }"
)
FOLLOW = "subscription($after: String) { events(after: $after) { type sequence } }"
NODE = """query($id: ID!, $card: ID!) { node(id: $id) { id }
    card(ref: {id: $card}) { history { nodes { type } } } }"""


async def invent(house: House, card: Card, at: datetime) -> EventRow:
    """An event of a type that nobody here knows."""
    row = EventRow(
        business_id=house.actor.business_id,
        sequence=0,
        id=new_id("evt"),
        type="stamp_polished",
        occurred_at=at,
        card_id=card.id,
        body=json.dumps({"location_id": None, "customer": None, "card": None, "shine": 7}),
    )

    async def work(tx: Transaction) -> None:
        head = await tx.one(log._BUMP, count=1)
        row.__dict__["sequence"] = head.sequence
        tx.heads[head.business_id] = (head.sequence, head.access_version)
        await tx.add(row)

    await house.database.write(house.actor.business_id, work)
    return row


@pytest.fixture
async def card(house: House) -> Card:
    """A card."""
    return await a_card(house.database, house.actor)


async def test_queries_pass_it_over_and_their_pages_go_on(house: House, card: Card) -> None:
    row = await invent(house, card, card.created_at)
    await stamps(house.database, house.actor, card, 1)
    told, after = [], None
    while True:
        page = (await house.owner.do(PAGE, {"after": after}))["events"]
        assert [edge["node"]["id"] for edge in page["edges"]] == [n["id"] for n in page["nodes"]]
        told += [node["type"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    answer = await house.owner.do(NODE, {"id": row.id, "card": card.id})

    assert told[-1] == "STAMP_ADDED"
    assert "CARD_ISSUED" in told
    assert answer["node"] is None
    assert {event["type"] for event in answer["card"]["history"]["nodes"]} >= {"STAMP_ADDED"}


async def test_sockets_and_streams_pass_it_over_in_replay_and_live(
    house: House, card: Card
) -> None:
    first = await invent(house, card, card.created_at)
    await stamps(house.database, house.actor, card, 1)
    headers = {**house.owner.headers, "Accept": "text/event-stream"}
    asked = {"query": FOLLOW, "variables": {"after": encode_cursor(first.sequence - 1)}}
    async with (
        house.owner.socket() as socket,
        house.owner.session.post(house.owner.server.graphql, json=asked, headers=headers) as stream,
    ):
        behind = await socket.subscribe(FOLLOW, asked["variables"])
        before = await behind.next()
        await house.until_awaited()
        await invent(house, card, card.created_at)
        await stamps(house.database, house.actor, card, 1)
        after = await behind.next()
        async with asyncio.timeout(20):
            lines = [await stream.content.readuntil(b'"STAMP_ADDED"') for _ in range(2)]

    assert before["events"] == {"type": "STAMP_ADDED", "sequence": first.sequence + 1}
    assert after["events"] == {"type": "STAMP_ADDED", "sequence": first.sequence + 3}
    assert b"errors" not in b"".join(lines)
