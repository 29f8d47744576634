"""Dry runs: what an endpoint would be sent for a past event; nothing is delivered."""

from dataclasses import dataclass
from typing import Annotated

from annotated_doc import Doc
from sqlmodel import col, select

from core.errors import Forbidden, Invalid, NotFound
from core.ids import Id
from db import BUSINESS, Transaction, param, query
from events.base import event_type_enum, event_types
from models import Actor, EventRow, Role, Vocabulary
from services.endpoint_refs import find_endpoint
from services.operation import Outcome
from webhooks.bodies import Draft, draft_for, standard_draft
from webhooks.documents import Documents

EventType = event_type_enum()

_EVENT = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS, col(EventRow.id) == param("id"))
)


@dataclass(kw_only=True)
class WebhookDryRunInput:
    """The event, and the endpoint: one there is, one that is yet to be saved, or one changed."""

    event_id: Annotated[Id, Doc("The event's id.")]
    id: Annotated[Id | None, Doc("An endpoint's id; absent: an endpoint yet to be made.")] = None
    types: Annotated[
        list[EventType] | None,  # type: ignore[valid-type]
        Doc("The event types it is due; absent: the endpoint's, or the thirteen."),
    ] = None
    vocabulary: Annotated[
        Vocabulary | None,
        Doc("The words of the standard body; absent: the endpoint's, or the business's."),
    ] = None
    document: Annotated[
        str | None, Doc("A document to try; absent: the endpoint's, or the standard body.")
    ] = None


@dataclass(kw_only=True)
class WebhookRehearsed(Outcome):
    """Whether the event is due, and the body it would be sent with."""

    matches: bool | None = None
    body: str | None = None


async def rehearse_delivery(
    tx: Transaction, actor: Actor, input: WebhookDryRunInput, *, documents: Documents
) -> Draft | None:
    """The draft of what would be sent; None if its endpoint is not due this type of event."""
    document = _checked(documents, actor, input.document)
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id") if input.id else None
    event = await tx.maybe(_EVENT, id=input.event_id)
    if event is None:
        raise NotFound("event", "input", "eventId")
    vocabulary = input.vocabulary or actor.business.vocabulary
    shaped = document is not None or (endpoint is not None and endpoint.document is not None)
    types = input.types if endpoint is None or input.types is not None else endpoint.types
    if not _is_due(event.type, types, shaped=shaped):
        return None
    if document is not None:
        return Draft(event, document=document, author=actor)
    if endpoint is None:
        return await standard_draft(tx, vocabulary, event, None)
    given = {"vocabulary": input.vocabulary} if input.vocabulary else {}
    return await draft_for(tx, endpoint.with_values(**given), event)


async def rehearsed(draft: Draft | None, documents: Documents) -> WebhookRehearsed:
    """What would be sent; to be awaited outside of any transaction."""
    try:
        body = None if draft is None else await draft.written(documents)
    except ValueError as error:
        return WebhookRehearsed(user_errors=[Invalid(str(error), "input", "document")])
    return WebhookRehearsed(matches=body is not None, body=body)


def _is_due(name: str, types: list[str] | None, *, shaped: bool) -> bool:
    if types is not None:
        return name in types
    kind = event_types().get(name)
    return kind is not None and (shaped or not kind.opt_in)


def _checked(documents: Documents, actor: Actor, text: str | None) -> str | None:
    if text is None:
        return None
    if actor.role is Role.SCANNER:
        raise Forbidden("A scanner's endpoints carry the standard body.")
    try:
        documents.check(text)
    except ValueError as error:
        raise Invalid(str(error), "input", "document") from None
    return text
