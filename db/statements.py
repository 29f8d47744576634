"""Statements: written once in SQLAlchemy's language, compiled once per database."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Delete,
    Dialect,
    Float,
    Insert,
    Select,
    String,
    TypeDecorator,
    Update,
    bindparam,
    case,
    insert,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert, ReturningUpdate
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlmodel.sql.expression import SelectOfScalar

from models import Row

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")

SQLITE: Dialect = sqlite_dialect()
POSTGRESQL: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

BUSINESS: Any = bindparam("business", type_=String, required=False)
"""The business of the transaction; every statement on a tenant's table names it."""


def param(name: str, type_: Any = None) -> Any:
    """A value given when the statement runs."""
    # Not required: SQLAlchemy asks for the values of a statement with IN when it is compiled.
    return bindparam(name, type_=type_, required=False)


class among(ColumnElement[bool]):  # noqa: N801 -- reads as SQL in the statements
    """`column` is one of the texts in the list given as `name`."""

    inherit_cache = False

    def __init__(self, column: Any, name: str) -> None:
        self.column = column
        self.name = name


class unindexed(ColumnElement[Any]):  # noqa: N801 -- the same
    """A column whose index is of no use: SQLite, which knows no figures, would take any."""

    inherit_cache = False

    def __init__(self, column: Any) -> None:
        self.column = column
        self.type = column.type


class TextList(TypeDecorator[list[str]]):
    """Texts as SQLite's json_each takes them."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return json.dumps([str(item) for item in value])


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.column, **options)
    keys = compiler.process(bindparam(element.name, type_=TextList()), **options)
    return f"{column} IN (SELECT value FROM json_each({keys}))"  # noqa: S608 -- SQLAlchemy's own text


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.column, **options)
    keys = compiler.process(bindparam(element.name, type_=ARRAY(String)), **options)
    return f"{column} = ANY ({keys})"


@compiles(unindexed)
def _unindexed(element: unindexed, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.column, **options)
    return text


@compiles(unindexed, "sqlite")
def _unindexed_sqlite(element: unindexed, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.column, **options)}"


class Command:
    """A statement that gives nothing back but how many rows it touched."""

    def __init__(self, clause: Update | Delete | Insert | Select[Any]) -> None:
        self.clause = clause
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: Dialect) -> "Compiled":
        """The text and the conversions for one database; made at the first use."""
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self.compiled_for(dialect)
        return compiled

    def compiled_for(self, dialect: Dialect) -> "Compiled":
        """The same, made anew."""
        return Compiled(self.clause, dialect)


class InsertIfNew(Command):
    """An INSERT that does nothing where a unique value is taken; a concurrent one waits for it."""

    def __init__(self, row: type[Row]) -> None:
        super().__init__(insert(row))
        self._row = row

    def on(self, dialect: Dialect) -> "Compiled":
        if dialect.name not in self._compiled:
            made = (postgresql if dialect.name == "postgresql" else sqlite).insert(self._row)
            self._compiled[dialect.name] = Compiled(made.on_conflict_do_nothing(), dialect)
        return self._compiled[dialect.name]


class Upsert(Command):
    """An INSERT that, where the primary key is taken, adds to the numbers that stand there.

    `latest` is a column that keeps the greater of both values; an absent one changes nothing.
    """

    def __init__(self, row: type[Row], *, adds: Sequence[str], latest: Sequence[str] = ()) -> None:
        super().__init__(insert(row))
        self._row, self._adds, self._latest = row, adds, latest

    def on(self, dialect: Dialect) -> "Compiled":
        if dialect.name not in self._compiled:
            made = (postgresql if dialect.name == "postgresql" else sqlite).insert(self._row)
            table, new = made.table.c, made.excluded
            greater = {
                name: case(
                    (table[name].is_(None) | (new[name] > table[name]), new[name]),
                    else_=table[name],
                )
                for name in self._latest
            }
            sums = {name: table[name] + new[name] for name in self._adds}
            key = [column.name for column in made.table.primary_key]
            made = made.on_conflict_do_update(index_elements=key, set_={**sums, **greater})
            self._compiled[dialect.name] = Compiled(made, dialect)
        return self._compiled[dialect.name]


class Query(Command, Generic[T_co]):
    """A statement that gives rows: whole rows, single values, or tuples of them."""


@overload
def query(clause: SelectOfScalar[T]) -> Query[T]: ...  # type: ignore[overload-overlap]
@overload
def query(
    clause: ReturningUpdate[tuple[T]] | ReturningInsert[tuple[T]] | ReturningDelete[tuple[T]],
) -> Query[T]: ...
@overload
def query(clause: TypedReturnsRows[tuple[A, B]]) -> Query[tuple[A, B]]: ...
@overload
def query(clause: Any) -> Query[Any]: ...
def query(clause: Any) -> Query[Any]:
    """Declare a statement that gives rows."""
    return Query(clause)


class PartialQuery(Query[T_co]):
    """A statement that gives rows with those of their columns alone that it selects."""

    def __init__(self, row: type[T_co], clause: Select[Any]) -> None:
        super().__init__(clause)
        self._row = row

    def compiled_for(self, dialect: Dialect) -> "Compiled":
        return Compiled(self.clause, dialect, part_of=self._row)


def command(clause: Update | Delete | Insert) -> Command:
    """Declare a statement that gives nothing back."""
    return Command(clause)


class Compiled:
    """A statement in the words of one database, with its values in and rows out converted."""

    def __init__(self, clause: Any, dialect: Dialect, part_of: type[Any] | None = None) -> None:
        made = clause.compile(dialect=dialect)
        # A list written into a statement (`.in_([…])`) is spelled out here, once.
        spelled = made.construct_expanded_state(made.params, escape_names=False)
        origin = {
            name: source for source, names in spelled.parameter_expansion.items() for name in names
        }
        self.sql: str = spelled.statement
        self._binds: list[tuple[str, Any, Callable[[Any], Any] | None]] = [
            (
                name,
                spelled.parameters.get(name),
                _to_database(made.binds[origin.get(name, name)].type, dialect),
            )
            for name in spelled.positiontup or ()
        ]
        kinds = _columns(clause) if part_of is None else [part_of]
        self._shape = [_reader(kind, dialect) for kind in kinds]
        self._row: Callable[[Sequence[Any]], Row] | None = None
        """What makes the Row of a database row, where it is nothing but that."""
        if part_of is not None:
            self._row = _row_maker(part_of, list(clause.selected_columns), dialect)
        elif len(kinds) == 1 and _is_row(kinds[0]):
            self._row = _row_maker(kinds[0], _all_columns(kinds[0]), dialect)

    def bind(self, values: dict[str, Any]) -> list[Any]:
        """The values in the order in which the database wants them."""
        return [
            convert(values.get(name, default)) if convert else values.get(name, default)
            for name, default, convert in self._binds
        ]

    def read(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Database rows, each as a Row, a value, or a tuple of both."""
        if (make := self._row) is not None:
            return [make(row) for row in rows]
        if len(self._shape) == 1:
            _, read = self._shape[0]
            return [read(row, 0) for row in rows]
        return [self._tuple(row) for row in rows]

    def _tuple(self, row: Sequence[Any]) -> tuple[Any, ...]:
        place, items = 0, []
        for width, read in self._shape:
            items.append(read(row, place))
            place += width
        return tuple(items)


Reader = Callable[[Sequence[Any], int], Any]


def _columns(clause: Any) -> list[Any]:
    if isinstance(clause, Select):
        return [description["type"] for description in clause.column_descriptions]
    # `returning_column_descriptions` fails where a whole table is returned (SQLAlchemy 2.1).
    return [_returned(item) for item in getattr(clause, "_returning", ())]


def _returned(item: Any) -> Any:
    return item.type if hasattr(item, "type") else item.entity_namespace


def _reader(kind: Any, dialect: Dialect) -> tuple[int, Reader]:
    """How many columns an item of a row takes, and how they are read."""
    if _is_row(kind):
        return _row_reader(kind, dialect)
    convert = _from_database(kind, dialect)
    if convert is None:
        return 1, lambda row, place: row[place]
    return 1, lambda row, place: None if row[place] is None else convert(row[place])


def _to_database(kind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """The conversion of a value that is written, None where the drivers take what we have."""
    if isinstance(kind, Float):
        return None
    processor: Callable[[Any], Any] | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return processor


def _from_database(kind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """The conversion of a value that was read, None where the drivers give what we want."""
    if hasattr(kind, "reader"):  # ours: without the layers that SQLAlchemy puts around it
        reader: Callable[[Any], Any] | None = kind.reader(dialect)
        return reader
    if isinstance(kind, Float):  # SQLAlchemy would first ask for its number on the wire
        return None
    processor: Callable[[Any], Any] | None = kind.dialect_impl(dialect).result_processor(
        dialect, None
    )
    return processor


def _is_row(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Row)


def _all_columns(cls: type[Row]) -> list[Any]:
    return list(cls.__table__.columns)  # type: ignore[attr-defined]


def _row_reader(cls: type[Row], dialect: Dialect) -> tuple[int, Reader]:
    columns = _all_columns(cls)
    width, make = len(columns), _row_maker(cls, columns, dialect)

    def read(row: Sequence[Any], place: int) -> Row | None:
        part = row[place : place + width]
        if place and all(value is None for value in part):
            return None  # the missing side of an outer join
        return make(part)

    return width, read


def _row_maker(
    cls: type[Row], columns: list[Any], dialect: Dialect
) -> Callable[[Sequence[Any]], Row]:
    """What makes a row of the values of some of its columns, or of all."""
    names = [column.name for column in columns]
    conversions = [
        (column.name, convert)
        for column in columns
        if (convert := _from_database(column.type, dialect))
    ]
    hydrate = cls.hydrate

    def make(values: Sequence[Any]) -> Row:
        told = dict(zip(names, values, strict=True))
        for name, convert in conversions:
            if (value := told[name]) is not None:
                told[name] = convert(value)
        return hydrate(told)

    return make
