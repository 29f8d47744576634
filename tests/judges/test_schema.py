"""Judges of the schema: an app with Relay compiles, the rules are kept, no client breaks."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judges.panel import ESLINT, ESLINT_EXEMPT, ESLINT_TUNING, INSPECTOR, RELAY, Judge
from npm import node

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]
Say = Callable[[Judge, str], None]


def test_an_app_with_relay_compiles(workshop: Path, verdict: Say) -> None:
    config = {"src": "relay", "schema": "schema.graphql", "language": "javascript"}
    (workshop / "relay.config.json").write_text(json.dumps(config))

    done = subprocess.run(
        [node(), "node_modules/relay-compiler/cli.js", "relay.config.json"],
        cwd=workshop,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    made = {path.name.partition(".")[0] for path in workshop.glob("relay/**/*.graphql.js")}
    verdict(RELAY, f"compiles, {len(made)} artifacts" if done.returncode == 0 else "failed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert made == {
        "CustomersEventsSubscription",
        "CustomersIssueCardMutation",
        "CustomersListQuery",
        "CustomersOneQuery",
        "CustomersQuery",
        "Customers_list",
        "Customers_one",
    }


def test_the_rules_of_graphql_eslint_are_kept(ask: Callable[..., list[Any]], verdict: Say) -> None:
    told = ask("eslint.mjs", "schema.graphql", json.dumps(ESLINT_TUNING))
    said = [one for one in told if not one.reason.endswith(ESLINT_EXEMPT)]

    verdict(ESLINT, f"{len(said)} errors")
    assert said == []


def test_graphql_eslint_would_see_what_is_wrong(
    ask: Callable[..., list[Any]], workshop: Path
) -> None:
    text = (workshop / "schema.graphql").read_text()
    (workshop / "wrong.graphql").write_text(f"{text}\ntype no_type {{ id: ID! }}\n")

    told = ask("eslint.mjs", "wrong.graphql", json.dumps(ESLINT_TUNING))
    said = [one for one in told if not one.reason.endswith(ESLINT_EXEMPT)]

    assert {one.name.rpartition("/")[2] for one in said} == {
        "naming-convention",
        "no-unreachable-types",
        "require-description",
    }


def test_no_client_of_the_released_schema_breaks(
    ask: Callable[..., list[Any]], verdict: Say
) -> None:
    said = ask("inspector.mjs", "released.graphql", "schema.graphql")

    breaking = [one for one in said if not one.passed]
    verdict(INSPECTOR, f"{len(breaking)} breaking changes of {len(said)}")
    assert breaking == []


def test_graphql_inspector_would_see_what_breaks(
    ask: Callable[..., list[Any]], workshop: Path
) -> None:
    text = (workshop / "released.graphql").read_text()
    (workshop / "breaking.graphql").write_text(
        text.replace("  totalCount: Int!", "  totalCount: Int", 1)
    )

    said = ask("inspector.mjs", "released.graphql", "breaking.graphql")

    assert [one.reason.partition(":")[0] for one in said if not one.passed] == ["BREAKING"]
