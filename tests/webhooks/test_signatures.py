"""Signatures, as the reference library verifies them."""

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from core.secrets import Secrets, new_signing_secret
from webhooks.signatures import key_of, seal, signature_headers, unseal

BODY = '{"event":"stamp_added","name":"Kopi Tubruk ☕"}'


def now() -> datetime:
    """Real time: the reference library refuses what is older than five minutes."""
    return datetime.now(UTC)


def test_the_reference_library_verifies_a_signature() -> None:
    secret, at = new_signing_secret(), now()

    headers = signature_headers([key_of(secret)], "evt_1", at, BODY.encode())

    assert Webhook(secret).verify(BODY, headers) == {
        "event": "stamp_added",
        "name": "Kopi Tubruk ☕",
    }
    assert headers["webhook-id"] == "evt_1"
    assert headers["webhook-timestamp"] == str(int(at.timestamp()))


def test_during_a_rotation_both_secrets_verify() -> None:
    old, new = new_signing_secret(), new_signing_secret()

    headers = signature_headers([key_of(new), key_of(old)], "evt_1", now(), BODY.encode())

    assert Webhook(old).verify(BODY, headers) == Webhook(new).verify(BODY, headers)
    assert [word[:3] for word in headers["webhook-signature"].split(" ")] == ["v1,", "v1,"]


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (BODY.replace("added", "adder"), {}),
        (BODY, {"webhook-id": "evt_2"}),
        (BODY, {"webhook-timestamp": str(int(now().timestamp()) - 1)}),
    ],
)
def test_what_was_changed_on_the_way_is_refused(body: str, changed: dict[str, str]) -> None:
    secret = new_signing_secret()
    headers = signature_headers([key_of(secret)], "evt_1", now(), BODY.encode())

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers | changed)


def test_an_old_message_is_refused_though_its_signature_is_good() -> None:
    secret = new_signing_secret()
    headers = signature_headers(
        [key_of(secret)], "evt_1", now() - timedelta(minutes=6), BODY.encode()
    )

    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, headers)


def test_a_stored_secret_is_encrypted_and_bound_to_its_endpoint() -> None:
    secrets, secret = Secrets(b"k" * 32), new_signing_secret()

    stored = seal(secrets, "we_1", secret)

    assert secret not in stored
    assert unseal(secrets, "we_1", stored) == key_of(secret)
    with pytest.raises(ValueError, match="not configured"):
        unseal(secrets, "we_2", stored)
