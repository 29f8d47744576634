"""Asks the databases of known holes about every package that our locks name.

Needs the network: pip-audit asks about Python's packages, npm about its own. Exits with 0 if all
were looked up and none is known to have a hole, with 1 if one has, and with 3 if some could not be
looked up; then it says which, and they may have any number of holes.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOUND, NOT_LOOKED_UP = 1, 3
DEADLINE = 300


class Answer(NamedTuple):
    """What is known of the packages of a lock."""

    holes: list[str]
    looked_up: int
    why_not: str = ""
    """Why none or not all were looked up; empty if all were."""


def main() -> int:
    """Ask about each lock, and say what was found; the exit code."""
    asked = [*((lock, of_python) for lock in sorted((ROOT / "requirements").glob("*.txt")))]
    asked += [(lock, of_npm) for lock in npm_locks()]
    answers = [tell(lock, ask) for lock, ask in asked]
    holes = sum(len(answer.holes) for answer in answers)
    missed = sum(bool(answer.why_not) for answer in answers)
    if holes:
        sys.stdout.write(f"bin/audit: {holes} known holes\n")
        return FOUND
    if missed:
        told = f"{missed} of {len(answers)} locks were not looked up: nothing is known of them"
        sys.stdout.write(f"bin/audit: {told}\n")
        return NOT_LOOKED_UP
    sys.stdout.write("bin/audit: no known hole\n")
    return 0


def tell(lock: Path, ask: Callable[[Path], Answer]) -> Answer:
    """Ask about a lock, and say what was answered."""
    answer = ask(lock)
    name = lock.relative_to(ROOT)
    for hole in answer.holes:
        sys.stdout.write(f"HOLE    {name}: {hole}\n")
    if answer.why_not:
        sys.stdout.write(f"UNKNOWN {name}: {answer.why_not}\n")
    elif not answer.holes:
        sys.stdout.write(f"ok      {name}: {answer.looked_up} packages\n")
    sys.stdout.flush()
    return answer


def npm_locks() -> Iterator[Path]:
    """Every lock of npm that is ours."""
    for lock in sorted(ROOT.glob("[!.]*/**/package-lock.json")):
        if not {"node_modules", "var", "build"} & set(lock.relative_to(ROOT).parts):
            yield lock


def of_python(lock: Path) -> Answer:
    """What pip-audit says of a lock; it asks nothing of packages that it cannot find, quietly."""
    words = ["--requirement", str(lock), "--disable-pip", "--no-deps", "--format", "json"]
    code, said, wrong = run([sys.executable, "-m", "pip_audit", "--progress-spinner=off", *words])
    told = as_json(said)
    if not isinstance(told, dict) or "dependencies" not in told:
        return Answer([], 0, last_line(wrong) or f"pip-audit ended with {code}")
    packages = told["dependencies"]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    holes = [
        f"{one['name']} {one['version']}: {hole['id']}"
        f" (fixed in {', '.join(hole.get('fix_versions') or ['no version yet'])})"
        for one in packages
        for hole in one.get("vulns", ())
    ]
    why = f"{len(skipped)} of {len(packages)} packages are unknown to the database"
    return Answer(holes, len(packages) - len(skipped), why if skipped else "")


def of_npm(lock: Path) -> Answer:
    """What npm says of a lock."""
    npm = shutil.which("npm")
    if npm is None:
        return Answer([], 0, "npm is missing: apt-get install npm")
    code, said, wrong = run(
        [npm, "audit", "--package-lock-only", "--json", f"--prefix={lock.parent}"]
    )
    told = as_json(said)
    if not isinstance(told, dict) or "vulnerabilities" not in told:
        known = told.get("message") if isinstance(told, dict) else None
        return Answer([], 0, known or last_line(wrong) or f"npm audit ended with {code}")
    holes = [
        f"{name} {one.get('range', '')}: {one.get('severity', 'of unknown severity')}"
        for name, one in told["vulnerabilities"].items()
    ]
    return Answer(holes, told.get("metadata", {}).get("dependencies", {}).get("total", 0))


def run(words: list[str]) -> tuple[int, str, str]:
    """Run a program; its exit code, and what it said on either stream."""
    try:
        done = subprocess.run(  # noqa: S603 -- programs of ours, on files of ours
            words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer within {DEADLINE} seconds"
    return done.returncode, done.stdout, done.stderr


def as_json(text: str) -> Any:
    """The text as JSON; None where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def last_line(text: str) -> str:
    """The last line that says something, cut where it is long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
