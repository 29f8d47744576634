"""Completeness: whether a receiver has every event it was due, proven from what it stored.

A request names the event that its endpoint was due before. So a delivery proves that nothing lies
between the two; two sequences that follow one another prove it as well. What neither proves is
told, and nothing else is complete.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise

_AGAIN = ("redelivery", "replay")
"""Kinds of requests that say nothing of what was due before."""
_TEST = "test"


@dataclass(frozen=True, slots=True)
class Stored:
    """A delivery as a receiver stored it; `sequence` and `at` are None where its body has none."""

    id: str
    previous_id: str | None = None
    kind: str | None = None
    sequence: int | None = None
    at: str | None = None

    def __str__(self) -> str:
        return self.id if self.sequence is None else f"{self.id} (#{self.sequence})"


class Flaw(StrEnum):
    """What is wrong between two deliveries.

    MISSING: an event that was due is not there.
    UNPROVEN: nothing says whether there was something in between.
    ORDER: the sequences do not grow as the deliveries follow one another.
    """

    MISSING = "missing"
    UNPROVEN = "unproven"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Finding:
    """A flaw: between which deliveries, and which event is missing where one is named."""

    flaw: Flaw
    before: Stored | None
    after: Stored | None
    missing_id: str | None = None


@dataclass
class Report:
    """What the deliveries of one endpoint prove."""

    events: int = 0
    repeats: int = 0
    tests: int = 0
    not_linked: int = 0
    """Sent again from before the first ordinary delivery: not part of the proof."""
    first: Stored | None = None
    last: Stored | None = None
    findings: list[Finding] = field(default_factory=list)


def check(
    stored: Iterable[Stored], *, first_id: str | None = None, last_id: str | None = None
) -> Report:
    """Check the deliveries of one endpoint, in whatever order they came.

    `first_id` and `last_id` name the events between which, and with them, all must be there.
    Without them the proof reaches from the first to the last that are there.
    """
    report = Report()
    events = _merged(stored, report)
    known = {event.id: event for event in events}
    ordered = _between(_ordered(events), first_id, last_id, report)
    report.findings += [
        Finding(Flaw.MISSING, None, None, id)
        for id in dict.fromkeys((first_id, last_id))
        if id is not None and id not in known
    ]
    if ordered:
        report.first, report.last = ordered[0], ordered[-1]
        report.findings += _flaws(ordered, known)
    return report


def _merged(stored: Iterable[Stored], report: Report) -> list[Stored]:
    """Each event once, in the order in which they came; test events are in no log."""
    events: dict[str, Stored] = {}
    for delivery in stored:
        if delivery.kind == _TEST or delivery.sequence == 0:
            report.tests += 1
            continue
        present = events.get(delivery.id)
        if present is not None:
            report.repeats += 1
        if present is None or (present.previous_id is None and present.kind in _AGAIN):
            events[delivery.id] = delivery  # an ordinary delivery says more than one sent again
    report.events = len(events)
    return list(events.values())


def _ordered(events: Sequence[Stored]) -> list[Stored]:
    """The order in which they were due: by sequence; else by id, but each after its previous."""
    if all(event.sequence is not None for event in events):
        return sorted(events, key=lambda event: event.sequence or 0)
    known = {event.id: event for event in events}
    placed: dict[str, Stored] = {}
    for event in sorted(events, key=lambda event: event.id):
        line: dict[str, Stored] = {}
        before: Stored | None = event
        while before is not None and before.id not in placed and before.id not in line:
            line[before.id] = before
            before = known.get(before.previous_id or "")
        for one in reversed(line.values()):
            placed[one.id] = one
    return list(placed.values())


def _between(
    ordered: list[Stored], first_id: str | None, last_id: str | None, report: Report
) -> list[Stored]:
    """Those from the first on, which without a name is the first ordinary delivery, to the last."""
    ids = [event.id for event in ordered]
    start, end = 0, len(ids)
    if first_id in ids:
        start = ids.index(first_id)
    elif first_id is None:
        ordinary = (place for place, event in enumerate(ordered) if event.kind not in _AGAIN)
        start = report.not_linked = next(ordinary, 0)
    if last_id in ids:
        end = ids.index(last_id) + 1
    return ordered[start:end]


def _flaws(ordered: Sequence[Stored], known: dict[str, Stored]) -> Iterator[Finding]:
    place_of = {event.id: place for place, event in enumerate(ordered)}
    opened = [0] * (len(ordered) + 1)
    for place, event in enumerate(ordered):
        previous = known.get(event.previous_id or "")
        if previous is None:
            continue
        start = place_of.get(previous.id, 0)  # 0: it lies before the first that is looked at
        if _is_backwards(previous, event):
            yield Finding(Flaw.ORDER, previous, event)
        elif start < place:
            opened[start + 1] += 1
            opened[place + 1] -= 1
    proven = list(accumulate(opened))  # by place: how many say that nothing lies before it
    named: set[str] = set()
    for place, (before, event) in enumerate(pairwise(ordered), start=1):
        lost = event.previous_id if event.previous_id not in known else None
        if before.sequence is not None and before.sequence == event.sequence:
            yield Finding(Flaw.ORDER, before, event)
        elif lost is not None and lost not in named:
            named.add(lost)
            yield Finding(Flaw.MISSING, before, event, lost)
        elif lost is None and not proven[place] and not _are_neighbours(before, event):
            yield Finding(Flaw.UNPROVEN, before, event)


def _is_backwards(previous: Stored, event: Stored) -> bool:
    return (
        previous.sequence is not None
        and event.sequence is not None
        and previous.sequence >= event.sequence
    )


def _are_neighbours(before: Stored, event: Stored) -> bool:
    return before.sequence is not None and before.sequence + 1 == event.sequence
