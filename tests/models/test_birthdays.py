"""Birthdays: with a year or without, and never a day that does not exist."""

import re

import pytest

from models import Birthday


@pytest.mark.parametrize(
    ("text", "birthday"),
    [
        ("1990-02-28", Birthday(2, 28, 1990)),
        ("2000-02-29", Birthday(2, 29, 2000)),
        ("--02-29", Birthday(2, 29)),
        ("--12-31", Birthday(12, 31)),
        ("1900-01-01", Birthday(1, 1, 1900)),
    ],
)
def test_a_birthday_reads_as_it_is_written(text: str, birthday: Birthday) -> None:
    assert Birthday.parse(text) == birthday
    assert str(birthday) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1990-02-30",
        "1990-02-29",
        "--02-30",
        "--13-01",
        "--00-10",
        "--01-00",
        "1899-12-31",
        "90-02-28",
        "1990-2-28",
        "28.02.1990",
        "02-28",
        "1990-02-28T00:00:00Z",
        "1990-02-28\n",
    ],
)
def test_anything_else_is_no_birthday(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Birthday.parse(text)
