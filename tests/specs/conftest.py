"""What tests of docs/specs start from: the tools of others, and a folder to run them in."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from houses import database, deployment, house, open_house
from npm import installed, node

__all__ = ["database", "deployment", "house", "open_house"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages and the scripts that use them."""
    place = tmp_path_factory.mktemp("workshop")
    (place / "node_modules").symlink_to(installed(HERE) / "node_modules")
    for script in HERE.glob("*.mjs"):
        (place / script.name).write_text(script.read_text())
    return place


@pytest.fixture(scope="session")
def ask(workshop: Path) -> Callable[..., Any]:
    """Let a script say what it found, as JSON."""

    def run(script: str, *words: object) -> Any:
        done = subprocess.run(
            [node(), script, *map(str, words)],
            cwd=workshop,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
