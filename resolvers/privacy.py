"""Privacy: from a field to its operation; files and channels forget once it is committed."""

from typing import Any, cast

from resolvers.context import Context
from resolvers.perform import perform, resolves
from services import privacy
from services.operation import Outcome
from services.privacy import CustomerErased, EraseCustomerInput


async def export_customer(context: Context, id: str) -> dict[str, Any] | None:
    """Everything that is held about a customer."""
    actor, now = context.actor, context.now
    return await context.read(lambda tx: privacy.export_customer(tx, actor, id, now))


@resolves(privacy.erase_customer)
async def erase_customer(context: Context, input: EraseCustomerInput) -> Outcome:
    """Erase a customer. A repeat sees to it once more that nothing lingers."""
    actor = context.actor
    strangers = await context.read(lambda tx: privacy.strangers_of(tx, actor, input.id))
    erased = cast("CustomerErased", await perform(context, privacy.erase_customer, input))
    id, deployment = erased.erased_id, context.deployment
    if id is not None:
        records = await context.read(lambda tx: privacy.records_of(tx, id))
        for record in [*records, *strangers]:
            await deployment.channels.forget(record)
        await deployment.database.forget()
    return erased
