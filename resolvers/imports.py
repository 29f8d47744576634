"""Imports: from a field to its operation, and to what became of it."""

from models import ImportJob
from resolvers.context import Context
from resolvers.perform import performs
from services import imports
from services.imports import RowPage
from services.operation import MANAGERS, allow
from services.pages import PageArgs

import_customers = performs(imports.import_customers)


async def import_job(context: Context, id: str) -> ImportJob | None:
    """An import, None if there is none; forbidden for scanners."""
    allow(context.actor, MANAGERS)
    return await context.read(lambda tx: tx.get(ImportJob, id))


async def report(context: Context, job: ImportJob, args: PageArgs) -> RowPage:
    """What became of the rows so far."""
    return await context.read(lambda tx: imports.report_of(tx, job, args))
