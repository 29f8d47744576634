"""The locks: every package is pinned by its hashes, and none says from where it is to be taken."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.generate.sbom import npm_locks
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

PYTHON_LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHON_INPUTS = sorted((ROOT / "requirements").glob("*.in"))
NPM_LOCKS = npm_locks()
AT_LEAST = {
    "starlette": (1, 3, 1),  # CVE-2026-54283: limits of forms; before 1.0.1 the Host header
    "strawberry-graphql": (0, 312, 3),  # CVE-2026-35523 and -35526: sockets
}
"""Versions that mended what the research on reliability names (row 61)."""
_REQUIREMENT = re.compile(r"([a-z0-9][a-z0-9.-]*)(?:\[[a-z,-]+\])?==([0-9][\w.+!-]*)(?: ; [^@]+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_TELLS_OF_PEOPLE = {"funding", "url", "deprecated", "license", "homepage", "bugs"}
"""Keys of npm's locks under which an address is for people to read."""


def problems_of_python(text: str) -> Iterator[str]:
    """What is wrong in a lock of Python, a line each."""
    for line in text.replace("\\\n", "").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement, *rest = line.split("--hash=")
        if _REQUIREMENT.fullmatch(requirement.strip()) is None:
            yield f"not pinned: {requirement.strip()}"
        hashes = [f"--hash={one.strip()}" for one in rest]
        if not hashes or not all(_HASH.fullmatch(one) for one in hashes):
            yield f"without hashes: {requirement.strip()}"


def problems_of_npm(lock: dict[str, Any]) -> Iterator[str]:
    """What is wrong in a lock of npm, a line each."""
    for path, package in lock["packages"].items():
        if not path:
            continue
        if not re.fullmatch(r"sha512-[\w+/]{86}==", package.get("integrity", "")):
            yield f"without a hash: {path}"
        if "resolved" in package or package.get("link"):
            yield f"from a place of its own: {path}"
    yield from (f"an address: {where}" for where in addresses_in(lock))


def addresses_in(told: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where a document names an address that a program might go to."""
    if isinstance(told, dict):
        for name, inner in told.items():
            yield from addresses_in(inner, (*path, str(name)))
    elif isinstance(told, list):
        for inner in told:
            yield from addresses_in(inner, path)
    elif isinstance(told, str) and "://" in told and not _TELLS_OF_PEOPLE & set(path):
        yield "/".join(path)


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_by_its_hashes(lock: Path) -> None:
    assert list(problems_of_python(lock.read_text())) == []


def test_a_bad_pin_is_found() -> None:
    good = PYTHON_LOCKS[0].read_text()
    [first] = re.findall(r"^[a-z0-9.-]+==\S+ \\\n.*\n", good, re.MULTILINE)[:1]
    name = first.partition("==")[0]
    bad = {
        "a range": good.replace(f"{name}==", f"{name}>=", 1),
        "no hash": good.replace(first, first.partition(" ")[0] + "\n", 1),
        "half a hash": good.replace("sha256:", "sha256:0", 1),
        "an address": good + "\nkopi @ https://mirror.example/kopi.whl\n",
        "an index": good + "\n--index-url https://mirror.example/simple\n",
    }

    assert [what for what, text in bad.items() if not list(problems_of_python(text))] == []


@pytest.mark.parametrize("wanted", PYTHON_INPUTS, ids=lambda wanted: wanted.name)
def test_what_is_wanted_is_in_the_lock(wanted: Path) -> None:
    locked = set(
        re.findall(r"^([a-z0-9.-]+)==", wanted.with_suffix(".txt").read_text(), re.MULTILINE)
    )
    asked = {
        match[0].lower().replace("_", "-")
        for line in wanted.read_text().splitlines()
        if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))
    }

    assert asked - locked == set()


@pytest.mark.parametrize("name", AT_LEAST)
def test_holes_that_are_known_are_mended(name: str) -> None:
    for lock in PYTHON_LOCKS:
        found = re.search(rf"^{name}==([\d.]+)", lock.read_text(), re.MULTILINE)
        if found is not None:
            assert tuple(map(int, found[1].split("."))) >= AT_LEAST[name], lock.name


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=lambda lock: lock.parent.name)
def test_every_package_of_npm_is_pinned_by_its_hash(lock: Path) -> None:
    assert list(problems_of_npm(json.loads(lock.read_text()))) == []


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=lambda lock: lock.parent.name)
def test_what_is_wanted_of_npm_is_an_exact_version(lock: Path) -> None:
    wanted = json.loads(lock.with_name("package.json").read_text())
    asked = {
        name: version
        for kind, packages in wanted.items()
        if kind.lower().endswith("dependencies")
        for name, version in packages.items()
    }

    loose = {name: told for name, told in asked.items() if not re.fullmatch(r"\d[\w.+-]*", told)}
    assert loose == {}
    assert list(addresses_in(wanted)) == []


def test_no_file_says_where_packages_are_taken_from() -> None:
    telling = {".npmrc", ".yarnrc", ".yarnrc.yml", "pip.conf", "pip.ini", "uv.toml", ".pypirc"}
    here = [path for path in ROOT.iterdir() if not path.name.startswith((".venv", ".git", "var"))]
    files = [
        path
        for top in here
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.name in telling and "node_modules" not in path.parts
    ]
    asked = [*PYTHON_INPUTS, ROOT / "pyproject.toml"]

    assert files == []
    assert [
        path.name for path in asked if re.search(r"https?://|index-url", path.read_text())
    ] == []
