"""The importer: leases jobs, and reads their files in batches until all rows are done."""

import asyncio
from datetime import datetime

import structlog

from core.clock import Clock
from core.errors import Overloaded
from core.ids import new_id
from core.metrics import passed
from core.sweeper import Sweeper
from db import Database, Transaction
from models import ImportJob, ImportRow, Upload
from services.imports import (
    LeaseLost,
    anything_waits,
    claim,
    finish,
    hold,
    import_rows,
    keep_report,
    let_go,
    rejected,
    take_over,
)
from services.sheets import SheetRow, Unreadable, rows_of
from services.uploads import chunks_of

BATCH = 25
"""Rows in one transaction: on SQLite all others wait for it."""
JOBS = 4
SAFETY_SECONDS = 1.0
_POISON = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What a row can cause that we did not think of; a database that is gone is none of these."""

log = structlog.get_logger("stampwire.imports")


class Importer(Sweeper):
    """Any number of them may run: whoever lost a lease stores nothing more."""

    name = "importer"
    rest_seconds = SAFETY_SECONDS

    def __init__(self, database: Database, clock: Clock, *, batch: int = BATCH) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._batch = batch
        self._owner = new_id("imp")

    async def take_over(self) -> None:
        """End every lease; only where no other process can hold one."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: take_over(tx, now))

    async def sweep(self) -> int:
        """Work on the jobs that wait, to their ends; says how many there were."""
        now = self._clock.now()
        if not await self._database.read(None, lambda tx: anything_waits(tx, now)):
            return 0
        leased = await self._database.write(None, lambda tx: claim(tx, self._owner, now, JOBS))
        await asyncio.gather(*(self._serve(job) for job in leased))
        return len(leased)

    async def _serve(self, job: ImportJob) -> None:
        """Work on one job. A lease that is not let go runs out."""
        try:
            await self._work(job)
        except LeaseLost:
            return
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("import broken off", job=job.id, error=type(error).__name__)

    async def _work(self, job: ImportJob) -> None:
        done = job.done
        try:
            upload = await self._upload_of(job)
            if job.total is None:
                job = await self._measured(job, upload)
            batch: list[SheetRow] = []
            async for row in rows_of(chunks_of(self._database, upload)):
                if row.number - 1 <= done:
                    continue
                batch.append(row)
                if len(batch) == self._batch:
                    if self._stop.is_set():
                        break
                    await self._do(job, batch, done)
                    passed(self.name)
                    done += len(batch)
                    batch = []
            if self._stop.is_set():
                now = self._clock.now()
                await self._database.write(job.business_id, lambda tx: let_go(tx, job, now))
                return
            if batch:
                await self._do(job, batch, done)
                done += len(batch)
            await self._end(job, done)
        except Unreadable as reason:
            await self._end(job, None, str(reason))

    async def _upload_of(self, job: ImportJob) -> Upload:
        upload = await self._database.read(
            job.business_id, lambda tx: tx.get(Upload, job.upload_id)
        )
        if upload is None or not upload.is_usable:
            raise Unreadable("The file is no longer kept.")
        return upload

    async def _measured(self, job: ImportJob, upload: Upload) -> ImportJob:
        """The job with its number of rows: the whole file can be read before any of it is done."""
        total = 0
        async for _ in rows_of(chunks_of(self._database, upload)):
            total += 1
        now = self._clock.now()

        async def work(tx: Transaction) -> ImportJob:
            return await tx.change(await hold(tx, job, now, job.done), total=total)

        return await self._database.write(job.business_id, work)

    async def _do(self, job: ImportJob, rows: list[SheetRow], done: int) -> None:
        """Do a batch; where a row breaks it, row by row, and that one is rejected."""
        try:
            await self._do_at_once(job, rows, done)
        except (LeaseLost, Unreadable, Overloaded):
            raise
        except _POISON as error:
            log.warning("rows broke", job=job.id, first=rows[0].number, error=type(error).__name__)
            if len(rows) > 1:
                for number, row in enumerate(rows):
                    await self._do(job, [row], done + number)
                return
            report = [rejected(job, rows[0], "This row could not be read.")]
            await self._keep(job, report, done, done + 1)

    async def _do_at_once(self, job: ImportJob, rows: list[SheetRow], done: int) -> None:
        now = self._clock.now()

        async def work(tx: Transaction) -> None:
            held = await hold(tx, job, now, done)
            report = await import_rows(tx, held, rows, now)
            await keep_report(tx, held, report, done + len(rows))

        if job.dry_run:
            report = await self._database.rehearse(
                job.business_id, lambda tx: import_rows(tx, job, rows, now)
            )
            await self._keep(job, report, done, done + len(rows))
        else:
            await self._database.write(job.business_id, work)

    async def _keep(self, job: ImportJob, report: list[ImportRow], done: int, upto: int) -> None:
        now = self._clock.now()

        async def work(tx: Transaction) -> None:
            # Whom a dry run would have made was not made.
            told = [item.with_values(customer_id=None) for item in report]
            await keep_report(tx, await hold(tx, job, now, done), told, upto)

        await self._database.write(job.business_id, work)

    async def _end(self, job: ImportJob, done: int | None, failure: str | None = None) -> None:
        now = self._clock.now()
        await self._database.write(job.business_id, lambda tx: _finish(tx, job, now, done, failure))


async def _finish(
    tx: Transaction, job: ImportJob, now: datetime, done: int | None, failure: str | None
) -> None:
    """End a job, wherever it stands if that is not told."""
    known = await tx.get(ImportJob, job.id)
    if known is None:
        raise LeaseLost
    await finish(tx, await hold(tx, job, now, known.done if done is None else done), now, failure)
