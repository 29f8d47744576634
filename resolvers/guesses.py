"""Codes that may be guessed at: every miss is counted, for whoever calls and for the address."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.errors import Code
from resolvers.charges import address_key, caller_key
from resolvers.context import Context
from services.operation import Outcome

T = TypeVar("T", bound=Outcome)


async def counted(context: Context, look_up: Callable[[], Awaitable[T]]) -> T:
    """What a look-up by code gives; that there is no such thing is a miss."""
    whose = [key for key in (caller_key(context), address_key(context)) if key is not None]
    async with context.deployment.guesses.guess(whose) as guess:
        outcome = await look_up()
        guess.is_miss = any(refusal.code is Code.NOT_FOUND for refusal in outcome.user_errors)
    return outcome
