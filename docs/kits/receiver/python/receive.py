"""A receiver of webhooks that needs nothing but Python: it verifies, stores once, and answers."""

import base64
import hashlib
import hmac
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOLERANCE = 300  # seconds
MOST_BYTES = 1_000_000


def key_of(secret: str) -> bytes:
    """The bytes of a signing secret: whsec_ and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("WEBHOOK_SECRET is the signing secret of your endpoint: whsec_…")
    return key


def is_ours(key: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a request was signed with the key, just now, and is as it was sent."""
    sent_at = headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(time.time() - int(sent_at)) > TOLERANCE:
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent_at}.".encode() + body
    wanted = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    # There is a signature for each secret that is live: two, while the secret is rotated.
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted, one.encode()) for one in given)


class Deliveries:
    """A file with a line for each delivery; it only grows."""

    def __init__(self, path: str) -> None:
        Path(path).touch()
        self._file = Path(path).open("r+b")
        lines, end, _ = self._file.read().rpartition(b"\n")
        # What follows the last line end was cut off by a crash, and not answered: it comes again.
        self._file.truncate(len(lines + end))
        self._file.seek(0, os.SEEK_END)
        self._ids = {json.loads(line)["webhook-id"] for line in lines.splitlines()}
        self._lock = threading.Lock()

    def store(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Store a delivery for good; its line, or None if it is stored already."""
        id = headers["webhook-id"]
        delivery = {
            "webhook-id": id,
            "webhook-previous-id": headers.get("webhook-previous-id"),
            "webhook-attempt-kind": headers.get("webhook-attempt-kind"),
            "sequence": json.loads(body).get("sequence"),
            "body": body.decode(),
        }
        line = json.dumps(delivery)
        with self._lock:
            if id in self._ids:
                return None
            self._file.write(f"{line}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._ids.add(id)
        return line


def receive(port: int, key: bytes, deliveries: Deliveries) -> None:
    """Receive until stopped."""

    class Receiver(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not re.fullmatch("[0-9]{1,7}", length) or int(length) > MOST_BYTES:
                self.answer(413)
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not is_ours(key, headers, body):
                self.answer(401)
                return
            line = deliveries.store(headers, body)
            self.answer(204)
            if line is not None:
                print(line, flush=True)  # your work goes here, after the answer

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing of each request."""

    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"receiving on http://127.0.0.1:{port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    receive(
        int(os.environ.get("PORT", "9000")),
        key_of(os.environ["WEBHOOK_SECRET"]),
        Deliveries(os.environ.get("DELIVERIES", "deliveries.jsonl")),
    )
