"""Runs tests with one module replaced before anything is imported.

fresh.py MODULE FILE TEST …
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest


class _Replaces(MetaPathFinder):
    """Finds one module in another file."""

    def __init__(self, name: str, path: str) -> None:
        self._name, self._path = name, path

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """The module, if it is the one."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path)


if __name__ == "__main__":
    name, path, *tests = sys.argv[1:]
    sys.path[0] = str(Path.cwd())
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Replaces(name, path))
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
