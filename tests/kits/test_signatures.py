"""Signatures as the reference libraries verify them, in Python and in JavaScript, byte for byte.

Proves cases 45 and 49 of research/webhooks.md §6: what a receiver really got, with two secrets in
rotation and with text beyond ASCII.
"""

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from cafes import Got, found_cafe, receiving
from core.clock import ManualClock
from core.ids import new_id
from core.secrets import Secrets, new_signing_secret
from db import Database
from events import RewardIssued, payload
from events.stream import Stream
from models import SigningSecret, Vocabulary
from webhooks.pusher import Pusher
from webhooks.sender import Sender
from webhooks.signatures import seal

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

TITLE = "Es kopi susu ☕ 咖啡 — «ñ» \u2028 \U0001f1ee\U0001f1e9"
"""Two, three and four bytes a sign, and one that JavaScript once took for the end of a line."""


@pytest.mark.parametrize("vocabulary", Vocabulary)
async def test_what_is_received_is_verified_by_the_reference_libraries(
    database: Database, secrets: Secrets, packages: Path, vocabulary: Vocabulary
) -> None:
    clock = ManualClock(datetime.now(UTC))
    cafe = await found_cafe(database, secrets, clock)
    gift = RewardIssued.sample()
    gift = gift.model_copy(update={"reward": gift.reward.model_copy(update={"title": TITLE})})
    stream, sender = Stream(database, "memory://"), Sender(clock, allow_insecure=True)
    async with receiving() as make:
        receiver = await make()
        endpoint = await cafe.endpoint(receiver.url, vocabulary=vocabulary)
        new = new_signing_secret()
        row = SigningSecret(
            id=new_id("sec"),
            business_id=cafe.business.id,
            endpoint_id=endpoint.id,
            ciphertext=seal(secrets, endpoint.id, new),
            created_at=clock.now(),
        )
        await cafe.add(row)
        [event] = await cafe.happens(gift)
        await sender.open()
        await Pusher(database, stream, sender, secrets, clock).sweep()
        await sender.close()

    [got] = receiver.got
    assert got.body == payload(event.body, vocabulary).encode()
    assert "咖啡".encode() in got.body
    assert got.headers["content-length"] == str(len(got.body))
    body = json.loads(got.body)
    assert body["reward"]["title"] == TITLE
    changed = got.body.replace("咖".encode(), "珈".encode())
    stranger = new_signing_secret()
    old = cafe.keys[endpoint.id]
    tried = [(old, got.body), (new, got.body), (stranger, got.body), (new, changed)]
    expected = [body, body, None, None]
    assert [by_python(key, sent, got) for key, sent in tried] == expected
    assert by_javascript(packages, tried, got) == expected


def by_python(key: str, body: bytes, got: Got) -> Any:
    """What was said, if the signature is good."""
    try:
        return Webhook(key).verify(body, got.headers)
    except WebhookVerificationError:
        return None


def by_javascript(packages: Path, tried: list[tuple[str, bytes]], got: Got) -> list[Any]:
    """The same."""
    node = shutil.which("node")
    assert node, "node is missing: apt-get install nodejs"
    script = packages / "verify.mjs"
    shutil.copy(Path(__file__).with_name("verify.mjs"), script)
    lines = [
        json.dumps({"secret": key, "body": base64.b64encode(body).decode(), "headers": got.headers})
        for key, body in tried
    ]
    done = subprocess.run(
        [node, str(script)],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("said" in one or "matching" in one["refused"] for one in told), told
    return [one.get("said") for one in told]
