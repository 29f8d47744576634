"""The reference page of the schema, built by SpectaQL."""

import re
from pathlib import Path

import pytest
from graphql import build_schema

from docs.generate.reference import PAGE, build, digest_in_page, digest_of_schema
from npm import installed
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

HERE = Path(__file__).parent
_EXAMPLE = re.compile(r'\s*<div class="example-section.*?</div>|<pre>.*?</pre>', re.DOTALL)


def test_the_page_is_of_this_schema() -> None:
    assert digest_in_page() == digest_of_schema(), "python -m docs.generate.reference"


def test_the_page_holds_every_type_and_operation_and_loads_nothing() -> None:
    page = PAGE.read_text()

    schema = build_schema((ROOT / "docs" / "schema.graphql").read_text())
    kinds = {name for name in schema.type_map if not name.startswith("__")}
    missing = {name for name in kinds if f'id="definition-{name}"' not in page}
    assert missing - {"Query", "Mutation", "Subscription"} == set()
    assert schema.mutation_type
    assert all(f'id="mutation-{name}"' in page for name in schema.mutation_type.fields)
    assert re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"http", page) == []


@pytest.mark.soak
def test_the_tool_builds_the_same_page() -> None:
    """But for its examples, whose values it throws dice for."""
    built = build(installed(HERE / "spectaql") / "node_modules")

    assert _EXAMPLE.sub("", built) == _EXAMPLE.sub("", PAGE.read_text())
