"""schema.graphql: the whole schema, in GraphQL's own language."""

from docs.generate.shared import the_graphql


def the_schema() -> str:
    """The schema in GraphQL's own language."""
    one_of = "directive @oneOf on INPUT_OBJECT"
    text = the_graphql()[1].replace(
        one_of, f'"""Exactly one of the fields is given."""\n{one_of}', 1
    )
    return text.rstrip() + "\n"
