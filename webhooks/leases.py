"""Leases: which endpoints have something due, and whose they are for now."""

from datetime import datetime, timedelta

from sqlalchemy import and_, or_, update
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from db import Database, Query, Transaction, command, param, query
from models import EndpointStatus, LogHead, WebhookEndpoint

LEASE = timedelta(seconds=30)
"""How long an endpoint waits for a worker that died. Longer than a round can take: see pusher."""
MOST_PATIENT = timedelta(minutes=3)
"""Longer than an endpoint that is well ever waits: for its pace, or for a newer release."""

# -- Across all businesses: these run in the name of the system. ----------------------------------

_HAS_WORK = (
    col(WebhookEndpoint.status) == EndpointStatus.ACTIVE,
    col(WebhookEndpoint.deleted_at).is_(None),
    or_(
        col(WebhookEndpoint.lease_until) <= param("now"),
        col(WebhookEndpoint.lease_owner).is_(None),
    ),
    or_(
        col(WebhookEndpoint.next_attempt_at) <= param("now"),
        # Who is well waits for seconds: this moment is of a clock that has been set right.
        and_(
            col(WebhookEndpoint.next_attempt_at) > param("beyond"),
            col(WebhookEndpoint.failures) == 0,
            col(WebhookEndpoint.failing_since).is_(None),
        ),
    ),
    or_(
        col(WebhookEndpoint.cursor_sequence) < col(LogHead.sequence),
        col(WebhookEndpoint.retry_due_at) <= param("now"),
    ),
)
_WAITING = (
    select(WebhookEndpoint.id)
    .join(LogHead, col(LogHead.business_id) == col(WebhookEndpoint.business_id))
    .where(*_HAS_WORK)
)
_WELL = _WAITING.where(col(WebhookEndpoint.failures) == 0)
_FAILING = _WAITING.where(col(WebhookEndpoint.failures) > 0)
_ANY_DUE: Query[str] = query(_WAITING.limit(1))
_ANY_WELL_DUE: Query[str] = query(_WELL.limit(1))


def _claim(waiting: SelectOfScalar[str]) -> Query[WebhookEndpoint]:
    """Who was served longest ago is served first."""
    due = (
        waiting.order_by(col(WebhookEndpoint.lease_until))
        .limit(param("most"))
        .with_for_update(of=WebhookEndpoint, skip_locked=True)
        .cte("due")
    )
    return query(
        update(WebhookEndpoint)
        .where(col(WebhookEndpoint.id).in_(select(due.c.id)))
        .values(
            lease_owner=param("owner"),
            lease_epoch=col(WebhookEndpoint.lease_epoch) + 1,
            lease_until=param("until"),
        )
        .returning(WebhookEndpoint)
    )


_CLAIM_WELL = _claim(_WELL)
_CLAIM_FAILING = _claim(_FAILING)
_GIVE_BACK = command(
    update(WebhookEndpoint)
    .where(
        col(WebhookEndpoint.lease_owner) == param("owner"),
        col(WebhookEndpoint.lease_until) > param("now"),
    )
    .values(
        lease_owner=None,
        lease_until=param("now"),
        lease_epoch=col(WebhookEndpoint.lease_epoch) + 1,
    )
)
_TAKE_OVER = command(
    update(WebhookEndpoint)
    .where(col(WebhookEndpoint.lease_until) > param("now"))
    .values(
        lease_owner=None,
        lease_until=param("now"),
        lease_epoch=col(WebhookEndpoint.lease_epoch) + 1,
    )
)


class Leases:
    """The leases of one process, on so many endpoints at most.

    Those that fail get a quarter of them: each holds one until its receiver's time is up, and
    those that are well shall find one free at once, however many others are dead.
    """

    def __init__(self, database: Database, owner: str, most: int, length: timedelta) -> None:
        self._database = database
        self._owner = owner
        self._most = most
        self.length = length

    async def claim(self, held: int, held_failing: int, now: datetime) -> list[WebhookEndpoint]:
        """Lease what has something due; `held` (of them failing: `held_failing`) are leased."""
        room = self._most - held
        room_failing = min(room, max(1, self._most // 4) - held_failing)
        if room <= 0 or not await self._is_any_due(now, failing=room_failing > 0):
            return []
        until = now + self.length

        async def work(tx: Transaction) -> list[WebhookEndpoint]:
            values = {"now": now, "beyond": now + MOST_PATIENT, "owner": self._owner}
            values["until"] = until
            well = await tx.many(_CLAIM_WELL, most=room, **values)
            left = min(room_failing, room - len(well))
            failing = await tx.many(_CLAIM_FAILING, most=left, **values) if left > 0 else []
            return well + failing

        return await self._database.write(None, work)

    async def give_back(self, now: datetime) -> None:
        """Release all that this process still holds."""
        await self._database.write(None, lambda tx: tx.run(_GIVE_BACK, owner=self._owner, now=now))

    async def take_over(self, now: datetime) -> None:
        """Release every lease, whoever holds it."""
        await self._database.write(None, lambda tx: tx.run(_TAKE_OVER, now=now))

    async def _is_any_due(self, now: datetime, *, failing: bool) -> bool:
        """A look without a lock, since mostly nothing is."""

        async def work(tx: Transaction) -> bool:
            found = await tx.maybe(
                _ANY_DUE if failing else _ANY_WELL_DUE, now=now, beyond=now + MOST_PATIENT
            )
            return found is not None

        return await self._database.read(None, work)
