"""Fan-out: what subscribers have in common is executed once, and nobody is told another's."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from execution.subscriptions import LogSubscription, log_subscription
from factories import a_card, a_card_template, a_location, an_award_goal, stamps
from models import Card, Role
from server import _schema

EVENTS = """subscription($after: String, $filter: EventFilter) {
    events(after: $after, filter: $filter) { sequence customer { name } location { name } } }"""
BEGINNING = "ZXZ0OjA"


@pytest.fixture
async def card(house: Any) -> Card:
    """A card of fifty stamps."""
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    return await a_card(house.database, house.actor, template.id)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often an event was executed, by its sequence."""
    counted: Counter[int] = Counter()
    execute = LogSubscription._answer

    async def counting(self: LogSubscription, context: Any, event: Any) -> Any:
        counted[event.sequence] += 1
        return await execute(self, context, event)

    monkeypatch.setattr(LogSubscription, "_answer", counting)
    return counted


async def test_an_event_is_executed_once_for_all_who_ask_the_same(
    house: Any, card: Card, executed: Counter[int]
) -> None:
    async with house.owner.socket() as first, house.owner.socket() as second:
        told = [
            await socket.subscribe(EVENTS, {"after": after, "filter": {"types": ["STAMP_ADDED"]}})
            for after in (None, BEGINNING)
            for socket in (first, second)
            for _ in range(20)
        ]
        assert await told[0].is_silent()
        for _ in range(3):
            await stamps(house.database, house.actor, card, 1)
        answers = [await one.take(3) for one in told]

    assert executed == {2: 1, 3: 1, 4: 1}
    assert {json.dumps(answer) for answer in answers} == {json.dumps(answers[0])}


async def test_whoever_asks_otherwise_or_has_other_rights_is_answered_apart(
    house: Any, card: Card, executed: Counter[int]
) -> None:
    corner = await a_location(house.database, house.actor)
    _, manager = await house.hire(Role.MANAGER)
    _, scanner = await house.hire(Role.SCANNER, location_id=corner.id)
    async with (
        house.owner.socket() as owned,
        manager.socket() as managed,
        scanner.socket() as scanned,
    ):
        told = [
            await owned.subscribe(EVENTS),
            await owned.subscribe(EVENTS, {"filter": {"types": ["STAMP_ADDED"]}}),
            await owned.subscribe(EVENTS.replace("sequence", "sequence id")),
            await managed.subscribe(EVENTS),
            await scanned.subscribe(EVENTS),
        ]
        assert await told[-1].is_silent(0.4)
        await stamps(house.database, house.actor, card, 1)
        answers = [await one.next() for one in told]

    assert executed == {2: 5}
    assert [answer["events"]["sequence"] for answer in answers] == [2] * 5


async def test_a_search_is_left_to_the_database(house: Any, card: Card) -> None:
    other = await a_card(house.database, house.actor, card.template_id)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS, {"filter": {"search": other.number}})
        assert await told.is_silent()
        await stamps(house.database, house.actor, card, 1)
        await stamps(house.database, house.actor, other, 1)
        await stamps(house.database, house.actor, card, 1)

        event = (await told.next())["events"]
        silent = await told.is_silent()

    assert event["sequence"] == 4
    assert silent


async def test_whoever_leaves_takes_nothing_from_the_others(house: Any, card: Card) -> None:
    async with house.owner.socket() as kept:
        alive = await kept.subscribe(EVENTS)
        for _ in range(5):
            async with house.owner.socket() as other:
                await (await other.subscribe(EVENTS)).is_silent(0.02)
                await stamps(house.database, house.actor, card, 1)
        sequences = [event["events"]["sequence"] for event in await alive.take(5)]

    assert sequences == [2, 3, 4, 5, 6]


async def test_an_event_that_cannot_be_answered_now_is_answered_later(
    house: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away for a moment costs the subscriber nothing but that moment."""
    database = type(house.database)
    read, failures = database.read, iter([True] * 3)

    async def failing(self: Any, business: Any, work: Any) -> Any:
        if next(failures, False):
            raise ConnectionError
        return await read(self, business, work)

    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS)
        assert await told.is_silent()
        monkeypatch.setattr(database, "read", failing)
        await stamps(house.database, house.actor, card, 1)

        answer = await told.next(10)

    assert answer["events"]["customer"] is not None


async def test_sse_and_socket_carry_the_same_answer(house: Any, card: Card) -> None:
    """One is executed by us for a group, the other by Strawberry for itself."""
    headers = {**house.owner.headers, "Accept": "text/event-stream"}
    asked = {"query": EVENTS, "variables": {"after": BEGINNING}}
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS, {"after": BEGINNING})
        message = await told.message()
        async with house.owner.session.post(
            house.owner.server.graphql, json=asked, headers=headers
        ) as stream:
            line = b""
            async with asyncio.timeout(5):
                while not line.startswith(b"data: {"):
                    line = await stream.content.readline()

    assert json.loads(line.removeprefix(b"data:")) == message["payload"]


NOT_SHARED = [
    "{ viewer { actor { id } } }",
    "subscription { pulse { stampOperationsToday } }",
    "subscription { ...on Subscription { events { id } } }",
    "subscription A { events { id } } subscription B { events { id } }",
    "subscription { events { nonsense } }",
    'subscription { events(filter: {search: "%s"}) { id } }' % ("x" * 500),
    "subscription($after: Int!) { events(after: $after) { id } }",
    "subscription { events @include(if: true) { id } }",
]


@pytest.mark.parametrize("text", NOT_SHARED)
def test_all_but_plain_subscriptions_of_the_log_run_as_ever(text: str) -> None:
    assert log_subscription(_schema, text, None, None) is None


def test_only_the_cursor_is_left_out_of_what_subscribers_have_in_common() -> None:
    def shape(text: str, **variables: Any) -> Any:
        said = log_subscription(_schema, text, variables, None)
        assert said is not None
        return said.shape

    assert shape(EVENTS, after="a") == shape(EVENTS, after="b") == shape(EVENTS)
    assert shape(EVENTS, filter={"types": []}) != shape(EVENTS)
    twice = "subscription($x: String) { events(after: $x, filter: {search: $x}) { id } }"
    assert shape(twice, x="a") != shape(twice, x="b")
