"""Apple: an authority that signs pass certificates, and the push service, over HTTP/2 and TLS."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backends import free_port

PASS_TYPE, TEAM = "pass.example.stampwire", "TEAM123456"
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = BEGINS + timedelta(days=3_000)
_NAMES = {
    "cn": NameOID.COMMON_NAME,
    "uid": NameOID.USER_ID,
    "ou": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "o": NameOID.ORGANIZATION_NAME,
}


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def _key(name: str) -> Key:
    """A key of this name; the usual ones of tests are quickly made."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65_537, 2_048)
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certified(
    by: Holder | None = None,
    *,
    is_authority: bool = False,
    ends: datetime = ENDS,
    key_of: str = "",
    **names: str,
) -> Holder:
    """A certificate in these names, signed by another's key or its own."""
    key = _key(key_of or str(names))
    subject = x509.Name([x509.NameAttribute(_NAMES[name], told) for name, told in names.items()])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINS)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if by is not None:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
    if is_authority:
        signs = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(signs, critical=True)
    return Holder(builder.sign(by.key if by else key, SHA256()), key)


@dataclass(frozen=True)
class Authority:
    """A root, the authority between, and a certificate of a pass type."""

    root: Holder
    between: Holder
    own: Holder

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which passes are signed in its name."""
        return {
            "apple_pass_certificate": self.own.pem,
            "apple_pass_key": self.own.key_pem,
            "apple_intermediate": self.between.pem,
        }


@cache
def authority(ends: datetime = ENDS) -> Authority:
    """The one of all tests: to make keys takes its time."""
    root = certified(cn="Root", is_authority=True)
    between = certified(root, cn="Between", is_authority=True)
    names = {"uid": PASS_TYPE, "cn": f"Pass Type ID: {PASS_TYPE}", "ou": TEAM, "o": "Kopi"}
    own = certified(between, ends=ends, key_of="rsa", **names)
    return Authority(root, between, own)


@dataclass
class Pushes:
    """Apple's push service: what it was told, and what it answers to each token."""

    url: str
    told: Counter[str] = field(default_factory=Counter)
    topics: set[str] = field(default_factory=set)
    bodies: set[bytes] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    clients: set[Any] = field(default_factory=set)
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        """A push."""
        token = request.path_params["token"]
        self.topics.add(request.headers.get("apns-topic", ""))
        self.versions.add(request.scope["http_version"])
        self.bodies.add(await request.body())
        self.clients.add(request.client)
        self.told[token] += 1
        status, said = self.answers.get(token, (200, {}))
        return Response(orjson.dumps(said) if said else b"", status, headers=self.headers)


@asynccontextmanager
async def push_service(folder: Path) -> AsyncIterator[Pushes]:
    """Run it. Whoever does not show the certificate of a pass type is not let in."""
    signed = authority()
    server = certified(signed.root, cn="localhost")
    files = {
        "server.pem": server.pem,
        "server.key": server.key_pem,
        "clients.pem": signed.between.pem + signed.root.pem,
        "root.pem": signed.root.pem,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    port = free_port()
    pushes = Pushes(f"https://localhost:{port}")
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile, config.keyfile = str(folder / "server.pem"), str(folder / "server.key")
    config.ca_certs, config.verify_mode = str(folder / "clients.pem"), ssl.CERT_REQUIRED
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.1
    app = Starlette(routes=[Route("/3/device/{token}", pushes.take, methods=["POST"])])
    ended = asyncio.Event()
    task = asyncio.create_task(serve(app, config, shutdown_trigger=ended.wait))  # type: ignore[arg-type]
    try:
        await _until_open(port)
        yield pushes
    finally:
        ended.set()
        await task


async def _until_open(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
