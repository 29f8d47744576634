"""The map of the faults is true: every case has a row, and every test is there and runs there."""

import ast
import functools
import re
import string
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ROW = re.compile(r"^\| (\w+) \| (.+?) \| (.+?) \| ([a-z, ]+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall(Path(__file__).with_name("README.md").read_text())

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
def test_the_tests_of_a_case_are_there_and_run_where_it_says(row: tuple[str, ...]) -> None:
    _, _, _, runs_in, proof = row
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", proof)
    if runs_in == "none":
        assert not named
        return
    assert named
    found: set[str] = set()
    for file, name in named:
        assert name in runs(file), f"{file} has no {name}"
        found |= runs(file)[name]
    assert found == set(runs_in.split(", "))


@functools.cache
def runs(file: str) -> dict[str, set[str]]:
    """Each test of a file, and whether it runs in `ci`, `soak` or both, by its parameters."""
    tree = ast.parse((TESTS / file).read_text())
    whole = any(
        "mark.soak" in ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    )
    return {
        node.name: {"soak"} if whole else _where(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def _where(test: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    marks = [ast.unparse(mark) for mark in test.decorator_list]
    if "pytest.mark.soak" in marks:
        return {"soak"}
    return {"ci", "soak"} if any("mark.soak" in mark for mark in marks) else {"ci"}
