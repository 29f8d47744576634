"""Webhook endpoints: made, changed, paused, resumed and deleted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from annotated_doc import Doc
from sqlalchemy import func, update
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, LimitReached, Refused
from core.guard import check_url, leads_astray
from core.ids import Id, new_id
from core.secrets import Secrets
from db import BUSINESS, Transaction, command, param, query
from events import event_types
from events.base import event_type_enum
from events.log import check_cursor, head_of
from models import (
    Actor,
    Delivery,
    DeliveryState,
    EndpointStatus,
    EventRow,
    Ordering,
    Role,
    Vocabulary,
    WebhookEndpoint,
    decode_cursor,
    encode_cursor,
)
from models.base import UtcTimestamp
from services.endpoint_refs import find_endpoint, well_again
from services.operation import EVERYBODY, Input, Outcome, Shown, operation
from services.owner_notices import tell_of_endpoint
from services.replays import stop_replays
from services.signing_secrets import add_secret
from services.text import clean, short_text
from webhooks.documents import Documents
from webhooks.parcels import check_headers, seal_headers

MOST_ENDPOINTS = 100
_WORTH_TELLING = {"url", "types", "headers", "document"}
"""Fields that say where data goes and which: owners are told of their change."""
MOST_IN_FLIGHT = 16
_ZAPS = "https://hooks.zapier.com/hooks/standard/"
"""Where a Zap takes what it subscribed to itself; switched off, it answers 410 for ever."""
LEAST_PER_SECOND, MOST_PER_SECOND = 0.1, 1_000.0

EventType = event_type_enum()
_COUNT = query(
    select(func.count())
    .select_from(WebhookEndpoint)
    .where(col(WebhookEndpoint.business_id) == BUSINESS, col(WebhookEndpoint.deleted_at).is_(None))
)
_SINCE = query(
    select(func.min(EventRow.sequence)).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
    )
)
_RETRY_NOW = command(
    update(Delivery)
    .where(
        col(Delivery.business_id) == BUSINESS,
        col(Delivery.endpoint_id) == param("endpoint_id"),
        col(Delivery.state) == param("was", Delivery.__table__.c.state.type),  # type: ignore[attr-defined]
    )
    .values(state=DeliveryState.RETRY, next_attempt_at=param("now"))
)


@dataclass(kw_only=True)
class HeaderInput:
    """A header of your own, sent with every request."""

    name: Annotated[str, Doc("The name; not one that Stampwire sets itself.")]
    value: Annotated[str, Doc("The value; kept encrypted.")]


@dataclass(kw_only=True)
class StartAtInput:
    """Where in the log an endpoint begins."""

    one_of: ClassVar[bool] = True

    now: Annotated[
        bool | None, Doc("With what happens from now on; only `true` has a meaning.")
    ] = None
    beginning: Annotated[
        bool | None, Doc("With the first event there is; only `true` has a meaning.")
    ] = None
    since: Annotated[datetime | None, Doc("With the first event from this moment on.")] = None
    cursor: Annotated[str | None, Doc("With the event after this cursor.")] = None


@dataclass(kw_only=True)
class CreateWebhookEndpointInput(Input):
    """The endpoint to make."""

    url: Annotated[str, Doc("Where requests go: https, a public address.")]
    types: Annotated[
        list[EventType] | None,  # type: ignore[valid-type]
        Doc("The event types it is due; absent: the thirteen."),
    ] = None
    vocabulary: Annotated[
        Vocabulary | None, Doc("The words of the bodies; absent: the business's.")
    ] = None
    ordering: Annotated[Ordering | None, Doc("In which order it is served; absent: NONE.")] = None
    name: Annotated[str | None, Doc("What people call it, at most 200 characters.")] = None
    headers: Annotated[
        list[HeaderInput] | None, Doc("Headers of your own on every request, at most 20.")
    ] = None
    include_contact: Annotated[
        bool | None,
        Doc("Whether bodies carry the customer's contact data, where they consented. OWNER only."),
    ] = None
    start_at: Annotated[StartAtInput | None, Doc("Where in the log it begins; absent: now.")] = None
    document: Annotated[
        str | None,
        Doc(
            "A GraphQL subscription of `events`, without variables: it chooses the fields of the "
            "body, and by its filter the events among `types`. Not for scanners."
        ),
    ] = None
    max_in_flight: Annotated[
        int | None, Doc("How many requests may be under way at once, 1 to 16; absent: 4.")
    ] = None
    max_per_second: Annotated[
        float | None,
        Doc("How many requests may begin in a second, 0.1 to 1000; absent: as fast as it answers."),
    ] = None


@dataclass(kw_only=True)
class PauseWebhookEndpointInput(Input):
    """The endpoint to pause."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class ResumeWebhookEndpointInput(Input):
    """The endpoint to resume."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class DeleteWebhookEndpointInput(Input):
    """The endpoint to delete."""

    id: Annotated[Id, Doc("The endpoint's id.")]


@dataclass(kw_only=True)
class EndpointCreated(Outcome):
    """The endpoint, and the secret its requests are signed with, which is never shown again."""

    endpoint: WebhookEndpoint | None = None
    signing_secret: Shown | None = None


@dataclass(kw_only=True)
class EndpointOutcome(Outcome):
    """The endpoint as it now is."""

    endpoint: WebhookEndpoint | None = None


@dataclass(kw_only=True)
class EndpointDeleted(Outcome):
    """The id of the deleted endpoint."""

    deleted_id: str | None = None


@operation(*EVERYBODY)
async def create_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    input: CreateWebhookEndpointInput,
    now: datetime,
    *,
    secrets: Secrets,
    documents: Documents,
    allow_insecure: bool,
    is_rest_hook: bool = False,
) -> EndpointCreated:
    """Make a webhook endpoint: it is sent what happens, signed with the secret shown here."""
    document = _document(documents, actor, input.document)
    if input.include_contact and actor.role not in (None, Role.OWNER):
        raise Forbidden("Only an owner may have contact data sent.")
    if await tx.one(_COUNT) >= MOST_ENDPOINTS:
        raise LimitReached(f"At most {MOST_ENDPOINTS} endpoints.", "input", retry_at=None)
    endpoint_id, at = new_id("we"), actor.business.real_time(now)
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        business_id=actor.business_id,
        url=_url(input.url, allow_insecure=allow_insecure),
        name=short_text(input.name, "input", "name") if input.name else None,
        types=_types(input.types),
        vocabulary=input.vocabulary or actor.business.vocabulary,
        ordering=input.ordering or Ordering.NONE,
        headers=_headers(secrets, endpoint_id, input.headers),
        include_contact=bool(input.include_contact),
        document=document,
        document_by_id=actor.staff_id if document else None,
        max_in_flight=_in_flight(input.max_in_flight),
        max_per_second=_per_second(input.max_per_second),
        is_rest_hook=is_rest_hook or input.url.strip().startswith(_ZAPS),
        cursor_sequence=await _start(tx, input.start_at),
        created_at=at,
        created_by_id=actor.staff_id,
        next_attempt_at=at,
        lease_until=at,
    )
    await tx.add(endpoint)
    secret = await add_secret(tx, endpoint, secrets, at)
    await tell_of_endpoint(tx, actor, endpoint, "made", at)
    return EndpointCreated(endpoint=endpoint, signing_secret=secret)


@operation(*EVERYBODY)
async def update_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    given: Mapping[str, Any],
    now: datetime,
    *,
    secrets: Secrets,
    documents: Documents,
    allow_insecure: bool,
) -> EndpointOutcome:
    """Change the given fields of a webhook endpoint.

    What is under way still goes to the old URL, with the old words. Only an owner may change the
    URL where contact data is sent. Whoever changes the URL of an endpoint with a document has it
    executed with its own rights from then on.
    """
    endpoint = await find_endpoint(tx, actor, given["id"], "input", "id")
    at = actor.business.real_time(now)
    values: dict[str, Any] = {}
    if "url" in given:
        url = _url(given["url"] or "", allow_insecure=allow_insecure)
        if url != endpoint.url:
            values |= {"url": url, **well_again(at)}
            values |= _led_elsewhere(endpoint, actor)
            if endpoint.headers is not None and "headers" not in given:
                _check_place(endpoint.url, url)
    told: dict[str, Callable[[Any], Any]] = {
        "name": lambda name: short_text(name, "input", "name") if name else None,
        "types": _types,
        "vocabulary": lambda vocabulary: vocabulary or actor.business.vocabulary,
        "ordering": lambda ordering: ordering or Ordering.NONE,
        "headers": lambda headers: _headers(secrets, endpoint.id, headers),
        "document": lambda text: _document(documents, actor, text),
        "max_in_flight": _in_flight,
        "max_per_second": _per_second,
    }
    values |= {name: told[name](given[name]) for name in told if name in given}
    if "document" in given:
        values["document_by_id"] = actor.staff_id if values["document"] else None
    if values.get("ordering", endpoint.ordering) is not Ordering.CARD:
        values |= await _retry_now(tx, endpoint, DeliveryState.PARKED, at)
    if values:
        endpoint = await tx.change(endpoint, **values)
        told_of = ", ".join(sorted(set(given) & _WORTH_TELLING))
        if told_of:
            await tell_of_endpoint(tx, actor, endpoint, f"changed ({told_of})", at)
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def pause_webhook_endpoint(
    tx: Transaction,
    actor: Actor,
    input: PauseWebhookEndpointInput,
    now: datetime,  # noqa: ARG001 -- every operation is given the time
) -> EndpointOutcome:
    """Send nothing to a webhook endpoint until it is resumed; nothing is lost meanwhile."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    if endpoint.status is EndpointStatus.ACTIVE:
        endpoint = await tx.change(endpoint, status=EndpointStatus.PAUSED)
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def resume_webhook_endpoint(
    tx: Transaction, actor: Actor, input: ResumeWebhookEndpointInput, now: datetime
) -> EndpointOutcome:
    """Go on with a webhook endpoint that was paused or disabled, from where it stopped."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    if endpoint.status is not EndpointStatus.ACTIVE:
        at = actor.business.real_time(now)
        endpoint = await tx.change(
            endpoint,
            status=EndpointStatus.ACTIVE,
            disabled_reason=None,
            **well_again(at),
            **await _retry_now(tx, endpoint, DeliveryState.RETRY, at),
        )
    return EndpointOutcome(endpoint=endpoint)


@operation(*EVERYBODY)
async def delete_webhook_endpoint(
    tx: Transaction, actor: Actor, input: DeleteWebhookEndpointInput, now: datetime
) -> EndpointDeleted:
    """Delete a webhook endpoint, and stop its replays. Its attempts are kept as long as others'."""
    endpoint = await find_endpoint(tx, actor, input.id, "input", "id")
    at = actor.business.real_time(now)
    await tx.change(endpoint, deleted_at=at)
    await stop_replays(tx, endpoint, at)
    await tell_of_endpoint(tx, actor, endpoint, "deleted", at)
    return EndpointDeleted(deleted_id=endpoint.id)


async def refuse_forbidden_host(url: str, *, allow_insecure: bool) -> None:
    """Refuse a URL whose name leads to an address where webhooks may not go.

    Looks the name up, so it is to be awaited before the transaction. A name that cannot be looked
    up now is not refused, nor is what the operation itself will refuse by its looks.
    """
    try:
        checked = check_url(url, allow_insecure=allow_insecure)
    except ValueError:
        return
    if await leads_astray(checked, allow_insecure=allow_insecure):
        raise _not_allowed("This name leads to an address where webhooks may not be sent.")


def _url(text: str, *, allow_insecure: bool) -> str:
    try:
        return check_url(text.strip(), allow_insecure=allow_insecure)
    except ValueError as error:
        raise _not_allowed(str(error)) from None


def _not_allowed(message: str) -> Refused:
    return Refused(Code.ADDRESS_NOT_ALLOWED, message, "input", "url")


def _types(types: Sequence[str] | None) -> list[str] | None:
    if types is None:
        return None
    if not types:
        raise Invalid("Name at least one event type, or none for all.", "input", "types")
    return [name for name in event_types() if name in types]


def _document(documents: Documents, actor: Actor, text: str | None) -> str | None:
    """The document that shapes the body, checked; None for the standard body."""
    if text is None:
        return None
    if actor.role is Role.SCANNER:
        raise Forbidden("A scanner's endpoints carry the standard body.")
    told = clean(text, "input", "document").strip()
    try:
        documents.check(told)
    except ValueError as error:
        raise Invalid(str(error), "input", "document") from None
    return told


def _led_elsewhere(endpoint: WebhookEndpoint, actor: Actor) -> dict[str, Any]:
    """What follows where an endpoint gets another URL: nobody is lent another's rights by it."""
    if endpoint.include_contact and actor.role not in (None, Role.OWNER):
        raise Forbidden("Only an owner may have contact data sent elsewhere.")
    if endpoint.document is None:
        return {}
    if actor.role is Role.SCANNER:
        raise Forbidden("A scanner may not have a document's data sent elsewhere.")
    return {"document_by_id": actor.staff_id}


def _check_place(former: str, url: str) -> None:
    """Refuse to send headers elsewhere that were given for one place: they may carry its tokens."""
    before, after = urlsplit(former), urlsplit(url)
    if (before.scheme, before.netloc) != (after.scheme, after.netloc):
        message = "Your own headers were for another place: give them anew with this URL, or null."
        raise Invalid(message, "input", "headers")


def _in_flight(count: int | None) -> int | None:
    if count is not None and not 1 <= count <= MOST_IN_FLIGHT:
        raise Invalid(f"Between 1 and {MOST_IN_FLIGHT} requests at once.", "input", "maxInFlight")
    return count


def _per_second(rate: float | None) -> float | None:
    if rate is not None and not LEAST_PER_SECOND <= rate <= MOST_PER_SECOND:
        raise Invalid("Between 0.1 and 1000 requests a second.", "input", "maxPerSecond")
    return rate


def _headers(secrets: Secrets, id: str, headers: Sequence[HeaderInput] | None) -> str | None:
    told = [
        (clean(header.name, "input", "headers"), clean(header.value, "input", "headers"))
        for header in headers or ()
    ]
    try:
        return seal_headers(secrets, id, check_headers(told))
    except ValueError as error:
        raise Invalid(str(error), "input", "headers") from None


async def _start(tx: Transaction, start: StartAtInput | None) -> int:
    """The cursor of a new endpoint."""
    if start is None or start.now is not None:
        if start is not None and not start.now:
            raise Invalid("Only true has a meaning here.", "input", "startAt", "now")
        return (await head_of(tx)).sequence
    first = await tx.one(_SINCE, since=start.since) if start.since is not None else None
    head = await head_of(tx, hold=True)  # retention may not pass by before this cursor is stored
    if start.beginning is not None:
        if not start.beginning:
            raise Invalid("Only true has a meaning here.", "input", "startAt", "beginning")
        return head.pruned_sequence
    if start.since is not None:
        return head.sequence if first is None else max(first - 1, head.pruned_sequence)
    place = decode_cursor(start.cursor or encode_cursor(head.sequence))
    await check_cursor(tx, place)
    return place


async def _retry_now(
    tx: Transaction, endpoint: WebhookEndpoint, was: DeliveryState, at: datetime
) -> dict[str, Any]:
    """Try the exceptions of a state now; hands back what the endpoint must know of it."""
    touched = await tx.run(_RETRY_NOW, endpoint_id=endpoint.id, was=was, now=at)
    return {"retry_due_at": at} if touched else {}
