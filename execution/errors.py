"""How errors leave: a code for each, our faults masked, callers' mistakes never logged as ours."""

import re
import uuid
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError

from core.errors import Denied, Refused
from db import Taken
from execution.counting import count_operation

_SUGGESTION = re.compile(
    r" Did you mean (?:the enum value )?'\w+'(?:, '\w+'){0,4}(?:,? or '\w+')?\?", re.ASCII
)
"""What graphql-core adds to a mistake in variables: names that strangers need not learn.

What callers wrote stands in the same text: nothing here may try one place of it again and again.
"""
LONGEST = 1_000
"""Characters of a message: what was wrong is repeated in it, however long it was."""

log = structlog.get_logger("stampwire.graphql")


class PresentErrors(SchemaExtension):
    """Gives every top-level error its `extensions.code`, on HTTP and on sockets; counts answers."""

    _streamed = False

    def on_operation(self) -> Iterator[None]:
        """Once for an answer, but for those that stream."""
        self._streamed, began = False, perf_counter()
        yield
        if not self._streamed:
            _present_all(self.execution_context.result)
        count_operation(self.execution_context, began, streamed=self._streamed)

    def on_stream_result(self, result: Any) -> Iterator[None]:
        """For each answer of a stream, before it leaves."""
        self._streamed = True
        _present_all(result)
        yield


def _present_all(result: Any) -> None:
    errors = getattr(result, "errors", None)
    if errors:
        result.errors = [present(error) for error in errors]


def present(error: GraphQLError) -> GraphQLError:
    """The error as the caller may see it."""
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, Denied):
        return _coded(error, str(cause), cause.extensions)
    if isinstance(cause, Refused):
        return _coded(error, cause.message, {"code": cause.code.name})
    if isinstance(cause, CannotGetOperationTypeError):
        return _coded(error, error.message, {"code": "OPERATION_RESOLUTION_FAILURE"})
    if cause is not None and not isinstance(cause, GraphQLError):
        return _masked(error, cause)
    if error.extensions and "code" in error.extensions:
        return _coded(error, _short(error.message), error.extensions)
    message = _short(_SUGGESTION.sub("", error.message))
    return _coded(error, message, {"code": _request_code(error)})


def _short(message: str) -> str:
    return message if len(message) <= LONGEST else f"{message[: LONGEST - 1]}…"


def _request_code(error: GraphQLError) -> str:
    if isinstance(error, GraphQLSyntaxError):
        return "GRAPHQL_PARSE_FAILED"
    if (
        error.path is not None
        or "InputCoercion" in type(error).__name__
        or "Variable" in error.message
    ):
        return "BAD_USER_INPUT"
    return "GRAPHQL_VALIDATION_FAILED"


def _masked(error: GraphQLError, cause: BaseException) -> GraphQLError:
    request_id = uuid.uuid4().hex
    log.error(
        "unexpected error",
        request_id=request_id,
        path=[str(key) for key in error.path or ()],
        error=type(cause).__name__,
        exc_info=None if isinstance(cause, Taken) else cause,
    )
    extensions = {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id}
    return _coded(error, "Something went wrong on our side.", extensions)


def _coded(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
