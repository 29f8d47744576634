"""Our own rules: every statement names its business, only db/ knows a driver, floors point down.

A statement that may see every business says so: it stands in a block of lines with a comment
that contains "in the name of the system" above it, or in a section (`# -- …`) whose head does.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from models import Row  # noqa: E402 -- the tables are computed from the models

TENANT_TABLES = {cls.__name__ for cls in Row.__subclasses__() if "business_id" in cls.model_fields}
OTHER_TABLES = {cls.__name__ for cls in Row.__subclasses__()} - TENANT_TABLES
STATEMENTS = ("select", "update", "delete")
DRIVERS = ("sqlite3", "aiosqlite", "asyncpg", "psycopg", "psycopg2", "sqlalchemy.engine",
           "sqlalchemy.ext.asyncio", "sqlalchemy.create_engine", "sqlalchemy.orm.Session",
           "sqlalchemy.orm.sessionmaker", "sqlmodel.Session", "sqlmodel.create_engine")  # fmt: skip
DOORBELL = ("events/lines.py", "asyncpg")
"""It listens and notifies, on a connection of its own that never sees a table."""
ELSEWHERE = {"bin", "db", "tests", "docs", "benchmarks", "var", "build", "node_modules"}
FLOORS = ("cli", "server", "worker", "execution", "schema endpoints", "resolvers", "services",
          "webhooks integrations", "events", "db", "models", "core")  # fmt: skip
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)


def problems(source: str, name: str) -> Iterator[str]:
    """What is wrong in a module, one sentence each."""
    tree = ast.parse(source)
    imports = [found for node in ast.walk(tree) for found in _imported(node)]
    for line, _, full in imports:
        is_driver = any(f"{full}.".startswith(f"{driver}.") for driver in DRIVERS)
        if is_driver and (name, full) != DOORBELL:
            yield f"{name}:{line}: only db/ may import {full}"
        here, there = name.partition("/")[0].removesuffix(".py"), full.partition(".")[0]
        if here != there and FLOOR.get(there, 99) <= FLOOR.get(here, -1):
            yield f"{name}:{line}: {here} may not import {there}, which is not below it"
        if there == "broadcaster" and name != DOORBELL[0]:
            yield f"{name}:{line}: only events/lines may import broadcaster"
    known = {alias: full for _, alias, full in imports if full.startswith(("sqlalchemy", "sqlm"))}
    for line, parts, function in _lines_of(tree, None):
        nodes = [node for part in parts for node in ast.walk(part)]
        if not any(_makes_statement(node, known) for node in nodes):
            continue
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        if names & OTHER_TABLES and not names & TENANT_TABLES:
            continue
        if not names & TENANT_TABLES and function is not None:  # a table under another name
            nodes = list(ast.walk(function))
        if not any(map(_names_business, nodes)) and not _is_the_systems(source, line):
            yield f"{name}:{line}: a statement without `business_id == BUSINESS`"


def _imported(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield node.lineno, alias.asname or alias.name, f"{module}{alias.name}"


def _lines_of(
    node: ast.AST, function: ast.AST | None
) -> Iterator[tuple[int, list[ast.AST], ast.AST | None]]:
    """Every line of Python: where it is, its own expressions, the function it stands in."""
    if isinstance(node, ast.stmt):
        own = [part for part in ast.iter_child_nodes(node) if not isinstance(part, BLOCKS)]
        yield node.lineno, own, function
    inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
    for part in ast.iter_child_nodes(node):
        if isinstance(part, BLOCKS):
            yield from _lines_of(part, inner)


def _makes_statement(node: ast.AST, known: dict[str, str]) -> bool:
    """Whether it calls `select`, `update` or `delete` of SQLAlchemy or SQLModel."""
    if not isinstance(node, ast.Call):
        return False
    module, _, word = ast.unparse(node.func).rpartition(".")
    full = f"{known.get(module, '')}.{word}" if module else known.get(word, "")
    return "." in full.strip(".") and full.rpartition(".")[2] in STATEMENTS


def _names_business(node: ast.AST) -> bool:
    """Whether it is `….business_id == BUSINESS` (or `Business.id == BUSINESS`)."""
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq):
        return False
    sides = {ast.unparse(node.left), ast.unparse(node.comparators[0])}
    return "BUSINESS" in sides and any("business" in side.lower() for side in sides - {"BUSINESS"})


def _is_the_systems(source: str, line: int) -> bool:
    """Whether a comment above it says so: of its block of lines, or (`# -- …`) of its section."""
    lines = source.splitlines()[: line - 1]
    start = max((number for number, text in enumerate(lines, 1) if not text.strip()), default=0)
    comments = [text.strip("# ") for text in lines[start:] if text.lstrip().startswith("# ")]
    comments = [text for text in comments if not text.startswith("-- ")]
    sections = [text for text in lines if text.startswith("# -- ")]
    return "in the name of the system" in " ".join([*sections[-1:], *comments])


def every_problem(root: Path) -> list[str]:
    """The problems of every module that is not db/'s."""
    files = [(path, path.relative_to(root)) for path in sorted(root.rglob("*.py"))]
    return [
        said
        for path, name in files
        if name.parts[0] not in ELSEWHERE and not name.parts[0].startswith(".")
        for said in problems(path.read_text(), str(name))
    ]


if __name__ == "__main__":
    found = every_problem(ROOT)
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))
