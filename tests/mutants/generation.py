"""Makes the mutants of a file: small changes to its code, one at a time, by mutmut's operators.

mutmut's own runner leaves out every function with a decorator, since it copies functions and would
decorate them twice. All our services have one (`@operation`), so only its generator is used here,
without that rule, and with the constants and statements that stand at the head of a file besides.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.file_mutation import (
    NEVER_MUTATE_FUNCTION_NAMES,
    MutationVisitor,
    OuterFunctionProvider,
)
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

_WORDING = re.compile(r"[a-z].* | .*[a-z]")
_ONLY_FOR_TYPES = ("cast", "TypeVar", "ParamSpec")
_ONLY_FOR_LOGS = ("get_logger",)


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    file: str
    where: str
    """The function or method it lies in; empty for what stands at the head of the file."""
    lines: tuple[int, int]
    before: str
    after: str
    source: str
    """The whole file with the change."""
    number: int = 1
    """Which one, where a function has the same line several times."""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What names it, whatever else changes in the file."""
        return self.file, self.where, self.before, self.after, self.number


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of a file, in the order of its lines."""
    source = (root / file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = wrapper.visit(visitor)
    counts: Counter[tuple[Any, ...]] = Counter()
    made = []
    for mutant in visitor.made(module, source, file):
        counts[mutant.key] += 1
        made.append(replace(mutant, number=counts[mutant.key]))
    return made


class _Visitor(MutationVisitor):
    """mutmut's visitor, which also enters decorated functions and remembers where it is."""

    METADATA_DEPENDENCIES = (
        PositionProvider,
        WhitespaceInclusivePositionProvider,
        OuterFunctionProvider,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._names: list[str] = []
        self._depth = 0  # of functions
        self._found: list[tuple[str, Any, Any, Any]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        enters = super().on_visit(node)
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.append(node.name.value)
            self._depth += isinstance(node, cst.FunctionDef)
        return enters

    def on_leave(self, original_node: cst.CSTNode) -> None:
        super().on_leave(original_node)
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._names.pop()
            self._depth -= isinstance(original_node, cst.FunctionDef)

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.name.value not in NEVER_MUTATE_FUNCTION_NAMES:
            return False
        called = _called(node)
        if called in _ONLY_FOR_TYPES or called in _ONLY_FOR_LOGS:
            return True
        return super()._skip_node_and_children(node)

    def _create_mutations(self, node: cst.CSTNode) -> None:
        if self._names and not self._depth:
            return  # fields of a class: the schema and the tables are made of them
        if isinstance(node, cst.Assign | cst.AnnAssign) and _says_types(node):
            return
        position = self.get_metadata(WhitespaceInclusivePositionProvider, node, None)
        where = self.get_metadata(OuterFunctionProvider, node, None)
        if position is None or (where is None and self._depth):
            return
        for kind, operator in self._operators:
            if not isinstance(node, kind) or _is_wording(node, operator):
                continue
            for mutated in operator(node):
                self._found.append((self._name_of(), node, mutated, position))

    def _name_of(self) -> str:
        """The top-level function or method."""
        return ".".join(self._names[: 1 + len(self._names) - self._depth])

    def made(self, module: cst.Module, source: str, file: str) -> Iterator[Mutant]:
        """The mutants, each with the whole file."""
        starts = _starts(source)
        original = source.splitlines()
        for where, node, mutated, position in self._found:
            first, last = (starts[at.line - 1] + at.column for at in (position.start, position.end))
            if _bare(source[first:last]) != _bare(module.code_for_node(node)):
                raise AssertionError(f"{file}:{position.start.line}: not found again")
            text = source[:first] + module.code_for_node(mutated) + source[last:]
            before, after = _difference(original, text.splitlines())
            if before != after:
                lines = position.start.line, position.end.line
                yield Mutant(file, where, lines, before, after, text)


def _called(node: cst.CSTNode) -> str:
    """The name of what is called."""
    if not isinstance(node, cst.Call):
        return ""
    function = node.func
    name = function.attr if isinstance(function, cst.Attribute) else function
    return name.value if isinstance(name, cst.Name) else ""


def _says_types(node: cst.Assign | cst.AnnAssign) -> bool:
    """Whether a line only names a type."""
    value = node.value
    if isinstance(value, cst.Subscript) and isinstance(value.value, cst.Name):
        return value.value.value in ("Callable", "Concatenate")
    return value is not None and _called(value) in _ONLY_FOR_TYPES + _ONLY_FOR_LOGS


def _is_wording(node: cst.CSTNode, operator: Any) -> bool:
    """Whether it would only change how a sentence is put: that is promised to nobody."""
    if operator is not operator_string or not isinstance(node, cst.SimpleString):
        return False
    return _WORDING.search(node.raw_value) is not None


@cache
def _starts(source: str) -> list[int]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _bare(text: str) -> str:
    return "".join(text.split())


def _difference(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, in one line each."""
    first = 0
    while first < min(len(before), len(after)) and _bare(before[first]) == _bare(after[first]):
        first += 1
    last = 0
    most = min(len(before), len(after)) - first
    while last < most and _bare(before[-1 - last]) == _bare(after[-1 - last]):
        last += 1
    told = (
        " ".join(line.strip() for line in lines[first : len(lines) - last])
        for lines in (before, after)
    )
    return next(told), next(told)
