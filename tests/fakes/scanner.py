"""A scanner of public code, as GitHub is one: publishes its keys, and signs what it found."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEYS_PATH = "/meta/public_keys/secret_scanning"


@dataclass
class Scanner:
    """It signs with the last of its keys; set `is_away` to let it publish none."""

    url: str = ""
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    asked: int = 0
    is_away: bool = False

    def __post_init__(self) -> None:
        self.add_key("first")

    def add_key(self, identifier: str) -> None:
        """Sign with a new key from now on."""
        self.keys[identifier] = ec.generate_private_key(ec.SECP256R1())

    def signed(self, report: Any) -> dict[str, Any]:
        """A report as it is posted: the body and the headers."""
        body = json.dumps(report).encode()
        identifier, key = list(self.keys.items())[-1]
        signature = base64.b64encode(key.sign(body, ec.ECDSA(SHA256()))).decode()
        headers = {
            "content-type": "application/json",
            "github-public-key-identifier": identifier,
            "github-public-key-signature": signature,
        }
        return {"content": body, "headers": headers}

    async def publish(self, _: Request) -> Response:
        """Its keys, as GitHub publishes them."""
        self.asked += 1
        if self.is_away:
            return Response(status_code=503)
        return JSONResponse({"public_keys": [self._told(name) for name in self.keys]})

    def _told(self, identifier: str) -> dict[str, Any]:
        public = self.keys[identifier].public_key()
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        is_current = identifier == list(self.keys)[-1]
        return {"key_identifier": identifier, "key": text, "is_current": is_current}


@contextlib.asynccontextmanager
async def scanning() -> AsyncIterator[Scanner]:
    """A scanner on loopback, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        scanner = Scanner(f"http://127.0.0.1:{door.getsockname()[1]}{KEYS_PATH}")
        app = Starlette(routes=[Route(KEYS_PATH, scanner.publish)])
        host = _Quiet(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(host.serve(sockets=[door]))
        try:
            yield scanner
        finally:
            host.should_exit = host.force_exit = True
            await task


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
