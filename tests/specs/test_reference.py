"""The reference page of the schema, built by SpectaQL."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from graphql import build_schema

from npm import installed, node
from processes import ROOT

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.soak]

HERE = Path(__file__).parent


def test_the_page_is_built_and_holds_every_type_and_loads_nothing(tmp_path: Path):
    program = installed(HERE / "spectaql") / "node_modules" / ".bin" / "spectaql"

    done = subprocess.run(
        [node(), program, "--target-dir", tmp_path, "docs/specs/spectaql.yml"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "index.html").read_text()
    schema = build_schema((ROOT / "docs" / "schema.graphql").read_text())
    kinds = [name for name in schema.type_map if not name.startswith("__")]
    roots = {"Query", "Mutation", "Subscription"}
    missing = [name for name in kinds if f'id="definition-{name}"' not in page]
    assert set(missing) - roots == set()
    assert schema.mutation_type
    assert all(f'id="mutation-{name}"' in page for name in schema.mutation_type.fields)
    assert re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"http", page) == []
