"""Passwords set anew: mailed behind the answer, digested only for a token that is good."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from core.errors import Overloaded, Refused
from integrations.mail import Mailer
from resolvers.context import Context
from resolvers.perform import idempotency_key, resolves
from services import password_resets
from services.password_resets import (
    PasswordResetRequested,
    PasswordWasReset,
    RequestPasswordResetInput,
    ResetPasswordInput,
)
from services.passwords import digest_password

_MOST_MAILS = 20
_mails: set[asyncio.Task[None]] = set()
"""What is being mailed at this moment."""


@resolves(password_resets.request_password_reset)
async def request_password_reset(
    context: Context, input: RequestPasswordResetInput
) -> PasswordResetRequested:
    """Have a token mailed, if there is such a login."""
    deployment = context.deployment
    try:
        idempotency_key(input)
        return await password_resets.request_password_reset(
            deployment.database,
            deployment.secrets,
            input,
            deployment.clock.now(),
            context.place,
            mailer=Mailer.of(deployment.settings),
            later=_later,
        )
    except Refused as refusal:
        return PasswordResetRequested(user_errors=[refusal])


@resolves(password_resets.reset_password)
async def reset_password(context: Context, input: ResetPasswordInput) -> PasswordWasReset:
    """Set a new password with a token."""
    deployment, now, place = context.deployment, context.deployment.clock.now(), context.place
    database, secrets = deployment.database, deployment.secrets
    try:
        idempotency_key(input)
        is_live = await password_resets.is_live(database, secrets, input.token, place, now)
        digest = await digest_password(input.password) if is_live else ""
        return await password_resets.reset_password(
            database, secrets, input, now, place, password_digest=digest
        )
    except Refused as refusal:
        return PasswordWasReset(user_errors=[refusal])


def _later(work: Coroutine[Any, Any, None]) -> None:
    """Do it behind the answer; Overloaded where too much waits already."""
    if len(_mails) >= _MOST_MAILS:
        work.close()
        raise Overloaded
    task = asyncio.create_task(work)
    _mails.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[None]) -> None:
    _mails.discard(task)
    if not task.cancelled():
        task.exception()
