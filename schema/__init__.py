"""The GraphQL schema: every public field, in one object."""

from typing import Any

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from schema.access import guard
from schema.errors import user_error_types
from schema.events import System, event_graphql_types
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import scalar_map
from schema.subscription import Subscription


class QuietSchema(strawberry.Schema):
    """A schema that logs nothing: callers' documents hold personal data.

    The execution floor presents all errors, and logs those that are ours.
    """

    def process_errors(self, errors: Any, execution_context: Any = None) -> None:
        """Log nothing."""


def make_schema(*extensions: type[SchemaExtension]) -> strawberry.Schema:
    """The schema, with what the execution floor adds to each operation.

    One per process: Strawberry changes fields while it builds.
    """
    made = QuietSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[*event_graphql_types, *user_error_types, System],
        extensions=list(extensions),
        config=StrawberryConfig(scalar_map=scalar_map),
    )
    guard(made._schema)  # noqa: SLF001 -- Strawberry has no name for it
    return made
