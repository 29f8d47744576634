"""bin/audit: what it says of holes, and that it never takes silence for good news."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit

pytestmark = pytest.mark.on("sqlite")

CLEAN = {"name": "kopi", "version": "1.0", "vulns": []}
HOLED = {"name": "teh", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "susu", "skip_reason": "Dependency not found"}
Says = Callable[[Any, Any], None]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Says:
    """Two locks, and what pip-audit and npm say of them: JSON, or what they say when they fail."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "base.txt").write_text("kopi==1.0\n")
    (tmp_path / "tools" / "page").mkdir(parents=True)
    (tmp_path / "tools" / "page" / "package-lock.json").write_text("{}")

    def answer(python: Any, npm: Any) -> None:
        def run(words: list[str]) -> tuple[int, str, str]:
            told = python if "pip_audit" in words else npm
            return (1, "", told) if isinstance(told, str) else (0, json.dumps(told), "")

        monkeypatch.setattr(audit, "ROOT", tmp_path)
        monkeypatch.setattr(audit, "run", run)
        monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/npm")

    return answer


def npm(**holes: Any) -> dict[str, Any]:
    return {"vulnerabilities": holes, "metadata": {"dependencies": {"total": 7}}}


def test_all_is_well_where_all_was_looked_up(
    says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    says({"dependencies": [CLEAN]}, npm())

    assert audit.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok      requirements/base.txt: 1 packages",
        "ok      tools/page/package-lock.json: 7 packages",
        "bin/audit: no known hole",
    ]


def test_holes_are_told_and_are_the_exit_code(
    says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    says({"dependencies": [CLEAN, HOLED]}, npm(roti={"range": "<3", "severity": "high"}))

    assert audit.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "HOLE    requirements/base.txt: teh 2.0: CVE-1 (fixed in 2.1)",
        "HOLE    tools/page/package-lock.json: roti <3: high",
        "bin/audit: 2 known holes",
    ]


@pytest.mark.parametrize(
    ("python", "of_npm", "why"),
    [
        ({"dependencies": [CLEAN, UNKNOWN]}, npm(), "1 of 2 packages are unknown to the database"),
        ("Traceback\nConnectionError: no route\n", npm(), "ConnectionError: no route"),
        ({"odd": 1}, npm(), "pip-audit ended with 0"),
        (
            {"dependencies": [CLEAN]},
            {"message": "405 Method Not Allowed"},
            "405 Method Not Allowed",
        ),
        ({"dependencies": [CLEAN]}, "npm error: offline", "npm error: offline"),
        ({"dependencies": [CLEAN]}, "", "npm audit ended with 1"),
    ],
)
def test_what_was_not_looked_up_is_not_called_well(
    python: Any, of_npm: Any, why: str, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    says(python, of_npm)

    assert audit.main() == 3
    said = capsys.readouterr().out
    assert f": {why}\n" in said
    assert "bin/audit: 1 of 2 locks were not looked up: nothing is known of them\n" in said


def test_a_hole_weighs_more_than_what_is_unknown(says: Says) -> None:
    says({"dependencies": [HOLED, UNKNOWN]}, "offline")

    assert audit.main() == 1


def test_the_real_one_says_what_it_knows_or_why_it_does_not(tmp_path: Path) -> None:
    """Whether the database can be reached is the machine's matter; both answers are whole."""
    lock = tmp_path / "lock.txt"
    lock.write_text(f"iniconfig==2.0.0 --hash=sha256:{'0' * 64}\n")

    answer = audit.of_python(lock)

    assert answer.looked_up in (0, 1)
    assert (answer.why_not == "") == (answer.looked_up == 1)
