"""Apple Wallet: passes made and signed here, which telephones fetch again when they are told to.

edutap.wallet_apple breaks on the present cryptography, and its licence does not fit ours; what is
needed of it is one signature, which cryptography makes. Facts:
developer.apple.com/documentation/walletpasses.
"""

import hashlib
import hmac
import io
import os
import re
import ssl
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import orjson
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    PKCS7Options,
    PKCS7SignatureBuilder,
)
from cryptography.x509.oid import NameOID

from core.clock import Clock
from core.secrets import Secrets
from core.settings import Settings
from integrations.wallets.apns import PushService
from integrations.wallets.apple_documents import pass_document
from integrations.wallets.apple_pictures import signs, signs_of, strips
from integrations.wallets.seam import Device, News, Outcome, PassFace
from models import Platform

WEB_SERVICE_PATH = "/passes/apple"
_SAME_DAY = (2020, 1, 1, 0, 0, 0)
"""The day of every file of a pass: what is the same in two passes is the same in bytes."""
log = structlog.get_logger("stampwire.wallets")
_PASS_TYPE = re.compile(r"pass\.[A-Za-z0-9.-]+")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The certificate of a pass type, its key, and the certificate of Apple that signed it."""

    certificate: x509.Certificate
    intermediate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Credentials":
        """Those of the settings. ValueError where they cannot be read or do not belong together."""
        certificate = _certificate(settings.apple_pass_certificate, "the certificate")
        intermediate = _certificate(settings.apple_intermediate, "the certificate of Apple")
        key = _key(settings.apple_pass_key)
        if key.public_key() != certificate.public_key():
            raise ValueError("the key is not the one of the certificate")
        try:
            certificate.verify_directly_issued_by(intermediate)
        except (InvalidSignature, TypeError, ValueError):
            raise ValueError("the certificate of Apple did not sign this one") from None
        made = cls(certificate=certificate, intermediate=intermediate, key=key)
        if not _PASS_TYPE.fullmatch(made.pass_type) or not made.team:
            raise ValueError("the certificate is not one of a pass type")
        return made

    @property
    def pass_type(self) -> str:
        """The identifier of the pass type."""
        return self._told(NameOID.USER_ID)

    @property
    def team(self) -> str:
        """The identifier of the team."""
        return self._told(NameOID.ORGANIZATIONAL_UNIT_NAME)

    @property
    def ends_at(self) -> datetime:
        """When the first of both certificates ends."""
        return min(self.certificate.not_valid_after_utc, self.intermediate.not_valid_after_utc)

    def sign(self, manifest: bytes) -> bytes:
        """A detached signature (CMS), with the moment and both certificates."""
        builder = PKCS7SignatureBuilder().set_data(manifest)
        builder = builder.add_signer(self.certificate, self.key, SHA256())
        options = [
            PKCS7Options.DetachedSignature,
            PKCS7Options.Binary,
            PKCS7Options.NoCapabilities,
        ]
        return builder.add_certificate(self.intermediate).sign(Encoding.DER, options)

    def context(self) -> ssl.SSLContext:
        """For connections on which we show the certificate."""
        context = ssl.create_default_context()
        pem = self.certificate.public_bytes(Encoding.PEM) + self.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        # OpenSSL reads a key from a file alone; nobody else may read this one, and it is gone soon.
        descriptor, path = tempfile.mkstemp()
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
            context.load_cert_chain(path)
        finally:
            Path(path).unlink()
        return context

    def _told(self, what: x509.ObjectIdentifier) -> str:
        found = self.certificate.subject.get_attributes_for_oid(what)
        return str(found[0].value) if found else ""


class AppleWallet:
    """The operator's pass type."""

    platform: ClassVar[Platform] = Platform.APPLE

    def __init__(
        self, credentials: Credentials, secrets: Secrets, *, push_url: str, our_url: str
    ) -> None:
        self.credentials = credentials
        self.pass_type = credentials.pass_type
        self._secrets = secrets
        self._push_url, self._our_url = push_url, our_url
        self._service: PushService | None = None

    @classmethod
    def of(cls, settings: Settings, secrets: Secrets, clock: Clock) -> "AppleWallet | None":
        """The one of the settings; none where the certificate has ended, for all else goes on.

        ValueError where they are bad.
        """
        credentials = Credentials.of(settings)
        if clock.now() >= credentials.ends_at:
            log.error("no Apple Wallet: the certificate ended", at=str(credentials.ends_at.date()))
            return None
        url = settings.apple_push_url
        return cls(credentials, secrets, push_url=url, our_url=settings.url)

    async def show(
        self,
        face: PassFace,  # noqa: ARG002 -- telephones fetch it
        devices: Sequence[Device],
        news: News | None = None,  # noqa: ARG002 -- they are on the pass, which is shown for them
    ) -> Outcome:
        """Have the telephones fetch the pass; they show what changed on it as it says."""
        if self._service is None:
            self._service = PushService(self._push_url, self.pass_type, self.credentials.context())
        return await self._service.push(devices)

    async def close(self) -> None:
        """Hang up."""
        if self._service is not None:
            await self._service.close()

    def pass_file(self, face: PassFace, logo: bytes | None = None) -> bytes:
        """The pass, as a file for a telephone. Takes some of a processor's time."""
        secured = None
        if self._our_url.startswith("https:"):  # telephones call by https alone
            secured = self._our_url + WEB_SERVICE_PATH, self.token(face.serial)
        document = pass_document(
            face, pass_type=self.pass_type, team=self.credentials.team, web_service=secured
        )
        colours = face.background, face.foreground
        files = {
            "pass.json": orjson.dumps(document, option=orjson.OPT_SORT_KEYS),
            **(signs_of(logo, face.background) if logo else signs(*colours)),
            **strips(face.stamps, face.required, tuple(face.goals), *colours),
        }
        digests = {
            name: hashlib.sha1(data, usedforsecurity=False).hexdigest()  # as Apple wants it
            for name, data in files.items()
        }
        manifest = orjson.dumps(digests, option=orjson.OPT_SORT_KEYS)
        signature = self.credentials.sign(manifest)
        return _packed(files | {"manifest.json": manifest, "signature": signature})

    def token(self, serial: str) -> str:
        """What a telephone shows us to be told of a pass; it is on the pass."""
        return self._secrets.digest(_purpose(serial))

    def is_token(self, serial: str, shown: str) -> bool:
        """Whether this was on the pass, under the present secret key or a former one."""
        return any(
            hmac.compare_digest(good.encode(), shown.encode())
            for good in self._secrets.digests(_purpose(serial))
        )


def _purpose(serial: str) -> str:
    return f"apple pass {serial}"


def _packed(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _SAME_DAY)
            is_drawn = name.endswith(".png")
            entry.compress_type = zipfile.ZIP_STORED if is_drawn else zipfile.ZIP_DEFLATED
            packed.writestr(entry, files[name])
    return out.getvalue()


def _pem(setting: str, what: str) -> bytes:
    if not setting:
        raise ValueError(f"{what} is missing")
    if "-----BEGIN" in setting:
        return setting.encode()
    try:
        return Path(setting).read_bytes()
    except OSError as error:
        message = f"the file with {what} cannot be read ({type(error).__name__})"
        raise ValueError(message) from None


def _certificate(setting: str, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_pem(setting, what))
    except (ValueError, UnsupportedAlgorithm) as error:
        told = str(error) if str(error).startswith(("the file", what)) else f"{what} is not PEM"
        raise ValueError(told) from None


def _key(setting: str) -> RSAPrivateKey:
    pem = _pem(setting, "the key")
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("the key is not PEM without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the key of a pass type is an RSA key")  # noqa: TRY004 -- of a setting
    return key
