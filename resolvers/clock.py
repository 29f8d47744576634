"""The test clock: from its field to its operation."""

from dataclasses import replace
from typing import cast

from resolvers.context import Context
from resolvers.perform import perform, resolves
from services import clock
from services.clock import AdvanceTestClockInput, ClockAdvanced
from services.operation import Outcome
from services.postman import Postman


@resolves(clock.advance_test_clock)
async def advance_test_clock(context: Context, input: AdvanceTestClockInput) -> Outcome:
    """Decide how far, which is kept under the idempotency key; then go there, step by step."""
    decided = cast("ClockAdvanced", await perform(context, clock.advance_test_clock, input))
    deployment, business_id = context.deployment, context.actor.business_id
    postman = Postman(
        deployment.database,
        deployment.stream,
        deployment.channels,
        deployment.clock,
        deployment.settings.url,
    )
    moved = await clock.move_clock(
        deployment.database,
        deployment.clock,
        business_id,
        decided,
        lambda: postman.finish_campaigns(business_id),
    )
    if moved.business is not None:
        # What the same call does next happens at the new time.
        context.caller = replace(context.actor, business=moved.business)
    return moved
