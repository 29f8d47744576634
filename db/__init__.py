"""The database: one door, two kinds behind it, and nobody else knows which."""

from core.settings import Settings
from db.statements import BUSINESS, Command, PartialQuery, Query, among, command, param, query
from db.transaction import Database, Load, Taken, Transaction, Work

__all__ = [
    "BUSINESS",
    "Command",
    "Database",
    "Load",
    "PartialQuery",
    "Query",
    "Taken",
    "Transaction",
    "Work",
    "among",
    "command",
    "database_of",
    "param",
    "query",
]


def database_of(settings: Settings, *, visiting: bool = False) -> Database:
    """The database that the settings name; its driver is loaded only now.

    A visitor (a command beside a running server) leaves checkpoints of SQLite to the server.
    """
    if settings.is_sqlite:
        from db.sqlite import SqliteDatabase  # noqa: PLC0415

        path = settings.database.removeprefix("sqlite:///")
        return SqliteDatabase(path, checkpoints=not visiting)
    from db.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(settings.database)
