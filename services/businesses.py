"""Businesses: made at the operator's word, and their settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlmodel import col, select

from core.errors import Invalid
from core.ids import new_id
from core.secrets import Secrets
from db import BUSINESS, Transaction, query
from events.log import bump_access
from models import (
    Actor,
    Business,
    CardTemplateVersion,
    LogHead,
    Mode,
    Operation,
    Role,
    Staff,
    Vocabulary,
)
from services.agenda import new_agenda
from services.api_keys import new_key
from services.locations import new_location
from services.operation import OPERATOR, OWNER, Input, Outcome, Shown, operation
from services.pass_marks import mark_passes
from services.passwords import check_password
from services.staff import add_staff, login_of
from services.text import currency_of, image_url, language_of, short_text, timezone_of

_HAS_OPERATIONS = query(select(Operation.id).where(col(Operation.business_id) == BUSINESS).limit(1))
_COUNTS_AMOUNTS = query(
    select(CardTemplateVersion.id)
    .where(
        col(CardTemplateVersion.business_id) == BUSINESS,
        col(CardTemplateVersion.amount_per_stamp).is_not(None),
    )
    .limit(1)
)
_LEAST_RETENTION, _MOST_RETENTION = 30, 36_500


@dataclass(kw_only=True)
class OwnerInput:
    """The first staff login of a business: its owner."""

    name: Annotated[str, Doc("The owner's name, at most 200 characters.")]
    login: Annotated[str, Doc("What the owner signs in with, such as an e-mail address; unique.")]
    password: Annotated[str, Doc("8 to 200 characters.")]


@dataclass(kw_only=True)
class CreateBusinessInput(Input):
    """The business to make, and its owner."""

    name: Annotated[str, Doc("Its name, at most 200 characters.")]
    timezone: Annotated[str, Doc("Where it has its days, such as Asia/Jakarta.")]
    currency: Annotated[str, Doc("Its currency (ISO 4217), such as IDR.")]
    mode: Annotated[Mode, Doc("Whether it is real.")] = Mode.LIVE
    default_language: Annotated[
        str | None, Doc("The language of customers who told none; absent: `en`.")
    ] = None
    vocabulary: Annotated[
        Vocabulary | None, Doc("The words of its event bodies; absent: ID, as in the reference.")
    ] = None
    owner: Annotated[OwnerInput, Doc("Its owner.")]


@dataclass(kw_only=True)
class BusinessCreated(Outcome):
    """The business, its owner, and the owner's API key, which is never shown again."""

    business: Business | None = None
    owner: Staff | None = None
    api_key_secret: Shown | None = None


@dataclass(kw_only=True)
class BusinessOutcome(Outcome):
    """The business as it now is."""

    business: Business | None = None


def the_system(now: datetime) -> Actor:
    """The system as an actor where there is no business yet: who makes businesses."""
    return Actor(Business(id="", name="Stampwire", timezone="UTC", currency="", created_at=now))


@operation(*OPERATOR)
async def create_business(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    input: CreateBusinessInput,
    now: datetime,
    *,
    password_digest: str,
    secrets: Secrets,
) -> BusinessCreated:
    """Make a business with its first location, its owner and the owner's API key.

    Runs in the name of the system; from then on the transaction is the new business's.
    """
    check_password(input.owner.password, "input", "owner", "password")
    language = input.default_language
    business = Business(
        id=new_id("b"),
        name=short_text(input.name, "input", "name"),
        timezone=timezone_of(input.timezone, "input", "timezone"),
        currency=currency_of(input.currency, "input", "currency"),
        mode=input.mode,
        created_at=now,
        default_language=language_of(language, "input", "defaultLanguage") if language else "en",
        vocabulary=input.vocabulary or Vocabulary.ID,
    )
    location = new_location(business.id, now, name=business.name)
    owner = Staff(
        id=new_id("st"),
        business_id=business.id,
        location_id=location.id,
        name=short_text(input.owner.name, "input", "owner", "name"),
        login=login_of(input.owner.login, "input", "owner", "login"),
        password_digest=password_digest,
        role=Role.OWNER,
        created_at=now,
    )
    tx.business = business.id
    await tx.add(business, LogHead(business_id=business.id), new_agenda(business, now), location)
    await add_staff(tx, owner, "input", "owner", "login")
    key, secret = new_key(owner, business.mode, now, secrets)
    await tx.add(key)
    return BusinessCreated(business=business, owner=owner, api_key_secret=secret)


@operation(*OWNER)
async def update_business(
    tx: Transaction,
    actor: Actor,
    given: Mapping[str, Any],
    now: datetime,
) -> BusinessOutcome:
    """Change the given settings of the business.

    Takes any of `name`, `logo_url` (null: none), `timezone`, `default_language`, `currency`
    (only before the first operation), `vocabulary`, `event_retention_days` (null: for ever).
    """
    values: dict[str, Any] = {
        name: check(_required(given[name], path), "input", path)
        for name, path, check in _TEXTS
        if name in given
    }
    if "logo_url" in given:
        values["logo_url"] = image_url(given["logo_url"], "input", "logoUrl")
    if "vocabulary" in given:
        values["vocabulary"] = _required(given["vocabulary"], "vocabulary")
    if "event_retention_days" in given:
        values["event_retention_days"] = _retention(given["event_retention_days"])
    business = await tx.get(Business, actor.business_id) or actor.business
    if values.get("currency", business.currency) != business.currency:
        await _check_currency_free(tx)
    if values:
        business = await tx.change(business, **values)
        await bump_access(tx)
    if "name" in values or "logo_url" in values:
        await mark_passes(tx, actor, now)
    return BusinessOutcome(business=business)


_TEXTS = (
    ("name", "name", short_text),
    ("timezone", "timezone", timezone_of),
    ("default_language", "defaultLanguage", language_of),
    ("currency", "currency", currency_of),
)


def _required(value: Any, name: str) -> Any:
    if value is None:
        raise Invalid("This must not be empty.", "input", name)
    return value


def _retention(days: int | None) -> int | None:
    if days is not None and not _LEAST_RETENTION <= days <= _MOST_RETENTION:
        raise Invalid(
            f"{_LEAST_RETENTION} to {_MOST_RETENTION} days; null keeps events for ever.",
            "input",
            "eventRetentionDays",
        )
    return days


async def _check_currency_free(tx: Transaction) -> None:
    """Amounts are kept in minor units of the currency: it is fixed once there are any."""
    for found in (_HAS_OPERATIONS, _COUNTS_AMOUNTS):
        if await tx.maybe(found) is not None:
            raise Invalid(
                "The currency is fixed once there are operations, or cards that count amounts.",
                "input",
                "currency",
            )
