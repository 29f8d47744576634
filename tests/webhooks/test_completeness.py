"""Completeness: whatever is lost of what an endpoint was due, its receiver's store shows it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from webhooks.completeness import Finding, Flaw, Report, Stored, check

pytestmark = pytest.mark.on("sqlite")


def due(*sequences: int, first: str | None = None) -> list[Stored]:
    """What an endpoint is sent of these sequences, when all goes well."""
    made: list[Stored] = []
    previous = first
    for sequence in sequences:
        made.append(Stored(f"evt_{sequence:04}", previous, None, sequence))
        previous = made[-1].id
    return made


def flaws(report: Report) -> list[tuple[Flaw, str | None, str | None, str | None]]:
    return [
        (one.flaw, one.before and one.before.id, one.missing_id, one.after and one.after.id)
        for one in report.findings
    ]


def again(delivery: Stored, kind: str = "redelivery") -> Stored:
    """The same, asked for again: it names no previous event."""
    return replace(delivery, previous_id=None, kind=kind)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Stored], list[Stored]]:
    """What an endpoint was due, and what its receiver has stored of it.

    It asked for all types or some, and began with the log or later. Things came out of order, with
    repeats, replays and tests, in bodies with or without a sequence.
    """
    sequences = sorted(draw(st.sets(st.integers(1, 40), min_size=2, max_size=20)))
    log = due(*sequences, first=draw(st.sampled_from([None, "evt_0000"])))
    if draw(st.booleans()):  # the endpoint has a document, which tells no sequence
        log = [replace(one, sequence=None) for one in log]
    more = [*draw(st.lists(st.sampled_from(log), max_size=5))]
    more += [again(one, "replay") for one in draw(st.lists(st.sampled_from(log), max_size=5))]
    more += [Stored(f"evt_t{n}", None, "test", 0) for n in range(draw(st.integers(0, 2)))]
    return log, draw(st.permutations([*log, *more]))


@given(histories())
def test_whoever_has_everything_is_told_so(history: tuple[list[Stored], list[Stored]]):
    log, stored = history

    report = check(stored)

    assert report.findings == []
    assert (report.events, report.first, report.last) == (len(log), log[0], log[-1])
    assert report.repeats + report.tests + report.events == len(stored)


@given(histories(), st.data())
def test_whichever_is_lost_is_found(
    history: tuple[list[Stored], list[Stored]], data: st.DataObject
):
    log, stored = history
    lost = data.draw(st.sampled_from(log))

    report = check(
        [one for one in stored if one.id != lost.id], first_id=log[0].id, last_id=log[-1].id
    )

    assert [one.missing_id for one in report.findings] == [lost.id]
    place = log.index(lost)
    if 0 < place < len(log) - 1:
        [gap] = report.findings
        assert (gap.before, gap.after) == (log[place - 1], log[place + 1])


@given(histories(), st.data())
def test_any_number_that_are_lost_leave_no_clean_report(
    history: tuple[list[Stored], list[Stored]], data: st.DataObject
):
    log, stored = history
    kept = {log[0].id, log[-1].id, *data.draw(st.sets(st.sampled_from([one.id for one in log])))}
    left = [one for one in stored if one.id in kept or one.kind == "test"]

    report = check(left, first_id=log[0].id, last_id=log[-1].id)

    runs = sum(before.id not in kept and after.id in kept for before, after in pairwise(log))
    assert len(report.findings) == runs
    assert (report.findings == []) == (len(kept) == len(log))


@given(st.permutations(range(6)))
def test_the_order_in_which_they_came_does_not_matter(order: Sequence[int]):
    log = [replace(one, id=new_id("evt")) for one in due(1, 2, 3, 4, 5, 6)]
    log = [
        replace(one, previous_id=before.id if before else None, sequence=None)
        for before, one in zip([None, *log], log, strict=False)
    ]
    lost = [log[place] for place in order if place != 3]

    [gap] = check(lost).findings

    assert gap == Finding(Flaw.MISSING, log[2], log[4], log[3].id)


def test_one_that_was_lost_and_sent_again_is_proven_by_its_sequence():
    log = due(1, 2, 3)

    assert check([log[0], again(log[1]), log[2]]).findings == []


def test_of_two_that_were_lost_the_one_sent_again_does_not_hide_the_other():
    log = due(2, 5, 9, 11)

    report = check([log[0], again(log[2]), log[3]])

    assert flaws(report) == [(Flaw.UNPROVEN, log[0].id, None, log[2].id)]


def test_what_somebody_knows_to_be_complete_is_not_looked_at():
    log = due(2, 5, 9, 11)
    stored = [log[0], again(log[2]), log[3]]

    report = check(stored, first_id=log[2].id)

    assert report.findings == []
    assert report.first == stored[1]


def test_replays_of_what_was_before_the_endpoint_are_not_part_of_the_proof():
    log = due(8, 11)
    old = [again(one, "replay") for one in due(2, 4, 5)]

    report = check([log[0], *old, log[1]])

    assert report.findings == []
    assert (report.not_linked, report.first) == (3, log[0])


def test_an_ordinary_delivery_says_more_than_a_replay_that_came_before_it():
    log = due(2, 5, 9)

    assert check([log[0], again(log[1]), log[1], log[2]]).findings == []


def test_an_event_that_a_newer_release_kept_back_does_not_break_the_chain():
    """It names the same previous event as the one that overtook it."""
    log = due(1, 4, 6)
    kept_back = Stored("evt_0003", log[0].id, None, 3)

    assert check([*log, kept_back]).findings == []


@pytest.mark.parametrize("sequence", [4, 6])
def test_sequences_that_do_not_grow_are_told(sequence: int):
    log = due(4, 6)
    other = Stored("evt_other", log[1].id, None, sequence)

    assert Flaw.ORDER in {one.flaw for one in check([*log, other]).findings}


def test_what_begins_a_second_time_is_not_proven():
    log, later = due(1, 2), due(7, 9)

    assert flaws(check([*log, *later])) == [(Flaw.UNPROVEN, log[1].id, None, later[0].id)]
