"""Every value that the API can name says what it means."""

import inspect
from enum import StrEnum

import pytest

import models
from core.errors import Code

KINDS = [Code, *(kind for kind in vars(models).values() if inspect.isclass(kind))]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if issubclass(kind, StrEnum)], ids=lambda kind: kind.__name__
)
def test_every_value_is_documented_in_its_place(kind: type[StrEnum]) -> None:
    about, _, values = (inspect.getdoc(kind) or "").partition("\n\n")

    assert about.endswith(".")
    assert [line.partition(": ")[0] for line in values.splitlines()] == list(kind.__members__)
    assert all(line.partition(": ")[2].endswith(".") for line in values.splitlines())
