"""Running: an operation that is answered once is paid for, executed, counted and written as JSON.

What is asked over HTTP comes this way, without the hooks that Strawberry calls around each
operation. What is wrong with a request as such (no document that may run, no operation chosen)
is left to Strawberry, and so are sockets and streams.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
)
from strawberry.execution import optimized_is_awaitable
from strawberry.http import GraphQLRequestData
from strawberry.schema.base import BaseSchema

from core.metrics import PLANS
from core.settings import Execution, Settings
from execution.cost import charge_for, price_in, settle, told_cost
from execution.counting import count
from execution.documents import LONGEST_REMEMBERED, Checked, asks_for_schema, check_document
from execution.errors import present
from execution.plans.cache import Plans
from resolvers.charges import Charge, charge_of_call
from resolvers.context import Context


@dataclass(frozen=True)
class Ready:
    """An operation of a document that may run."""

    text: str
    checked: Checked
    operation: OperationDefinitionNode
    variables: Mapping[str, Any] | None


@dataclass(frozen=True)
class Answer:
    """What an operation gave, as it is sent."""

    body: bytes
    has_run: bool
    """Whether it ran at all, errors of single fields or not."""
    charge: Charge


class Runner:
    """Runs what is answered once, on one schema."""

    def __init__(self, schema: BaseSchema, settings: Settings) -> None:
        self._core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        self._executor = schema.execution_context_class  # type: ignore[attr-defined]
        self._limits = settings.document_limits
        self._plans = Plans(schema) if settings.execution is Execution.AUTO else None

    def ready(
        self, asked: GraphQLRequestData, context: Context
    ) -> tuple[OperationType | None, Ready | None]:
        """What kind of operation is asked for, and the operation, if nothing is wrong with it."""
        text = asked.query or ""
        checked = check_document(self._core, text, self._limits)
        document = checked.document
        operation = get_operation_ast(document, asked.operation_name) if document else None
        if operation is None:
            return None, None
        is_stranger = context.caller is None and not context.is_operator
        if checked.errors or (is_stranger and asks_for_schema(text)):
            return operation.operation, None
        return operation.operation, Ready(text, checked, operation, asked.variables)

    async def run(self, context: Context, asked: Ready) -> Answer:
        """The answer to a query or mutation. It is charged whatever becomes of it."""
        began = perf_counter()
        price = price_in(self._core, asked.checked, asked.operation)
        charge = await charge_for(context, price, asked.variables)
        charge_of_call.set(charge)
        if (refusal := charge.refusal) is not None:
            error = GraphQLError(str(refusal), extensions=refusal.extensions)
            result = ExecutionResult(None, [error])
        else:
            result = await self._execute(context, asked)
            if result.errors:
                result.errors = [present(error) for error in result.errors]
            await settle(context, charge, price, result.data)
        count("invalid" if refusal else asked.operation.operation.value, result.errors, began)
        return _answer_of(result, charge)

    async def _planned(self, context: Context, asked: Ready) -> Any:
        """The data of the answer, by a plan; None where there is no plan that can give it."""
        if self._plans is None or len(asked.text) > LONGEST_REMEMBERED:
            return None
        plan = self._plans.plan(asked.text, asked.checked, asked.operation, asked.variables)
        if plan is None:
            return None
        data = await plan.answer(self._core, context, asked.variables)
        PLANS.count("dropped" if data is None else "answered")
        return data

    async def _execute(self, context: Context, asked: Ready) -> ExecutionResult:
        data = await self._planned(context, asked)
        if data is not None:
            return ExecutionResult(data)
        document, name = asked.checked.document, asked.operation.name
        assert document is not None  # noqa: S101 -- what is ready has one
        try:
            result: Any = execute(
                self._core,
                document,
                context_value=context,
                variable_values=asked.variables,  # type: ignore[arg-type]
                operation_name=name.value if name else None,
                executor_class=self._executor,
                is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type] # it is one
                operation_extensions=None,
            )
            return result if isinstance(result, ExecutionResult) else await result
        except Exception as error:  # noqa: BLE001 -- none is known: graphql-core tells them itself
            return ExecutionResult(None, [GraphQLError(str(error), original_error=error)])


def _answer_of(result: ExecutionResult, charge: Charge) -> Answer:
    errors = result.errors
    answer: dict[str, Any] = {"data": result.data}
    has_run = not errors or result.data is not None or any(one.path is not None for one in errors)
    if not has_run:
        del answer["data"]
    if errors:
        answer["errors"] = [error.formatted for error in errors]
    answer["extensions"] = {"cost": told_cost(charge)}
    return Answer(orjson.dumps(answer), has_run, charge)
