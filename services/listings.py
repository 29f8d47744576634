"""Every list of the API: its order, and what its filter may ask."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from annotated_doc import Doc
from sqlalchemy import func, or_
from sqlmodel import col, select

from core.errors import BadUserInput
from core.ids import Id
from db import BUSINESS, Transaction, among, param
from events.base import event_type_enum
from events.log import check_cursor
from models import (
    Actor,
    ApiKey,
    Campaign,
    Card,
    CardTemplate,
    ClaimCode,
    Customer,
    EventRow,
    ImportJob,
    Location,
    Notice,
    PointOfSale,
    RefusedCall,
    Replay,
    Role,
    Sale,
    Staff,
    StaffStatus,
    TemplateStatus,
    Voucher,
    VoucherStatus,
    VoucherTemplate,
    WebhookEndpoint,
    decode_cursor,
)
from models.base import UtcTimestamp
from services.operation import MANAGERS, allow
from services.pages import Listing, Page, PageArgs

EventType = event_type_enum()
LONGEST_SEARCH = 200


class EventOrder(StrEnum):
    """Which end of the log comes first.

    NEWEST_FIRST: the journal, as people read it.
    OLDEST_FIRST: the log, as programs follow it.
    """

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"


@dataclass(kw_only=True)
class StaffFilter:
    """Which staff."""

    has_api_key: Annotated[bool | None, Doc("With a key, or without one.")] = None
    status: Annotated[StaffStatus | None, Doc("In use, or disabled.")] = None
    role: Annotated[Role | None, Doc("Of this role.")] = None
    location_id: Annotated[Id | None, Doc("Working at this location.")] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {
            "with_key": True if self.has_api_key else None,
            "without_key": True if self.has_api_key is False else None,
            "active": True if self.status is StaffStatus.ACTIVE else None,
            "disabled": True if self.status is StaffStatus.DISABLED else None,
            "role": self.role,
            "location_id": self.location_id,
        }


@dataclass(kw_only=True)
class CustomerFilter:
    """Which customers."""

    search: Annotated[
        str | None, Doc("A part of the name, e-mail or phone, or a whole card number.")
    ] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {"search": pattern(self.search), "unmerged": True}


@dataclass(kw_only=True)
class CardFilter:
    """Which cards."""

    search: Annotated[
        str | None, Doc("A part of the customer's name, e-mail or phone, or of the card number.")
    ] = None
    template_id: Annotated[Id | None, Doc("Of this template.")] = None
    customer_id: Annotated[Id | None, Doc("Of this customer.")] = None
    include_deleted: Annotated[bool | None, Doc("Also those that were deleted.")] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {
            "search": pattern(self.search),
            "template_id": self.template_id,
            "customer_id": self.customer_id,
            "alive": None if self.include_deleted else True,
        }


@dataclass(kw_only=True)
class VoucherFilter:
    """Which vouchers."""

    status: Annotated[VoucherStatus | None, Doc("Where they stand.")] = None
    card_id: Annotated[Id | None, Doc("Of this card.")] = None
    customer_id: Annotated[Id | None, Doc("Of this customer's cards.")] = None
    template_id: Annotated[Id | None, Doc("Of this voucher template.")] = None
    redeem_code: Annotated[str | None, Doc("With this redeem code.")] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {
            "status": self.status,
            "card_id": self.card_id,
            "customer_id": self.customer_id,
            "template_id": self.template_id,
            "redeem_code": self.redeem_code,
        }


@dataclass(kw_only=True)
class TemplateFilter:
    """Which templates."""

    status: Annotated[TemplateStatus | None, Doc("Where they are in their life.")] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {} if self.status is None else {self.status.value: True}


@dataclass(kw_only=True)
class EventFilter:
    """Which events. A list that is absent asks nothing; an empty one matches nothing."""

    types: Annotated[list[EventType] | None, Doc("Of these types.")] = None  # type: ignore[valid-type]
    location_ids: Annotated[list[Id] | None, Doc("At these locations.")] = None
    card_ids: Annotated[list[Id] | None, Doc("On these cards.")] = None
    customer_ids: Annotated[list[Id] | None, Doc("Of these customers.")] = None
    since: Annotated[datetime | None, Doc("That happened then or later.")] = None
    until: Annotated[datetime | None, Doc("That happened before then.")] = None
    search: Annotated[
        str | None, Doc("A part of the customer's name, e-mail or phone, or a whole card number.")
    ] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions this filter switches on."""
        return {
            "types": self.types,
            "location_ids": self.location_ids,
            "card_ids": self.card_ids,
            "customer_ids": self.customer_ids,
            "since": self.since,
            "until": self.until,
            "search": pattern(self.search),
        }

    def matches(self, event: EventRow) -> bool:
        """Whether an event is one of these; `search` is left to the database."""
        asked = (
            (self.types, event.type),
            (self.location_ids, event.location_id),
            (self.card_ids, event.card_id),
            (self.customer_ids, event.customer_id),
        )
        return (
            all(wanted is None or said in wanted for wanted, said in asked)
            and (self.since is None or event.occurred_at >= self.since)
            and (self.until is None or event.occurred_at < self.until)
        )


def pattern(text: str | None) -> str | None:
    """What LIKE looks for, to find the text anywhere; None where nothing is looked for."""
    if text is None or not text.strip():
        return None
    if len(text) > LONGEST_SEARCH:
        raise BadUserInput(f"A search has at most {LONGEST_SEARCH} characters.")
    plain = text.strip().lower().replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{plain}%".replace("\x00", "")


def _like(column: Any) -> Any:
    return func.lower(column).like(param("search"), escape="\\")


_PERSON = or_(*(_like(col(column)) for column in (Customer.name, Customer.email, Customer.phone)))
_THESE_PEOPLE = select(Customer.id).where(col(Customer.business_id) == BUSINESS, _PERSON)
_CARD_NUMBER = col(Card.number).like(param("search"))

LOCATIONS = Listing(
    Location, newest_first=False, conditions={"alive": col(Location.archived_at).is_(None)}
)
STAFF = Listing(
    Staff,
    newest_first=False,
    conditions={
        "with_key": col(Staff.id).in_(
            select(ApiKey.staff_id).where(col(ApiKey.business_id) == BUSINESS)
        ),
        "without_key": col(Staff.id).not_in(
            select(ApiKey.staff_id).where(col(ApiKey.business_id) == BUSINESS)
        ),
        "active": col(Staff.disabled_at).is_(None),
        "disabled": col(Staff.disabled_at).is_not(None),
        "role": col(Staff.role) == param("role"),
        "location_id": col(Staff.location_id) == param("location_id"),
    },
)
API_KEYS = Listing(ApiKey, newest_first=False)
CARD_TEMPLATES = Listing(
    CardTemplate,
    newest_first=False,
    conditions={
        "draft": col(CardTemplate.published_at).is_(None),
        "published": col(CardTemplate.published_at).is_not(None)
        & col(CardTemplate.archived_at).is_(None),
        "archived": col(CardTemplate.archived_at).is_not(None),
    },
)
VOUCHER_TEMPLATES = Listing(VoucherTemplate, newest_first=False)
CUSTOMERS = Listing(
    Customer,
    newest_first=True,
    conditions={
        "unmerged": col(Customer.merged_into).is_(None),
        "search": or_(
            _PERSON,
            col(Customer.id).in_(
                select(Card.customer_id).where(col(Card.business_id) == BUSINESS, _CARD_NUMBER)
            ),
        ),
    },
)
CARDS = Listing(
    Card,
    newest_first=True,
    conditions={
        "search": or_(_CARD_NUMBER, col(Card.customer_id).in_(_THESE_PEOPLE)),
        "template_id": col(Card.template_id) == param("template_id"),
        "customer_id": col(Card.customer_id) == param("customer_id"),
        "alive": col(Card.deleted_at).is_(None),
    },
)
VOUCHERS = Listing(
    Voucher,
    newest_first=True,
    conditions={
        "status": col(Voucher.status) == param("status"),
        "card_id": col(Voucher.card_id) == param("card_id"),
        "customer_id": col(Voucher.card_id).in_(
            select(Card.id).where(
                col(Card.business_id) == BUSINESS, col(Card.customer_id) == param("customer_id")
            )
        ),
        "template_id": col(Voucher.template_id) == param("template_id"),
        "redeem_code": col(Voucher.redeem_code) == param("redeem_code"),
    },
)
WEBHOOK_ENDPOINTS = Listing(
    WebhookEndpoint,
    newest_first=False,
    conditions={
        "alive": col(WebhookEndpoint.deleted_at).is_(None),
        "created_by_id": col(WebhookEndpoint.created_by_id) == param("created_by_id"),
    },
)


CAMPAIGNS = Listing(Campaign, newest_first=True)
CLAIM_CODES = Listing(ClaimCode, newest_first=True)
IMPORT_JOBS = Listing(ImportJob, newest_first=True)
REPLAYS = Listing(
    Replay,
    newest_first=True,
    conditions={"endpoint_id": col(Replay.endpoint_id) == param("endpoint_id")},
)
NOTICES = Listing(Notice, newest_first=True)
POINTS_OF_SALE = Listing(
    PointOfSale,
    newest_first=False,
    conditions={"alive": col(PointOfSale.disconnected_at).is_(None)},
)
SALES = Listing(
    Sale,
    newest_first=True,
    conditions={"point_of_sale_id": col(Sale.point_of_sale_id) == param("point_of_sale_id")},
)


def points_of_sale_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor reads points of sale. Forbidden for scanners."""
    allow(actor, MANAGERS)
    return {"alive": True}


REFUSED_CALLS = Listing(RefusedCall, newest_first=True)


def notices_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor reads notices. Forbidden for scanners."""
    allow(actor, MANAGERS)
    return {}


def refused_calls_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor reads refused calls. Forbidden for scanners."""
    allow(actor, MANAGERS)
    return {}


def import_jobs_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor reads imports. Forbidden for scanners."""
    allow(actor, MANAGERS)
    return {}


def campaigns_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor reads campaigns. Forbidden for scanners."""
    allow(actor, MANAGERS)
    return {}


def endpoints_of(actor: Actor) -> dict[str, Any]:
    """The conditions under which an actor sees webhook endpoints: a scanner only its own."""
    own = actor.staff_id if actor.role is Role.SCANNER else None
    return {"alive": True, "created_by_id": own}


_EVENT_CONDITIONS = {
    "types": among(col(EventRow.type), "types"),
    "location_ids": among(col(EventRow.location_id), "location_ids"),
    "card_id": col(EventRow.card_id) == param("card_id"),
    "card_ids": among(col(EventRow.card_id), "card_ids"),
    "customer_ids": among(col(EventRow.customer_id), "customer_ids"),
    "since": col(EventRow.occurred_at) >= param("since", UtcTimestamp()),
    "until": col(EventRow.occurred_at) < param("until", UtcTimestamp()),
    "search": or_(
        col(EventRow.customer_id).in_(_THESE_PEOPLE),
        col(EventRow.card_id).in_(
            select(Card.id).where(col(Card.business_id) == BUSINESS, _CARD_NUMBER)
        ),
    ),
}
JOURNAL = Listing(EventRow, newest_first=True, conditions=_EVENT_CONDITIONS)
"""The log backwards: what people read."""
LOG = Listing(EventRow, newest_first=False, conditions=_EVENT_CONDITIONS)
"""The log forwards: what programs follow."""


async def log_page(
    tx: Transaction, args: PageArgs, *, newest_first: bool, **conditions: Any
) -> Page[EventRow]:
    """A page of the log, in either order.

    CursorExpired where it would begin with what follows a cursor and retention has thrown some of
    that away; backwards a log just ends where it begins. BadUserInput for a cursor beyond its end.
    """
    page = await (JOURNAL if newest_first else LOG).page(tx, args, **conditions)
    follows = args.before if newest_first else args.after
    if follows is not None:
        await check_cursor(tx, decode_cursor(follows))
    return page
