"""Cost: every operation is priced before it runs, and paid for from its caller's bucket.

What it may cost at most is taken first; what its connections did not give is given back. A
subscription is paid for when it begins; its events are free, as long as they are cheap.
"""

from collections.abc import AsyncIterator, Mapping
from math import ceil
from typing import Any

from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode, OperationType
from graphql.utilities import get_operation_ast
from strawberry.extensions import SchemaExtension

from core.errors import RateLimited, TooComplex
from execution.documents import Checked, check_document, limits_of
from execution.prices import Price, price_of
from execution.subscriptions import LogSubscription
from resolvers.charges import Charge, bucket_for, charge_of_call, too_fast
from resolvers.context import Context


class ChargeCost(SchemaExtension):
    """Charges queries, mutations and the beginning of subscriptions; tells it beside the answer."""

    _charge: Charge | None = None
    _price: Price | None = None
    _is_settled = False

    async def on_validate(self) -> AsyncIterator[None]:
        """A document that may run is priced; what is too dear, or not paid for, does not."""
        run: Any = self.execution_context
        checked: Checked | None = getattr(run, "checked", None)
        if checked is not None and checked.document is not None and not run.pre_execution_errors:
            operation = get_operation_ast(checked.document, run._provided_operation_name)  # noqa: SLF001
            if operation is not None:
                schema: GraphQLSchema = run.schema._schema  # noqa: SLF001
                self._price = price_in(schema, checked, operation)
                charge = await charge_for(run.context, self._price, run.variables)
                charge_of_call.set(charge)
                if (refusal := charge.refusal) is not None:
                    error = GraphQLError(str(refusal), extensions=refusal.extensions)
                    run.pre_execution_errors = [error]
                if operation.operation is not OperationType.SUBSCRIPTION or refusal is not None:
                    self._charge = charge
        yield

    async def get_results(self) -> dict[str, Any]:
        """`cost`, once it is known what the answer gave."""
        charge = self._charge
        if charge is None:
            return {}
        if not self._is_settled and charge.refusal is None and self._price is not None:
            self._is_settled = True
            data = getattr(self.execution_context.result, "data", None)
            await settle(self.execution_context.context, charge, self._price, data)
        return {"cost": told_cost(charge)}


def price_in(schema: GraphQLSchema, checked: Checked, operation: OperationDefinitionNode) -> Price:
    """The price of an operation, remembered with its document."""
    name = operation.name.value if operation.name else None
    price: Price | None = checked.prices.get(name)
    if price is None and checked.document is not None:
        price = checked.prices[name] = price_of(schema, checked.document, operation)
    assert price is not None  # noqa: S101 -- an operation comes from a document
    return price


async def charge_for(context: Context, price: Price, variables: Mapping[str, Any] | None) -> Charge:
    """Take what an operation may cost; `refusal` says why it may not run."""
    deployment, (bucket, whose) = context.deployment, bucket_for(context)
    requested, now = price.requested(variables), deployment.clock.now()
    most = min(deployment.settings.cost_per_operation, int(bucket.size))
    amount = requested if requested <= most else 0
    taken = await deployment.buckets.take(bucket, whose, amount, now)
    charge = Charge(bucket, whose, requested, requested, taken.level, now)
    if requested > most:
        message = f"This may cost {requested}; an operation may cost {most}: ask for less at once."
        charge.actual, charge.refusal = 0, TooComplex(message)
    elif not taken.is_granted:
        charge.actual, charge.refusal = 0, too_fast(bucket, requested, taken.level)
    return charge


async def charge_subscription(
    context: Context, schema: GraphQLSchema, said: LogSubscription
) -> int:
    """Take what a subscription of the log costs; says how much that may be for each event.

    TooComplex or RateLimited if it may not begin.
    """
    checked = check_document(schema, said.text, limits_of(context))
    price = price_in(schema, checked, said.operation)
    charge = await charge_for(context, price, said.variables)
    if charge.refusal is not None:
        raise charge.refusal
    return charge.requested


def limit_headers(charge: Charge) -> dict[str, str]:
    """What HTTP clients are told of the bucket (draft-ietf-httpapi-ratelimit-headers-10)."""
    bucket = charge.bucket
    window = ceil(bucket.size / bucket.per_second)
    told = {
        "RateLimit-Policy": f'"cost";q={int(bucket.size)};w={window}',
        "RateLimit": f'"cost";r={charge.remaining};t={charge.seconds_until_full}',
    }
    if isinstance(charge.refusal, RateLimited):
        told["Retry-After"] = str(ceil(charge.refusal.retry_after_ms / 1_000))
    return told


async def settle(context: Context, charge: Charge, price: Price, data: Any) -> None:
    """Give back what the answer did not give."""
    charge.actual = price.actual(data, charge.requested)
    if charge.actual < charge.requested:
        deployment = context.deployment
        amount, now = charge.actual - charge.requested, deployment.clock.now()
        taken = await deployment.buckets.take(charge.bucket, charge.whose, amount, now)
        charge.level, charge.at = taken.level, now


def told_cost(charge: Charge) -> dict[str, float]:
    """The cost as it is told beside an answer."""
    return {
        "requested": charge.requested,
        "actual": charge.actual,
        "remaining": charge.remaining,
        "restoreRate": charge.bucket.per_second,
    }
