"""Parcels: what one request to an endpoint carries, and which events it is due."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from core.secrets import Secrets
from events import event_types
from models import (
    AttemptKind,
    Channel,
    Consent,
    Customer,
    SigningSecret,
    WebhookEndpoint,
)
from webhooks.signatures import signature_headers, unseal

_MOST_HEADERS = 20
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1998}[\x21-\x7e])?")
_OURS = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "accept-encoding"}
    | {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"}
    | {"transfer-encoding", "te", "trailer", "expect"}
)


@dataclass(frozen=True, slots=True)
class Address:
    """How an endpoint is reached: where, by which keys, with which headers of its own."""

    endpoint_id: str
    url: str
    keys: tuple[bytes, ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message: the same id and bytes at every try."""

    to: Address
    id: str
    body: bytes
    kind: AttemptKind = AttemptKind.DELIVERY
    previous_id: str | None = None

    def headers(self, at: datetime) -> dict[str, str]:
        """All headers of a try made now."""
        headers = {
            **self.to.headers,
            "content-type": "application/json",
            **signature_headers(self.to.keys, self.id, at, self.body),
        }
        if self.kind is not AttemptKind.DELIVERY:
            headers["webhook-attempt-kind"] = self.kind.value
        elif self.previous_id is not None:
            headers["webhook-previous-id"] = self.previous_id
        return headers


def address_of(
    endpoint: WebhookEndpoint, signing: Sequence[SigningSecret], secrets: Secrets
) -> Address:
    """How to reach an endpoint, with its live signing secrets."""
    return Address(
        endpoint.id,
        endpoint.url,
        tuple(unseal(secrets, endpoint.id, secret.ciphertext) for secret in signing),
        unseal_headers(secrets, endpoint),
    )


def seal_headers(secrets: Secrets, endpoint_id: str, headers: Mapping[str, str]) -> str | None:
    """An endpoint's own headers as they are stored: encrypted, for they may carry tokens."""
    if not headers:
        return None
    return secrets.encrypt(orjson.dumps(dict(headers)).decode(), purpose_of_headers(endpoint_id))


def unseal_headers(secrets: Secrets, endpoint: WebhookEndpoint) -> dict[str, str]:
    """An endpoint's own headers, their names in lower case."""
    if endpoint.headers is None:
        return {}
    headers: dict[str, str] = orjson.loads(
        secrets.decrypt(endpoint.headers, purpose_of_headers(endpoint.id))
    )
    return headers


def check_headers(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Headers an endpoint may ask for, by name in lower case; ValueError says what is wrong."""
    if len(headers) > _MOST_HEADERS:
        raise ValueError(f"At most {_MOST_HEADERS} headers.")
    checked: dict[str, str] = {}
    for told, value in headers:
        name = told.lower()
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("A header is a name and a text of visible ASCII characters.")
        if name in _OURS or name.startswith("webhook-"):
            raise ValueError(f"The header {name} is set by Stampwire.")
        if name in checked:
            raise ValueError(f"The header {name} is given twice.")
        checked[name] = value
    return checked


def due_types(endpoint: WebhookEndpoint) -> list[str]:
    """The event types an endpoint is due.

    No list means all but those asked for by name only; with a document, all that its filter lets
    through.
    """
    if endpoint.types is None:
        is_shaped = endpoint.document is not None
        return [name for name, kind in event_types().items() if is_shaped or not kind.opt_in]
    return endpoint.types


def with_contact(body: str, customer: Customer, consents: Sequence[Consent]) -> str:
    """The body with the customer's contact data, as far as consent to be written to reaches.

    Read when it is sent, not when the event was recorded: consent withdrawn counts at once.
    """
    granted = {consent.channel for consent in consents if consent.granted}
    if not granted or customer.erased_at is not None:
        return body
    contact = {
        "name": customer.name,
        "email": customer.email if Channel.EMAIL in granted else None,
        "phone": customer.phone if Channel.MESSENGERS in granted else None,
    }
    return f'{body[:-1]},"contact":{orjson.dumps(contact).decode()}}}'


def purpose_of_headers(endpoint_id: str) -> str:
    """What an endpoint's headers are encrypted for."""
    return f"headers of {endpoint_id}"
