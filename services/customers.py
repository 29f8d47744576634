"""Customers: finding, making, changing them, and what they agreed to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar

import phonenumbers
from annotated_doc import Doc
from email_validator import EmailNotValidError, validate_email
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Taken, Transaction, param, query
from models import Actor, Birthday, Channel, Consent, Customer
from services.operation import EVERYBODY, Input, Outcome, operation
from services.pass_marks import mark_passes
from services.text import language_of, short_text

_BY_EMAIL = query(
    select(Customer).where(
        col(Customer.business_id) == BUSINESS, col(Customer.email) == param("email")
    )
)
_BY_PHONE = query(
    select(Customer).where(
        col(Customer.business_id) == BUSINESS, col(Customer.phone) == param("phone")
    )
)
_LOCKED = query(
    select(Customer)
    .where(col(Customer.business_id) == BUSINESS, col(Customer.id) == param("id"))
    .with_for_update(key_share=True)
)
_CONSENT = query(
    select(Consent).where(
        col(Consent.business_id) == BUSINESS,
        col(Consent.customer_id) == param("customer_id"),
        col(Consent.channel) == param("channel", Consent.__table__.c.channel.type),  # type: ignore[attr-defined]
    )
)


@dataclass(kw_only=True)
class CustomerInput:
    """A customer, told by e-mail, phone, or both."""

    email: Annotated[str | None, Doc("E-mail address.")] = None
    phone: Annotated[str | None, Doc("Phone number, international (E.164).")] = None
    name: Annotated[str | None, Doc("Name, at most 200 characters.")] = None
    birthday: Annotated[
        str | None, Doc("`1990-02-28`, or `--02-28` where the year is not known.")
    ] = None
    language: Annotated[str | None, Doc("Language tag, such as `id` or `en`.")] = None


@dataclass(kw_only=True)
class CustomerRef:
    """Names one customer."""

    one_of: ClassVar[bool] = True

    id: Annotated[Id | None, Doc("The customer's id.")] = None
    email: Annotated[str | None, Doc("The customer's e-mail address.")] = None
    phone: Annotated[str | None, Doc("The customer's phone number.")] = None


@dataclass(kw_only=True)
class CreateCustomerInput(Input, CustomerInput):
    """The customer to find or make."""


@dataclass(kw_only=True)
class CustomerCreated(Outcome):
    """A customer, found or made."""

    customer: Customer | None = None
    created: bool | None = None


@dataclass(kw_only=True)
class CustomerUpdated(Outcome):
    """The customer as it now is."""

    customer: Customer | None = None


@dataclass(kw_only=True)
class SetConsentInput(Input):
    """What the customer said about one channel."""

    customer_id: Annotated[Id, Doc("The customer.")]
    channel: Annotated[Channel, Doc("The channel.")]
    granted: Annotated[bool, Doc("Whether we may write there.")]


@operation(*EVERYBODY)
async def create_customer(
    tx: Transaction, actor: Actor, input: CreateCustomerInput, now: datetime
) -> CustomerCreated:
    """Make a customer, or find the one with this e-mail or phone and fill its empty fields."""
    customer, created = await upsert_customer(tx, actor, input, now, "input")
    return CustomerCreated(customer=customer, created=created)


@operation(*EVERYBODY)
async def update_customer(
    tx: Transaction, actor: Actor, given: Mapping[str, Any], now: datetime
) -> CustomerUpdated:
    """Change the given fields of a customer; null empties a field."""
    customer = await _locked(tx, given["id"], "input", "id")
    values = _checked(actor, given, now)
    email, phone = values.get("email", customer.email), values.get("phone", customer.phone)
    if not email and not phone:
        raise Invalid("A customer needs an e-mail address or a phone number.", "input")
    holders = {
        "email": await tx.maybe(_BY_EMAIL, email=email) if values.get("email") else None,
        "phone": await tx.maybe(_BY_PHONE, phone=phone) if values.get("phone") else None,
    }
    for place, other in holders.items():
        if other is not None and other.id != customer.id:
            raise Refused(
                Code.CUSTOMER_CONFLICT, "Another customer has this already.", "input", place
            )
    if values:
        customer = await tx.change(customer, **values)
    if "language" in values:
        await mark_passes(tx, actor, now, customer_id=customer.id)
    return CustomerUpdated(customer=customer)


@operation(*EVERYBODY)
async def set_consent(
    tx: Transaction, actor: Actor, input: SetConsentInput, now: datetime
) -> CustomerUpdated:
    """Record what a customer said about being written to on one channel."""
    customer = await _locked(tx, input.customer_id, "input", "customerId")
    await record_consent(tx, actor, customer, input.channel, now, granted=input.granted)
    return CustomerUpdated(customer=customer)


async def record_consent(
    tx: Transaction,
    actor: Actor,
    customer: Customer,
    channel: Channel,
    now: datetime,
    *,
    granted: bool,
) -> None:
    """Keep what a customer last said about a channel; the customer's row is held."""
    said: dict[str, Any] = {"granted": granted, "at": now, "staff_id": actor.staff_id}
    consent = await tx.maybe(_CONSENT, customer_id=customer.id, channel=channel)
    if consent is not None:
        await tx.change(consent, **said)
        return
    await tx.add(
        Consent(
            id=new_id("con"),
            business_id=actor.business_id,
            customer_id=customer.id,
            channel=channel,
            **said,
        )
    )


async def locked_customer(tx: Transaction, id: str) -> Customer | None:
    """The customer with this id, or the one it was merged into, held; None for one erased."""
    try:
        return await _locked(tx, id)
    except NotFound:
        return None


async def find_customer(tx: Transaction, ref: CustomerRef) -> Customer | None:
    """The customer that a reference names; one that was merged leads to the one that was kept.

    Nothing can be done with one that was erased: it is not found.
    """
    if ref.id is not None:
        customer = await customer_of(tx, ref.id)
        return None if customer is None or customer.erased_at is not None else customer
    if ref.email is not None:
        return await tx.maybe(_BY_EMAIL, email=ref.email.strip().lower())
    try:
        return await tx.maybe(_BY_PHONE, phone=phone_number(ref.phone))
    except Invalid:
        return None


async def customer_of(tx: Transaction, id: str) -> Customer | None:
    """The customer with this id, or the one it was merged into."""
    customer = await tx.get(Customer, id)
    if customer is None or customer.merged_into is None:
        return customer
    return await tx.get(Customer, customer.merged_into)


async def _locked(tx: Transaction, id: str, *path: str) -> Customer:
    customer = await tx.maybe(_LOCKED, id=id)
    if customer is not None and customer.merged_into is not None:
        customer = await tx.maybe(_LOCKED, id=customer.merged_into)
    if customer is None or customer.erased_at is not None:
        raise NotFound("customer", *path)
    return customer


async def upsert_customer(
    tx: Transaction, actor: Actor, told: CustomerInput, now: datetime, *path: str
) -> tuple[Customer, bool]:
    """The customer with this e-mail or phone, made if there is none; says whether it was made.

    Fills empty fields, overwrites nothing. A pair that names two customers is refused.
    """
    email = email_address(told.email, *path, "email")
    phone = phone_number(told.phone, *path, "phone")
    if email is None and phone is None:
        raise Invalid("A customer needs an e-mail address or a phone number.", *path)
    values: dict[str, Any] = {
        "email": email,
        "phone": phone,
        "name": short_text(told.name, *path, "name") if told.name else None,
        "language": language_of(told.language, *path, "language") if told.language else None,
        **_birthday_values(told.birthday, *path, "birthday"),
    }
    by_email = await tx.maybe(_BY_EMAIL, email=email) if email else None
    by_phone = await tx.maybe(_BY_PHONE, phone=phone) if phone else None
    if by_email and by_phone and by_email.id != by_phone.id:
        raise Refused(
            Code.CUSTOMER_CONFLICT, "This e-mail and this phone belong to two customers.", *path
        )
    known = by_email or by_phone
    if known is None:
        values["language"] = values["language"] or actor.business.default_language
        made = Customer(id=new_id("c"), business_id=actor.business_id, created_at=now, **values)
        await tx.add(made)
        return made, True
    if _missing(values, known):
        # Somebody may be filling the same fields at this moment.
        known = await tx.one(_LOCKED, id=known.id)
        if known.merged_into is not None or known.erased_at is not None:
            raise Taken  # since we looked: the next look finds the one that was kept, or nobody
    missing = _missing(values, known)
    if "birth_month" in missing:
        missing["birthday_changed_at"] = now
    return (await tx.change(known, **missing) if missing else known), False


def _missing(values: Mapping[str, Any], known: Customer) -> dict[str, Any]:
    """What was told and is not known yet. A birthday is told or known as a whole."""
    return {
        name: value
        for name, value in values.items()
        if value is not None
        and getattr(known, name) is None
        and not (name == "birth_year" and known.birth_month is not None)
    }


def email_address(text: str | None, *path: str) -> str | None:
    """The address in lower case; Invalid if it is none."""
    if text is None or not text.strip():
        return None
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise Invalid("This is not an e-mail address.", *path) from None
    return found.normalized.lower()


def phone_number(text: str | None, *path: str) -> str | None:
    """The number in E.164; Invalid if it is none."""
    if text is None or not text.strip():
        return None
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise Invalid("This is not an international phone number.", *path) from None
    if not phonenumbers.is_possible_number(number):
        raise Invalid("This is not an international phone number.", *path)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _checked(actor: Actor, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "name" in given:
        values["name"] = short_text(given["name"], "input", "name") if given["name"] else None
    if "email" in given:
        values["email"] = email_address(given["email"], "input", "email")
    if "phone" in given:
        values["phone"] = phone_number(given["phone"], "input", "phone")
    if "language" in given:
        values["language"] = language_of(
            given["language"] or actor.business.default_language, "input", "language"
        )
    if "birthday" in given:
        values |= _birthday_values(given["birthday"], "input", "birthday")
        values["birthday_changed_at"] = now
    return values


def _birthday_values(text: str | None, *path: str) -> dict[str, int | None]:
    if not text:
        return {"birth_year": None, "birth_month": None, "birth_day": None}
    try:
        told = Birthday.parse(text)
    except ValueError:
        raise Invalid("A birthday is written 1990-02-28 or --02-28.", *path) from None
    return {"birth_year": told.year, "birth_month": told.month, "birth_day": told.day}
