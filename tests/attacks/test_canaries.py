"""What callers write into any text of any mutation is in no log, metric or error of ours.

Rows 9, 14, 62 and 65 of the threat table. The places are taken from the schema: a new text is
tried without anybody adding it here.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLSchema, get_named_type, is_input_object_type
from structlog.testing import capture_logs

from core.logs import _tell_where
from processes import ROOT
from samples import arguments, document, things_of

TEXTS = {
    "a word": "Kanarienvogel7",
    "a query": "Kanarienvogel7'; SELECT pg_sleep(9); DROP TABLE customer; --",
    "more lines": 'Kanarienvogel7\r\n{"event": "forged", "level": "info"}\nset-cookie: a=b',
    "a template": "Kanarienvogel7 {{7*7}} ${7*7} <script>alert(1)</script> %0d%0a %s {0.__class__}",
}
CANARY = "Kanarienvogel7"
DESTRUCTIVE = ("archive", "cancel", "delete", "disable", "end", "erase", "merge", "replace", "void")
"""What is tried last, so that all else finds what it works on."""


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


def texts(kind: Any) -> Iterator[tuple[str, ...]]:
    """The way to each text beneath an input type."""
    kind = get_named_type(kind)
    if is_input_object_type(kind):
        for name, inner in kind.fields.items():
            for path in texts(inner.type):
                yield (name, *path)
    elif kind.name == "String":
        yield ()


def calls(schema: GraphQLSchema, things: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mutation, with each of its texts once in each form."""
    mutations: Any = schema.mutation_type
    names = sorted(mutations.fields, key=lambda name: (name.startswith(DESTRUCTIVE), name))
    for name in names:
        field = mutations.fields[name]
        for argument, told in field.args.items():
            for path in texts(told.type):
                for text in TEXTS.values():
                    place = f"Mutation.{name}"
                    yield place, arguments(field, things, place, (argument, *path), text)


async def test_what_is_written_into_any_text_is_in_no_log_metric_or_error(
    house: Any, schema: GraphQLSchema, caplog: pytest.LogCaptureFixture
) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    caplog.set_level("INFO")
    tried, faults, quoted, slow = 0, {}, {}, {}
    with capture_logs(processors=[_tell_where]) as logs:
        for place, given in calls(schema, things):
            began = time.monotonic()
            answer = await house.owner.call(document(schema, place, 0), given)
            tried += 1
            if answer.status >= 500 or "INTERNAL_SERVER_ERROR" in answer.codes:
                faults[place, str(given)] = answer.body
            if time.monotonic() - began > 5:
                slow[place] = given
            if CANARY in json.dumps(answer.body.get("errors", [])):
                quoted[place, str(given)] = answer.body["errors"]
    async with house.owner.session.get(house.owner.server.url + "/metrics") as answer:
        metrics = await answer.text()

    assert tried > 400
    assert (faults, slow, quoted) == ({}, {}, {})
    assert [line for line in logs if CANARY in str(line)] == []
    assert CANARY not in caplog.text
    assert "stampwire_" in metrics
    assert CANARY not in metrics
    assert (await house.owner.do("{ viewer { actor { id } } }"))["viewer"]["actor"]["id"]


def test_a_log_has_one_line_for_each_thing_that_happens() -> None:
    """Whatever text reaches it, ours or a library's."""
    script = (
        "import logging, structlog\n"
        "from core.logs import configure_logs\n"
        "configure_logs('info')\n"
        'text = "x\\r\\n{\\"event\\": \\"forged\\"}\\u2028\\x1b[2J"\n'
        "structlog.get_logger('a').info('told', path=text)\n"
        "logging.getLogger('b').error('told %s', text)\n"
        "try:\n    raise RuntimeError(text)\n"
        "except RuntimeError:\n    structlog.get_logger('c').exception('told')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, timeout=30
    )

    lines = done.stderr.decode().split("\n")
    assert [json.loads(line)["level"] for line in lines[:-1]] == ["info", "error", "error"]
    assert lines[-1] == ""
    assert not set("\r\x1b") & set(done.stderr.decode())
    assert "forged" not in lines[2]
