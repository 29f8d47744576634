"""Packages of npm that tests are run with: as a lock has them, installed once, beside the tree."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def installed(folder: Path, *, with_dev: bool = True, patience: float = 110) -> Path:
    """Where the packages of a folder's package.json are; `node_modules` stands in it."""
    named = [folder / "package.json", folder / "package-lock.json"]
    mark = hashlib.sha256(b"".join(file.read_bytes() for file in named)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stampwire"
    place = cache / f"{folder.name}-{mark}{'' if with_dev else '-without-dev'}"
    if not place.exists():
        npm = shutil.which("npm")
        assert npm, "npm is missing: apt-get install npm"
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            for file in named:
                shutil.copy(file, made)
            words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                [npm, *words, *([] if with_dev else ["--omit=dev"])],
                cwd=made,
                capture_output=True,
                text=True,
                check=False,
                timeout=patience,
            )
            assert done.returncode == 0, done.stderr
            with contextlib.suppress(OSError):  # another run was quicker
                Path(made).rename(place)
            Path(made).mkdir(exist_ok=True)
    return place


def node() -> str:
    """The program that runs JavaScript."""
    found = shutil.which("node")
    assert found, "Node is missing: apt-get install nodejs"
    return found
