"""Servers that speak bytes, for tests of what receivers may do to us, and certificates for them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from webhooks.parcels import Address, Parcel

ID = "evt_01jwsample0000000000000000"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]


@contextlib.asynccontextmanager
async def speaking() -> AsyncIterator[Serve]:
    """Start servers that speak bytes, each handing back its URL, for as long as the block lasts."""
    servers: list[asyncio.Server] = []

    async def start(handler: Handler, **options: Any) -> str:
        async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(quietly, "127.0.0.1", 0, **options)
        servers.append(server)
        scheme = "https" if options.get("ssl") else "http"
        return f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    yield start
    for server in servers:
        server.close()


def parcel(url: str, **values: Any) -> Parcel:
    """Something to send."""
    return Parcel(Address("we_1", url, (b"key",), {}), ID, b'{"a":1}', **values)


def always(answer: bytes) -> Handler:
    """Says this, whatever it is sent."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return handle


def certified(
    folder: Path, address: str = "127.0.0.1", *, ended: bool = False
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's side of TLS with a certificate that it made, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    end = now - timedelta(hours=1) if ended else now + timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(end)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = made.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + pem
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, ssl.create_default_context(cadata=pem.decode())
