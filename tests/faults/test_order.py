"""Order under failures, in virtual time.

Proves cases 21, 29, 30, 31 and 50 of research/webhooks.md §6 (32, a replay beside live traffic, is
proven where replays are).
"""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from cafes import (
    Cafe,
    VirtualSender,
    VirtualTime,
    a_known_card,
    an_opening,
    findings,
    found_cafe,
)
from core.clock import ManualClock
from core.secrets import Secrets
from db import Database
from events.stream import Stream
from models import Delivery, DeliveryState, EndpointStatus, EventRow, Ordering
from webhooks.records import settle

LONG = timedelta(days=4)
BAD = (500, 503, 404, 422, 307, {"error": "timeout"}, {"error": "connect"}, 429)


@pytest.fixture
async def cafe(database: Database, secrets: Secrets, clock: ManualClock) -> AsyncIterator[Cafe]:
    """A business with an empty log; the auditor finds nothing in the end."""
    yield await found_cafe(database, secrets, clock)
    assert await findings(database) == []


@pytest.fixture
async def stream(database: Database) -> AsyncIterator[Stream]:
    """The stream of this process."""
    made = Stream(database, "memory://")
    await made.open()
    yield made
    await made.close()


async def openings(cafe: Cafe, *cards: str) -> list[EventRow]:
    """One event on each of these cards."""
    return await cafe.happens(*(an_opening(card) for card in cards))


def whimsical(chance: random.Random, share: float) -> Any:
    """A receiver that fails so often, in any way."""

    def reply(_: Any, __: datetime) -> Any:
        return chance.choice(BAD) if chance.random() < share else 200

    return reply


@pytest.mark.parametrize("seed", range(3))
async def test_strict_order_holds_whatever_the_receiver_answers(
    cafe: Cafe, stream: Stream, clock: ManualClock, seed: int
) -> None:
    """Case 29: the receiver sees 1..n, each until it is taken."""
    card = await a_known_card(cafe)
    endpoint = await cafe.endpoint(
        "https://partner.example/", ordering=Ordering.STRICT, types=["card_opened"]
    )
    events = await openings(cafe, *[card] * 60)
    sender = VirtualSender(clock, whimsical(random.Random(seed), 0.3))
    time = VirtualTime(cafe, stream, clock, sender)

    after = await time.pass_by(endpoint, time.pusher(), time.pusher(), until=clock.now() + LONG)

    seen = [sent.parcel.id for sent in sender.sent]
    assert list(dict.fromkeys(seen)) == [event.id for event in events]
    assert seen == sorted(seen, key=[event.id for event in events].index)
    assert after.cursor_sequence == events[-1].sequence
    assert await cafe.exceptions() == []


@pytest.mark.parametrize("seed", range(3))
async def test_the_events_of_a_card_are_in_order_while_other_cards_pass(
    cafe: Cafe, stream: Stream, clock: ManualClock, seed: int
) -> None:
    """Case 30."""
    chance = random.Random(seed)
    cards = [await a_known_card(cafe) for _ in range(3)]
    endpoint = await cafe.endpoint(
        "https://partner.example/", ordering=Ordering.CARD, types=["card_opened"]
    )
    events = await openings(cafe, *(chance.choice(cards) for _ in range(60)))
    taken: list[str] = []
    reply = whimsical(chance, 0.2)

    def note(parcel: Any, at: datetime) -> Any:
        said = reply(parcel, at)
        if said == 200:
            taken.append(parcel.id)
        return said

    time = VirtualTime(cafe, stream, clock, VirtualSender(clock, note))

    await time.pass_by(endpoint, time.pusher(), time.pusher(), until=clock.now() + LONG)

    assert sorted(taken) == sorted(event.id for event in events)
    for card in cards:
        mine = [event.id for event in events if event.card_id == card]
        assert [id_ for id_ in taken if id_ in mine] == mine
    assert taken != [event.id for event in events]
    assert await cafe.exceptions() == []


async def test_an_operator_who_skips_an_event_lets_those_behind_it_follow(
    cafe: Cafe, stream: Stream, clock: ManualClock
) -> None:
    """Case 31, as far as the pusher goes: an exception that is settled frees its card."""
    card, other = await a_known_card(cafe), await a_known_card(cafe)
    endpoint = await cafe.endpoint(
        "https://partner.example/", ordering=Ordering.CARD, types=["card_opened"]
    )
    events = await openings(cafe, card, card, other, card)
    refused = events[0].id
    sender = VirtualSender(clock, lambda parcel, _: 422 if parcel.id == refused else 200)
    time = VirtualTime(cafe, stream, clock, sender)
    pusher = time.pusher()
    await pusher.sweep()
    waiting: list[Delivery] = await cafe.exceptions()
    assert [row.state for row in waiting] == [DeliveryState.RETRY, *[DeliveryState.PARKED] * 2]

    now = clock.now()
    await cafe.database.write(cafe.business.id, lambda tx: settle(tx, endpoint.id, waiting[0], now))
    await time.pass_by(endpoint, pusher, until=now + timedelta(seconds=1))

    seen = [sent.parcel.id for sent in sender.sent]
    assert seen == [events[0].id, events[2].id, events[1].id, events[3].id]
    assert await cafe.exceptions() == []


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("how", [EndpointStatus.DISABLED, EndpointStatus.PAUSED])
async def test_what_happens_while_an_endpoint_is_disabled_arrives_in_order_afterwards(
    cafe: Cafe, stream: Stream, clock: ManualClock, how: EndpointStatus
) -> None:
    """Case 50: a thousand events."""
    card = await a_known_card(cafe)
    endpoint = await cafe.endpoint(
        "https://partner.example/", ordering=Ordering.STRICT, types=["card_opened"], status=how
    )
    events = await openings(cafe, *[card] * 1_000)
    sender = VirtualSender(clock, lambda *_: 200)
    time = VirtualTime(cafe, stream, clock, sender)
    pusher = time.pusher()
    assert await pusher.sweep() == 0

    await cafe.change(endpoint, status=EndpointStatus.ACTIVE)
    await time.pass_by(endpoint, pusher, until=clock.now() + LONG)

    assert [sent.parcel.id for sent in sender.sent] == [event.id for event in events]
    named = [sent.parcel.previous_id for sent in sender.sent]
    assert named == [None, *(event.id for event in events[:-1])]


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(days=1)])
@pytest.mark.parametrize("sign", [1, -1])
async def test_a_clock_that_jumps_keeps_no_event_waiting(
    cafe: Cafe, stream: Stream, clock: ManualClock, wrong: timedelta, sign: int
) -> None:
    """Case 21: there and back, each event is sent once, as soon as somebody looks."""
    card = await a_known_card(cafe)
    await cafe.endpoint("https://partner.example/", types=["card_opened"])
    sender = VirtualSender(clock, lambda *_: 200)
    pusher = VirtualTime(cafe, stream, clock, sender).pusher()

    events = []
    for jump in (timedelta(0), sign * wrong, -sign * wrong, timedelta(0)):
        clock.advance(jump)
        events += await openings(cafe, card)
        await pusher.sweep()

    assert [sent.parcel.id for sent in sender.sent] == [event.id for event in events]
