"""Holders: what the holder of a card tells of herself on its page."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import Invalid
from core.ids import Id
from db import Transaction
from models import Actor, Birthday, Business, Card, Channel, Customer
from services.customers import SetConsentInput, set_consent, update_customer


@dataclass(frozen=True, kw_only=True)
class HolderForm:
    """What the form of a card's page says; an empty text says nothing."""

    birthday: str
    language: str
    takes_mail: bool
    takes_push: bool


async def tell(
    tx: Transaction, business: Business, card: Card, told: HolderForm, now: datetime
) -> None:
    """Keep what the holder told, in the name of the system. Invalid names the field."""
    actor, given = Actor(business), dict[str, Any](id=card.customer_id)
    customer = await tx.get(Customer, card.customer_id)
    if customer is None:
        raise LookupError(card.id)
    if told.birthday:
        try:
            given["birthday"] = str(Birthday.parse(told.birthday))
        except ValueError:
            raise Invalid("There is no such day.", "birthday") from None
    # The form knows languages only: who reads British English keeps it.
    if told.language and told.language != customer.language.partition("-")[0]:
        given["language"] = told.language
    if len(given) > 1:
        await update_customer(tx, actor, given, now)
    said = {Channel.PUSH: told.takes_push}
    if customer.email is not None:
        said[Channel.EMAIL] = told.takes_mail
    for channel, granted in said.items():
        asked = SetConsentInput(customer_id=Id(card.customer_id), channel=channel, granted=granted)
        await set_consent(tx, actor, asked, now)
