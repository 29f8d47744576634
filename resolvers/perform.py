"""Performing a mutation: one transaction, one effect per idempotency key, refusals told apart."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from core.errors import Code, Invalid, Refused
from db import Transaction
from models import Actor
from resolvers.context import Context
from services import idempotency
from services.operation import Operation, Outcome, allow
from services.text import clean


class Resolver(Protocol):
    """A resolver of a mutation, and the operation it performs."""

    operation: Operation[..., Outcome]

    async def __call__(self, context: Context, input: Any) -> Outcome:
        """Perform the operation."""
        ...


def performs(
    operation: Operation[..., Any],
    extras: Callable[[Context], dict[str, Any]] | None = None,
) -> Resolver:
    """The resolver that performs an operation in one transaction of the caller's business.

    `extras` gives what the operation needs of the deployment beside caller, input and time.
    """

    async def resolve(context: Context, input: Any) -> Outcome:
        return await perform(context, operation, input, **(extras(context) if extras else {}))

    resolve.operation = operation  # type: ignore[attr-defined]
    return resolve  # type: ignore[return-value]


def resolves(operation: Any) -> Callable[[Any], Resolver]:
    """Declare a resolver that needs more than one transaction: which operation it performs."""

    def declare(resolve: Any) -> Resolver:
        @functools.wraps(resolve)
        async def guarded(context: Context, input: Any, **more: Any) -> Outcome:
            # Before names are looked up or passwords digested: that is not for strangers.
            if roles := getattr(operation, "roles", ()):
                allow(context.actor, roles)
            return await resolve(context, input, **more)  # type: ignore[no-any-return]

        guarded.operation = operation  # type: ignore[attr-defined]
        return guarded  # type: ignore[return-value]

    return declare


async def perform(
    context: Context, operation: Operation[..., Any], input: Any, **extras: Any
) -> Outcome:
    """Do it once per idempotency key; a refusal stores nothing but itself under the key."""
    actor, now, database = context.actor, context.now, context.deployment.database
    name, kind = operation.__name__, operation.outcome
    allow(actor, operation.roles)

    async def work(tx: Transaction) -> Outcome:
        record = None
        if key is not None:
            record, is_new = await idempotency.claim(tx, actor, name, key, print_, now)
            if not is_new:
                return await idempotency.replay(tx, record, kind)
        outcome: Outcome = await operation(tx, actor, input, now, **extras)
        outcome.events = tx.recorded
        if record is not None:
            await idempotency.keep(tx, record, outcome)
        return outcome

    key: str | None = None
    try:
        key = idempotency_key(input)
        print_ = idempotency.fingerprint(input, context.deployment.secrets) if key else ""
        return await database.write(actor.business_id, work)
    except Refused as refusal:
        refused = kind(user_errors=[refusal])
        if key is None or refusal.code in _ABOUT_THE_KEY:
            return refused
        return await _keep_refusal(context, actor, name, key, print_, refused)


async def rehearse(context: Context, operation: Operation[..., Any], input: Any) -> Outcome:
    """What an operation would do; nothing is stored."""
    actor, now = context.actor, context.now

    async def work(tx: Transaction) -> Outcome:
        return await operation(tx, actor, input, now)  # type: ignore[no-any-return]

    try:
        return await context.deployment.database.rehearse(actor.business_id, work)
    except Refused as refusal:
        return operation.outcome(user_errors=[refusal])


_ABOUT_THE_KEY = {Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_KEY_IN_PROGRESS}


async def _keep_refusal(
    context: Context, actor: Actor, name: str, key: str, print_: str, refused: Outcome
) -> Outcome:
    """The refused transaction is gone; its refusal is the key's answer from now on."""
    now = context.now

    async def work(tx: Transaction) -> Outcome:
        record, is_new = await idempotency.claim(tx, actor, name, key, print_, now)
        if not is_new:
            return await idempotency.replay(tx, record, type(refused))
        await idempotency.keep(tx, record, refused)
        return refused

    try:
        return await context.deployment.database.write(actor.business_id, work)
    except Refused as other:  # the key went to another call meanwhile
        return type(refused)(user_errors=[other])


def idempotency_key(input: Any) -> str | None:
    """The key given with an input, if one was."""
    given = isinstance(input, Mapping)
    key = input.get("idempotency_key") if given else getattr(input, "idempotency_key", None)
    if key is not None and not 1 <= len(key) <= 128:
        raise Invalid("An idempotency key has 1–128 characters.", "input", "idempotencyKey")
    return None if key is None else clean(key, "input", "idempotencyKey")
