"""The map of the faults is true: every case has a row, and every test is there and runs there."""

import string
from pathlib import Path

import pytest

from maps import Row, check, rows_of

ROWS = rows_of(Path(__file__).with_name("README.md"))

pytestmark = pytest.mark.on("sqlite")


def test_every_case_has_its_row() -> None:
    cases = [row[0] for row in ROWS]
    assert cases == [
        *(str(number) for number in range(1, 54)),
        *string.ascii_uppercase[:11],
        "K2",
        *string.ascii_uppercase[11:25],
    ]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_tests_of_a_case_are_there_and_run_where_it_says(row: Row) -> None:
    check(row)
