"""operations.md: every field one can call, with roles and events."""

from typing import Any

from graphql import GraphQLObjectType

from docs.generate.shared import NOTE, events_of, every_operation, line, said, table, the_graphql
from events import Event
from models import Role


def the_operations() -> str:
    """Every mutation with its roles and events; every query and subscription."""
    graphql, _ = the_graphql()
    parts = [
        NOTE,
        "# Operations",
        (
            "Every field one can call. Their arguments and answers are in "
            "[schema.graphql](schema.graphql), with a description of each."
        ),
        "## Mutations",
        (
            "Each takes one `input` and answers with a payload of its own: what was changed, the "
            "`events` it caused and `userErrors`. Each but `signIn` takes an `idempotencyKey`."
        ),
        table(
            ("Mutation", "What it does", "Roles", "Events it can fire"),
            [
                (f"`{name}`", said(operation), _roles(operation), _codes(events_of(operation)))
                for name, operation in every_operation().items()
            ],
        ),
        "## Queries",
        _root(graphql.query_type),
        "## Subscriptions",
        _root(graphql.subscription_type),
    ]
    return "\n\n".join(parts) + "\n"


def _roles(operation: Any) -> str:
    roles = getattr(operation, "roles", None)
    if roles is None:
        return "anybody, without a key"
    if not roles:
        return "the operator's key"
    if set(roles) == set(Role):
        return "all"
    return ", ".join(role.name for role in roles)


def _codes(kinds: tuple[type[Event], ...]) -> str:
    return ", ".join(f"[`{kind.type}`](events.md#{kind.type})" for kind in kinds)


def _root(root: GraphQLObjectType | None) -> str:
    rows = root.fields.items() if root else ()
    return table(
        ("Field", "What it gives", "Type"),
        [(f"`{name}`", line(field.description), f"`{field.type}`") for name, field in rows],
    )
