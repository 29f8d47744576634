"""Statements robbed of their business: then row-level security alone keeps tenants apart."""

from collections import Counter
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BindParameter

from db.statements import POSTGRESQL, Command, Compiled


def _is_business(element: Any) -> bool:
    return isinstance(element, BindParameter) and element.key == "business"


@pytest.fixture
def robbed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every comparison with BUSINESS is compiled as `true`; counts what was taken out."""
    taken: Counter[str] = Counter()
    made: dict[Command, Compiled] = {}

    class Robbed(PGDialect_asyncpg.statement_compiler):  # type: ignore[name-defined, misc]
        def visit_binary(self, binary: Any, *args: Any, **options: Any) -> str:
            if binary.operator is operators.eq and (
                _is_business(binary.left) or _is_business(binary.right)
            ):
                taken[str(binary)] += 1
                return "true"
            text: str = super().visit_binary(binary, *args, **options)
            return text

    def on(self: Command, dialect: Any) -> Compiled:
        if self not in made:
            made[self] = self.compiled_for(dialect)
        return made[self]

    monkeypatch.setattr(POSTGRESQL, "statement_compiler", Robbed)
    monkeypatch.setattr(Command, "on", on)
    return taken
