"""Contacts: how a messenger or a browser comes to reach a customer, and how that ends.

For the page of a card: `messenger_links`, `subscribe_push`, `unsubscribe_push` (and
`services.push_keys.public_push_key`). A link carries a token that binds the chat in which it is
used to the customer, once, and records consent. STOP or a block revokes; of the last chat, the
consent too.
"""

import base64
import hmac
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from sqlalchemy import delete, update
from sqlmodel import col, select

from core.base64url import base64_bytes
from core.errors import Invalid, LimitReached
from core.guard import check_url
from core.ids import is_id, new_id
from core.secrets import Secrets
from db import BUSINESS, Query, Transaction, command, param, query
from models import (
    Actor,
    Card,
    Channel,
    ChannelConnection,
    Contact,
    Customer,
    Messenger,
    PushSubscription,
    UsedLink,
)
from models.base import UtcTimestamp
from services.customers import locked_customer, record_consent

LINK_LASTS = timedelta(hours=24)
MOST_BROWSERS = 10
"""In which a customer may allow notifications."""
_MOST_ENDPOINT = 1_000
_MAC, _SEED = 20, 6

_CONNECTED = query(
    select(ChannelConnection)
    .where(
        col(ChannelConnection.business_id) == BUSINESS,
        col(ChannelConnection.disconnected_at).is_(None),
    )
    .order_by(col(ChannelConnection.connected_at), col(ChannelConnection.id))
)
_OF_CUSTOMER = query(
    select(Contact)
    .where(
        col(Contact.business_id) == BUSINESS,
        col(Contact.customer_id) == param("customer_id"),
        col(Contact.revoked_at).is_(None),
    )
    .order_by(col(Contact.id))
)
_BY_ADDRESS = query(
    select(Contact)
    .where(
        col(Contact.business_id) == BUSINESS,
        col(Contact.connection_id) == param("connection_id"),
        col(Contact.messenger) == param("messenger", Contact.__table__.c.messenger.type),  # type: ignore[attr-defined]
        col(Contact.address) == param("address"),
    )
    .with_for_update()
)
_BY_PHONE = query(
    select(Customer.id).where(
        col(Customer.business_id) == BUSINESS, col(Customer.phone) == param("phone")
    )
)
_BROWSERS: Query[PushSubscription] = query(
    select(PushSubscription)
    .where(
        col(PushSubscription.business_id) == BUSINESS,
        col(PushSubscription.customer_id) == param("customer_id"),
    )
    .order_by(col(PushSubscription.id))
)
_DROP_ENDPOINT = command(
    delete(PushSubscription).where(
        col(PushSubscription.business_id) == BUSINESS,
        col(PushSubscription.customer_id) == param("customer_id"),
        col(PushSubscription.endpoint_digest) == param("digest"),
    )
)
_DROP_BROWSER = command(
    delete(PushSubscription).where(
        col(PushSubscription.business_id) == BUSINESS, col(PushSubscription.id) == param("id")
    )
)
_REVOKE = command(
    update(Contact)
    .where(
        col(Contact.business_id) == BUSINESS,
        col(Contact.id) == param("contact"),
        col(Contact.revoked_at).is_(None),
    )
    .values(revoked_at=param("at", UtcTimestamp()), revoked_by=param("by"))
)


@dataclass(frozen=True, kw_only=True)
class MessengerLink:
    """A way for the holder of a card to get news in a messenger."""

    messenger: Messenger
    name: str
    """What people call the messenger."""
    url: str
    """Opens the chat; the token in it is good once, for a day."""
    is_bound: bool
    """Whether this customer gets news there already."""


async def messenger_links(
    tx: Transaction, card: Card, now: datetime, *, secrets: Secrets
) -> list[MessengerLink]:
    """One for each messenger that the business has connected, in the order of their names.

    Only reads. `now` is the programme's time.
    """
    bound = {contact.messenger for contact in await contacts_of(tx, card.customer_id)}
    links: dict[Messenger, MessengerLink] = {}
    for connection in await tx.many(_CONNECTED):
        for word, pattern in connection.facts.get("links", {}).items():
            messenger = Messenger(word)
            token = new_link_token(secrets, connection, card.customer_id, now)
            links.setdefault(
                messenger,
                MessengerLink(
                    messenger=messenger,
                    name=NAMES[messenger],
                    url=pattern.replace("{token}", quote(token)),
                    is_bound=messenger in bound,
                ),
            )
    return sorted(links.values(), key=lambda link: link.name)


NAMES = {
    Messenger.WHATSAPP: "WhatsApp",
    Messenger.TELEGRAM: "Telegram",
    Messenger.VIBER: "Viber",
}


async def subscribe_push(
    tx: Transaction,
    actor: Actor,
    card: Card,
    endpoint: str,
    keys: Mapping[str, Any],
    now: datetime,
    *,
    allow_insecure: bool,
) -> PushSubscription:
    """Keep that the holder of a card allowed notifications in a browser, and the consent.

    `endpoint` and `keys` (`p256dh`, `auth`) are what the browser's PushSubscription says. `actor`
    is the system within the business: `Actor(business)`. Invalid for what no push service gives;
    LimitReached after ten browsers. A repeat changes nothing but the keys.
    """
    p256dh, auth = _checked_keys(endpoint, keys, allow_insecure=allow_insecure)
    customer = await locked_customer(tx, card.customer_id)
    if customer is None:
        raise Invalid("This card has no holder any more.")
    digest = digest_of(endpoint)
    known = await tx.many(_BROWSERS, customer_id=customer.id)
    browser = next((one for one in known if one.endpoint_digest == digest), None)
    if browser is not None:
        browser = await tx.change(browser, p256dh=p256dh, auth=auth)
    elif len(known) >= MOST_BROWSERS:
        raise LimitReached(f"At most {MOST_BROWSERS} browsers.", retry_at=None)
    else:
        browser = PushSubscription(
            id=new_id("psub"),
            business_id=actor.business_id,
            customer_id=customer.id,
            endpoint=endpoint,
            endpoint_digest=digest,
            p256dh=p256dh,
            auth=auth,
            created_at=now,
        )
        await tx.add(browser)
    await record_consent(tx, actor, customer, Channel.PUSH, now, granted=True)
    return browser


async def unsubscribe_push(tx: Transaction, card: Card, endpoint: str) -> bool:
    """Forget a browser of the holder of a card; says whether it was known.

    The consent to push stays as it is: a pass in a wallet may go on notifying.
    """
    dropped = await tx.run(_DROP_ENDPOINT, customer_id=card.customer_id, digest=digest_of(endpoint))
    return bool(dropped)


async def drop_browser(tx: Transaction, id: str) -> None:
    """Forget a browser whose push service says that it is gone."""
    await tx.run(_DROP_BROWSER, id=id)


async def browsers_of(tx: Transaction, customer_id: str) -> list[PushSubscription]:
    """The browsers in which a customer allowed notifications, oldest first."""
    return await tx.many(_BROWSERS, customer_id=customer_id)


async def contacts_of(tx: Transaction, customer_id: str) -> list[Contact]:
    """The chats in which a customer can be written to, oldest first."""
    return await tx.many(_OF_CUSTOMER, customer_id=customer_id)


async def connections_of(tx: Transaction) -> Sequence[ChannelConnection]:
    """The providers that the business has connected, oldest first."""
    return await tx.many(_CONNECTED)


def new_link_token(
    secrets: Secrets, connection: ChannelConnection, customer_id: str, now: datetime
) -> str:
    """A token that binds a chat of this connection to a customer: at most 64 letters of a URL.

    It is signed and not stored; only that it was used is.
    """
    expires = int((now + LINK_LASTS).timestamp())
    body = f"{customer_id.partition('_')[2]}{expires:08x}{_random()}"
    return body + _mac(secrets.digest(_purpose(connection, body)))


async def bind(
    tx: Transaction,
    actor: Actor,
    connection: ChannelConnection,
    messenger: Messenger,
    address: str,
    token: str,
    now: datetime,
    *,
    secrets: Secrets,
) -> bool:
    """Bind the chat in which a link was used to its customer; says whether it is bound now.

    False for a token that is not ours, too old, or used before. The same chat may repeat itself.
    """
    customer_id, expires_at = _read_token(secrets, connection, token)
    if customer_id is None or now >= expires_at:
        return False
    customer = await locked_customer(tx, customer_id)
    if customer is None:
        return False
    used = UsedLink(
        digest=sha256(token.encode()).hexdigest(),
        business_id=actor.business_id,
        expires_at=actor.business.real_time(expires_at),
    )
    told: dict[str, Any] = {
        "connection_id": connection.id,
        "messenger": messenger,
        "address": address,
    }
    known = await tx.maybe(_BY_ADDRESS, **told)
    if not await tx.add_if_new(used):
        return known is not None and known.revoked_at is None and known.customer_id == customer.id
    said: dict[str, Any] = {
        "customer_id": customer.id,
        "source": "link",
        "opted_in_at": now,
        "revoked_at": None,
        "revoked_by": None,
    }
    if known is not None:
        await tx.change(known, **said)
    else:
        await tx.add(
            Contact(id=new_id("cta"), business_id=actor.business_id, **told, **said),
        )
    await record_consent(tx, actor, customer, Channel.MESSENGERS, now, granted=True)
    return True


async def revoke_address(
    tx: Transaction,
    actor: Actor,
    connection: ChannelConnection,
    messenger: Messenger,
    address: str,
    now: datetime,
    *,
    by: str,
) -> bool:
    """Whoever is at this address wants no more messages; says whether somebody was.

    `by` is `stop` or `block`. A provider that writes to phone numbers may tell of one that never
    bound a chat: its customer's consent ends.
    """
    told = {"connection_id": connection.id, "messenger": messenger, "address": address}
    contact = await tx.maybe(_BY_ADDRESS, **told)
    if contact is not None:
        return await revoke(tx, actor, contact, now, by=by)
    if connection.phone_messenger is not messenger:
        return False
    customer_id = await tx.maybe(_BY_PHONE, phone=address)
    customer = await locked_customer(tx, customer_id) if customer_id else None
    if customer is None:
        return False
    await record_consent(tx, actor, customer, Channel.MESSENGERS, now, granted=False)
    return True


async def revoke(
    tx: Transaction, actor: Actor, contact: Contact, now: datetime, *, by: str
) -> bool:
    """End a contact; with the last one of a customer, the consent to messengers ends."""
    if not await tx.run(_REVOKE, contact=contact.id, at=now, by=by):
        return False
    customer = await locked_customer(tx, contact.customer_id)
    if customer is not None and not await contacts_of(tx, customer.id):
        await record_consent(tx, actor, customer, Channel.MESSENGERS, now, granted=False)
    return True


def digest_of(endpoint: str) -> str:
    """What an endpoint of a push service is told by: it may be long."""
    return sha256(endpoint.encode()).hexdigest()


def _checked_keys(
    endpoint: str, keys: Mapping[str, Any], *, allow_insecure: bool
) -> tuple[str, str]:
    if not isinstance(endpoint, str) or len(endpoint) > _MOST_ENDPOINT:
        raise Invalid("This is not an endpoint of a push service.", "endpoint")
    try:
        check_url(endpoint, allow_insecure=allow_insecure)
    except ValueError:
        raise Invalid("This is not an endpoint of a push service.", "endpoint") from None
    try:
        point, auth = (base64_bytes(str(keys[name])) for name in ("p256dh", "auth"))
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except (KeyError, ValueError):
        raise Invalid("These are not the keys of a browser.", "keys") from None
    if len(auth) != 16 or len(point) != 65:
        raise Invalid("These are not the keys of a browser.", "keys")
    return str(keys["p256dh"]), str(keys["auth"])


def _random() -> str:
    return random.token_urlsafe(8)[:_SEED]


def _purpose(connection: ChannelConnection, body: str) -> str:
    return f"messenger link {connection.id} {body}"


def _mac(digest: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode()[:_MAC]


def _read_token(
    secrets: Secrets, connection: ChannelConnection, token: str
) -> tuple[str | None, datetime]:
    """The customer's id and when the token ends; None for one that is not ours."""
    nobody = None, datetime.min.replace(tzinfo=UTC)
    body, given = token[:-_MAC], token[-_MAC:]
    customer_id = f"c_{body[:26]}"
    if len(token) != 26 + 8 + _SEED + _MAC or not token.isascii() or not is_id(customer_id):
        return nobody
    digests = secrets.digests(_purpose(connection, body))
    if not any(hmac.compare_digest(_mac(digest), given) for digest in digests):
        return nobody
    return customer_id, datetime.fromtimestamp(int(body[26:34], 16), UTC)
