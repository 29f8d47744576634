"""Signatures: Standard Webhooks, by every live secret of an endpoint.

Own code over the `standardwebhooks` library because it is one line of HMAC; the library is the
oracle of our tests.
"""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

from core.secrets import Secrets

_PREFIX = "whsec_"


def signature_headers(keys: Sequence[bytes], id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a signed message; `at` is the moment of this try."""
    moment = str(int(at.timestamp()))
    content = f"{id}.{moment}.".encode() + body
    return {
        "webhook-id": id,
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(f"v1,{_sign(key, content)}" for key in keys),
    }


def key_of(secret: str) -> bytes:
    """The bytes of a secret that is written `whsec_` and base64."""
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def seal(secrets: Secrets, endpoint_id: str, secret: str) -> str:
    """A signing secret as it is stored: encrypted, and bound to its endpoint."""
    return secrets.encrypt(secret, purpose_of_secret(endpoint_id))


def unseal(secrets: Secrets, endpoint_id: str, stored: str) -> bytes:
    """The signing key that was stored for this endpoint."""
    return key_of(secrets.decrypt(stored, purpose_of_secret(endpoint_id)))


def _sign(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def purpose_of_secret(endpoint_id: str) -> str:
    """What a signing secret is encrypted for."""
    return f"signing secret of {endpoint_id}"
