"""Mail: one message to one person, handed to the SMTP server of the settings.

aiosmtplib speaks the protocol; smtplib would need a thread for each slow server. Nothing is logged
here, and no error names an address or repeats what a server said, for servers repeat addresses.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address as MailAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import cached_property
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP as Client  # noqa: N811 -- the policy has the same name
from aiosmtplib.errors import SMTPException, SMTPResponseException

from core.addresses import mail_address
from core.settings import Settings

DEADLINE_SECONDS = 15.0
"""For a whole message: the connection, the greeting, the text, and the server's answer."""
_GOODBYE_SECONDS = 1.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A message. Its `id` is the same whenever it is handed over: a reader may know it again."""

    id: str
    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    sender_name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class NotSent(Exception):
    """The server surely did not take it. `is_final`: it refused this very message, for good.

    `is_out_of_reach`: it took no message at all.
    """

    def __init__(
        self, reason: str, *, is_final: bool = False, is_out_of_reach: bool = False
    ) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.is_out_of_reach = is_out_of_reach


class MaybeSent(Exception):
    """The line broke while the text was on its way: nobody knows whether the server took it."""


class Mailer:
    """Hands messages to one SMTP server, on a connection for each, opened when it is needed.

    `smtp://` goes over to TLS where the server can, and insists on it before it logs in; but on
    loopback, where nobody listens and certificates are seldom good.
    """

    def __init__(
        self,
        url: str,
        sender: str,
        *,
        deadline: float = DEADLINE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = urlsplit(url)
        self._sender = _address(sender)
        self._deadline = deadline
        self._given_tls = tls

    @classmethod
    def of(cls, settings: Settings) -> "Mailer | None":
        """The one that the settings name; None where mail is not set."""
        return cls(settings.smtp_url, settings.mail_from) if settings.smtp_url else None

    async def send(self, mail: Mail) -> None:
        """Hand a message over; done when the server has it.

        NotSent or MaybeSent where it does not say so within the deadline. ValueError for what no
        server may be given: a line break in a header, or no address.
        """
        to, letter = _address(mail.to), self._letter(mail)
        client, step = self._client(), "connection"
        try:
            async with asyncio.timeout(self._deadline):
                await client.connect()
                step = "envelope"
                await client.mail(self._sender)
                await client.rcpt(to)
                step = "text"
                await client.data(letter)
            with suppress(SMTPException, OSError):  # it has the message: whatever it says now
                await client.quit(timeout=_GOODBYE_SECONDS)
        except SMTPResponseException as error:
            is_final = step != "connection" and error.code >= 500
            raise NotSent(
                f"{step} refused with {error.code}",
                is_final=is_final,
                is_out_of_reach=step == "connection",
            ) from None
        except (SMTPException, OSError) as error:  # a timeout is an OSError, too
            if step == "text":
                raise MaybeSent(type(error).__name__) from None
            reason = f"{step}: {type(error).__name__}"
            raise NotSent(reason, is_out_of_reach=step == "connection") from None
        finally:
            client.close()

    def _client(self) -> Client:
        server = self._server
        host, is_tls = server.hostname or "", server.scheme == "smtps"
        keeps_as_is = is_tls or host in _LOOPBACK
        return Client(
            hostname=host,
            port=server.port or (465 if is_tls else 587),
            username=unquote(server.username) if server.username else None,
            password=unquote(server.password) if server.password else None,
            # Our own name is nobody's business, and looking it up may block.
            local_hostname=self._sender.rpartition("@")[2],
            timeout=self._deadline,
            use_tls=is_tls,
            start_tls=False if keeps_as_is else bool(server.username) or None,
            tls_context=self._tls,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or ssl.create_default_context()

    def _letter(self, mail: Mail) -> bytes:
        for header in (mail.id, mail.subject, mail.sender_name, *mail.headers.values()):
            if any(ord(char) < 32 or ord(char) == 127 for char in header):
                raise ValueError("a header is one line of text")
        letter = EmailMessage(policy=SMTP)
        letter["From"] = MailAddress(mail.sender_name, addr_spec=self._sender)
        letter["To"] = _address(mail.to)
        letter["Subject"] = mail.subject
        letter["Date"] = formatdate()
        letter["Message-ID"] = f"<{mail.id}@{self._sender.rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(mail.text, cte="quoted-printable")
        # The email package would cut a long address in pieces, which nobody puts together again.
        own = "".join(f"{name}: {value}\r\n" for name, value in mail.headers.items())
        return own.encode("ascii") + letter.as_bytes()


def _address(text: str) -> str:
    address = mail_address(text)
    if address is None:
        raise ValueError("this is not an address that mail can go to")
    return address
