"""Live: replay and live without a seam, filters, cards, and sockets that lose their rights."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from clients import bare_socket
from core.clock import ManualClock
from db import BUSINESS, command, param
from factories import a_card, a_card_template, a_location, a_staff, an_award_goal, stamps
from models import ApiKey, Card, Role
from patience import PATIENCE, until

EVENTS = """subscription($after: String, $filter: EventFilter) {
    events(after: $after, filter: $filter) { id type sequence cursor payload(vocabulary: ID) } }"""
CARD = "subscription($card: CardRef!) { card(ref: $card) { id stamps cycle status } }"
SINCE = """query($after: String, $order: EventOrder!) {
    events(after: $after, order: $order, first: 100) {
        nodes { id type sequence cursor payload(vocabulary: ID) } } }"""
ENDS = command(
    update(ApiKey)
    .where(col(ApiKey.business_id) == BUSINESS, col(ApiKey.staff_id) == param("staff_id"))
    .values(expires_at=param("ends"))
)
BEGINNING = "ZXZ0OjA"


@pytest.fixture
async def card(house: Any) -> Card:
    """A card of fifty stamps."""
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    return await a_card(house.database, house.actor, template.id)


async def test_what_is_replayed_and_what_is_live_meet_without_a_seam(
    house: Any, card: Card
) -> None:
    """Sixty subscribers connect at random moments of a stream of writes, from random places."""
    chance = random.Random(20)
    writes = 120

    async def write() -> None:
        for _ in range(writes // 4):
            await stamps(house.database, house.actor, card, 1)
            await asyncio.sleep(chance.random() / 100)

    async def follow() -> list[int]:
        await asyncio.sleep(chance.random() * 0.4)
        now = (await house.owner.do(SINCE, {"order": "NEWEST_FIRST"}))["events"]["nodes"][0]
        start = chance.randrange(now["sequence"] + 1)
        after = (
            await house.owner.do(
                "query($first: Int) { events(order: OLDEST_FIRST, first: $first) "
                "{ nodes { cursor } } }",
                {"first": min(max(start, 1), 100)},
            )
        )["events"]["nodes"][-1]["cursor"]
        first = min(max(start, 1), 100)
        told = await socket.subscribe(EVENTS, {"after": after})
        seen = []
        while not seen or seen[-1] < last[0]:
            seen.append((await told.next())["events"]["sequence"])
        assert seen == list(range(first + 1, seen[-1] + 1))
        return seen

    last = [10**9]
    async with house.owner.socket() as socket:
        followers = [asyncio.create_task(follow()) for _ in range(40)]
        await asyncio.gather(*(write() for _ in range(4)))
        [end] = (await house.owner.do("{ events(first: 1) { nodes { sequence } } }"))["events"][
            "nodes"
        ]
        last[0] = end["sequence"]
        await stamps(house.database, house.actor, card, 1)
        seen = await asyncio.gather(*followers)

    assert end["sequence"] >= writes + 1
    assert {numbers[-1] >= end["sequence"] for numbers in seen} == {True}


async def test_without_a_cursor_only_what_happens_from_now_on_is_told(
    house: Any, card: Card
) -> None:
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS)
        await house.until_followed(1)
        await stamps(house.database, house.actor, card, 2)

        event = (await told.next())["events"]
        silent = await told.is_silent()

    assert (event["type"], event["sequence"]) == ("STAMP_ADDED", 2)
    assert silent


async def test_filters_tell_what_matches_and_nothing_else(house: Any, card: Card) -> None:
    corner = await a_location(house.database, house.actor)
    other = await a_staff(house.database, house.actor, Role.SCANNER, location_id=corner.id)
    second = await a_card(house.database, house.actor, card.template_id)
    filters = {
        "types": {"types": ["STAMP_ADDED"]},
        "nothing": {"types": []},
        "there": {"locationIds": [corner.id]},
        "card": {"cardIds": [card.id]},
        "customer": {"customerIds": [second.customer_id]},
        "both": {"types": ["CARD_ISSUED"], "cardIds": [second.id]},
        "until": {"until": "2026-03-02T12:00:00Z"},
        "since": {"since": "2026-03-02T12:00:00Z", "types": ["CARD_ISSUED"]},
    }
    wanted = {
        "types": [3, 4, 5],
        "nothing": [],
        "there": [4],
        "card": [1, 3, 4],
        "customer": [2, 5],
        "both": [2],
        "until": [],
        "since": [1, 2],
    }
    async with house.owner.socket() as socket:
        told = {
            name: await socket.subscribe(EVENTS, {"after": BEGINNING, "filter": filter_})
            for name, filter_ in filters.items()
        }
        await stamps(house.database, house.actor, card, 1)
        await stamps(house.database, other, card, 1)
        await stamps(house.database, house.actor, second, 1)
        everything = await socket.subscribe(EVENTS, {"after": BEGINNING})
        sequences = [event["events"]["sequence"] for event in await everything.take(5)]
        await until(lambda: all(told[name].inbox.qsize() >= len(wanted[name]) for name in told))
        assert await everything.is_silent()
        seen = {
            name: [message["payload"] for message in drained(one)] for name, one in told.items()
        }

    numbers = {
        name: [payload["data"]["events"]["sequence"] for payload in payloads]
        for name, payloads in seen.items()
    }
    assert sequences == [1, 2, 3, 4, 5]
    assert numbers == wanted


def drained(told: Any) -> list[Any]:
    """What has come by now."""
    messages = []
    while not told.inbox.empty():
        messages.append(told.inbox.get_nowait())
    return messages


async def test_a_filtered_subscriber_skips_much_and_misses_nothing(house: Any, card: Card) -> None:
    """Hundreds of events that do not match lie between two that do."""
    async with house.owner.socket() as socket:
        told = await socket.subscribe(
            EVENTS, {"after": BEGINNING, "filter": {"types": ["CARD_ISSUED"]}}
        )
        await asyncio.gather(*(stamps(house.database, house.actor, card, 1) for _ in range(250)))
        await a_card(house.database, house.actor, card.template_id)

        first, second = [event["events"] for event in await told.take(2)]
        silent = await told.is_silent()

    # 250 stamps fill five cards of fifty: five goals, five gifts.
    assert (first["sequence"], second["sequence"]) == (1, 1 + 250 + 10 + 1)
    assert silent


async def test_one_body_over_socket_journal_and_log(house: Any, card: Card) -> None:
    await stamps(house.database, house.actor, card, 50)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(EVENTS, {"after": BEGINNING})
        live = [event["events"] for event in await told.take(4)]
    journal = await house.owner.do(SINCE, {"order": "NEWEST_FIRST"})
    log = await house.owner.do(SINCE, {"order": "OLDEST_FIRST", "after": BEGINNING})

    assert [event["type"] for event in live] == [
        "CARD_ISSUED",
        "STAMP_ADDED",
        "GOAL_REACHED",
        "REWARD_ISSUED",
    ]
    assert log["events"]["nodes"] == live
    assert journal["events"]["nodes"] == live[::-1]


async def test_a_card_is_told_now_and_after_each_change(house: Any, card: Card) -> None:
    other = await a_card(house.database, house.actor, card.template_id)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(CARD, {"card": {"number": card.number}})
        states = [(await told.next())["card"]]
        await stamps(house.database, house.actor, other, 1)
        for count in (2, 48, 1):
            await stamps(house.database, house.actor, card, count)
            states.append((await told.next())["card"])
            if count == 48:
                # The goal and its gift are told too: the card is shown after each.
                states += [answer["card"] for answer in await told.take(2)]
        silent = await told.is_silent()

    full = {"id": card.id, "stamps": 50, "cycle": 1, "status": "ACTIVE"}
    assert states == [
        {**full, "stamps": 0},
        {**full, "stamps": 2},
        full,
        full,
        full,
        {**full, "stamps": 1, "cycle": 2},
    ]
    assert silent


async def test_a_garbage_cursor_fails_its_own_subscription_only(house: Any, card: Card) -> None:
    async with house.owner.socket() as socket:
        broken = [await socket.subscribe(EVENTS, {"after": text}) for text in ("", "x", "ZXZ0Oi0x")]
        told = await socket.subscribe(EVENTS, {"after": BEGINNING})

        messages = [await one.message() for one in broken]
        event = (await told.next())["events"]

    assert event["sequence"] == 1
    for message in messages:
        [error] = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
        assert error["extensions"] == {"code": "BAD_USER_INPUT"}


async def test_queries_and_mutations_run_over_sockets_too(house: Any, card: Card) -> None:
    async with house.owner.socket() as socket:
        viewer = await socket.subscribe("{ viewer { actor { id } } }")
        stamped = await socket.subscribe(
            """mutation($card: CardRef!) { addStamps(input: {card: $card, count: 1}) {
                card { stamps } userErrors { code } } }""",
            {"card": {"id": card.id}},
        )
        answers = [await viewer.next(), await stamped.next()]
        ends = [await viewer.message(), await stamped.message()]

    assert answers == [
        {"viewer": {"actor": {"id": house.actor.staff_id}}},
        {"addStamps": {"card": {"stamps": 1}, "userErrors": []}},
    ]
    assert [end["type"] for end in ends] == ["complete", "complete"]


async def test_a_wrong_key_closes_the_socket_with_4403(house: Any) -> None:
    payloads: list[Any] = [
        None,
        {},
        {"Authorization": "Bearer 7loc_sc_nobody"},
        {"Authorization": ["Bearer"]},
        {"Authorization": None},
        {"authorization": "Basic x"},
    ]
    for payload in payloads:
        async with bare_socket(house.owner.server) as wire:
            await wire.send(json.dumps({"type": "connection_init", "payload": payload}))
            async with asyncio.timeout(PATIENCE):
                await wire.wait_closed()

        assert wire.close_code == 4403, payload


WRONG_SHAPES: list[str | bytes] = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '"subscribe"',
    "{}",
    '{"type": 7}',
    '{"type": "nonsense"}',
    '{"type": "subscribe"}',
    '{"type": "subscribe", "id": 1, "payload": {"query": "{ viewer { actor { id } } }"}}',
    '{"type": "subscribe", "id": "", "payload": {"query": "{ viewer { actor { id } } }"}}',
    '{"type": "subscribe", "id": "1", "payload": null}',
    '{"type": "subscribe", "id": "1", "payload": {"query": 7}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": []}}',
    '{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "operationName": 7}}',
    '{"type": "complete"}',
    '{"type": "ping", "payload": 7}',
    b"\x00\xff",
    "[" * 50_000,
    '{"type": "ping", "payload": {"a": ' + "9" * 5_000 + "}}",
]


async def test_a_message_of_a_wrong_shape_closes_the_socket_with_4400(house: Any) -> None:
    for frame in WRONG_SHAPES:
        async with house.owner.socket() as socket:
            await socket.wire.send(frame)

            assert await socket.close_code() == 4400, frame


REGENERATE = """mutation($id: ID!) { regenerateApiKey(input: {id: $id}) {
    secret userErrors { code } } }"""
DELETE = "mutation($id: ID!) { deleteApiKey(input: {id: $id}) { userErrors { code } } }"
DISABLE = "mutation($id: ID!) { disableStaff(input: {id: $id}) { userErrors { code } } }"
DEMOTE = """mutation($id: ID!) { updateStaff(input: {id: $id, role: SCANNER}) {
    userErrors { code } } }"""


@pytest.mark.parametrize(
    ("change", "of_key"),
    [(REGENERATE, True), (DELETE, True), (DISABLE, False), (DEMOTE, False)],
    ids=["regenerated", "deleted", "disabled", "demoted"],
)
@pytest.mark.calm
async def test_a_socket_that_loses_its_rights_is_closed_within_a_second(
    house: Any, change: str, of_key: bool, figure: Callable[[str], None]
) -> None:
    for last in (False, True):
        staff, client = await house.hire(Role.MANAGER)
        key = (await client.do("{ viewer { apiKey { id } } }"))["viewer"]["apiKey"]["id"]
        async with client.socket() as socket, house.owner.socket() as kept:
            await socket.subscribe(EVENTS)
            alive = await kept.subscribe(EVENTS)
            await house.until_followed(2)

            began = time.perf_counter()
            [payload] = (
                await house.owner.do(change, {"id": key if of_key else staff.staff_id})
            ).values()
            code = await socket.close_code()
            took = time.perf_counter() - began
            await a_card(house.database, house.actor)
            event = (await alive.next())["events"]

        assert payload["userErrors"] == []
        assert code == 4403
        assert event["type"] == "CARD_ISSUED"
        figure(f"closed after {took * 1_000:.0f} ms")
        if took < 1:
            break
        assert not last


async def test_the_end_of_a_session_closes_its_socket(house: Any) -> None:
    sign_in = """mutation($login: String!, $password: String!) {
        signIn(input: {login: $login, password: $password}) { session { secret } } }"""
    asked = {"login": house.cafe.login, "password": "correct horse battery"}
    secret = (await house.owner.do(sign_in, asked))["signIn"]["session"]["secret"]
    client = house.client_of(secret)
    async with client.socket() as socket, house.owner.socket() as kept:
        await socket.subscribe(EVENTS)
        await client.do("mutation { signOut(input: {}) { userErrors { code } } }")

        code = await socket.close_code()
        alive = not kept.closed.is_set()

    assert code == 4403
    assert alive


async def test_a_key_that_ends_closes_its_socket(house: Any, clock: ManualClock) -> None:
    """Nothing is written at that moment: the socket itself has to know when it comes."""
    staff, client = await house.hire(Role.MANAGER)
    ends = clock.now() + timedelta(seconds=0.4)
    await house.database.write(
        house.actor.business_id, lambda tx: tx.run(ENDS, staff_id=staff.staff_id, ends=ends)
    )
    async with client.socket() as socket:
        await socket.subscribe(EVENTS)
        # Rights are looked at once more after the first look at the log.
        watchers = house.deployment.stream._watchers[house.actor.business_id]
        await until(lambda: any(one.known is not None for one in watchers))
        clock.advance(timedelta(seconds=0.4))

        assert await socket.close_code() == 4403


@pytest.mark.calm
async def test_a_stream_over_http_that_loses_its_rights_ends_within_a_second(
    house: Any, card: Card, figure: Callable[[str], None]
) -> None:
    for last in (False, True):
        staff, client = await house.hire(Role.MANAGER)
        headers = {**client.headers, "Accept": "text/event-stream"}
        async with client.session.post(
            client.server.graphql, json={"query": EVENTS}, headers=headers
        ) as stream:
            await house.until_awaited()
            await stamps(house.database, house.actor, card, 1)
            first = await stream.content.readuntil(b"STAMP_ADDED")
            began = time.perf_counter()
            await house.owner.do(DISABLE, {"id": staff.staff_id})
            async with asyncio.timeout(PATIENCE):
                rest = await stream.content.read()
            took = time.perf_counter() - began
            await stamps(house.database, house.actor, card, 1)

        assert b"STAMP_ADDED" in first
        assert b"STAMP_ADDED" not in rest
        figure(f"ended after {took * 1_000:.0f} ms")
        if took < 1:
            break
        assert not last


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_a_subscription_where_nothing_can_stream_is_the_callers_mistake(
    house: Any, accept: str
) -> None:
    answer = await house.owner.call(EVENTS, accept=accept)

    assert (answer.status, answer.codes) == (400, ["BAD_REQUEST"])
