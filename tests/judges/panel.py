"""The judges: what each is, in which version, how it is run, what it is not asked and why."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
CARD = HERE.parents[1] / "docs" / "score-card.md"
NOT_RUN = "not run"
WHEN = "when"


@dataclass(frozen=True)
class Judge:
    """One who judges the running server or its schema."""

    name: str
    asks: str
    test: str
    """The file that runs it."""
    npm: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    is_ours: bool = False
    """Our own list: it keeps what was reached, and proves nothing to anybody else."""
    leaves_out: tuple[tuple[str, str], ...] = ()
    """What it is not asked, each with the reason."""

    @property
    def versions(self) -> str:
        """The programs, as the locks have them."""
        locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
        npm = [f"{name} {locked[f'node_modules/{name}']['version']}" for name in self.npm]
        return ", ".join([*npm, *(f"{name} {version(name)}" for name in self.python)])

    @property
    def command(self) -> str:
        """How to ask this one alone."""
        return f".venv/bin/pytest tests/judges/{self.test}"


SCHEMATHESIS_EXCLUDED = {
    "Mutation.createBusiness": "needs the operator's key, which no business has",
}
"""Operations schemathesis does not call."""
ESLINT_TUNING = {
    "@graphql-eslint/strict-id-in-types": "off",
    "@graphql-eslint/relay-edge-types": [
        "error",
        {"listTypeCanWrapOnlyEdgeType": False, "shouldImplementNode": False},
    ],
    "@graphql-eslint/relay-arguments": ["error", {"includeBoth": False}],
    "@graphql-eslint/require-description": [
        "error",
        {
            "types": True,
            "rootField": True,
            "DirectiveDefinition": True,
            "FieldDefinition": True,
            "InputValueDefinition": True,
            "EnumValueDefinition": True,
        },
    ],
}
"""Where our rules differ from those of graphql-eslint; the last is stricter than it recommends."""

AUDITS = Judge(
    "Audits of graphql-http",
    "whether GraphQL over HTTP is spoken as its specification wants it",
    "test_clients.py",
    npm=("graphql-http",),
    leaves_out=(
        ("callers without a key", "GET queries and introspection are for those who have one"),
    ),
)
GRAPHQL_WS = Judge(
    "graphql-ws",
    "query, mutation, errors, subscription; a subscription that goes on after a cut line",
    "test_clients.py",
    npm=("graphql-ws",),
)
GRAPHQL_SSE = Judge(
    "graphql-sse",
    "the same over event streams, in distinct mode",
    "test_clients.py",
    npm=("graphql-sse",),
    leaves_out=(
        (
            "single connection mode",
            "its state would live in one process; HTTP/2 carries many streams as well",
        ),
    ),
)
APOLLO = Judge(
    "Apollo Client",
    "the same, over HTTP and sockets; subscriptions also as multipart answers of HTTP",
    "test_clients.py",
    npm=("@apollo/client",),
    leaves_out=(("batched requests", "batching is off: one request is one operation"),),
)
URQL = Judge(
    "urql",
    "the same, over HTTP, sockets and event streams",
    "test_clients.py",
    npm=("@urql/core",),
)
GQL = Judge(
    "gql for Python",
    "the same, over HTTP by aiohttp and httpx, over sockets by websockets and aiohttp",
    "test_gql.py",
    python=("gql",),
    leaves_out=(("batched requests", "batching is off: one request is one operation"),),
)
SCHEMATHESIS = Judge(
    "schemathesis",
    "every query and mutation, seven times with odd values, from a fixed seed: "
    "no failure of ours, every answer as the schema says, every wrong value refused",
    "test_schemathesis.py",
    python=("schemathesis",),
    leaves_out=(
        *((f"`{name}`", why) for name, why in SCHEMATHESIS_EXCLUDED.items()),
        (
            "its check that every likely value is accepted",
            "page sizes over 100 and texts that are no cursor are refused on purpose",
        ),
        ("subscriptions", "it asks over HTTP only, where they are refused"),
    ),
)
RELAY = Judge(
    "relay-compiler",
    "whether an app with `@refetchable` and `@connection` compiles against the schema",
    "test_schema.py",
    npm=("relay-compiler",),
)
ESLINT_EXEMPT = (
    'Field "channel" starts with the name of the parent type "Channel"',
    'Field "saleId" starts with the name of the parent type "Sale"',
)
"""The contract names the first; the second is the till's own id, beside our `id`."""
ESLINT = Judge(
    "graphql-eslint",
    "the rules it recommends and its rules for Relay, and a description for everything",
    "test_schema.py",
    npm=("@graphql-eslint/eslint-plugin", "eslint"),
    leaves_out=(
        (
            "`strict-id-in-types`",
            "payloads, pages, figures and samples are values: nobody fetches them by an id",
        ),
        (
            "`relay-edge-types`: lists of anything but edges, and edges of what is no Node",
            "pages have `nodes` too; deliveries and rows of an import are read with their owner",
        ),
        (
            "`no-typename-prefix`: `Channel.channel` and `Sale.saleId`",
            "the contract names the first; the second is the till's own id, beside our `id`",
        ),
        (
            "`relay-arguments`: both directions",
            "deliveries and rows of an import are read forwards only",
        ),
    ),
)
INSPECTOR = Judge(
    "graphql-inspector",
    "what changed since the released schema: nothing that breaks a client",
    "test_schema.py",
    npm=("@graphql-inspector/core",),
)
PROTOCOL = Judge(
    "Protocol list",
    "66 points of graphql-transport-ws: shapes, close codes, order, duplicates, pings",
    "test_protocol.py",
    is_ours=True,
)
BOMBS = Judge(
    "Bomb corpus",
    "documents made to be expensive, over HTTP and a socket: the server's own time to answer, "
    "median at most 50 ms, each at most 250 ms",
    "test_bombs.py",
    is_ours=True,
)
PANEL = (
    AUDITS, GRAPHQL_WS, GRAPHQL_SSE, APOLLO, URQL, GQL, SCHEMATHESIS, RELAY, ESLINT, INSPECTOR,
    PROTOCOL, BOMBS,
)  # fmt: skip


def card_of(results: Mapping[str, str]) -> str:
    """The page that shows what each judge said."""
    others = [judge for judge in PANEL if not judge.is_ours]
    ours = [judge for judge in PANEL if judge.is_ours]
    lead = (
        "What others say of the GraphQL surface: each judge is somebody else's program, pinned by "
        "a lock, asked by the tests on every run of the CI. Those that call a server all call one "
        "and the same: `stampwire serve` with the demo café on SQLite, with the key of its owner."
    )
    written = (
        f"Written {results.get(WHEN, NOT_RUN)} by `pytest tests/judges --score-card`, which needs "
        "Node and npm; figures are of that run."
    )
    of_ours = (
        "We wrote these, and mended the server until they passed: they keep what was reached, and "
        "are no verdict of anybody else's. The bombs meet a server in the process of the test, "
        "where its own time to answer can be measured; one that is over its time is tried once "
        "more, and the better time counts."
    )
    buckets = (
        "All of them meet buckets of cost wide enough not to run dry: they ask in a minute what a "
        "till asks in a month. The price of an operation is the usual one; what happens when a "
        "bucket is empty is tested apart."
    )
    released = (
        "The released schema is `tests/judges/released.graphql`, a copy of `docs/schema.graphql` "
        "as it was released. A release puts its own there."
    )
    left_out = [f"| {one.name} | {what} | {why} |" for one in PANEL for what, why in one.leaves_out]
    told = [
        "<!-- Written by `pytest tests/judges --score-card`: run the judges, not an editor. -->",
        "# Score card",
        lead,
        written,
        "## The judges",
        _table(others, results),
        "## Our own lists",
        of_ours,
        _table(ours, results),
        "## What they are not asked",
        "\n".join(["| Judge | Left out | Why |", "|---|---|---|", *left_out]),
        buckets,
        released,
    ]
    return "\n\n".join(told) + "\n"


def _table(judges: list[Judge], results: Mapping[str, str]) -> str:
    rows = [
        f"| {one.name} | {one.asks} | {one.versions or '–'} | `{one.command}` "
        f"| {results.get(one.name, NOT_RUN)} |"
        for one in judges
    ]
    return "\n".join(
        ["| Judge | Asks | Version | Command | Result |", "|---|---|---|---|---|", *rows]
    )


def results_on(card: str) -> dict[str, str]:
    """What a card says each judge said."""
    found = {}
    for judge in PANEL:
        row = re.search(rf"^\| {re.escape(judge.name)} \|.*\| ([^|]*) \|$", card, re.MULTILINE)
        if row:
            found[judge.name] = row[1]
    if when := re.search(r"^Written (.*?) by `pytest", card, re.MULTILINE):
        found[WHEN] = when[1]
    return found
