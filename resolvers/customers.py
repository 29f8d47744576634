"""Customers: from a field to its operation."""

from models import Customer
from resolvers.context import Context
from resolvers.perform import perform, performs, rehearse, resolves
from services import customers, merging
from services.merging import MergeCustomersInput
from services.operation import Outcome

create_customer = performs(customers.create_customer)
update_customer = performs(customers.update_customer)
set_consent = performs(customers.set_consent)


@resolves(merging.merge_customers)
async def merge_customers(context: Context, input: MergeCustomersInput) -> Outcome:
    """Merge two customers, or only show what would come of it."""
    if input.dry_run:
        return await rehearse(context, merging.merge_customers, input)
    return await perform(context, merging.merge_customers, input)


async def customer(context: Context, id: str) -> Customer | None:
    """The customer with this id, or the one it was merged into; None if there is none."""
    return await context.read(lambda tx: customers.customer_of(tx, id))
