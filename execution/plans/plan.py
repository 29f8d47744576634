"""A plan: places in the answer, each filled for all its objects at once, from the top down.

However many objects stand in a place, each of its fields is asked for once. What a plan gives is
complete and free of errors; in all other cases it is dropped, and graphql-core says what is wrong.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from core.errors import Forbidden
from execution.plans.leaves import Dropped, Fill
from execution.plans.ways import Arguments, Run, Way
from models import EventRow, Reach
from schema.errors import Told
from services.operation import NOT_BY_TOKEN


class Below(Protocol):
    """What stands under a field with a selection of its own."""

    async def answers(self, many: list[Any], run: Run) -> list[dict[str, Any]]:
        """The objects of the answer, for these of ours."""
        ...


@dataclass(slots=True)
class Step:
    """A field whose values do not stand on the object itself."""

    key: str
    name: str
    way: Way
    arguments: Arguments
    is_list: bool
    is_required: bool
    below: Below | None
    complete: Callable[[Any], Any]
    """What turns a value into JSON, where nothing is below."""
    only: frozenset[str] | None
    """The columns wanted of the rows that the way gives; None for all."""

    async def put(self, many: list[Any], rows: list[dict[str, Any]], run: Run) -> None:
        """Have the values for many objects, and put them into their rows."""
        narrows = run.narrows and self.only is not None
        asked = replace(run, only=self.only) if narrows else run
        values = self.way.values(many, asked, self.arguments(run.variables))
        if isinstance(values, Awaitable):
            values = await values
        if self.is_list:
            told = await self._lists(values, run)
        elif self.below is None:
            told = [self.complete(value) for value in values]
        else:
            present = [value for value in values if value is not None]
            if len(present) < len(values) and self.is_required:
                raise Dropped
            told = await self._made(present, run)
            if len(present) < len(values):
                made = iter(told)
                told = [None if value is None else next(made) for value in values]
        key = self.key
        for row, one in zip(rows, told, strict=True):
            row[key] = one

    async def _made(self, many: list[Any], run: Run) -> list[Any]:
        if self.below is None:
            return [self.complete(one) for one in many]
        return await self.below.answers(many, run) if many else []

    async def _lists(self, values: list[Any], run: Run) -> list[Any]:
        """What lists become, their items made all at once."""
        items: list[Any] = []
        for value in values:
            if isinstance(value, list):
                items += value
            elif value is not None or self.is_required:
                raise Dropped
        if any(item is None for item in items):
            raise Dropped
        made = await self._made(items, run)
        if len(values) == 1:
            return [values[0] and made]
        told, end = [], 0
        for value in values:
            begin, end = end, end + len(value or ())
            told.append(value and made[begin:end])
        return told


@dataclass(slots=True)
class Place:
    """A place whose objects are all of one type."""

    fill: Fill
    steps: list[Step]
    reaches: frozenset[Reach]
    """The access tokens that may read every field here."""
    needs: frozenset[str] | None
    """What is read of the objects, where they are rows and it is columns alone."""

    async def answers(self, many: list[Any], run: Run) -> list[dict[str, Any]]:
        """The objects of the answer, for these of ours."""
        if run.reach is not None and run.reach not in self.reaches:
            raise Forbidden(NOT_BY_TOKEN)
        rows = self.fill(many)
        for step in self.steps:
            await step.put(many, rows, run)
        return rows


@dataclass(slots=True)
class Crossing:
    """A place whose objects are of an interface: each goes the way of its own type."""

    place_of: Callable[[Any], Place]
    """The place for what has the type of this object."""
    _known: dict[Any, Place] = field(default_factory=dict)

    async def answers(self, many: list[Any], run: Run) -> list[dict[str, Any]]:
        """The objects of the answer, for these of ours."""
        parts: dict[int, tuple[Place, list[int]]] = {}
        for number, one in enumerate(many):
            sort = _sort_of(one)
            place = self._known.get(sort)
            if place is None:
                place = self._known[sort] = self.place_of(one)
            parts.setdefault(id(place), (place, []))[1].append(number)
        rows: list[dict[str, Any]] = [{}] * len(many)
        for place, numbers in parts.values():
            answers = await place.answers([many[number] for number in numbers], run)
            for number, answer in zip(numbers, answers, strict=True):
                rows[number] = answer
        return rows


def _sort_of(one: Any) -> Any:
    """What tells the type of an object: its class, and for events and refusals what they are."""
    if one.__class__ is EventRow:
        return one.type
    return one.refusal.__class__ if one.__class__ is Told else one.__class__
