"""Imports: customers read from a file in the background, each row with an outcome of its own.

A file says who collects, and how many stamps were collected elsewhere. These are placed on a card
that the import itself has issued, as one line of the ledger, at most a full card; whatever they
reach was paid elsewhere, so nothing is handed out for them. Who holds a card already keeps it as
it is: a file that is read twice changes nothing the second time.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import BadUserInput, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Query, Transaction, command, param, query
from events import CardIssued, StampAdded
from models import (
    Actor,
    Business,
    Customer,
    ImportJob,
    ImportRow,
    JobStatus,
    RowStatus,
    Staff,
    StampChannel,
    Upload,
)
from services.card_refs import CardRef
from services.cards import (
    AddStampsInput,
    IssueCardInput,
    issue_card,
    promise_of,
    published,
    stamp_card,
)
from services.customers import CustomerInput, upsert_customer
from services.operation import MANAGERS, Input, Outcome, operation
from services.pages import Page, PageArgs
from services.sheets import COLUMNS, SheetRow, Unreadable
from services.text import clean, within
from services.uploads import TEXT, empty, store_text

LEASE = timedelta(seconds=30)
MOST_CSV = 50_000
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""

_HOLD: Query[ImportJob] = query(
    update(ImportJob)
    .where(
        col(ImportJob.business_id) == BUSINESS,
        col(ImportJob.id) == param("id"),
        col(ImportJob.lease_owner) == param("owner"),
        col(ImportJob.status) == JobStatus.RUNNING,
    )
    .values(lease_until=param("until"))
    .returning(ImportJob)
)
_LET_GO = command(
    update(ImportJob)
    .where(
        col(ImportJob.business_id) == BUSINESS,
        col(ImportJob.id) == param("id"),
        col(ImportJob.lease_owner) == param("owner"),
    )
    .values(lease_owner=None, lease_until=param("now"))
)
_IS_OPEN = col(ImportJob.status).in_([JobStatus.PENDING, JobStatus.RUNNING])
_OPEN_OF_UPLOAD = query(
    select(func.count())
    .select_from(ImportJob)
    .where(
        col(ImportJob.business_id) == BUSINESS,
        _IS_OPEN,
        col(ImportJob.upload_id) == param("upload_id"),
    )
)
_ABANDON = command(
    update(ImportJob)
    .where(col(ImportJob.business_id) == BUSINESS, _IS_OPEN)
    .values(status=JobStatus.FAILED, message=param("message"), finished_at=param("now"))
)
_ROWS = query(
    select(ImportRow)
    .where(
        col(ImportRow.business_id) == BUSINESS,
        col(ImportRow.job_id) == param("job_id"),
        col(ImportRow.row) > param("after"),
    )
    .order_by(col(ImportRow.row))
    .limit(param("most"))
)
_COUNT = query(
    select(func.count())
    .select_from(ImportRow)
    .where(col(ImportRow.business_id) == BUSINESS, col(ImportRow.job_id) == param("job_id"))
)

# -- Across all businesses: these run in the name of the system. ----------------------------------

_WAITING = select(ImportJob.id).where(_IS_OPEN, col(ImportJob.lease_until) <= param("now"))
_ANY_WAITING: Query[str] = query(_WAITING.limit(1))
_NEXT = (
    _WAITING.order_by(col(ImportJob.lease_until))
    .limit(param("most"))
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[ImportJob] = query(
    update(ImportJob)
    .where(col(ImportJob.id).in_(select(_NEXT.c.id)))
    .values(lease_owner=param("owner"), lease_until=param("until"), status=JobStatus.RUNNING)
    .returning(ImportJob)
)
_TAKE_OVER = command(
    update(ImportJob)
    .where(col(ImportJob.lease_until) > param("now"))
    .values(lease_owner=None, lease_until=param("now"))
)

# -- Within one business. -------------------------------------------------------------------------


class LeaseLost(Exception):
    """Somebody else has the job, or it was ended; nothing of this transaction is stored."""


@dataclass(kw_only=True)
class ImportCustomersInput(Input):
    """The file to read: CSV with a header of name, email, phone, birthday, stamps, in any order."""

    upload_id: Annotated[
        Id | None, Doc("The file, as `POST /uploads` named it; either this or `csv`.")
    ] = None
    csv: Annotated[str | None, Doc("A short file itself, at most 50000 characters.")] = None
    template_id: Annotated[
        Id | None,
        Doc(
            "Issue a card of this published template to everybody who has none. Stamps of the file "
            "are placed on these cards, at most a full one; their goals count as paid elsewhere."
        ),
    ] = None
    dry_run: Annotated[
        bool,
        Doc(
            "Only report what would become of each row; the file can then be imported. Somebody "
            "who stands in it twice may be told as created twice."
        ),
    ] = False


@dataclass(kw_only=True)
class ImportStarted(Outcome):
    """The job; ask `importJob` how far it has come."""

    job: Annotated[ImportJob | None, Doc("The job, which works in the background.")] = None


class RowPage(Page[ImportRow]):
    """A part of a job's report; its cursors are the numbers of the rows."""

    def cursors(self) -> list[str]:
        return [_cursor(item.row) for item in self.rows]


@operation(*MANAGERS, fires=(CardIssued, StampAdded))
async def import_customers(
    tx: Transaction, actor: Actor, input: ImportCustomersInput, now: datetime
) -> ImportStarted:
    """Read customers from a CSV file in the background; `importJob` tells how far it has come.

    Customers are found by e-mail or phone, else made; empty fields are filled, nothing is
    overwritten. Each row is created, matched or rejected by itself.
    """
    if (input.upload_id is None) == (input.csv is None):
        raise Invalid("Give either uploadId or csv.", "input")
    if input.template_id is not None:
        await published(tx, input.template_id, "input", "templateId")
    real_now = actor.business.real_time(now)
    if input.csv is not None:
        text = within(clean(input.csv, "input", "csv"), "input", "csv", most=MOST_CSV)
        upload = await store_text(tx, actor, text, real_now)
    else:
        upload = await _usable(tx, input.upload_id)
    job = ImportJob(
        id=new_id("imp"),
        business_id=actor.business_id,
        upload_id=upload.id,
        template_id=input.template_id,
        dry_run=input.dry_run,
        created_at=now,
        created_by_id=actor.staff_id,
        lease_until=real_now,
    )
    await tx.add(job)
    return ImportStarted(job=job)


async def report_of(tx: Transaction, job: ImportJob, args: PageArgs) -> RowPage:
    """What became of the rows so far, in their order. Read forwards only (`first`, `after`)."""
    if args.last is not None or args.before is not None:
        raise BadUserInput("This list is read by first and after.")
    size = args.size()
    after = 0 if args.after is None else _place(args.after)
    rows = await tx.many(_ROWS, job_id=job.id, after=after, most=size + 1)
    return RowPage(
        rows[:size],
        has_next=len(rows) > size,
        has_previous=args.after is not None,
        count=lambda tx: tx.one(_COUNT, job_id=job.id),
    )


async def abandon_imports(tx: Transaction, message: str, now: datetime) -> None:
    """End every job that is not done: its file is gone."""
    await tx.run(_ABANDON, message=message, now=now)


async def anything_waits(tx: Transaction, now: datetime) -> bool:
    """Whether a job waits for a worker; in the name of the system."""
    return await tx.maybe(_ANY_WAITING, now=now) is not None


async def claim(tx: Transaction, owner: str, now: datetime, most: int) -> list[ImportJob]:
    """Lease jobs that wait, those that wait longest first; in the name of the system."""
    return await tx.many(_CLAIM, owner=owner, now=now, until=now + LEASE, most=most)


async def take_over(tx: Transaction, now: datetime) -> None:
    """End every lease: no other process can hold one. In the name of the system."""
    await tx.run(_TAKE_OVER, now=now)


async def let_go(tx: Transaction, job: ImportJob, now: datetime) -> None:
    """End the lease of a job that is not done yet; `now` is real time."""
    await tx.run(_LET_GO, id=job.id, owner=job.lease_owner, now=now)


async def hold(tx: Transaction, job: ImportJob, now: datetime, done: int) -> ImportJob:
    """The job as it is, held until the transaction ends; LeaseLost if it is no longer ours.

    `done` is how far we believe it to be, `now` is real time.
    """
    held = await tx.maybe(_HOLD, id=job.id, owner=job.lease_owner, until=now + LEASE)
    if held is None or held.done != done:
        raise LeaseLost
    return held


async def import_rows(
    tx: Transaction, job: ImportJob, rows: Sequence[SheetRow], real_now: datetime
) -> list[ImportRow]:
    """Do what the rows say; what became of each, not stored yet. Blank rows become nothing."""
    actor = await _actor_of(tx, job)
    now = actor.business.time(real_now)
    if job.template_id is not None:
        try:
            await published(tx, job.template_id)
        except Refused as refusal:
            raise Unreadable(refusal.message) from None
    return [await _import(tx, actor, job, row, now) for row in rows if not row.is_blank]


async def keep_report(
    tx: Transaction, job: ImportJob, report: Sequence[ImportRow], done: int
) -> ImportJob:
    """Store what became of rows of a job that is held; so many rows of the file are now done."""
    await tx.add(*report)
    found = [item.status for item in report]
    return await tx.change(
        job,
        done=done,
        created=job.created + found.count(RowStatus.CREATED),
        matched=job.matched + found.count(RowStatus.MATCHED),
        rejected=job.rejected + found.count(RowStatus.REJECTED),
    )


async def finish(
    tx: Transaction, job: ImportJob, real_now: datetime, failure: str | None = None
) -> ImportJob:
    """End a job that is held; its file is thrown away, but after a dry run."""
    business = (await _actor_of(tx, job)).business
    status = JobStatus.DONE if failure is None else JobStatus.FAILED
    ended = await tx.change(
        job,
        status=status,
        message=failure,
        finished_at=business.time(real_now),
        lease_owner=None,
    )
    upload = await tx.get(Upload, job.upload_id)
    is_wanted = job.dry_run and failure is None
    if upload is not None and upload.emptied_at is None and not is_wanted:
        others = await tx.one(_OPEN_OF_UPLOAD, upload_id=upload.id)
        if not others:
            await empty(tx, upload, real_now)
    return ended


def rejected(job: ImportJob, row: SheetRow, message: str) -> ImportRow:
    """What becomes of a row that is refused."""
    return _report(job, row, RowStatus.REJECTED, message)


async def _usable(tx: Transaction, id: str | None) -> Upload:
    upload = await tx.get(Upload, id)
    if upload is None or not upload.is_usable:
        raise NotFound("upload", "input", "uploadId")
    if upload.media_type != TEXT:
        raise Invalid("This upload is a picture.", "input", "uploadId")
    return upload


async def _actor_of(tx: Transaction, job: ImportJob) -> Actor:
    """In whose name a job works: of whoever began it."""
    business = await tx.get(Business, job.business_id)
    if business is None:
        raise LookupError(job.business_id)
    return Actor(business, await tx.get(Staff, job.created_by_id))


async def _import(
    tx: Transaction, actor: Actor, job: ImportJob, row: SheetRow, now: datetime
) -> ImportRow:
    try:
        told, stamps = _told(row)
        if job.template_id is None:
            if stamps:
                raise Invalid("Stamps need a card template.", "stamps")
            customer, is_new = await upsert_customer(tx, actor, told, now)
            return _report(job, row, _status(is_new=is_new), customer_id=customer.id)
        asked = IssueCardInput(template_id=Id(job.template_id), customer=told)
        issued = await issue_card(tx, actor, asked, now, via=StampChannel.IMPORT)
    except Refused as refusal:
        return rejected(job, row, _in_words(refusal))
    card = issued.card
    if card is None:
        raise LookupError(job.template_id)
    message = None
    if stamps and issued.created:
        most = (await promise_of(tx, card.version_id)).required
        if stamps > most:
            message = f"The card is full with {most} stamps."
        holder = await tx.get(Customer, card.customer_id)
        count = AddStampsInput(
            card=CardRef(id=Id(card.id)), count=min(stamps, most), channel=StampChannel.IMPORT
        )
        await stamp_card(tx, actor, card, holder, count, now, is_import=True)  # type: ignore[arg-type]
    elif stamps:
        message = "The card was there before; its stamps stay as they are."
    status = _status(is_new=bool(issued.customer_created))
    return _report(job, row, status, message, card.customer_id)


def _told(row: SheetRow) -> tuple[CustomerInput, int]:
    """What a row says of a customer, and the stamps it brings."""
    if not row.is_whole:
        raise Invalid("The row has more cells than the header.")
    cells: dict[str, Any] = {name: row.cells.get(name) or None for name in COLUMNS}
    for name in ("name", "email"):
        if cells[name] and cells[name].startswith(_FORMULA):
            raise Invalid("This looks like a formula.", name)
    stamps = cells.pop("stamps") or "0"
    if not (stamps.isascii() and stamps.isdecimal() and len(stamps) < 6):
        raise Invalid("Stamps are a whole number.", "stamps")
    return CustomerInput(**cells), int(stamps)


def _in_words(refusal: Refused) -> str:
    """Why a row is refused: which column, and the rule; never what stands there."""
    column = (refusal.field or [""])[-1]
    return f"{column}: {refusal.message}" if column in COLUMNS else refusal.message


def _status(*, is_new: bool) -> RowStatus:
    return RowStatus.CREATED if is_new else RowStatus.MATCHED


def _report(
    job: ImportJob,
    row: SheetRow,
    status: RowStatus,
    message: str | None = None,
    customer_id: str | None = None,
) -> ImportRow:
    return ImportRow(
        job_id=job.id,
        row=row.number,
        business_id=job.business_id,
        status=status,
        message=message,
        customer_id=customer_id,
    )


def _cursor(row: int) -> str:
    return base64.urlsafe_b64encode(f"imr:{row}".encode()).decode().rstrip("=")


def _place(cursor: str) -> int:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        kind, number = base64.urlsafe_b64decode(padded).decode().split(":")
        if kind == "imr" and number.isascii() and number.isdecimal() and len(number) < 9:
            return int(number)
    except ValueError:
        pass
    raise BadUserInput("This is not a cursor of this list.")
