"""Mutation testing: bin/mutants [GROUP …] runs groups and writes docs/mutants.md.

--again        only mutants that were not killed when they were last run
--processes N  so many at once (1)
--report       nothing is run: the report is written from what was found last
--list         nothing is run: the mutants that live on, with what they change
"""

import argparse
import hashlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from driver import Driver
from equivalents import reason_of
from generation import Mutant, mutants_of
from report import groups_below, write_report
from targets import GROUPS

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "var" / "mutants.json"
_OUT = os.fdopen(os.dup(2), "w", buffering=1)
"""What pytest does not capture."""
_FRESH_SECONDS = 120
_KILLED_BY_TESTS = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)


def main() -> int:
    """Run what is asked for; 1 if a group is below what is promised."""
    parser = argparse.ArgumentParser(prog="bin/mutants")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    names = asked.groups or list(GROUPS)
    if asked.here:
        return _run_group(names[0], asked.processes, again=asked.again)
    if not (asked.report or asked.list):
        for name in names:  # each in a process of its own, which imports only what it tests
            words = [sys.executable, str(Path(__file__).parent), name, "--here"]
            words += ["--again"] * asked.again + ["--processes", str(asked.processes)]
            if subprocess.run(words, check=False, cwd=ROOT).returncode:
                sys.stderr.write(f"{name}: the run broke off\n")
                return 2
    found = _found()
    if asked.list:
        for one in (one for name in names for file in GROUPS[name].files for one in found[file]):
            if one["status"] in ("survived", "untested"):
                told = reason_of(one)
                sys.stdout.write(
                    f"{one['file']}:{one['line']} {one['where']} ({one['status']}"
                    f"{', equivalent' if told else ''})\n  - {one['before']}\n  + {one['after']}\n"
                )
        return 0
    write_report(ROOT, found)
    for told in (below := groups_below(found)):
        sys.stderr.write(f"{told}\n")
    return int(bool(below))


def _found() -> dict[str, list[dict[str, Any]]]:
    """What is known of each file, in the order of its lines."""
    known: dict[str, Any] = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    files = [file for group in GROUPS.values() for file in group.files]
    return {file: known.get(file, []) for file in files}


def _run_group(name: str, processes: int, *, again: bool) -> int:
    group, found, began = GROUPS[name], _found(), time.monotonic()
    os.chdir(ROOT)
    mutants = [mutant for file in group.files for mutant in mutants_of(ROOT, file)]
    known = {_key(one): one for file in group.files for one in found[file]}
    told: dict[Any, dict[str, Any]] = {}
    if again:
        killed = ("killed", "timeout")
        keys = {mutant.key for mutant in mutants}
        told = {k: one for k, one in known.items() if k in keys and one["status"] in killed}
    asked = [mutant for mutant in mutants if mutant.key not in told]
    sys.stderr.write(f"{name}: {len(asked)} of {len(mutants)} mutants\n")

    def tell(mutant: Mutant, status: str, by: str) -> None:
        told[mutant.key] = _as_json(mutant, status, by)
        if status != "killed":
            where = f"{mutant.file}:{mutant.lines[0]}"
            _OUT.write(f"{status}: {where}\n  - {mutant.before}\n  + {mutant.after}\n")

    for mutant in [one for one in asked if not one.where and _breaks_our_rules(one)]:
        tell(mutant, "killed", "bin/rules.py")
        asked.remove(mutant)
    apart = [mutant for mutant in asked if mutant.where in group.at_import]
    driver = Driver(ROOT, [one for one in asked if one not in apart], processes, tell)
    tests = [test for test in group.tests if (ROOT / test).exists()]
    sys.path[0] = str(ROOT)
    code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[driver])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return 2
    everywhere = [(mutant, tests) for mutant in apart]
    for mutant, those in (*driver.fresh, *everywhere):
        tell(mutant, *_run_fresh(mutant, those))
    order = {mutant.key: number for number, mutant in enumerate(mutants)}
    whole = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    for file in group.files:
        mine = [key for key in order if key[0] == file]
        whole[file] = [told[key] for key in mine]
    FOUND.parent.mkdir(exist_ok=True)
    FOUND.write_text(json.dumps(whole, indent=1))
    left = sum(one["status"] not in ("killed", "timeout") for one in told.values())
    sys.stderr.write(f"{name}: {left} left, {time.monotonic() - began:.0f} s\n")
    return 0


def _breaks_our_rules(mutant: Mutant) -> bool:
    """Whether bin/rules.py refuses it: a statement that no longer names its business."""
    return any(_our_rules()["problems"](mutant.source, mutant.file))


@cache
def _our_rules() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "bin" / "rules.py"))


def _run_fresh(mutant: Mutant, tests: list[str]) -> tuple[str, str]:
    """Run tests in a process that imports the mutant."""
    module = mutant.file.removesuffix(".py").replace("/", ".")
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as changed:
        changed.write(mutant.source)
        changed.flush()
        words = [sys.executable, str(Path(__file__).parent / "fresh.py"), module, changed.name]
        try:
            done = subprocess.run(
                [*words, *tests], cwd=ROOT, capture_output=True, check=False, timeout=_FRESH_SECONDS
            )
        except subprocess.TimeoutExpired:
            return "timeout", ""
    return ("survived" if done.returncode == 0 else "killed"), "at import"


def _as_json(mutant: Mutant, status: str, by: str) -> dict[str, Any]:
    return {
        "file": mutant.file,
        "line": mutant.lines[0],
        "where": mutant.where,
        "before": mutant.before,
        "after": mutant.after,
        "number": mutant.number,
        "status": status,
        "by": by,
        "of": hashlib.sha256(mutant.source.encode()).hexdigest()[:12],
    }


def _key(one: dict[str, Any]) -> tuple[str, str, str, str, int]:
    return one["file"], one["where"], one["before"], one["after"], one["number"]


if __name__ == "__main__":
    sys.exit(main())
