"""What is counted of operations: their kind and how they ended, never a text of the caller's."""

from collections.abc import Sequence
from time import perf_counter

from graphql import GraphQLError, get_operation_ast
from strawberry.types import ExecutionContext

from core.metrics import REQUEST_SECONDS, REQUESTS

_FAULT = "INTERNAL_SERVER_ERROR"


def count_operation(context: ExecutionContext, began: float, *, streamed: bool) -> None:
    """Count an operation that has ended; `began` is `perf_counter` then."""
    kind = kind_of(context)
    if streamed:
        REQUESTS.count(kind, "ok")
    else:
        count(kind, getattr(context.result, "errors", None), began)


def count(kind: str, errors: Sequence[GraphQLError] | None, began: float) -> None:
    """Count an operation that was answered once, with these errors."""
    REQUESTS.count(kind, _status(errors))
    if kind in ("query", "mutation"):
        REQUEST_SECONDS.observe(perf_counter() - began, kind)


def kind_of(context: ExecutionContext) -> str:
    """`query`, `mutation`, `subscription`, or `invalid` where nothing could be executed."""
    document = context.graphql_document
    if document is None or context.pre_execution_errors:
        return "invalid"
    operation = get_operation_ast(document, context._provided_operation_name)  # noqa: SLF001
    return operation.operation.value if operation else "invalid"


def _status(errors: Sequence[GraphQLError] | None) -> str:
    """`ok`; `denied` where the caller was told no; `fault` where it is ours."""
    if not errors:
        return "ok"
    ours = any((error.extensions or {}).get("code") == _FAULT for error in errors)
    return "fault" if ours else "denied"
