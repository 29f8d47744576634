"""Watching: a mutation that was refused is kept for the owner to see, counted by the hour.

What a business keeps of it is bounded by its own staff, mutations and codes: who repeats a call
makes a number greater. It holds nothing of what a caller told.
"""

from collections.abc import Mapping
from datetime import datetime

from core.ids import id_of
from db import Transaction
from db.statements import Upsert
from models import Actor, RefusedCall

_COUNT = Upsert(RefusedCall, adds=("count",), latest=("last_at",))


async def keep_refused(
    tx: Transaction, actor: Actor, mutation: str, codes: Mapping[str, int], at: datetime
) -> None:
    """Count what a staff login was refused, by code. `at` is real time."""
    if actor.staff_id is None:
        return
    hour = at.replace(minute=0, second=0, microsecond=0)
    for code, count in sorted(codes.items()):
        row = RefusedCall(
            id=id_of("ref", hour, actor.business_id, actor.staff_id, mutation, code),
            business_id=actor.business_id,
            staff_id=actor.staff_id,
            mutation=mutation,
            code=code,
            count=count,
            first_at=at,
            last_at=at,
        )
        await tx.run(_COUNT, **row.__dict__)
