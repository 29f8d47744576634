"""What every table shares: lean rows, and columns that mean the same on both databases."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic_core import PydanticUndefined
from sqlalchemy import DateTime, Dialect, String, Text, TypeDecorator
from sqlmodel import SQLModel

_new, _put = object.__new__, object.__setattr__


class Row(SQLModel):
    """One row of a table, as a plain value: read, decided upon, never assigned to.

    SQLModel gives tables, types and migrations. There is no ORM session: rows are made by
    `db.Transaction` or by calling the class, and changed by `Transaction.change`, which hands
    back the new row.
    """

    prefix: ClassVar[str] = ""
    _defaults: ClassVar[Mapping[str, Callable[[], Any]] | None] = None

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        for name, default in _defaults_of(cls).items():
            if name not in values:
                values[name] = default()
        # The rows of the log and the ledger are made on every stamp: no validation, no ORM state.
        object.__setattr__(self, "__dict__", values)

    @classmethod
    def hydrate(cls, values: dict[str, Any]) -> Self:
        """The row that the database returned."""
        row = _new(cls)
        _put(row, "__dict__", values)
        return row

    def with_values(self, **values: Any) -> Self:
        """The row with some values changed; nothing is stored."""
        return self.hydrate({**self.__dict__, **values})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.__dict__.get("id")))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__dict__.get('id', '')}>"


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment: TIMESTAMPTZ on PostgreSQL, fixed-width RFC 3339 text on SQLite (sorts as time)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(27))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else self.reader(dialect)(value)

    @staticmethod
    def reader(dialect: Dialect) -> Callable[[Any], datetime]:
        """What a value read, which is not NULL, goes through."""
        return datetime.fromisoformat if dialect.name == "sqlite" else _aware


def _aware(moment: datetime) -> datetime:
    """PostgreSQL gives back the first and last moment there are as infinity, without timezone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class Json(TypeDecorator[Any]):
    """A document, kept as text on both databases so that it reads back as it was written."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.dumps(value, ensure_ascii=False, default=_plain)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)

    @staticmethod
    def reader(dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG004 -- the same on both
        """What a value read, which is not NULL, goes through."""
        return json.loads


def words(kind: type[StrEnum]) -> Any:
    """A column that holds one of an enum's words, as text."""
    members = {member.value: member for member in kind}

    class Word(TypeDecorator[Any]):
        impl = String(40)
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
            return None if value is None else str(value)

        def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
            return None if value is None else members[value]

        @staticmethod
        def reader(dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG004 -- the same on both
            return members.__getitem__

    Word.__name__ = f"{kind.__name__}Word"
    return Word


def row_class_of(prefix: str) -> type[Row] | None:
    """The table whose ids begin with this prefix."""
    return next((cls for cls in Row.__subclasses__() if cls.prefix == prefix), None)


def _defaults_of(cls: type[Row]) -> Mapping[str, Callable[[], Any]]:
    found = cls.__dict__.get("_defaults")
    if found is None:
        found = {}
        for name, field in cls.__pydantic_fields__.items():
            if field.default_factory is not None:
                found[name] = field.default_factory
            elif field.default is not PydanticUndefined:
                found[name] = lambda value=field.default: value
        cls._defaults = found
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value))
