"""Puts a mutant into a process where everything is imported already, without importing it again.

A function gets the mutant's code, whoever holds the function; a constant or statement at the head
of a file is made anew, with those that are made from it, in every module that took it by name.
"""

import ast
import gc
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from generation import Mutant


class NeedsFreshImport(Exception):
    """The change shows only while modules are imported."""


class Functions:
    """Every function that exists, by the file and line of its code."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
        gc.unfreeze()  # tests/conftest.py has set aside what was loaded
        for one in gc.get_objects():
            if type(one) is FunctionType:
                self._known[_place(one.__code__)].append(one)

    def of(self, code: CodeType) -> list[FunctionType]:
        """Those that run a code."""
        return self._known[_place(code)]

    def all_of(self, path: str) -> list[tuple[int, int]]:
        """The first and last line of each function of a file."""
        return [
            (line, max((at for _, _, at in code.co_lines() if at), default=line))
            for (file, _, line), found in self._known.items()
            if file == path and (code := found[0].__code__)
        ]


def apply(mutant: Mutant, module: ModuleType, functions: Functions) -> None:
    """Put a mutant into this process. Whatever it raises, a mutant did not survive it."""
    path = str(module.__file__)
    before = Path(path).read_text(encoding="utf-8")
    if mutant.where:
        _change_function(mutant, module, functions, before)
    else:
        _change_constants(mutant, module, before)


# -- functions ------------------------------------------------------------------------------------


def _change_function(mutant: Mutant, module: ModuleType, functions: Functions, before: str) -> None:
    path = str(module.__file__)
    number = _number_of(before, mutant)
    old = _codes(compile(before, path, "exec", dont_inherit=True), mutant.where)[number]
    tree = ast.parse(mutant.source)
    new = _codes(compile(tree, path, "exec", dont_inherit=True), mutant.where)[number]
    inner = list(_pairs(old, new))
    for _ in range(3):  # a nested function keeps what it closes over, used or not
        if not any(_keep_free_names(tree, *pair) for pair in inner):
            break
        new = _codes(compile(tree, path, "exec", dont_inherit=True), mutant.where)[number]
        inner = list(_pairs(old, new))
    changed = 0
    for was, becomes in inner:
        for function in functions.of(was):
            function.__code__ = becomes
            changed += 1
    if not changed:
        raise NeedsFreshImport
    nodes = [
        _definitions(ast.parse(text), mutant.where)[number] for text in (before, mutant.source)
    ]
    if ast.dump(nodes[0].args) != ast.dump(nodes[1].args):
        for function in functions.of(old):
            _change_defaults(function, nodes[1].args, module)


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _number_of(source: str, mutant: Mutant) -> int:
    """Which of several functions of one name: a property and its setter."""
    found = _definitions(ast.parse(source), mutant.where)
    within = [
        number
        for number, node in enumerate(found)
        if node.lineno <= mutant.lines[0] <= (node.end_lineno or 0)
    ]
    return within[0] if within else 0


def _definitions(tree: ast.AST, where: str) -> list[Any]:
    bodies = [tree]
    for name in where.split("."):
        bodies = [
            node
            for body in bodies
            for node in body.body  # type: ignore[attr-defined]
            if getattr(node, "name", None) == name
        ]
    return bodies


def _codes(code: CodeType, where: str) -> list[CodeType]:
    """The codes of a top-level function or method."""
    found = [code]
    for name in where.split("."):
        found = [
            inner
            for outer in found
            for inner in outer.co_consts
            if isinstance(inner, CodeType) and inner.co_name == name
        ]
    return found


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """A code and those nested in it, before and after."""
    yield old, new
    by_name = {code.co_name: code for code in new.co_consts if isinstance(code, CodeType)}
    for code in old.co_consts:
        is_named = isinstance(code, CodeType) and not code.co_name.startswith("<")
        if is_named and code.co_name in by_name:
            yield from _pairs(code, by_name[code.co_name])


def _keep_free_names(tree: ast.AST, old: CodeType, new: CodeType) -> bool:
    """Let a nested function mention what it no longer uses; whether that was needed."""
    lost = sorted(set(old.co_freevars) - set(new.co_freevars))
    if not lost:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == new.co_name:
            told = ast.parse(f"if 0: ({', '.join(lost)},)").body
            node.body[:0] = told
            ast.fix_missing_locations(node)
    return True


def _change_defaults(function: FunctionType, arguments: ast.arguments, module: ModuleType) -> None:
    def value_of(node: ast.expr) -> Any:
        expression = ast.fix_missing_locations(ast.Expression(node))
        return eval(compile(expression, "<default>", "eval"), vars(module))

    function.__defaults__ = tuple(map(value_of, arguments.defaults)) or None
    function.__kwdefaults__ = {
        argument.arg: value_of(node)
        for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if node is not None
    }


# -- constants and statements ---------------------------------------------------------------------


def _change_constants(mutant: Mutant, module: ModuleType, before: str) -> None:
    new = ast.parse(mutant.source).body
    remade, changed = [], set[str]()
    for node, was in zip(new, ast.parse(before).body, strict=True):
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        is_mutated = ast.dump(node) != ast.dump(was)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            if is_mutated or names & changed:
                remade.append(node)
                changed |= _targets(node)
        elif is_mutated or _loads_at_once(node) & changed:
            raise NeedsFreshImport
    known = {name: getattr(module, name, None) for name in changed}
    for node in remade:
        exec(compile(ast.Module([node], []), str(module.__file__), "exec"), vars(module))
    for other in list(sys.modules.values()):
        for name, value in known.items():
            if other is not module and getattr(other, "__dict__", {}).get(name) is value:
                setattr(other, name, getattr(module, name))


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {part.id for one in targets for part in ast.walk(one) if isinstance(part, ast.Name)}


def _loads_at_once(node: ast.stmt) -> set[str]:
    """The names that a definition needs while it is made: defaults, decorators, class bodies."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = (*node.args.defaults, *node.args.kw_defaults)
        parts: list[Any] = [*node.decorator_list, *filter(None, defaults)]
    elif isinstance(node, ast.ClassDef):
        methods = [
            one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        fields = [one for one in node.body if one not in methods]
        inside = set[str]().union(*map(_loads_at_once, methods))
        return inside | {name.id for one in fields for name in _names(one)}
    else:
        parts = [node]
    return {name.id for part in parts for name in _names(part)}


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def used_by(module: ModuleType, mutant: Mutant, before: str) -> set[int]:
    """The lines of the functions of its file that use what a mutant at the head changes."""
    changed = set[str]()
    lines = set[int]()
    for node, was in zip(ast.parse(mutant.source).body, ast.parse(before).body, strict=True):
        names = {name.id for name in _names(node)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            if ast.dump(node) != ast.dump(was) or names & changed:
                changed |= _targets(node)
        elif names & changed:
            for part in ast.walk(was):
                is_function = isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                if is_function and {name.id for name in _names(part)} & changed:
                    lines |= set(range(part.body[0].lineno, (part.end_lineno or 0) + 1))
    return lines
