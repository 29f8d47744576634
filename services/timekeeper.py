"""The timekeeper: leases the agendas of businesses, and does what is due in each."""

import asyncio
from datetime import datetime, timedelta

import structlog

from core.clock import Clock
from core.ids import new_id
from core.sweeper import Sweeper
from db import Database
from models import Agenda
from services.agenda import anything_waits, claim, let_go, take_over
from services.due import run_due
from webhooks.notices import tell_of_failing

LEASES = 8
QUANTUM_SECONDS = 5.0
"""How long one business is served before the others have their turn; well within a lease."""
SAFETY_SECONDS = 1.0
NOTICES_EVERY = timedelta(minutes=1)

log = structlog.get_logger("stampwire.time")


class Timekeeper(Sweeper):
    """Any number of them may run: a lost lease costs nothing, for each thing happens once."""

    name = "timekeeper"
    rest_seconds = SAFETY_SECONDS

    def __init__(self, database: Database, clock: Clock, *, leases: int = LEASES) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._leases = leases
        self._owner = new_id("time")
        self._notices_at: datetime | None = None

    async def take_over(self) -> None:
        """End every lease; only where no other process can hold one."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: take_over(tx, now))

    async def sweep(self) -> int:
        """Do what is due in the businesses that wait; says how many were served."""
        now = self._clock.now()
        await self._tell_of_failing(now)
        if not await self._database.read(None, lambda tx: anything_waits(tx, now)):
            return 0
        leased = await self._database.write(
            None, lambda tx: claim(tx, self._owner, now, self._leases)
        )
        await asyncio.gather(*(self._serve(agenda) for agenda in leased))
        return len(leased)

    async def _serve(self, agenda: Agenda) -> None:
        """Serve one business for a quantum. A lease that is not let go runs out."""
        loop = asyncio.get_running_loop()
        end = loop.time() + QUANTUM_SECONDS
        try:
            again_at = await run_due(
                self._database,
                agenda.business_id,
                self._clock,
                lambda: self._stop.is_set() or loop.time() >= end,
            )
            now = self._clock.now()
            await self._database.write(
                agenda.business_id, lambda tx: let_go(tx, agenda, now, again_at)
            )
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("agenda not kept", business=agenda.business_id, error=type(error).__name__)

    async def _tell_of_failing(self, now: datetime) -> None:
        if self._notices_at is None or now >= self._notices_at:
            await tell_of_failing(self._database, now)
            self._notices_at = now + NOTICES_EVERY
