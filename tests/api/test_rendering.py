"""Documents of endpoints: what may be one, and that it says what a socket says."""

from typing import Any

import orjson
import pytest
from sqlmodel import col, select

from db import BUSINESS, query
from factories import a_card, a_card_template, an_award_goal, stamps
from models import EventRow

DOCUMENT = """subscription {
    events(filter: {types: [STAMP_ADDED]}) {
        id sequence payload(vocabulary: ID) ... on StampAdded { count card { stamps } } } }"""
SEARCHING = 'subscription { events(filter: {search: "…"}) { sequence } }'
_EVENTS = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS).order_by(col(EventRow.sequence))
)

REFUSED = {
    "subscription { events { nonsense } }": "Cannot query field 'nonsense' on type 'Event'.",
    "subscription {": "Syntax Error: Expected Name, found <EOF>.",
    "{ viewer { actor { id } } }": "without variables",
    "mutation { signOut(input: {}) { userErrors { code } } }": "without variables",
    "subscription { pulse { stampOperationsToday } }": "without variables",
    "subscription($after: String) { events(after: $after) { id } }": "without variables",
    'subscription { events(after: "ZXZ0OjA") { id } }': "leave `after` out",
    "subscription { events { id } } # " + "x" * 20_000: "at most 20000 characters",
    "subscription { events { id } } subscription B { events { id } }": "anonymous operation",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_that_is_no_document_is_refused_with_the_reason(deployment: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        deployment.documents.check(text)

    assert REFUSED[text] in str(refused.value)


async def test_a_document_says_of_an_event_what_a_socket_says(house: Any) -> None:
    template = await a_card_template(house.database, house.actor, 5, [an_award_goal(5)])
    card = await a_card(house.database, house.actor, template.id)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(DOCUMENT)
        await house.until_followed(1)
        await stamps(house.database, house.actor, card, 2)
        message = await told.message()
    documents = house.deployment.documents
    documents.check(DOCUMENT)
    issued, stamped = await house.all(_EVENTS)

    bodies = [await documents.render(house.actor, DOCUMENT, row) for row in (issued, stamped)]

    assert bodies[0] is None
    assert bodies[1] == orjson.dumps(message["payload"]).decode()


async def test_a_document_may_search(house: Any) -> None:
    template = await a_card_template(house.database, house.actor)
    first = await a_card(house.database, house.actor, template.id)
    await a_card(house.database, house.actor, template.id)
    document = SEARCHING.replace("…", first.number)
    documents = house.deployment.documents
    documents.check(document)

    bodies = [
        await documents.render(house.actor, document, row) for row in await house.all(_EVENTS)
    ]

    assert bodies == ['{"data":{"events":{"sequence":1}}}', None]
