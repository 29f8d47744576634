"""Writes docs/mutants.md from what was found."""

import platform
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equivalents import reason_of
from targets import ENOUGH, GROUPS

Found = dict[str, list[dict[str, Any]]]
_HEAD = """<!-- Written by `bin/mutants`: run it, do not edit. -->

# Mutants

Mutation testing asks the tests a question: if this line were wrong, would you notice? A mutant is
the program with one small change (`<` for `<=`, a word left out of a call, a number one higher);
it is killed when a test fails, and lives on when none does.

Found on {date} with Python {python} and mutmut {mutmut}, on SQLite, by:

    bin/mutants            # everything: an hour or more of one core
    bin/mutants guard      # one group: {groups}
    bin/mutants --again    # only those that were not killed when they were last run
    bin/mutants --list     # those that live on, with what they change

## How it is done

- The mutants are made by mutmut's own operators. Its runner leaves out every function that has a
  decorator, which are all our services (`@operation`), and whatever stands at the head of a file,
  such as statements of SQL; so a driver of ours (`tests/mutants/`) runs them. Nothing mutated is
  ever written into the tree: a process that has imported everything is forked for each mutant.
- A mutant meets the tests that reach its line, the quickest first, at most 60: fast tests, in one
  process, on SQLite. The whole suite, with PostgreSQL, real processes and the judges, kills more.
  A statement that no longer names its business is killed by `bin/rules.py`, as in every check.
- Left out: the wording of sentences, type annotations, the fields of classes (the schema and the
  tables are made of them), `len` and `isinstance`, `cast`, loggers, and decorators themselves.
- No mutant is sampled: all of a file's are run. Killed counts mutants that a test failed on, and
  those on which the tests did not end in time (in brackets). The share counts against all mutants,
  but for those that are equivalent: no test could tell them from the program.

## What was found

The aim is {enough:.0%} for each group.

| | Mutants | Killed | Live on | Equivalent | Share killed |
|---|---|---|---|---|---|
"""


def write_report(root: Path, found: Found) -> None:
    """Write the page."""
    head = _HEAD.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        mutmut=version("mutmut"),
        groups=", ".join(GROUPS),
        enough=ENOUGH,
    )
    text = head + "\n".join([*_table(found), "", *_equivalents(found), *_living(found)]) + "\n"
    (root / "docs" / "mutants.md").write_text(text, encoding="utf-8")


def groups_below(found: Found) -> list[str]:
    """Groups that kill too few, one sentence each."""
    shares = {group.title: _share(_of(group.files, found)) for group in GROUPS.values()}
    return [f"{title}: {share:.1%}" for title, share in shares.items() if share < ENOUGH]


def _of(files: tuple[str, ...], found: Found) -> list[dict[str, Any]]:
    return [one for file in files for one in found[file]]


def _counts(mutants: list[dict[str, Any]]) -> Counter[str]:
    return Counter(
        one["status"] if _is_killed(one) else "equivalent" if reason_of(one) else "living"
        for one in mutants
    )


def _is_killed(one: dict[str, Any]) -> bool:
    return one["status"] in ("killed", "timeout")


def _share(mutants: list[dict[str, Any]]) -> float:
    counts = _counts(mutants)
    killed = counts["killed"] + counts["timeout"]
    return killed / max(1, len(mutants) - counts["equivalent"])


def _table(found: Found) -> Iterator[str]:
    for group in GROUPS.values():
        yield _row(f"**{group.title}**", _of(group.files, found))
        for file in group.files:
            yield _row(f"`{file}`", found[file])


def _row(name: str, mutants: list[dict[str, Any]]) -> str:
    if not mutants:
        return f"| {name} | not run | | | | |"
    counts = _counts(mutants)
    killed = f"{counts['killed'] + counts['timeout']}"
    killed += f" ({counts['timeout']})" if counts["timeout"] else ""
    cells = (len(mutants), killed, counts["living"], counts["equivalent"])
    return f"| {name} | {' | '.join(map(str, cells))} | {_share(mutants):.1%} |"


def _equivalents(found: Found) -> Iterator[str]:
    told = [
        (one, reason)
        for mutants in found.values()
        for one in mutants
        if not _is_killed(one) and (reason := reason_of(one))
    ]
    if told:
        yield "## Equivalent"
        yield ""
        for one, reason in told:
            yield f"- {_changed(one)}: {reason}"
        yield ""


def _living(found: Found) -> Iterator[str]:
    yield "## Those that live on"
    yield ""
    yield "By function; `bin/mutants --list` shows each. “Head” is what stands outside functions."
    yield ""
    for file, mutants in found.items():
        counts = Counter(
            one["where"] or "head" for one in mutants if not _is_killed(one) and not reason_of(one)
        )
        if counts:
            told = ", ".join(f"`{where}` {count}" for where, count in counts.most_common())
            yield f"- `{file}`: {told}"


def _changed(one: dict[str, Any]) -> str:
    """A change, cut to what differs."""
    before, after = one["before"], one["after"]
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    first = max(0, first - 30)
    return f"`{one['file']}` `{before[first : first + 70]}` → `{after[first : first + 70]}`"
