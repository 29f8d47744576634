"""A card's ledger, replayed: where the lines in force lead, whatever was undone in between."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Code, Refused
from models import (
    Card,
    CardTemplateVersion,
    Goal,
    Operation,
    OperationKind,
    Overflow,
    Promise,
    Role,
    Standing,
    replay,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CARRY, DISCARD = Overflow.CARRY_OVER, Overflow.DISCARD


def promise(name: str, *stamps: int, overflow: Overflow = CARRY) -> Promise:
    """A version of this name with goals at these counts, the last one the full card."""
    version = CardTemplateVersion(
        id=name,
        business_id="b_1",
        template_id="tpl_1",
        version=1,
        stamps_required=stamps[-1],
        overflow=overflow,
        created_at=NOW,
    )
    goals = [
        Goal(id=f"{name}{count}", business_id="b_1", version_id=name, position=place, stamps=count)
        for place, count in enumerate(stamps, 1)
    ]
    return Promise(version, goals)


@dataclass
class Book:
    """A card and its ledger, kept as the services keep them; `published` opens new cycles."""

    published: Promise
    promises: dict[str, Promise] = field(default_factory=dict)
    lines: list[Operation] = field(default_factory=list)
    stamps: int = 0
    cycle: int = 1
    version_id: str = ""

    def __post_init__(self) -> None:
        self.publish(self.published)
        self.version_id = self.published.version.id

    def publish(self, promise: Promise) -> None:
        """A version that the next cycles go by."""
        self.published = promise
        self.promises[promise.version.id] = promise

    def add(self, count: int) -> Operation:
        """Stamps, as adding stamps does it."""
        card = Card(id="card_1", stamps=self.stamps, cycle=self.cycle)
        done = card.add_stamps(count, self.promises[self.version_id], self.published)
        line = self._line(OperationKind.STAMPS, count, done.promise.version.id)
        line = line.with_values(after=done.after, cycle_after=done.cycle_after)
        self.stamps, self.cycle = done.after, done.cycle_after
        self.version_id = done.promise.version.id
        self.lines.append(line)
        return line

    def void(self, line: Operation) -> Standing:
        """Undo a line, as undoing does it."""
        place = next(n for n, item in enumerate(self.lines) if item.id == line.id)
        self.lines[place] = line.with_values(voided_by_id="op_void")
        stands = replay(self.lines, self.promises)
        undoing = self._line(OperationKind.VOID, -line.count, stands.version_id or "")
        self.lines.append(undoing.with_values(after=stands.stamps, cycle_after=stands.cycle))
        self.stamps, self.cycle, self.version_id = (
            stands.stamps,
            stands.cycle,
            stands.version_id or "",
        )
        return stands

    @property
    def stands(self) -> tuple[int, int, str]:
        """Cycle, stamps and version of the card."""
        return self.cycle, self.stamps, self.version_id

    @property
    def replayed(self) -> tuple[int, int, str | None]:
        """The same by its ledger."""
        found = replay(self.lines, self.promises)
        return found.cycle, found.stamps, found.version_id or self.version_id

    def _line(self, kind: OperationKind, count: int, version_id: str) -> Operation:
        return Operation(
            id=f"op_{len(self.lines)}",
            kind=kind,
            count=count,
            line=len(self.lines) + 1,
            before=self.stamps,
            cycle_before=self.cycle,
            version_before_id=self.version_id,
            version_id=version_id,
            occurred_at=NOW,
        )


def test_the_ledger_of_a_card_that_was_never_stamped_is_empty() -> None:
    assert replay([], {}) == Standing(0, 1, None)


@pytest.mark.parametrize(
    ("overflow", "counts", "undone", "stands"),
    [
        (CARRY, [2], 0, (1, 0)),
        (CARRY, [2, 3], 0, (1, 3)),
        (CARRY, [2, 3], 1, (1, 2)),
        (CARRY, [5, 3], 0, (1, 3)),  # cycle 2 was never opened
        (CARRY, [5, 3, 4], 1, (2, 3)),  # 5 + 4
        (CARRY, [4, 15, 7], 1, (2, 5)),
        (CARRY, [6, 1], 1, (1, 6)),  # back to a full card at rest
        (CARRY, [6, 6, 1], 2, (2, 6)),
        (DISCARD, [5, 3], 0, (1, 3)),
        (DISCARD, [3, 5, 3], 0, (1, 6)),  # 5 + 3, cut off at 6
        (DISCARD, [3, 5, 3], 1, (1, 6)),
        (DISCARD, [5, 3, 4], 1, (1, 6)),  # 5 + 4, cut off at 6
    ],
)
def test_undoing_puts_the_card_where_the_other_stamps_lead(
    overflow: Overflow, counts: list[int], undone: int, stands: tuple[int, int]
) -> None:
    book = Book(promise("v1", 3, 5, 6, overflow=overflow))
    for count in counts:
        book.add(count)

    found = book.void(book.lines[undone])

    assert (found.cycle, found.stamps) == stands
    assert book.stands == book.replayed


def test_goals_that_are_still_reached_are_told() -> None:
    book = Book(promise("v1", 3, 6))
    book.add(3)
    second = book.add(4)
    book.add(1)

    found = book.void(second)

    assert [(cycle, goal.position) for cycle, goal in found.reached] == [(1, 1)]
    assert (found.cycle, found.stamps) == (1, 4)
    assert found.last is not None
    assert found.last.id == "op_2"


def test_a_cycle_keeps_its_version_though_another_line_now_opens_it() -> None:
    book = Book(promise("v1", 6))
    first = book.add(1)
    book.add(5)
    book.publish(promise("v2", 4))
    book.add(2)
    book.publish(promise("v3", 9))
    book.add(1)
    assert book.stands == (2, 3, "v2")

    book.void(first)

    assert book.stands == (2, 2, "v2") == book.replayed


def test_a_cycle_that_was_undone_and_opened_anew_goes_by_the_version_of_then() -> None:
    book = Book(promise("v1", 6))
    first = book.add(5)
    book.publish(promise("v2", 4))
    book.add(2)
    book.void(first)
    assert book.stands == (1, 2, "v1")
    book.publish(promise("v3", 9))

    book.add(5)

    assert book.stands == (2, 1, "v3") == book.replayed


def test_undoing_the_first_line_brings_back_the_version_the_card_was_issued_by() -> None:
    book = Book(promise("v1", 6))
    book.publish(promise("v2", 4))
    first = book.add(8)
    assert book.stands == (2, 2, "v2")

    book.void(first)

    assert book.stands == (1, 0, "v1") == book.replayed


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 50)),
        st.tuples(st.just("void"), st.integers(0, 30)),
        st.tuples(st.just("publish"), st.integers(1, 12)),
    ),
    max_size=30,
)


@given(steps, st.sampled_from(Overflow))
def test_the_ledger_replayed_is_the_card_and_undoing_never_adds(
    steps: list[tuple[str, int]], overflow: Overflow
) -> None:
    book = Book(promise("v0", 3, 5, 6, overflow=overflow))

    for place, (step, number) in enumerate(steps, 1):
        before, goals = book.stands[:2], _reached(book)
        in_force = [line for line in book.lines if line.is_stamps]
        if step == "add":
            book.add(number)
            assert book.stands[:2] > before or overflow is DISCARD
            assert goals <= _reached(book)
        elif step == "publish":
            book.publish(promise(f"v{place}", number, overflow=overflow))
        elif in_force:
            book.void(in_force[number % len(in_force)])
            assert book.stands[:2] <= before
            assert _reached(book) <= goals
        assert book.stands == book.replayed
        assert 0 <= book.stamps <= book.promises[book.version_id].required
        assert _reached(book) == _below(book)


def _reached(book: Book) -> set[tuple[int, int]]:
    return {(cycle, goal.stamps) for cycle, goal in replay(book.lines, book.promises).reached}


def _below(book: Book) -> set[tuple[int, int]]:
    """The goals at or below where the card stands, by the versions its cycles went by."""
    opened: dict[int, str] = {1: "v0"}
    for line in book.lines:
        if line.kind is OperationKind.STAMPS:
            opened[line.cycle_before or 1] = line.version_before_id or ""
            for cycle in range((line.cycle_before or 1) + 1, (line.cycle_after or 1) + 1):
                opened[cycle] = line.version_id or ""
    return {
        (cycle, goal.stamps)
        for cycle, version_id in opened.items()
        for goal in book.promises[version_id].goals
        if (cycle, goal.stamps) <= (book.cycle, book.stamps)
    }


@pytest.mark.parametrize(
    ("role", "staff_id", "minutes", "code"),
    [
        (Role.SCANNER, "st_1", 15, None),
        (Role.SCANNER, "st_1", 15.01, Code.UNDO_NOT_ALLOWED),
        (Role.SCANNER, "st_2", 1, Code.UNDO_NOT_ALLOWED),
        (Role.MANAGER, "st_2", 600_000, None),
        (Role.OWNER, "st_2", 600_000, None),
        (None, None, 600_000, None),
    ],
)
def test_a_scanner_undoes_its_own_for_a_while_and_others_anything(
    role: Role | None, staff_id: str | None, minutes: float, code: Code | None
) -> None:
    line = Operation(id="op_1", staff_id="st_1", created_at=NOW)
    actor: Any = type("Somebody", (), {"role": role, "staff_id": staff_id})()

    now = NOW + timedelta(minutes=minutes)

    if code is None:
        line.check_undoable(actor, now, "input", "id")
        return
    with pytest.raises(Refused) as refused:
        line.check_undoable(actor, now, "input", "id")

    assert (refused.value.code, refused.value.field) == (code, ["input", "id"])


def test_what_was_undone_cannot_be_undone_again() -> None:
    line = Operation(id="op_1", staff_id="st_1", created_at=NOW, voided_by_id="op_2")
    owner: Any = type("Somebody", (), {"role": Role.OWNER, "staff_id": "st_9"})()

    with pytest.raises(Refused) as refused:
        line.check_undoable(owner, NOW)

    assert refused.value.code is Code.ALREADY_UNDONE
