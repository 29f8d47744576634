"""The people of the year: who they are, when they come for the first time, when no more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import TypeVar

from core.luck import Luck
from services.customers import CustomerInput
from services.year import shape
from services.year.shape import Kind, Place, Season

T = TypeVar("T")


@dataclass(eq=False)
class Person:
    """A customer to be: habits that were decided before the year began, and what came of them."""

    told: CustomerInput
    kind: Kind
    place: Place
    comes: date
    goes: date
    """From the first day to the last one; a win-back voucher may move it."""
    allows: dict[str, bool]
    """What is said to being written to, by the name of the channel."""
    saves: str | None
    """The wallet the card goes to, by its name."""
    loses_phone: date | None = None
    twin_of: "Person | None" = None
    """The same person, signed up a second time."""
    customer_id: str | None = None
    cards: dict[str, str] = field(default_factory=dict)
    """The ids of the cards, by the key of their template."""
    is_merged: bool = False


class SeededLuck(Luck):
    """Luck that comes the same again for the same seed. It decides nothing but this story."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def below(self, bound: int) -> int:
        return self.random.randrange(bound)

    def seed(self) -> str:
        return self.random.randbytes(32).hex()


def cast_of(random: Random, number: int, days: int) -> list[Person]:
    """Everybody who will come in these days."""
    people = [_person(random, index, days) for index in range(number)]
    for original in list(people):
        if original.told.phone is None and random.random() < shape.SIGNS_UP_TWICE:
            people.append(_twin(random, original, len(people)))
    return people


def picked(random: Random, table: Sequence[tuple[T, float]]) -> T:
    """One of a table of things and their weights."""
    [thing] = random.choices([item for item, _ in table], [weight for _, weight in table])
    return thing


def comes_on(random: Random, person: Person, day: date) -> bool:
    """Whether somebody comes on this day."""
    if not person.comes <= day <= person.goes or person.is_merged:
        return False
    if day == person.comes:
        return True
    chance = person.kind.visits_a_week / 7 * person.place.week[day.weekday()] * _busy(day)
    return random.random() < chance


def hour_at(random: Random, place: Place, day: date) -> int:
    """The hour at which somebody comes to a place."""
    weights = place.weekend if day.weekday() >= 5 else place.workday
    hours = range(place.opens, place.opens + len(weights))
    if (season := season_of(day)) and season.fasts:
        return picked(
            random,
            [
                (hour, weight * (2.5 if hour >= shape.SUNSET - 1 else 0.35))
                for hour, weight in zip(hours, weights, strict=True)
            ],
        )
    return picked(random, list(zip(hours, weights, strict=True)))


def season_of(day: date) -> Season | None:
    """The season of a day, if it is in one."""
    return next((item for item in shape.SEASONS if item.first <= day <= item.last), None)


def _busy(day: date) -> float:
    season = season_of(day)
    return season.factor if season else 1.0


def _person(random: Random, index: int, days: int) -> Person:
    kind = picked(random, [(kind, kind.share) for kind in shape.KINDS])
    comes = _first_visit(random, days)
    goes = comes + timedelta(days=math.ceil(random.expovariate(1 / kind.stays_days)))
    first, last = random.choice(shape.FIRST_NAMES), random.choice(shape.LAST_NAMES)
    email: str | None = f"{first}.{last}.{index}@mail.example".lower()
    phone: str | None = _phone(index)
    way = random.random()
    if way < shape.BY_EMAIL:
        phone = None
    elif way > shape.BY_EMAIL + shape.BY_BOTH:
        email = None
    allows = {}
    if email and random.random() < shape.ALLOWS_EMAIL:
        allows["EMAIL"] = True
    if phone and random.random() < shape.ALLOWS_MESSENGERS:
        allows["MESSENGERS"] = True
    if random.random() < shape.REFUSES_PUSH:
        allows["PUSH"] = False
    lost = comes + timedelta(days=random.randrange(20, 200))
    return Person(
        told=CustomerInput(
            email=email,
            phone=phone,
            name=f"{first} {last}",
            birthday=_birthday(random) if random.random() < shape.TELLS_BIRTHDAY else None,
            language=picked(random, shape.LANGUAGES),
        ),
        kind=kind,
        place=picked(random, [(place, place.share) for place in shape.PLACES]),
        comes=comes,
        goes=goes,
        allows=allows,
        saves=_wallet(random),
        loses_phone=lost if random.random() < shape.LOSES_PHONE else None,
    )


def _twin(random: Random, original: Person, index: int) -> Person:
    comes = original.comes + timedelta(days=random.randrange(5, 40))
    told = CustomerInput(phone=_phone(index), name=original.told.name)
    return Person(
        told=told,
        kind=original.kind,
        place=original.place,
        comes=comes,
        goes=comes + timedelta(days=30),
        allows={},
        saves=original.saves,
        twin_of=original,
    )


def _first_visit(random: Random, days: int) -> date:
    span = min(shape.OPENING_DAYS, days) if random.random() < shape.JOIN_AT_OPENING else days
    day = shape.FIRST_DAY + timedelta(days=random.randrange(span))
    while day in shape.CLOSED:
        day += timedelta(days=1)
    return day


def _birthday(random: Random) -> str:
    day = date(1956, 1, 1) + timedelta(days=random.randrange(52 * 365))
    return day.strftime("--%m-%d" if random.random() < shape.HIDES_YEAR else "%Y-%m-%d")


def _wallet(random: Random) -> str | None:
    if random.random() >= shape.SAVES_CARD:
        return None
    return "APPLE" if random.random() < shape.SAVES_TO_APPLE else "GOOGLE"


def _phone(index: int) -> str:
    """A number that is nobody's: no operator has this prefix."""
    return f"+62840{10_000_000 + index}"
