"""Mail: handed to a real SMTP server, which may be away, slow, rude or well."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from backends import free_port
from core.settings import Settings
from fakes.mailbox import Mailbox, a_mailbox
from integrations.mail import Mail, Mailer, MaybeSent, NotSent

SENDER = "stampwire@kopi.example"
MAIL = Mail(
    id="ntc_1", to="ana@kopi.example", subject="Kopi Kenangan ☕: tell", text="Halo Ana,\n.\nümlaut"
)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with a_mailbox() as box:
        yield box


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody else signed."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.NameOID.COMMON_NAME
    subject = x509.Name([x509.NameAttribute(name, "mailbox")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_a_message_arrives_as_it_was_written(mailbox: Mailbox) -> None:
    await Mailer(mailbox.url, SENDER).send(MAIL)

    [got] = mailbox.got
    assert (mailbox.senders, mailbox.receivers) == ([SENDER], ["ana@kopi.example"])
    assert (got["From"], got["To"], got["Subject"]) == (SENDER, MAIL.to, MAIL.subject)
    assert got["Message-ID"] == "<ntc_1@kopi.example>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content().splitlines() == MAIL.text.splitlines()


async def test_no_connection_is_open_before_there_is_a_message_or_after_it(
    mailbox: Mailbox,
) -> None:
    mailer = Mailer(mailbox.url, SENDER)
    await asyncio.sleep(0)
    assert mailbox.connections == 0
    for _ in range(2):
        await mailer.send(MAIL)
    assert mailbox.connections == 2


async def test_an_address_with_a_foreign_domain_goes_out_in_ascii(mailbox: Mailbox) -> None:
    await Mailer(mailbox.url, SENDER).send(
        Mail(id="ntc_1", to="ana@käffchen.example", subject="s", text="t")
    )
    assert mailbox.receivers == ["ana@xn--kffchen-5wa.example"]


@pytest.mark.parametrize(
    "given",
    [
        {"to": "ana@kopi.example\r\nBcc: all@kopi.example"},
        {"to": "ana@kopi.example, all@kopi.example"},
        {"to": "Ana <ana@kopi.example>"},
        {"to": "owner"},
        {"to": "ána@kopi.example"},
        {"subject": "Kopi\r\nBcc: all@kopi.example"},
        {"subject": "Kopi\nBcc: all@kopi.example"},
        {"subject": "Kopi\x00"},
        {"id": "ntc_1>\r\nBcc: all@kopi.example"},
    ],
    ids=str,
)
async def test_what_would_inject_a_header_is_refused(
    mailbox: Mailbox, given: dict[str, Any]
) -> None:
    told = {"id": "ntc_1", "to": MAIL.to, "subject": "s", "text": "t"} | given

    with pytest.raises(ValueError) as refused:  # noqa: PT011 -- what it says is asserted below
        await Mailer(mailbox.url, SENDER).send(Mail(**told))

    assert mailbox.connections == 0
    assert "kopi" not in str(refused.value)


async def test_a_server_that_is_down_has_surely_not_taken_it() -> None:
    with pytest.raises(NotSent, match="connection: SMTPConnectError"):
        await Mailer(f"smtp://127.0.0.1:{free_port()}", SENDER).send(MAIL)


@pytest.mark.parametrize(
    ("answers", "words", "is_final"),
    [
        ({"refused": {MAIL.to: "550 ana@kopi.example is unknown"}}, "envelope refused with 550", 1),
        ({"refused": {MAIL.to: "450 later"}}, "envelope refused with 450", 0),
        ({"text_answer": "554 ana@kopi.example, no spam"}, "text refused with 554", 1),
        ({"text_answer": "451 the disk is full"}, "text refused with 451", 0),
    ],
    ids=["unknown", "greylisted", "spam", "full"],
)
async def test_a_server_that_refuses_is_quoted_by_its_number_alone(
    answers: dict[str, Any], words: str, is_final: int
) -> None:
    async with a_mailbox(**answers) as box:
        with pytest.raises(NotSent) as refused:
            await Mailer(box.url, SENDER).send(MAIL)

    assert (str(refused.value), refused.value.is_final) == (words, bool(is_final))
    assert refused.value.__suppress_context__, "no traceback repeats what the server said"


async def test_a_slow_server_has_the_deadline_and_no_longer() -> None:
    async with a_mailbox(delay=5) as box:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(NotSent, match="TimeoutError"):
            await Mailer(box.url, SENDER, deadline=0.2).send(MAIL)
    assert asyncio.get_running_loop().time() - begun < 2


async def test_a_server_that_accepts_and_says_nothing_has_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NotSent, match=r"connection: .*Timeout"):
            await Mailer(url, SENDER, deadline=0.2).send(MAIL)


async def test_a_line_cut_after_the_text_leaves_nobody_the_wiser() -> None:
    async with a_mailbox(cuts=True) as box:
        with pytest.raises(MaybeSent):
            await Mailer(box.url, SENDER).send(MAIL)
        assert len(box.got) == 1


async def test_a_login_is_sent_and_a_wrong_one_is_not_final() -> None:
    async with a_mailbox(login=("kopi@mail", "p:@ss")) as box:
        await Mailer(f"smtp://kopi%40mail:p%3A%40ss@127.0.0.1:{box.port}", SENDER).send(MAIL)
        assert len(box.got) == 1
        with pytest.raises(NotSent, match="connection refused with 535") as refused:
            await Mailer(f"smtp://kopi%40mail:wrong@127.0.0.1:{box.port}", SENDER).send(MAIL)
    assert not refused.value.is_final


async def test_tls_from_the_first_byte_with_a_certificate_that_is_checked(
    certificate: Path,
) -> None:
    trusting = ssl.create_default_context(cafile=certificate)
    async with a_mailbox(tls=server_tls(certificate), smtps=True) as box:
        url = f"smtps://127.0.0.1:{box.port}"
        await Mailer(url, SENDER, tls=trusting).send(MAIL)
        with pytest.raises(NotSent, match="connection: "):
            await Mailer(url, SENDER).send(MAIL)
    assert len(box.got) == 1


async def test_a_login_goes_to_another_machine_over_tls_or_not_at_all(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.mail._LOOPBACK", ())
    trusting = ssl.create_default_context(cafile=certificate)
    async with a_mailbox(tls=server_tls(certificate), login=("a", "b")) as box:
        await Mailer(f"smtp://a:b@127.0.0.1:{box.port}", SENDER, tls=trusting).send(MAIL)
    async with a_mailbox(login=("a", "b")) as plain:
        with pytest.raises(NotSent, match="connection: SMTPException"):
            await Mailer(f"smtp://a:b@127.0.0.1:{plain.port}", SENDER, tls=trusting).send(MAIL)
    assert (len(box.got), len(plain.got)) == (1, 0)


# -- The settings. --------------------------------------------------------------------------------


def test_without_a_server_there_is_no_mailer() -> None:
    assert Mailer.of(Settings()) is None
    assert Mailer.of(Settings(smtp_url="smtp://mail.example", mail_from=SENDER)) is not None


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("smtp://mail.example", ""),
        ("smtp://mail.example", "nobody"),
        ("http://a:secret@mail.example", SENDER),
        ("smtp://", SENDER),
        ("smtp://a:sec/ret@mail.example", SENDER),
    ],
)
def test_settings_that_make_no_sense_end_the_start_and_tell_no_secret(
    url: str, sender: str
) -> None:
    with pytest.raises(ValidationError, match="STAMPWIRE_") as refused:
        Settings(smtp_url=url, mail_from=sender)

    assert "sec" not in str(refused.value)
    assert "hush" not in repr(Settings(smtp_url="smtp://a:hush@m.example", mail_from=SENDER))
