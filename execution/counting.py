"""What is counted of operations: their kind and how they ended, never a text of the caller's."""

from time import perf_counter
from typing import Any

from graphql import get_operation_ast
from strawberry.types import ExecutionContext

from core.metrics import REQUEST_SECONDS, REQUESTS

_FAULT = "INTERNAL_SERVER_ERROR"


def count_operation(context: ExecutionContext, began: float, *, streamed: bool) -> None:
    """Count an operation that has ended; `began` is `perf_counter` then."""
    kind = kind_of(context)
    REQUESTS.count(kind, "ok" if streamed else _status(context.result))
    if not streamed and kind in ("query", "mutation"):
        REQUEST_SECONDS.observe(perf_counter() - began, kind)


def kind_of(context: ExecutionContext) -> str:
    """`query`, `mutation`, `subscription`, or `invalid` where nothing could be executed."""
    document = context.graphql_document
    if document is None or context.pre_execution_errors:
        return "invalid"
    operation = get_operation_ast(document, context._provided_operation_name)  # noqa: SLF001
    return operation.operation.value if operation else "invalid"


def _status(result: Any) -> str:
    """`ok`; `denied` where the caller was told no; `fault` where it is ours."""
    errors = getattr(result, "errors", None)
    if not errors:
        return "ok"
    ours = any((error.extensions or {}).get("code") == _FAULT for error in errors)
    return "fault" if ours else "denied"
