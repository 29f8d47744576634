"""The limit on cost, as callers see it."""

from datetime import datetime

import strawberry

from resolvers.charges import Charge
from schema.base import represents, shown


@represents(Charge)
@strawberry.type(description="What the caller may spend: a bucket that fills by itself.")
class RateLimit:
    """See docs/limits.md."""

    limit: int = shown("size", int, "How much the bucket holds when it is full.")
    remaining: int = strawberry.field(
        description="What is left, with this operation paid for as if every page were full."
    )
    restore_rate: int = shown("restore_rate", int, "What comes back per second.")
    reset_at: datetime = shown("full_at", datetime, "When it is full again if nothing is spent.")
    cost: int = shown("requested", int, "What this operation may cost at most.")
