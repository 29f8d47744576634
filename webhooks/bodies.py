"""Bodies: what one endpoint is sent for one event out of its turn, by the standard or its own.

A document is executed outside of any transaction, so a body comes in two steps: a draft, with
all that was read for it, and the text.
"""

import asyncio
from dataclasses import dataclass

from sqlmodel import col, select

from db import BUSINESS, Transaction, param, query
from events import payload
from models import (
    Actor,
    Consent,
    Customer,
    EventRow,
    Rendering,
    Vocabulary,
    WebhookEndpoint,
)
from webhooks.documents import Documents
from webhooks.parcels import with_contact
from webhooks.rounds import author_of
from webhooks.texts import RENDER_SECONDS

_CONSENTS = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS,
        col(Consent.customer_id) == param("customer_id"),
        col(Consent.granted).is_(True),
    )
)
_RENDERING = query(
    select(Rendering).where(
        col(Rendering.business_id) == BUSINESS,
        col(Rendering.endpoint_id) == param("endpoint_id"),
        col(Rendering.sequence) == param("sequence"),
    )
)


@dataclass(frozen=True)
class Draft:
    """A body on its way: known already, or a document still to be executed for its author."""

    event: EventRow
    body: str | None = None
    document: str | None = None
    author: Actor | None = None
    is_kept: bool = False
    """Whether it is what the document came to before."""

    async def written(self, documents: Documents) -> str | None:
        """The text; None where the document leaves the event out. ValueError if it is broken."""
        if self.document is None:
            return self.body
        if self.author is None:
            raise ValueError("Whoever saved the document has left.")
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                return await documents.render(self.author, self.document, self.event)
        except TimeoutError:
            raise ValueError("The document takes too long.") from None


async def draft_for(tx: Transaction, endpoint: WebhookEndpoint, event: EventRow) -> Draft:
    """What an endpoint is sent for an event: as it was sent before, where that is still known."""
    if endpoint.document is None:
        return await standard_draft(tx, endpoint.vocabulary, event, endpoint)
    kept = await tx.maybe(_RENDERING, endpoint_id=endpoint.id, sequence=event.sequence)
    if kept is not None:
        return Draft(event, kept.body, is_kept=True)
    return Draft(event, document=endpoint.document, author=await author_of(tx, endpoint))


async def standard_draft(
    tx: Transaction, vocabulary: Vocabulary, event: EventRow, endpoint: WebhookEndpoint | None
) -> Draft:
    """The standard body, with contact data where the endpoint is given them."""
    body = payload(event.body, vocabulary)
    if endpoint is not None and endpoint.include_contact:
        customer = await tx.get(Customer, event.customer_id)
        if customer is not None:
            consents = await tx.many(_CONSENTS, customer_id=customer.id)
            body = with_contact(body, customer, consents)
    return Draft(event, body)
