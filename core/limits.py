"""What a GraphQL document may be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DocumentLimits:
    """The numbers are settings (`STAMPWIRE_DOCUMENT_…`), which say what each is."""

    tokens: int = 2_000
    fragments: int = 50
    visits: int = 2_000
    same_field: int = 10
    same_leaf: int = 30
    depth: int = 12
    introspection_depth: int = 15
    aliases: int = 30
    root_fields: int = 20
