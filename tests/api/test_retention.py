"""Retention over the API: a cursor that is too old is told so, with the oldest that is good.

Proves case 4 of the list of fault tests: never a silent jump, in the query, the subscription and
where a new webhook endpoint begins.
"""

from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from factories import a_card, a_card_template, an_award_goal, stamps
from models import encode_cursor
from services.retention import prune

KEEP = """mutation($days: Int) { updateBusiness(input: {eventRetentionDays: $days}) {
    business { eventRetentionDays } userErrors { code field } } }"""
LOG = """query($after: String) { events(after: $after, order: OLDEST_FIRST, first: 100) {
    nodes { sequence } } }"""
FOLLOW = "subscription($after: String) { events(after: $after) { sequence } }"
BEGIN = """mutation($startAt: StartAtInput) { createWebhookEndpoint(
    input: {url: "https://hooks.example/", startAt: $startAt}) {
        endpoint { cursor missedEvents } userErrors { code message } } }"""


@pytest.fixture
async def aged(house: Any, clock: ManualClock) -> Any:
    """A café whose first six events were thrown away, and whose next three are there."""
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    card = await a_card(house.database, house.actor, template.id, now=clock.now())
    for _ in range(5):
        await stamps(house.database, house.actor, card, 1, now=clock.now())
    kept = await house.owner.do(KEEP, {"days": 30})
    assert kept["updateBusiness"]["business"] == {"eventRetentionDays": 30}
    clock.advance(timedelta(days=31))
    for _ in range(3):
        await stamps(house.database, house.actor, card, 1, now=clock.now())
    assert await prune(house.database, clock.now()) == 6
    return house


def gone(answer: Any) -> dict[str, Any]:
    """What an error says beside its message."""
    [error] = answer.body["errors"]
    extensions: dict[str, Any] = error["extensions"]
    return extensions


async def test_the_log_says_that_it_begins_later_and_where(aged: Any) -> None:
    told = gone(await aged.owner.call(LOG, {"after": encode_cursor(3)}))

    assert told == {"code": "CURSOR_EXPIRED", "oldestCursor": encode_cursor(6)}
    for after in (told["oldestCursor"], None):
        nodes = (await aged.owner.do(LOG, {"after": after}))["events"]["nodes"]
        assert [node["sequence"] for node in nodes] == [7, 8, 9]


async def test_a_cursor_beyond_the_end_of_the_log_is_bad_input(aged: Any) -> None:
    answer = await aged.owner.call(LOG, {"after": encode_cursor(10)})

    assert answer.code == "BAD_USER_INPUT"


@pytest.mark.parametrize("place", [0, 5])
async def test_a_subscription_says_so_and_goes_on_from_the_oldest(aged: Any, place: int) -> None:
    async with aged.owner.socket() as socket:
        told = await socket.subscribe(FOLLOW, {"after": encode_cursor(place)})
        message = await told.message()
        errors = message["payload"]
        [error] = errors if isinstance(errors, list) else errors["errors"]
        assert error["extensions"] == {
            "code": "CURSOR_EXPIRED",
            "oldestCursor": encode_cursor(6),
        }

        again = await socket.subscribe(FOLLOW, {"after": error["extensions"]["oldestCursor"]})
        sequences = [answer["events"]["sequence"] for answer in await again.take(3)]

    assert sequences == [7, 8, 9]


async def test_an_endpoint_begins_where_the_log_does_or_is_told(aged: Any) -> None:
    since = "2026-01-01T00:00:00Z"
    for start in ({"beginning": True}, {"since": since}, {"cursor": encode_cursor(6)}):
        made = (await aged.owner.do(BEGIN, {"startAt": start}))["createWebhookEndpoint"]
        assert made["endpoint"] == {"cursor": encode_cursor(6), "missedEvents": 0}

    told = gone(await aged.owner.call(BEGIN, {"startAt": {"cursor": encode_cursor(5)}}))
    assert told == {"code": "CURSOR_EXPIRED", "oldestCursor": encode_cursor(6)}
    answer = await aged.owner.call(BEGIN, {"startAt": {"cursor": encode_cursor(10)}})
    assert answer.code == "BAD_USER_INPUT"
