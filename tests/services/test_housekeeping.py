"""Housekeeping: what was promised to be kept is kept, and no longer."""

from datetime import UTC, datetime, timedelta

import factories
from db import Database, Transaction
from models import IdempotencyRecord
from services.housekeeping import IDEMPOTENCY_KEPT, keep_house

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


async def test_an_idempotency_record_is_kept_for_seven_days_and_then_thrown_away(
    database: Database,
) -> None:
    owner = (await factories.a_business(database)).owner
    ages = {"young": IDEMPOTENCY_KEPT - timedelta(seconds=1), "old": IDEMPOTENCY_KEPT * 2}

    async def remember(tx: Transaction) -> None:
        for key, age in ages.items():
            await tx.add(
                IdempotencyRecord(
                    business_id=owner.business_id,
                    actor_id=owner.id,
                    mutation="add_stamps",
                    key=key,
                    fingerprint="f",
                    created_at=NOW - age,
                )
            )

    await database.write(owner.business_id, remember)

    assert await keep_house(database, NOW) == 1
    assert await keep_house(database, NOW) == 0
