"""Cards: from a field to its operation."""

from typing import Any, cast

from core.errors import NotFound, Refused
from models import Card
from resolvers.context import Context
from resolvers.perform import perform, performs, rehearse, resolves
from resolvers.watching import note_refused
from services import cards, offline
from services.access_tokens import check_ref, is_shown
from services.card_refs import CardRef, find_card
from services.cards import PreviewStampsInput, StampsAdded, StampsPreview
from services.idempotency import fingerprint
from services.offline import AddStampsBatchInput, OfflineStampsInput, StampsBatchAdded
from services.operation import Outcome

issue_card = performs(cards.issue_card)
add_stamps = performs(cards.add_stamps)
replace_card = performs(cards.replace_card)
report_card_saved = performs(cards.report_card_saved)
report_card_opened = performs(cards.report_card_opened)
delete_card = performs(cards.delete_card)


@resolves(offline.add_stamps_batch)
async def add_stamps_batch(context: Context, input: AddStampsBatchInput) -> Outcome:
    """Add each item in a transaction of its own, in the order in which they happened."""
    batch = cast("StampsBatchAdded", await perform(context, offline.add_stamps_batch, input))
    if not batch.user_errors:
        for place, item in offline.in_order(input.items):
            done = await _add_late_stamps(context, item)
            batch.results[place] = offline.verdict_of(place, item, done)
            batch.events += done.events
        codes = [refusal.code.name for item in batch.results for refusal in item.user_errors]
        await note_refused(context, "addStampsBatch", codes)
    return batch


async def _add_late_stamps(context: Context, item: OfflineStampsInput) -> StampsAdded:
    actor, now, deployment = context.actor, context.now, context.deployment
    print_ = fingerprint(item, deployment.secrets)
    try:
        return await deployment.database.write(
            actor.business_id, lambda tx: offline.add_late_stamps(tx, actor, item, now, print_)
        )
    except Refused as refusal:
        return StampsAdded(user_errors=[refusal])


async def preview_stamps(context: Context, input: PreviewStampsInput) -> StampsPreview:
    """What adding stamps would do; the transaction is rolled back."""
    return await rehearse(context, cards.preview_stamps, input)  # type: ignore[return-value]


async def card(context: Context, ref: CardRef) -> Card | None:
    """The card that a reference names, None if there is none."""
    check_ref(context.actor, ref)

    async def work(tx: Any) -> Card | None:
        try:
            found, _ = await find_card(tx, ref, "ref")
        except NotFound:
            return None
        return found if await is_shown(tx, context.actor, found) else None

    return await context.read_within(work)
