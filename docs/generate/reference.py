"""The reference page of the schema, which SpectaQL builds: `python -m docs.generate.reference`.

It needs npm, so it is no part of `python -m docs.generate`. The page says of which schema it is,
and a test fails while that is another.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.generate.shared import FOLDER

PAGE = FOLDER / "specs" / "reference.html"
TOOL = FOLDER.parent / "tests" / "specs" / "spectaql"
_MARK = re.compile(r"<!-- docs/schema\.graphql, SHA-256 ([0-9a-f]{64}) -->")


def digest_of_schema() -> str:
    """What tells the schema as it is from any other."""
    return hashlib.sha256((FOLDER / "schema.graphql").read_bytes()).hexdigest()


def digest_in_page() -> str:
    """Of which schema the page is."""
    found = _MARK.search(PAGE.read_text(encoding="utf-8"))
    return found[1] if found else ""


def build(modules: Path) -> str:
    """The page, built with the packages of a `node_modules`."""
    program = modules / ".bin" / "spectaql"
    with tempfile.TemporaryDirectory() as built:
        words = [str(program), "--target-dir", built, "docs/specs/spectaql.yml"]
        subprocess.run(  # noqa: S603 -- words of our own
            words, cwd=FOLDER.parent, check=True, capture_output=True, timeout=300
        )
        page = (Path(built) / "index.html").read_text(encoding="utf-8")
    text = "\n".join(line.rstrip() for line in page.splitlines() if line.strip())
    return f"{text}\n<!-- docs/schema.graphql, SHA-256 {digest_of_schema()} -->\n"


def main() -> int:
    """Install what builds it, and write the page; the exit code."""
    with tempfile.TemporaryDirectory() as made:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(TOOL / name, made)
        words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        sys.stdout.write(f"Building {PAGE.name}: a minute.\n")
        subprocess.run(words, cwd=made, check=True, timeout=600)  # noqa: S603 -- words of our own
        PAGE.write_text(build(Path(made) / "node_modules"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
