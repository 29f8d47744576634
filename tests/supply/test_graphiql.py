"""GraphiQL's files: made of what lies beside them, small enough, and loading nothing else."""

import json
import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from npm import installed, node
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

FOLDER = ROOT / "console" / "graphiql"
BUILT = json.loads((FOLDER / "built.json").read_text())


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_the_files_are_those_that_were_made() -> None:
    assert digests(FOLDER, list(BUILT["made"])) == BUILT["made"]


def test_they_were_made_of_what_lies_beside_them() -> None:
    """If this fails: see console/graphiql/README.md, and make them anew."""
    names = sorted(path.name for path in (FOLDER / "source").iterdir() if path.is_file())

    assert digests(FOLDER / "source", names) == BUILT["of"]


def test_they_are_no_larger_than_they_must_be() -> None:
    assert (FOLDER / "graphiql.js").stat().st_size < 1_250_000
    assert (FOLDER / "graphiql.css").stat().st_size < 60_000


def test_neither_page_nor_style_names_a_file_elsewhere() -> None:
    page, css = (FOLDER / "page.html").read_text(), (FOLDER / "graphiql.css").read_text()

    assert re.findall(r"(?:src|href)=\"(?!\$|data:,)[^\"]*", page) == []
    assert re.findall(r"@import|@font-face|url\((?!\"?data:image/)[^)]*", css) == []


def test_every_package_that_is_bundled_has_its_licence_there() -> None:
    told = re.findall(
        r"^={80}\n(\S+) (\S+) \((.+)\)$", (FOLDER / "licences.txt").read_text(), re.MULTILINE
    )
    locked = json.loads((FOLDER / "source" / "package-lock.json").read_text())["packages"]
    versions = {
        (path.rpartition("node_modules/")[2], one.get("version")) for path, one in locked.items()
    }

    assert {"graphiql", "graphql", "graphql-ws", "react", "react-dom"} <= {
        name for name, *_ in told
    }
    assert {(name, version) for name, version, _ in told} <= versions
    assert {licence for *_, licence in told} <= {"0BSD", "Apache-2.0", "MIT"}


@pytest.mark.soak
def test_made_anew_they_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(FOLDER / "source", source, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(
        installed(FOLDER / "source") / "node_modules", source / "node_modules", symlinks=True
    )

    subprocess.run([node(), "build.mjs"], cwd=source, check=True, timeout=100)

    assert json.loads((tmp_path / "built.json").read_text()) == BUILT
