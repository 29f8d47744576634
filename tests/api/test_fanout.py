"""Fan-out: what subscribers have in common is executed once, and nobody is told another's."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

import execution.fanout
import execution.subscriptions
from events.log import head_of
from execution.fanout import Fanout, Member
from execution.subscriptions import LogSubscription, log_subscription
from factories import a_card, a_card_template, a_location, an_award_goal, stamps
from models import Card, Role
from patience import PATIENCE, until
from resolvers.callers import caller_of
from resolvers.charges import FREE_PER_EVENT
from resolvers.context import Context
from server import _schema
from services.pages import MOST

OTHERWISE = "subscription($after: String) { events(after: $after) { sequence } }"
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


class Paper:
    """An outlet that keeps what is written to it; with `is_torn`, nothing can be.

    Whoever waits until it is drained waits for `has_room`.
    """

    def __init__(self) -> None:
        self.got: list[int] = []
        self.is_writable = True
        self.is_torn = False
        self.has_room = asyncio.Event()
        self.has_room.set()

    def write(self, payloads: Any) -> None:
        """Keep the sequences."""
        if self.is_torn:
            raise ConnectionError
        self.got += [orjson.loads(one)["data"]["events"]["sequence"] for one in payloads]

    async def drained(self) -> None:
        """Wait for room."""
        await self.has_room.wait()


class Desk:
    """A fan-out of its own, whose subscribers write on paper."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.fanout = Fanout(house.owner.server.app.state.deployment)
        self.tasks: list[asyncio.Task[None]] = []

    async def subscribe(
        self, after: str | None, cost: int = 0, text: str = EVENTS
    ) -> tuple[Paper, Member]:
        """A subscriber who asks what all others ask, unless told otherwise."""
        deployment = self.house.owner.server.app.state.deployment
        context = Context(deployment, caller=await caller_of(deployment, self.house.owner.key))
        said = log_subscription(_schema, text, {"after": after}, None)
        assert said is not None
        paper = Paper()
        member = await self.fanout.start(said, context, paper, cost)
        self.tasks.append(asyncio.create_task(self.fanout.follow(said, member)))
        return paper, member

    async def is_live(self, count: int) -> None:
        """Wait until so many have caught up, and nobody reads."""

        def are_there() -> bool:
            feeds = self.fanout._feeds.values()
            return sum(len(one.live) for feed in feeds for one in feed._groups.values()) >= count

        await until(are_there)
        await self.house.until_awaited()

    async def reaches(self, member: Member, place: int) -> None:
        """Wait until a subscriber was told all up to a place."""
        await until(lambda: member.place >= place)


@pytest.fixture
async def desk(house: Any) -> AsyncIterator[Desk]:
    """A fan-out of its own."""
    made = Desk(house)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def write_pages(house: Any, card: Card) -> int:
    """More events than two pages hold; says how far the log reaches then."""
    for _ in range(2 * MOST // 50 + 1):
        await asyncio.gather(*(stamps(house.database, house.actor, card, 1) for _ in range(50)))
    return await head(house)


async def head(house: Any) -> int:
    """How far the log reaches."""
    found = await house.database.read(house.actor.business_id, head_of)
    return int(found.sequence)


async def test_whoever_begins_now_is_told_nothing_of_a_neighbours_past(
    house: Any, card: Card, desk: Desk, executed: Counter[int]
) -> None:
    """And waits for nobody: what is new comes before the neighbour has caught up."""
    reach = await write_pages(house, card)
    old, behind = await desk.subscribe(BEGINNING)
    async with asyncio.timeout(PATIENCE):
        while not old.got:  # noqa: ASYNC110 -- it comes at once
            await asyncio.sleep(0)
    old.has_room.clear()
    new, fresh = await desk.subscribe(None)
    await stamps(house.database, house.actor, card, 1)
    await desk.reaches(fresh, reach + 1)
    executed_before = executed[reach]
    old.has_room.set()
    await desk.reaches(behind, reach + 1)

    assert executed_before == 0
    assert new.got == [reach + 1]
    assert old.got == [*range(1, reach + 2)]
    assert executed == dict.fromkeys(range(1, reach + 2), 1)


async def test_whoever_joins_while_many_events_are_told_gets_none_twice(
    house: Any, card: Card, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed itself is pages behind the log then, and whoever comes is ahead of it."""
    live, first = await desk.subscribe(None)
    await desk.is_live(1)
    rings = type(house.database)._committed
    monkeypatch.setattr(type(house.database), "_committed", lambda *_: None)
    reach = await write_pages(house, card)
    monkeypatch.setattr(type(house.database), "_committed", rings)
    async with asyncio.timeout(PATIENCE):
        while not live.got:  # noqa: ASYNC110 -- the poll finds them
            await asyncio.sleep(0)
    joined, second = await desk.subscribe(None)
    was_ahead = first.place < second.place

    await stamps(house.database, house.actor, card, 1)
    await desk.reaches(first, reach + 1)
    await desk.reaches(second, reach + 1)

    assert was_ahead
    assert live.got == [*range(2, reach + 2)]
    assert joined.got == [reach + 1]


async def test_one_that_cannot_be_written_to_takes_nothing_from_the_others(
    house: Any, card: Card, desk: Desk
) -> None:
    told = [await desk.subscribe(None) for _ in range(5)]
    await desk.is_live(5)
    told[0][0].is_torn = True
    await stamps(house.database, house.actor, card, 1)
    for _, member in told[1:]:
        await desk.reaches(member, 2)
    told[0][0].is_torn = False
    await stamps(house.database, house.actor, card, 1)
    for _, member in told:
        await desk.reaches(member, 3)

    assert [paper.got for paper, _ in told] == [[2, 3]] * 5


async def test_an_event_that_one_cannot_be_answered_now_makes_no_neighbour_wait(
    house: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once it can be, it is executed once for all who wait for it."""
    sick, is_well, executed = "subscription { events { sequence id } }", False, Counter[int]()
    execute = LogSubscription._answer

    async def answer(self: LogSubscription, context: Any, event: Any) -> Any:
        if self.text != sick:
            return await execute(self, context, event)
        if not is_well:
            return [{"extensions": {"code": "INTERNAL_SERVER_ERROR"}}], b"{}"
        executed[event.sequence] += 1
        return await execute(self, context, event)

    monkeypatch.setattr(LogSubscription, "_answer", answer)
    monkeypatch.setattr(execution.subscriptions, "_PAUSES", (0.1,) * 500)
    async with house.owner.socket() as first, house.owner.socket() as second:
        waiting = [await first.subscribe(sick) for _ in range(10)]
        alive = await second.subscribe(EVENTS)
        await house.until_followed(11)
        for _ in range(3):
            await stamps(house.database, house.actor, card, 1)
            await alive.next()  # while the others wait
        is_well = True
        told = [[answer["events"]["sequence"] for answer in await one.take(3)] for one in waiting]

    assert told == [[2, 3, 4]] * 10
    assert executed == {2: 1, 3: 1, 4: 1}


async def test_dear_events_come_as_they_are_paid_for_and_keep_nobody_else_waiting(
    house: Any, card: Card, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []

    async def pay(_: Context, cost: int) -> float:
        if sum(paid) + cost > purse:
            return 0.01
        paid.append(cost)
        return 0.0

    monkeypatch.setattr(execution.fanout, "pay_for_event", pay)
    begun, purse = await head(house), 2 * 60
    [dear, dearly], [same, _] = [await desk.subscribe(None, 60) for _ in range(2)]
    cheap, cheaply = await desk.subscribe(None, FREE_PER_EVENT, OTHERWISE)
    await desk.is_live(3)
    for _ in range(5):
        await stamps(house.database, house.actor, card, 1)
    await desk.reaches(cheaply, begun + 5)
    await desk.reaches(dearly, begun + 2)

    assert (dear.got, paid) == ([begun + 1, begun + 2], [60, 60])
    assert cheap.got == [*range(begun + 1, begun + 6)]

    purse = 5 * 60
    await desk.reaches(dearly, begun + 5)
    await until(lambda: len(same.got) == 5)

    assert dear.got == same.got == cheap.got
    assert paid == [60] * 5


async def test_cheap_events_are_free_for_the_first_hundred_different_subscriptions(
    house: Any, card: Card, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[int] = []

    async def pay(_: Context, cost: int) -> float:
        paid.append(cost)
        return 0.0

    monkeypatch.setattr(execution.fanout, "pay_for_event", pay)
    monkeypatch.setattr(execution.fanout, "FREE_GROUPS", 2)
    texts = [f"{OTHERWISE} # {number}" for number in range(3)]
    made = [await desk.subscribe(None, 11, text) for text in texts]
    await desk.is_live(3)
    await stamps(house.database, house.actor, card, 1)
    for _, member in made:
        await desk.reaches(member, await head(house))

    assert paid == [11]


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
        await house.until_followed(80)
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
        await house.until_followed(5)
        await stamps(house.database, house.actor, card, 1)
        answers = [await one.next() for one in told]

    assert executed == {2: 5}
    assert [answer["events"]["sequence"] for answer in answers] == [2] * 5


async def test_a_search_is_left_to_the_database(house: Any, card: Card) -> None:
    other = await a_card(house.database, house.actor, card.template_id)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS, {"filter": {"search": other.number}})
        await house.until_followed(1)
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
        await house.until_followed(1)
        for _ in range(5):
            async with house.owner.socket() as other:
                await other.subscribe(EVENTS)
                await house.until_followed(2)
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
        await house.until_awaited()
        monkeypatch.setattr(database, "read", failing)
        await stamps(house.database, house.actor, card, 1)

        answer = await told.next()

    assert answer["events"]["customer"] is not None


async def test_a_database_that_is_away_for_longer_is_waited_for(
    house: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trying again at once does not help, the subscriber comes again, and hears no error."""
    execute, failures = LogSubscription._answer, iter([True] * 6)

    async def away(self: LogSubscription, context: Any, event: Any) -> Any:
        if next(failures, False):
            return [{"extensions": {"code": "RATE_LIMITED"}}], b'{"errors": []}'
        return await execute(self, context, event)

    monkeypatch.setattr(LogSubscription, "_answer", away)
    monkeypatch.setattr(execution.subscriptions, "_PAUSES", (0.01,))
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS)
        await house.until_awaited()
        await stamps(house.database, house.actor, card, 1)

        answer = await told.next()

    assert answer["events"]["customer"] is not None
    assert not next(failures, False)


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
            async with asyncio.timeout(PATIENCE):
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
