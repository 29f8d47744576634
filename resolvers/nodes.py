"""`node(id:)`: whatever a global id names, if it is the caller's and public."""

from core.ids import prefix_of
from events import is_event_type
from models import (
    Actor,
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
    PointOfSale,
    RefusedCall,
    Replay,
    Reward,
    Role,
    Row,
    Sale,
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
        PointOfSale,
        RefusedCall,
        Replay,
        Reward,
        Sale,
        Session,
        Staff,
        Upload,
        Voucher,
        VoucherTemplate,
        WebhookEndpoint,
    )
}
_NOT_FOR_SCANNERS = Campaign | ImportJob | Notice | RefusedCall | Upload


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
    return None if _is_hidden(row, actor) else row


def _is_hidden(row: Row | None, actor: Actor) -> bool:
    """Whether a row is not the caller's to see, or not one that is known here."""
    match row:
        case EventRow():
            return not is_event_type(row.type)  # a newer release wrote it
        case WebhookEndpoint():
            return not row.is_visible_to(actor)
        case Session():
            return not may_see(actor, row.staff_id)
        case PointOfSale():
            return actor.role is Role.SCANNER or row.disconnected_at is not None
    return isinstance(row, _NOT_FOR_SCANNERS) and actor.role is Role.SCANNER
