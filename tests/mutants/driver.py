"""Runs the tests against each mutant: a fork of a process that has imported and collected all.

First every test runs once, to learn which lines it reaches and how long it takes; a mutant then
meets only the tests that reach it, quickest first, until one fails.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import coverage
import pytest
from generation import Mutant
from patching import Functions, NeedsFreshImport, apply, used_by

SURVIVED, KILLED, FRESH = 0, 1, 3
_MOST_SECONDS = 120
_MOST_TESTS = 60
"""A mutant meets so many tests at most: the quickest that reach it."""


@dataclass
class Test:
    """What was learnt of a test."""

    item: pytest.Item
    seconds: float
    lines: dict[str, set[int]]


@dataclass
class Running:
    """A mutant under test."""

    mutant: Mutant
    folder: Path
    until: float


class Driver:
    """A plugin of pytest that runs the tests once for each mutant."""

    def __init__(
        self,
        root: Path,
        mutants: list[Mutant],
        processes: int,
        tell: Callable[[Mutant, str, str], None],
    ) -> None:
        self.fresh: list[tuple[Mutant, list[str]]] = []
        self._root = root
        self._mutants = mutants
        self._processes = processes
        self._tell = tell
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-", dir=_memory()))
        self._tests: list[Test] = []
        self._modules: dict[str, ModuleType] = {}
        self._killers: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running each test once."""
        if session.testsfailed:
            raise session.Interrupted("tests cannot be collected")
        try:
            self._modules = {file: _module_of(file) for file in {one.file for one in self._mutants}}
            self._functions = Functions()
            self._tests = self._learn(session)
            self._test_all(session)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return True

    # -- learning ---------------------------------------------------------------------------------

    def _learn(self, session: pytest.Session) -> list[Test]:
        folder = self._folder / "learning"
        folder.mkdir()
        if (child := os.fork()) == 0:
            self._learn_in_a_child(session, folder)
        os.waitpid(child, 0)
        told = json.loads((folder / "learnt.json").read_text())
        tests = []
        for item in session.items:
            if item.nodeid in told["failed"]:
                sys.stderr.write(f"left out, it fails without any mutant: {item.nodeid}\n")
                continue
            seconds, lines = told["tests"][item.nodeid]
            tests.append(Test(item, seconds, {file: set(found) for file, found in lines.items()}))
        total = sum(test.seconds for test in tests)
        sys.stderr.write(f"{len(tests)} tests, {total:.0f} s\n")
        return sorted(tests, key=lambda test: test.seconds)

    def _learn_in_a_child(self, session: pytest.Session, folder: Path) -> NoReturn:
        _be_silent(session, folder)
        files = {str(module.__file__): name for name, module in self._modules.items()}
        watch = coverage.Coverage(data_file=None, include=list(files), messages=False)
        watch.start()
        seconds, failed = {}, []
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            watch.switch_context(item.nodeid)
            began, before = time.monotonic(), session.testsfailed
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] = time.monotonic() - began
            if session.testsfailed > before:
                failed.append(item.nodeid)
        watch.stop()
        lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for path, file in files.items():
            for line, contexts in watch.get_data().contexts_by_lineno(path).items():
                for context in contexts:
                    lines[context][file].append(line)
        told = {name: (took, lines.get(name, {})) for name, took in seconds.items()}
        (folder / "learnt.json").write_text(json.dumps({"failed": failed, "tests": told}))
        os._exit(0)

    # -- testing ----------------------------------------------------------------------------------

    def _test_all(self, session: pytest.Session) -> None:
        waiting = deque(self._mutants)
        folders = [self._folder / f"{number}" for number in range(self._processes)]
        running: dict[int, Running] = {}
        while waiting or running:
            while waiting and folders:
                mutant = waiting.popleft()
                tests = self._tests_for(mutant)
                if not tests:
                    self._tell(mutant, "untested", "")
                    continue
                folder = folders.pop()
                patience = 15 + 6 * sum(test.seconds for test in tests)
                until = time.monotonic() + min(patience, _MOST_SECONDS)
                items = [test.item for test in tests]
                if (child := os.fork()) == 0:
                    self._test_in_a_child(session, mutant, items, folder)
                running[child] = Running(mutant, folder, until)
            self._wait(running, folders)

    def _wait(self, running: dict[int, Running], folders: list[Path]) -> None:
        for child, one in list(running.items()):
            is_late = time.monotonic() > one.until
            if is_late:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, 0 if is_late else os.WNOHANG)
            if not ended:
                continue
            del running[child]
            folders.append(one.folder)
            code = os.waitstatus_to_exitcode(status)
            killer = one.folder / "killer"
            by = killer.read_text() if killer.exists() else ""
            if code == FRESH:
                tests = [test.item.nodeid for test in self._tests_of_file(one.mutant.file)]
                self.fresh.append((one.mutant, tests[:_MOST_TESTS]))
            elif code == SURVIVED:
                self._tell(one.mutant, "survived", "")
            else:
                self._tell(one.mutant, "timeout" if is_late else "killed", by)
                self._remember_killer(one.mutant, by)
        time.sleep(0.003)

    def _remember_killer(self, mutant: Mutant, by: str) -> None:
        killers = self._killers[mutant.file, mutant.where]
        for item in [test.item for test in self._tests if test.item.nodeid == by]:
            if item in killers:
                killers.remove(item)
            killers.insert(0, item)

    def _test_in_a_child(
        self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item], folder: Path
    ) -> NoReturn:
        folder.mkdir(exist_ok=True)
        (folder / "killer").unlink(missing_ok=True)
        _be_silent(session, folder)
        try:
            apply(mutant, self._modules[mutant.file], self._functions)
        except NeedsFreshImport:
            os._exit(FRESH)
        except BaseException:  # noqa: BLE001 -- it would not even be imported
            (folder / "killer").write_text("")
            traceback.print_exc()
            os._exit(KILLED)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                (folder / "killer").write_text(item.nodeid)
                os._exit(KILLED)
        os._exit(SURVIVED)

    # -- choosing tests ---------------------------------------------------------------------------

    def _tests_for(self, mutant: Mutant) -> list[Test]:
        """Those that reach it; the ones that killed its neighbours first."""
        if mutant.where:
            lines = set(range(mutant.lines[0], mutant.lines[1] + 1))
            found = self._reaching(mutant.file, lines)
            if not found:  # a default, or a line that Python counts elsewhere
                found = self._reaching(mutant.file, self._lines_around(mutant))
        else:
            module = self._modules[mutant.file]
            before = (self._root / mutant.file).read_text(encoding="utf-8")
            found = self._reaching(mutant.file, used_by(module, mutant, before))
            found = found or self._tests_of_file(mutant.file)
        first = self._killers[mutant.file, mutant.where][:3]
        rank = {id(item): number for number, item in enumerate(first)}
        found.sort(key=lambda test: (rank.get(id(test.item), 9), test.seconds))
        return found[:_MOST_TESTS]

    def _lines_around(self, mutant: Mutant) -> set[int]:
        """The body of the function in whose signature it lies."""
        path = str(self._modules[mutant.file].__file__)
        reached = {line for test in self._tests for line in test.lines.get(mutant.file, ())}
        for first, last in self._functions.all_of(path):
            inside = {line for line in reached if first < line <= last}
            if first <= mutant.lines[0] and mutant.lines[1] < min(inside, default=0):
                return inside
        return set()

    def _reaching(self, file: str, lines: set[int]) -> list[Test]:
        return [test for test in self._tests if test.lines.get(file, set()) & lines]

    def _tests_of_file(self, file: str) -> list[Test]:
        return [test for test in self._tests if test.lines.get(file)]


def _module_of(file: str) -> ModuleType:
    return importlib.import_module(file.removesuffix(".py").replace("/", "."))


def _be_silent(session: pytest.Session, folder: Path) -> None:
    """A child's output goes to a file, its databases to a folder of its own."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    plugins = session.config.pluginmanager
    plugins.unregister(plugins.get_plugin("terminalreporter"))
    factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
    factory._given_basetemp, factory._basetemp = folder / "tmp", None


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
