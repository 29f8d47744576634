"""A receiver to try webhooks with: verifies each request, prints it, and needs only Python.

    curl …/hooks -d '{"url": "http://127.0.0.1:9000/"}' … | python3 docs/receiver.py 9000

It reads the answer of `POST /hooks` from its input, for the signing secret stands there.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_TOLERANCE = 300
"""Seconds that a request may be old: an older one may be a replay by somebody else."""


def is_ours(secret: str, headers: Message, body: bytes) -> bool:
    """Whether a request was signed with this secret, and just now."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    moment = headers.get("webhook-timestamp", "")
    signed = f"{headers.get('webhook-id', '')}.{moment}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split()
    is_fresh = moment.isdecimal() and abs(time.time() - int(moment)) < _TOLERANCE
    return is_fresh and any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given)


def receive(port: int, secret: str) -> None:
    """Receive until stopped."""

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            is_good = is_ours(secret, self.headers, body)
            self.send_response(204 if is_good else 400)
            self.send_header("content-length", "0")
            self.end_headers()
            say(f"\nwebhook-id: {self.headers['webhook-id']}")
            say(f"signature: {'good' if is_good else 'BAD'}")
            say(json.dumps(json.loads(body), indent=1) if is_good else "refused")

        def log_message(self, *words: object) -> None:
            """No second line for each request."""

    say(f"receiving on http://127.0.0.1:{port}/")
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    receive(int(sys.argv[1]), json.load(sys.stdin)["signingSecret"])
