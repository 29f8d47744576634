"""Privacy: everything that is held about a customer is told, or erased, in every table.

What is told is computed from the tables, so that a new one cannot be left out. What is erased is
said here, column by column. Ids, the ledger and the figures stay as they are: they name nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
from annotated_doc import Doc
from sqlalchemy import delete, update
from sqlmodel import col, select

from core.clock import wire_time
from core.errors import NotFound
from core.ids import Id, new_id
from core.secrets import new_token
from db import BUSINESS, Command, Query, Transaction, among, command, param, query
from models import (
    Actor,
    Attempt,
    BirthdayGift,
    Campaign,
    Card,
    ClaimCode,
    Consent,
    Contact,
    Customer,
    EventRow,
    JoinRequest,
    LotteryTicket,
    Message,
    MessageStatus,
    Operation,
    OperationKind,
    PassDevice,
    PushSubscription,
    Rendering,
    Row,
    Voucher,
    VoucherStatus,
    VoucherTemplate,
    WalletPass,
    WebhookEndpoint,
)
from services.customers import customer_of
from services.figures import count_deletion
from services.imports import abandon_imports
from services.join_mails import stranger
from services.operation import OWNER, Input, Outcome, allow, operation
from services.outbox import settle
from services.pass_marks import mark_passes
from services.uploads import empty_texts

_LEADS = {
    "customer_id": "customers",
    "card_id": "cards",
    "claimed_card_id": "cards",
    "voucher_id": "vouchers",
}
"""Columns that lead to a person, and the ids they are compared with; the first one decides."""
HOLDS_NOTHING = {
    "access_token": "of staff, for apps; ids alone, for days at most",
    "agenda": "when to look at a business again",
    "api_key": "keys of staff",
    "business": "the tenant",
    "campaign": "what is told to many; what is told to one person is a message",
    "card_template": "the owner's rules",
    "card_template_version": "the owner's rules",
    "channel_connection": "the business's own, its settings encrypted",
    "daily_figure": "sums",
    "deployment_key": "of this deployment",
    "goal": "the owner's rules",
    "idempotency": "ids, refusals and keyed digests",
    "import_job": "sums; its rows are told",
    "known_place": "of staff: keyed digests",
    "location": "the business's own",
    "log_head": "numbers",
    "lottery_variant": "the owner's rules",
    "notice": "about endpoints, keys and sign-ins of staff",
    "pass_cursor": "numbers",
    "password_reset": "of staff",
    "refused_call": "of staff: names of mutations, codes and sums",
    "point_of_sale": "the business's own; its secrets are encrypted",
    "session": "of staff",
    "signing_secret": "of endpoints",
    "staff": "the business's own people",
    "throttle": "of logins and addresses: keyed digests",
    "upload": "that there was a file",
    "upload_chunk": "files of customers: thrown away when read, within 7 days, and at any erasure",
    "used_link": "digests, for a day",
    "voucher_template": "the owner's rules",
    "webhook_endpoint": "of partners",
    "webhook_replay": "which part of the log is sent again",
}
"""Tables in which nothing is about a customer, and why."""
_UNTOLD = {"business_id", "seed"}
"""Columns that are not told: the seed of a ticket is a secret until it is played."""


def _lead(table: Any) -> tuple[str, str] | None:
    """The column by which a table's rows are a person's, and which ids it holds."""
    if table is Customer:
        return "id", "customers"
    if table is EventRow:  # by its index; whatever happens to a customer happens on a card
        return "card_id", "cards"
    columns = table.__table__.c
    return next(((name, kind) for name, kind in _LEADS.items() if name in columns), None)


def _own(table: Any) -> Query[Any]:
    column, ids = _lead(table) or ("", "")
    rows = table.__table__
    order = [rows.c.sequence] if "sequence" in rows.c else list(rows.primary_key)
    return query(
        select(table)
        .where(rows.c.business_id == BUSINESS, among(rows.c[column], ids))
        .order_by(*order)
    )


_SEQUENCES = select(EventRow.sequence).where(
    col(EventRow.business_id) == BUSINESS, among(col(EventRow.card_id), "cards")
)
_ENDPOINTS = select(WebhookEndpoint.id).where(col(WebhookEndpoint.business_id) == BUSINESS)
_IS_ATTEMPT = (
    col(Attempt.business_id) == BUSINESS,
    col(Attempt.endpoint_id).in_(_ENDPOINTS),
    col(Attempt.sequence).in_(_SEQUENCES),
)
_IS_RENDERING = (
    col(Rendering.business_id) == BUSINESS,
    col(Rendering.endpoint_id).in_(_ENDPOINTS),
    col(Rendering.sequence).in_(_SEQUENCES),
)
_IS_ON_DEVICE = col(PassDevice.serial).in_(
    select(WalletPass.serial).where(
        col(WalletPass.business_id) == BUSINESS, among(col(WalletPass.card_id), "cards")
    )
)
HELD: dict[str, Query[Any]] = {
    **{
        str(table.__tablename__): _own(table)
        for table in sorted(Row.__subclasses__(), key=lambda table: str(table.__tablename__))
        if _lead(table)
    },
    "pass_device": query(
        select(PassDevice)
        .where(col(PassDevice.business_id) == BUSINESS, _IS_ON_DEVICE)
        .order_by(col(PassDevice.serial), col(PassDevice.device))
    ),
    "attempt": query(
        select(Attempt)
        .where(col(Attempt.business_id) == BUSINESS, *_IS_ATTEMPT[1:])
        .order_by(col(Attempt.id))
    ),
    "rendering": query(
        select(Rendering)
        .where(col(Rendering.business_id) == BUSINESS, *_IS_RENDERING[1:])
        .order_by(col(Rendering.endpoint_id), col(Rendering.sequence))
    ),
}
"""What is held about a person, by table."""

_RECORDS = query(
    select(Customer.id).where(
        col(Customer.business_id) == BUSINESS, col(Customer.merged_into) == param("id")
    )
)
_ADDRESSES: Query[Any] = query(
    select(Customer.email).where(
        col(Customer.business_id) == BUSINESS,
        among(col(Customer.id), "customers"),
        col(Customer.email).is_not(None),
    )
)
_ASKED_WITH: Query[str] = query(
    select(JoinRequest.email)
    .join(Card, col(Card.id) == col(JoinRequest.card_id))
    .where(col(JoinRequest.business_id) == BUSINESS, among(col(Card.customer_id), "customers"))
)
_CARDS = query(
    select(Card.id).where(
        col(Card.business_id) == BUSINESS, among(col(Card.customer_id), "customers")
    )
)
_VOUCHERS = query(
    select(Voucher.id).where(
        col(Voucher.business_id) == BUSINESS, among(col(Voucher.card_id), "cards")
    )
)
_LOCKED_CUSTOMERS = query(
    select(Customer)
    .where(col(Customer.business_id) == BUSINESS, among(col(Customer.id), "customers"))
    .order_by(col(Customer.id))
    .with_for_update()
)
_LOCKED_CARDS = query(
    select(Card)
    .where(col(Card.business_id) == BUSINESS, among(col(Card.customer_id), "customers"))
    .order_by(col(Card.id).desc())
    .with_for_update()
)
_LOCKED_CAMPAIGNS = query(
    select(Campaign)
    .where(
        col(Campaign.business_id) == BUSINESS,
        col(Campaign.id).in_(
            select(Message.campaign_id).where(
                col(Message.business_id) == BUSINESS,
                among(col(Message.customer_id), "customers"),
                col(Message.status) == MessageStatus.QUEUED,
            )
        ),
    )
    .order_by(col(Campaign.id))
    .with_for_update(read=True)
)
_SKIP: Query[Any] = query(
    update(Message)
    .where(
        col(Message.business_id) == BUSINESS,
        among(col(Message.customer_id), "customers"),
        col(Message.status) == MessageStatus.QUEUED,
    )
    .values(status=MessageStatus.SKIPPED, error="customer erased")
    .returning(col(Message.campaign_id), col(Message.card_id))
)
_WITH_TEMPLATE: Query[tuple[Voucher, VoucherTemplate | None]] = query(
    select(Voucher, VoucherTemplate)
    .outerjoin(VoucherTemplate, col(VoucherTemplate.id) == col(Voucher.template_id))
    .where(col(Voucher.business_id) == BUSINESS, among(col(Voucher.card_id), "cards"))
    .with_for_update(of=Voucher)
)


def _blank(table: Any, column: Any, ids: str, *also: Any, **values: Any) -> Command:
    return command(
        update(table)
        .where(table.__table__.c.business_id == BUSINESS, among(col(column), ids), *also)
        .values(values)
    )


def _drop(table: Any, column: Any, ids: str) -> Command:
    return command(
        delete(table).where(table.__table__.c.business_id == BUSINESS, among(col(column), ids))
    )


_ERASE = (
    _drop(Consent, Consent.customer_id, "customers"),
    _drop(Contact, Contact.customer_id, "customers"),
    _drop(PushSubscription, PushSubscription.customer_id, "customers"),
    # When a gift was made tells the birthday.
    _drop(BirthdayGift, BirthdayGift.customer_id, "customers"),
    _blank(
        Message,
        Message.customer_id,
        "customers",
        address=None,
        subject="",
        text="",
        url=None,
        reference=None,
    ),
    # Labels and reasons are free text; that of a join is an id.
    _blank(
        Operation,
        Operation.card_id,
        "cards",
        col(Operation.kind) != OperationKind.MERGE,
        external_ref=None,
        reason=None,
    ),
    _drop(JoinRequest, JoinRequest.card_id, "cards"),
    _blank(
        WalletPass, WalletPass.card_id, "cards", news_title=None, news=None, news_id=None, told=[]
    ),
    # After its pass: a telephone that is being added holds the pass, and is seen here then.
    command(
        delete(PassDevice).where(col(PassDevice.business_id) == BUSINESS, _IS_ON_DEVICE),
    ),
    _blank(ClaimCode, ClaimCode.claimed_card_id, "cards", external_ref=None),
    # An answer may repeat what it was sent, contact data among it.
    command(
        update(Attempt)
        .where(col(Attempt.business_id) == BUSINESS, *_IS_ATTEMPT[1:])
        .values(response_head=None)
    ),
    # What an endpoint asked to be told by its document: it is rendered anew where it is still due.
    command(delete(Rendering).where(col(Rendering.business_id) == BUSINESS, *_IS_RENDERING[1:])),
)
"""What is blanked or dropped by one statement for each table."""
# Who has not fetched the card yet is known by the address alone.
_DROP_REQUESTS = _drop(JoinRequest, JoinRequest.email, "emails")
_NOBODY = {
    "name": None,
    "email": None,
    "phone": None,
    "birth_year": None,
    "birth_month": None,
    "birth_day": None,
    "birthday_changed_at": None,
}


@dataclass(kw_only=True)
class EraseCustomerInput(Input):
    """The customer to erase."""

    id: Annotated[Id, Doc("The customer's id.")]


@dataclass(kw_only=True)
class CustomerErased(Outcome):
    """The customer that was erased."""

    erased_id: Annotated[
        str | None, Doc("The customer's id, which stays: the ledger is kept under it.")
    ] = None


@dataclass(frozen=True)
class _Person:
    """The ids of all that is one person's."""

    customers: list[str]
    cards: list[str]
    vouchers: list[str]


async def export_customer(
    tx: Transaction, actor: Actor, id: str, now: datetime
) -> dict[str, Any] | None:
    """Everything that is held about a customer, table by table; None if there is no such one.

    Forbidden for all but owners.
    """
    allow(actor, OWNER)
    customer = await customer_of(tx, id)
    if customer is None:
        return None
    person = await _person(tx, customer)
    told = {
        name: [_told(row) for row in await tx.many(statement, **vars(person))]
        for name, statement in HELD.items()
    }
    return {"customerId": customer.id, "exportedAt": wire_time(now), "held": told}


@operation(*OWNER)
async def erase_customer(
    tx: Transaction, actor: Actor, input: EraseCustomerInput, now: datetime
) -> CustomerErased:
    """Erase a customer: personal data is gone from every table, stored event and message.

    Ids, the ledger and the figures stay. The customer's cards are deleted, and their tokens and
    those of their vouchers open nothing any more. Files of customers that were uploaded and not
    read to their end are thrown away, for the person may stand in them: such imports fail.
    """
    found = await customer_of(tx, input.id)
    if found is None:
        raise NotFound("customer", "input", "id")
    if found.erased_at is not None:
        return CustomerErased(erased_id=found.id)
    real_now = actor.business.real_time(now)
    await abandon_imports(tx, "The file was thrown away when a customer was erased.", now)
    await empty_texts(tx, real_now)
    customers = [found.id, *await tx.many(_RECORDS, id=found.id)]
    # Cards first, as whoever stamps does it; then the customers themselves.
    cards = await tx.many(_LOCKED_CARDS, customers=customers)
    emails: list[str] = []
    for customer in await tx.many(_LOCKED_CUSTOMERS, customers=customers):
        emails += [customer.email] if customer.email else []
        await tx.change(
            customer,
            **_NOBODY,
            language=actor.business.default_language,
            erased_at=now,
            erased_by_id=actor.staff_id,
        )
    person = _Person(customers, [card.id for card in cards], [])
    await _stop_messages(tx, actor, person, now)
    for statement in _ERASE:
        await tx.run(statement, **vars(person))
    await tx.run(_DROP_REQUESTS, emails=emails)
    for card in cards:
        await _retire(tx, actor, card, now)
    await _erase_texts(tx, person)
    return CustomerErased(erased_id=found.id)


async def records_of(tx: Transaction, id: str) -> list[str]:
    """A customer's id, and those of all records that were merged into it."""
    return [id, *await tx.many(_RECORDS, id=id)]


async def strangers_of(tx: Transaction, actor: Actor, id: str) -> list[str]:
    """What stood for a customer's id on letters to addresses of hers, before she was one."""
    customers = await records_of(tx, id)
    addresses = await tx.many(_ADDRESSES, customers=customers)
    addresses += await tx.many(_ASKED_WITH, customers=customers)
    return [stranger(actor.business_id, address) for address in sorted(set(addresses))]


async def _person(tx: Transaction, customer: Customer) -> _Person:
    customers = await records_of(tx, customer.id)
    cards = await tx.many(_CARDS, customers=customers)
    return _Person(customers, cards, await tx.many(_VOUCHERS, cards=cards))


def _told(row: Row) -> dict[str, Any]:
    told = {name: _plain(value) for name, value in row.__dict__.items() if name not in _UNTOLD}
    if isinstance(row, LotteryTicket):
        told["seed"] = row.revealed_seed
    if isinstance(row, EventRow):
        told["body"] = orjson.loads(row.body)
    return told


def _plain(value: Any) -> Any:
    """A column's value in JSON's own types."""
    if isinstance(value, datetime):
        return wire_time(value)
    return str(value) if isinstance(value, Decimal) else value


async def _stop_messages(tx: Transaction, actor: Actor, person: _Person, now: datetime) -> None:
    """Skip the messages that still wait; a campaign is through with the cards they were for."""
    campaigns = await tx.many(_LOCKED_CAMPAIGNS, customers=person.customers)
    skipped = await tx.many(_SKIP, customers=person.customers)
    for campaign in campaigns:
        own = sorted({card for id, card in skipped if id == campaign.id and card})
        await settle(tx, actor, campaign, own, now)


async def _retire(tx: Transaction, actor: Actor, card: Card, now: datetime) -> None:
    """Delete a card, if it was not before; what opened it opens nothing any more."""
    gone: dict[str, Any] = {"token": new_token(), "wallet_pass_id": new_id("wp")}
    if card.deleted_at is None:
        gone |= {"deleted_at": now, "deleted_by_id": actor.staff_id}
        count_deletion(tx, actor, card, now)
    await tx.change(card, **gone)
    await mark_passes(tx, actor, now, card_id=card.id)


async def _erase_texts(tx: Transaction, person: _Person) -> None:
    """Blank what people wrote on vouchers and as labels, also where events repeat it."""
    own: dict[str, _Own] = {}
    for voucher, template in await tx.many(_WITH_TEMPLATE, cards=person.cards):
        own[voucher.id] = _Own.of(voucher, template)
        await tx.change(voucher, **dict(own[voucher.id].blanks(voucher)))
    for row in await tx.many(HELD["event"], cards=person.cards):
        body = orjson.loads(row.body)
        if _blank_body(body, own):
            await tx.change(row, body=orjson.dumps(body).decode())


@dataclass(frozen=True)
class _Own:
    """Which texts of a voucher are its own, and not those of its template."""

    text: bool
    code: bool

    @classmethod
    def of(cls, voucher: Voucher, template: VoucherTemplate | None) -> "_Own":
        if template is None:
            return cls(text=True, code=True)
        return cls(text=False, code=voucher.redeem_code != template.redeem_code)

    def blanks(self, voucher: Voucher) -> Iterator[tuple[str, Any]]:
        """The columns to blank: a code leads to no voucher of the person any more."""
        yield "token", new_token()
        if self.text:
            yield from {"title": _VOUCHER, "description": None, "image_url": None}.items()
        if self.code or voucher.status in (VoucherStatus.ISSUED, VoucherStatus.ACTIVE):
            yield "redeem_code", None


_VOUCHER = "Voucher"
"""The title of a voucher whose own was erased."""


def _blank_body(body: dict[str, Any], own: dict[str, _Own]) -> bool:
    """Blank the free texts of an event's body; says whether there were any."""
    before = orjson.dumps(body)
    stamp, voucher = body.get("stamp"), body.get("voucher")
    if stamp is not None:
        stamp["external_ref"] = None
    if voucher is not None and (mine := own.get(voucher["id"])):
        if mine.text and "title" in voucher:
            voucher["title"] = _VOUCHER
        if mine.code:
            voucher |= {"redeem_code": None, "redeem_code_formats": []}
    return orjson.dumps(body) != before
