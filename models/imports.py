"""Uploads and imports: files that came in, and what became of their rows."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Index, LargeBinary
from sqlmodel import Field

from models.base import Row, UtcTimestamp, words

PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""The pictures we take, and what their names end in."""


class JobStatus(StrEnum):
    """How far a job has come.

    PENDING: it waits for a worker.
    RUNNING: it is being worked on.
    DONE: every row was dealt with.
    FAILED: the file could not be read to its end; `message` says why.
    """

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class RowStatus(StrEnum):
    """What became of one row of an import.

    CREATED: a customer was made.
    MATCHED: a known customer was found.
    REJECTED: the row was refused, the message says why.
    """

    CREATED = "created"
    MATCHED = "matched"
    REJECTED = "rejected"


class Upload(Row, table=True):
    """A file that came in; pictures are kept re-encoded and served by their hash.

    It counts once it is complete. Files of customers are emptied once they were read; the row
    stays, and says what there was.
    """

    prefix: ClassVar[str] = "up"
    __table_args__ = (Index("upload_kept", "is_public", "emptied_at", "created_at"),)

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    media_type: str
    size: int = 0
    sha256: str | None = Field(default=None, index=True)
    is_public: bool = False
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    completed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    emptied_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)

    @property
    def is_usable(self) -> bool:
        """Whether all of it is here."""
        return self.completed_at is not None and self.emptied_at is None

    @property
    def path(self) -> str | None:
        """Where a picture is served, on our address; None for what is not."""
        if not self.is_public or not self.is_usable:
            return None
        return f"/images/{self.sha256}.{PICTURES[self.media_type]}"


class UploadChunk(Row, table=True):
    """A part of an upload's bytes, at most 256 KiB."""

    __tablename__ = "upload_chunk"

    upload_id: str = Field(primary_key=True, foreign_key="upload.id")
    position: int = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    data: bytes = Field(sa_type=LargeBinary)


class ImportJob(Row, table=True):
    """Customers read from a file, in the background; `done` rows survive a restart.

    Rows count from the first below the header; blank ones count too, so that the rows of the
    report are those of a spreadsheet.
    """

    __tablename__ = "import_job"
    __table_args__ = (Index("import_waiting", "status", "lease_until"),)
    prefix: ClassVar[str] = "imp"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    upload_id: str = Field(foreign_key="upload.id")
    template_id: str | None = Field(default=None, foreign_key="card_template.id")
    dry_run: bool = False
    status: JobStatus = Field(default=JobStatus.PENDING, sa_type=words(JobStatus))
    message: str | None = None
    total: int | None = None
    done: int = 0
    created: int = 0
    matched: int = 0
    rejected: int = 0
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    lease_owner: str | None = None
    lease_until: datetime = Field(sa_type=UtcTimestamp)

    @property
    def progress(self) -> int:
        """How much of it is done, 0–100."""
        if self.status is JobStatus.DONE:
            return 100
        return self.done * 100 // self.total if self.total else 0

    @property
    def is_open(self) -> bool:
        """Whether there is work left."""
        return self.status in (JobStatus.PENDING, JobStatus.RUNNING)


class ImportRow(Row, table=True):
    """What became of one row of a file. `row` counts as a spreadsheet does: the header is row 1."""

    __tablename__ = "import_row"

    job_id: str = Field(primary_key=True, foreign_key="import_job.id")
    row: int = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    status: RowStatus = Field(sa_type=words(RowStatus))
    message: str | None = None
    customer_id: str | None = Field(default=None, foreign_key="customer.id")
