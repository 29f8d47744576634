"""Imports and their reports, as GraphQL shows them."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

import models
import resolvers.imports
from models.relations import CARD_TEMPLATE, CUSTOMER, STAFF, UPLOAD
from schema.base import Actor, Info, Node, connection, plain, related, represents, resolved
from schema.cards import CardTemplate
from schema.customers import Customer
from schema.inputs import register_enum
from services.pages import PageArgs

for _kind in (models.JobStatus, models.RowStatus):
    register_enum(_kind)


@represents(models.Upload)
@strawberry.type(description="A file that came in by `POST /uploads`, or with a call.")
class Upload(Node):
    """A file of customers is thrown away once it was read."""

    media_type: str = strawberry.field(description="What it is: `text/csv`, `image/png`, …")
    size: int = strawberry.field(description="How many bytes it has.")
    created_at: datetime = strawberry.field(description="When it came in.")
    emptied_at: datetime | None = strawberry.field(
        description="When it was thrown away; null while it is kept."
    )

    @strawberry.field(description="Where a picture is served; null for other files.")
    def url(self, info: Info) -> str | None:
        """By its hash, for ever."""
        path = self.path  # type: ignore[attr-defined]
        return path and f"{info.context.deployment.settings.url}{path}"


@represents(models.ImportRow)
@strawberry.type(description="What became of one row of a file.")
class ImportRow:
    """Rows that are blank are left out."""

    row: int = strawberry.field(
        description="Its number, as a spreadsheet shows it: the header is row 1."
    )
    status: models.RowStatus = strawberry.field(description="What became of it.")
    message: str | None = strawberry.field(
        description="Why it was rejected, or what else is worth knowing; nothing that stands in it."
    )
    customer = related(
        CUSTOMER, "customer_id", Customer, "The customer; null after a dry run, and if rejected."
    )


async def _rows(
    root: Any, info: Info, first: Any = strawberry.UNSET, after: Any = strawberry.UNSET
) -> Any:
    args = PageArgs(first=plain(first), after=plain(after))
    return await resolvers.imports.report(info.context, root, args)


@represents(models.ImportJob)
@strawberry.type(description="Customers read from a file, in the background.")
class ImportJob(Node):
    """Survives restarts; no row is read twice."""

    status: models.JobStatus = strawberry.field(description="How far it has come.")
    message: str | None = strawberry.field(description="Why it failed.")
    dry_run: bool = strawberry.field(description="Whether it only reports.")
    progress: int = strawberry.field(description="How much of the file is done, 0–100.")
    total: int | None = strawberry.field(
        description="How many rows the file has; null before it was looked through."
    )
    created: int = strawberry.field(description="Customers that were made.")
    matched: int = strawberry.field(description="Customers that were known.")
    rejected: int = strawberry.field(description="Rows that were refused.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    upload = related(UPLOAD, "upload_id", Upload, "The file.")
    template = related(CARD_TEMPLATE, "template_id", CardTemplate, "The cards it issues, if any.")
    created_by = related(STAFF, "created_by_id", Actor, "Who asked for it.")
    rows = resolved(
        _rows,
        connection(ImportRow, "ImportRow"),
        "What became of each row so far, in their order.",
        first=Annotated[
            int | None, strawberry.argument(description="How many items, 1–100; 20 if absent.")
        ],
        after=Annotated[
            str | None, strawberry.argument(description="Only items beyond this cursor.")
        ],
    )
