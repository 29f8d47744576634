"""Refused mutations are kept: after their own transaction is gone, in one that is theirs."""

from collections import Counter
from collections.abc import Awaitable, Iterable

import structlog

from core.errors import Forbidden, Overloaded, RateLimited
from resolvers.context import Context
from services.operation import Outcome
from services.watching import keep_refused

log = structlog.get_logger("stampwire.watching")


async def watched(context: Context, mutation: str, call: Awaitable[Outcome]) -> Outcome:
    """The outcome of a call; that it was refused, denied by role, or throttled, is kept."""
    try:
        outcome = await call
    except (Forbidden, RateLimited) as denied:
        if not isinstance(denied, Overloaded):
            await note_refused(context, mutation, [denied.code])
        raise
    codes = [refusal.code.name for refusal in outcome.user_errors]
    await note_refused(context, mutation, codes)
    return outcome


async def note_refused(context: Context, mutation: str, codes: Iterable[str]) -> None:
    """Keep what a staff login was refused. Of strangers and of access tokens nothing is kept.

    Where it cannot be kept the log says so, and the caller is answered all the same.
    """
    deployment, actor, told = context.deployment, context.caller, Counter(codes)
    if not told or actor is None or actor.token is not None or actor.staff_id is None:
        return
    now = deployment.clock.now()
    try:
        await deployment.database.write(
            actor.business_id, lambda tx: keep_refused(tx, actor, mutation, told, now)
        )
    except Exception as error:  # noqa: BLE001 -- whatever it is, the refusal stands
        log.warning("refused call not kept", mutation=mutation, error=type(error).__name__)
