"""`node(id:)`: whatever a global id names, if it is the caller's and public."""

from core.ids import prefix_of
from models import (
    ApiKey,
    Business,
    Campaign,
    Card,
    CardTemplate,
    ClaimCode,
    Customer,
    EventRow,
    ImportJob,
    Location,
    LotteryTicket,
    Notice,
    Operation,
    Replay,
    Reward,
    Role,
    Row,
    Session,
    Staff,
    Upload,
    Voucher,
    VoucherTemplate,
    WebhookEndpoint,
)
from resolvers.context import Context
from resolvers.replays import replay
from services.sessions import may_see

_PUBLIC: dict[str, type[Row]] = {
    row.prefix: row
    for row in (
        ApiKey,
        Business,
        Campaign,
        Card,
        CardTemplate,
        ClaimCode,
        Customer,
        EventRow,
        ImportJob,
        Location,
        LotteryTicket,
        Notice,
        Operation,
        Replay,
        Reward,
        Session,
        Staff,
        Upload,
        Voucher,
        VoucherTemplate,
        WebhookEndpoint,
    )
}


async def node(context: Context, id: str) -> Row | None:
    """The row of this id; None for garbage, for nothing, and for what is not the caller's."""
    actor = context.actor
    cls = _PUBLIC.get(prefix_of(id))
    if cls is None:
        return None
    row = await context.read(lambda tx: tx.get(cls, id))
    if isinstance(row, Card | Customer) and row.merged_into is not None:
        kept = row.merged_into
        row = await context.read(lambda tx: tx.get(cls, kept))
    if isinstance(row, Replay):
        return await replay(context, id)
    if isinstance(row, WebhookEndpoint) and not row.is_visible_to(actor):
        return None
    if isinstance(row, Session) and not may_see(actor, row.staff_id):
        return None
    if isinstance(row, Campaign | ImportJob | Notice | Upload) and actor.role is Role.SCANNER:
        return None
    return row
