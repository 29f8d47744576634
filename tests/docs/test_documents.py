"""The documents are current: they agree with the code, links and commands lead somewhere."""

import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema, parse, validate
from standardwebhooks import Webhook
from typer.main import get_command

import cli
from core.secrets import new_signing_secret
from docs.generate.errors import REQUEST_CODES
from docs.receiver import is_ours
from events.vocabulary import CARD_KEYS, EVENTS, KEYS, ROUTES, STATUSES, VOUCHER_KEYS

pytestmark = pytest.mark.on("sqlite")

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def test_generated_documents_do_not_lag():
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_document_is_reachable_from_the_map():
    seen: set[Path] = set()
    waiting = [ROOT / "docs/README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)\)", page.read_text())
        waiting += [(page.parent / target).resolve() for target in targets]

    assert seen >= set(ROOT.glob("docs/**/*.md"))


@EACH_PAGE
def test_every_command_exists(page: Path):
    for words in commands(page.read_text()):
        program = words[0]
        if program == "bin/stampwire":
            assert unknown_words(words[1:]) == [], " ".join(words)
        elif program.startswith("bin/"):
            is_runnable = (ROOT / program).stat().st_mode & 0o100
            assert is_runnable or program.endswith(".py"), program
        elif words[:2] == ["python", "-m"]:
            place = ROOT / words[2].replace(".", "/")
            is_there = (place / "__main__.py").exists() or place.with_suffix(".py").exists()
            assert is_there, words[2]
        elif words[0] == "python3":
            assert (ROOT / words[1]).exists(), words[1]


@EACH_PAGE
def test_every_graphql_example_fits_the_schema(page: Path):
    for example in re.findall(r"```graphql\n(.*?)```", page.read_text(), re.DOTALL):
        assert validate(the_schema(), parse(example)) == [], example


def test_tables_of_the_vocabularies_are_complete():
    readme = (ROOT / "README.md").read_text()
    glossary = (ROOT / "docs/glossary.md").read_text()

    for english, indonesian in EVENTS.items():
        assert f"| `{english}` | `{indonesian}` |" in readme
        assert f"| `{english}` | `{indonesian}` |" in glossary
    for table in (KEYS, CARD_KEYS, VOUCHER_KEYS, STATUSES, ROUTES):
        for words in table.items():
            assert all(f"`{word}`" in readme for word in words)


def test_the_tree_of_the_readme_is_the_tree():
    readme = (ROOT / "README.md").read_text()
    [tree] = re.findall(r"```\n(cli/ .*?)```", readme, re.DOTALL)
    told = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    modules = {path.stem if path.is_dir() else path.name for path in ROOT.iterdir()}
    rooms = {path.parent.name for path in ROOT.glob("*/*.py")} | {"bin", "docs", "tests"}

    assert told <= modules
    assert rooms - told - {"benchmarks", "build", "var"} == set()


def test_every_top_level_code_is_documented():
    told = (ROOT / "docs/errors.md").read_text()
    files = [*ROOT.glob("execution/*.py"), *ROOT.glob("core/errors.py")]
    given = {
        code for path in files for code in re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', path.read_text())
    }

    assert len(given) > 5
    assert {code for code in given if f"`{code}`" not in told} == set()
    assert set(REQUEST_CODES) <= given


def test_every_decision_is_listed_and_has_its_four_parts():
    listed = (ROOT / "docs/decisions/README.md").read_text()

    for page in ROOT.glob("docs/decisions/0*.md"):
        assert page.name in listed
        for part in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"\n## {part}\n" in page.read_text(), f"{page.name}: {part}"


def test_the_example_receiver_takes_what_is_signed_and_nothing_else():
    secret, moment, body = new_signing_secret(), str(int(time.time())), b'{"event": "x"}'
    signature = sign(secret, "evt_1", moment, body)
    headers = message({"webhook-id": "evt_1", "webhook-timestamp": moment})

    assert is_ours(secret, message({**headers, "webhook-signature": f"v1,AAAA {signature}"}), body)
    assert not is_ours(secret, message({**headers, "webhook-signature": signature}), body + b" ")
    assert not is_ours(secret, headers, body)
    late = str(int(moment) - 301)
    old = {"webhook-timestamp": late, "webhook-signature": sign(secret, "evt_1", late, body)}
    assert not is_ours(secret, message({**headers, **old}), body)


def test_the_verification_shown_for_python_is_right():
    [code] = [
        block
        for block in re.findall(
            r"```python\n(.*?)```", (ROOT / "docs/webhooks.md").read_text(), re.DOTALL
        )
        if "def is_ours" in block
    ]
    shown: dict[str, Any] = {}
    exec(code, shown)
    secret, moment, body = new_signing_secret(), str(int(time.time())), b"{}"
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": moment,
        "webhook-signature": sign(secret, "evt_1", moment, body),
    }

    assert shown["is_ours"](secret, headers, body)
    assert not shown["is_ours"](secret, headers, b"{ }")


@cache
def the_schema() -> GraphQLSchema:
    """The committed schema."""
    return build_schema((ROOT / "docs/schema.graphql").read_text())


def sign(secret: str, id: str, moment: str, body: bytes) -> str:
    """A signature by the public library."""
    return Webhook(secret).sign(id, datetime.fromtimestamp(int(moment), UTC), body.decode())


def message(headers: dict[str, str]) -> Any:
    """Headers as a mapping, as http.server has them."""
    return dict(headers)


def anchors(page: Path) -> set[str]:
    """The anchors that a reader's browser knows: one per heading."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """Every command of ours in code blocks and inline code, as words."""
    blocks = re.findall(r"```(?:bash|console)?\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:bin/|python -m |python3 docs/)[^`]*)`", text)
    found = []
    for line in lines:
        for part in re.split(r" \| | && |; |\$\(", line):
            bare = re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", part.strip())
            if re.match(r"bin/\w|python -m |python3 docs/", bare):
                found.append(shlex.split(bare.rstrip("&) "), comments=True))
    return found


def unknown_words(words: list[str]) -> list[str]:
    """The words of a `stampwire` command line that are neither commands nor options of them."""
    command: Any = get_command(cli.app)
    words = [word for word in words if word != "…"]
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return words
        command, words = command.commands[words[0]], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in {*known, "--help"}]
