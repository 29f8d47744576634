"""Clients that others wrote, and the audits of graphql-http: all are content with one server."""

from collections.abc import Callable
from typing import Any

import pytest

from judges.conftest import Judged
from judges.panel import APOLLO, AUDITS, GRAPHQL_SSE, GRAPHQL_WS, URQL, Judge

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("judge", "script", "count"),
    [
        (AUDITS, "graphql-http.mjs", 61),
        (GRAPHQL_WS, "graphql-ws.mjs", 10),
        (GRAPHQL_SSE, "graphql-sse.mjs", 7),
        (APOLLO, "apollo.mjs", 11),
        (URQL, "urql.mjs", 9),
    ],
    ids=lambda value: value.name if isinstance(value, Judge) else "",
)
def test_it_is_content(
    judge: Judge,
    script: str,
    count: int,
    judged: Judged,
    ask: Callable[..., list[Any]],
    verdict: Callable[[Judge, str], None],
) -> None:
    said = ask(script, server=judged)

    verdict(judge, f"{sum(one.passed for one in said)} of {len(said)}")
    assert [one for one in said if not one.passed] == []
    assert len(said) == count
