"""Maps: pages that name, row by row, the tests that prove a promise, and how they are checked."""

import ast
import functools
import re
from pathlib import Path

TESTS = Path(__file__).parent
_ROW = re.compile(r"^\| (\w+) \| (.+?) \| (.+?) \| ([a-z, ]+) \| (.+) \|$", re.MULTILINE)
_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")

Row = tuple[str, ...]
"""Its name, what is wrong, what is promised, where its tests run, and the tests."""


def rows_of(page: Path) -> list[Row]:
    """The rows of a page."""
    rows: list[Row] = _ROW.findall(page.read_text())
    return rows


def check(row: Row) -> None:
    """A row's tests are there, and run where it says; a row without a test says why."""
    _, _, _, runs_in, proof = row
    named = _NAMED.findall(proof)
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
