"""Claim codes: from a field to its operation."""

from resolvers.context import Context
from resolvers.guesses import counted
from resolvers.perform import perform, performs, resolves
from services import claim_codes
from services.claim_codes import ClaimStampsInput
from services.operation import Outcome

create_claim_codes = performs(claim_codes.create_claim_codes)


@resolves(claim_codes.claim_stamps)
async def claim_stamps(context: Context, input: ClaimStampsInput) -> Outcome:
    """Claim a code; misses are counted."""
    return await counted(context, lambda: perform(context, claim_codes.claim_stamps, input))
