"""The map of the attacks is true: every threat has a row, every test is there and runs there."""

from pathlib import Path

import pytest

from maps import Row, check, rows_of

ROWS = rows_of(Path(__file__).with_name("README.md"))

pytestmark = pytest.mark.on("sqlite")


def test_every_threat_has_its_row() -> None:
    threats = [row[0] for row in ROWS]
    first = [f"R{number}" for number in range(1, 16)]
    assert threats == [*first, *(str(number) for number in range(1, 67))]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_tests_of_a_threat_are_there_and_run_where_it_says(row: Row) -> None:
    check(row)
