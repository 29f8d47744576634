"""Unsubscribing: the address in every mail that advertises, which ends the consent to mail.

It is signed and not stored, needs no login, and is good for as long as the customer is known.
"""

import base64
import hmac
from datetime import datetime

from sqlmodel import col, select

from core.ids import is_id
from core.secrets import Secrets
from db import Database, Transaction, param, query
from models import Actor, Business, Channel, Customer
from services.customers import locked_customer, record_consent

_MAC = 22

# Whoever follows the address names no business: this runs in the name of the system.
_OWNER = query(
    select(Customer, Business)
    .join(Business, col(Business.id) == col(Customer.business_id))
    .where(col(Customer.id) == param("id"))
)


def unsubscribe_path(secrets: Secrets, customer_id: str) -> str:
    """Where a customer ends it, on our own address."""
    body = customer_id.partition("_")[2]
    return f"/unsubscribe/{body}{_mac(secrets.digest(_purpose(body)))}"


async def business_of(database: Database, secrets: Secrets, token: str) -> Business | None:
    """The business from whose mails this token is; None for one that is not ours."""
    found = await _found(database, secrets, token)
    return found and found[1]


async def unsubscribe(
    database: Database, secrets: Secrets, token: str, clock_now: datetime
) -> Business | None:
    """End the consent to mail, and say of whose; None for a token that is not ours.

    A repeat changes nothing but when it was said.
    """
    found = await _found(database, secrets, token)
    if found is None:
        return None
    customer_id, business = found

    async def work(tx: Transaction) -> None:
        customer = await locked_customer(tx, customer_id)
        if customer is not None:
            now = business.time(clock_now)
            await record_consent(tx, Actor(business), customer, Channel.EMAIL, now, granted=False)

    await database.write(business.id, work)
    return business


async def _found(database: Database, secrets: Secrets, token: str) -> tuple[str, Business] | None:
    body, given = token[:-_MAC], token[-_MAC:]
    customer_id = f"c_{body}"
    if not token.isascii() or not is_id(customer_id):
        return None
    digests = secrets.digests(_purpose(body))
    if not any(hmac.compare_digest(_mac(digest), given) for digest in digests):
        return None
    found = await database.read(None, lambda tx: tx.maybe(_OWNER, id=customer_id))
    return None if found is None else (found[0].id, found[1])


def _purpose(body: str) -> str:
    return f"unsubscribe {body}"


def _mac(digest: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode()[:_MAC]
