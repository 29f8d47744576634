"""Card and voucher templates: from a field to its operation."""

from resolvers.context import Context
from resolvers.perform import performs
from services import card_templates, joining, template_documents, voucher_templates
from services.card_templates import Change
from services.template_documents import Document

create_card_template = performs(card_templates.create_card_template)
update_card_template = performs(card_templates.update_card_template)
publish_card_template = performs(card_templates.publish_card_template)
archive_card_template = performs(card_templates.archive_card_template)
set_join_page = performs(joining.set_join_page)
import_card_template = performs(template_documents.import_card_template)
create_voucher_template = performs(voucher_templates.create_voucher_template)
update_voucher_template = performs(voucher_templates.update_voucher_template)
archive_voucher_template = performs(voucher_templates.archive_voucher_template)


async def export_card_template(context: Context, id: str) -> Document | None:
    """A card template as a document, None if there is none."""
    actor = context.actor
    return await context.read(lambda tx: template_documents.export_card_template(tx, actor, id))


async def card_template_changes(context: Context, id: str) -> list[Change] | None:
    """What publishing a template now would change, None if there is none."""
    actor = context.actor
    return await context.read(lambda tx: card_templates.card_template_changes(tx, actor, id))
