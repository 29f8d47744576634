"""A real SMTP server in this event loop: keeps what it is sent, or refuses and dawdles."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass
class Mailbox:
    """What came, and how the next ones are answered; an empty answer takes them."""

    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """The answer to a recipient."""
    text_answer: str = ""
    delay: float = 0
    """Before a recipient is answered."""
    cuts: bool = False
    """The line is cut when the text is there, before it is answered."""
    login: tuple[str, str] | None = None
    connections: int = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Its address, without a login."""
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(self, *given: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        """Answer a recipient."""
        _, _, envelope, address, _ = given
        await asyncio.sleep(self.delay)
        if answer := self.refused.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, *given: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        """Take a message."""
        server, _, envelope = given
        if self.text_answer:
            return self.text_answer
        assert isinstance(envelope.content, bytes)
        self.got.append(message_from_bytes(envelope.content, EmailMessage, policy=default))
        self.senders.append(envelope.mail_from or "")
        self.receivers += envelope.rcpt_tos
        self.came.set()
        if self.cuts:
            server.transport.abort()
        return "250 OK"

    def authenticate(self, *given: Any) -> AuthResult:
        """Whether a login is good."""
        *_, told = given
        assert isinstance(told, LoginPassword)
        is_good = (told.login.decode(), told.password.decode()) == self.login
        return AuthResult(success=is_good, handled=is_good)


@asynccontextmanager
async def a_mailbox(
    *, tls: ssl.SSLContext | None = None, smtps: bool = False, port: int = 0, **values: Any
) -> AsyncIterator[Mailbox]:
    """Run one on loopback: in the clear, with STARTTLS, or with TLS from the first byte."""
    box, loop = Mailbox(**values), asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def make() -> SMTP:
        box.connections += 1
        box.called.set()
        with warnings.catch_warnings():
            # It warns of logins in the clear, which are on loopback here.
            warnings.simplefilter("ignore", UserWarning)
            session = SMTP(
                box,
                loop=loop,
                hostname="mailbox.example",
                tls_context=None if smtps else tls,
                authenticator=box.authenticate if box.login else None,
                auth_required=box.login is not None,
                auth_require_tls=False,
            )
        sessions.append(session)
        return session

    server = await loop.create_server(make, "127.0.0.1", port, ssl=tls if smtps else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for session in sessions:
            if session.transport is not None:
                session.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)
