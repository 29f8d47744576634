"""Secrets: how keys and passwords are made, kept as digests, and encrypted at rest."""

import base64
import hmac
import os
import secrets
import zlib
from hashlib import sha256
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_PREFIX = "7loc_sc_"
TEST_KEY_PREFIX = "7loc_sc_test_"
SESSION_PREFIX = "sws_"
ACCESS_TOKEN_PREFIX = "swt_"  # noqa: S105 -- a prefix, not a password
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TYPED_AS = str.maketrans("OIL", "011")
_RANDOM, _CHECK = 30, 6
_passwords = PasswordHasher()


class Secrets:
    """The deployment's secret key and all that derives from it.

    The first key makes new digests and ciphertexts; former ones are still accepted, so that a
    key can be changed while everything goes on.
    """

    def __init__(self, *keys: bytes) -> None:
        self._peppers = [_derive(key, b"stampwire key digest") for key in keys]
        self._ciphers = [AESGCM(_derive(key, b"stampwire encryption")) for key in keys]

    @classmethod
    def from_setting(cls, secret_key: str, data_dir: Path) -> "Secrets":
        """Read STAMPWIRE_SECRET_KEY; where it is empty, the key file of the data dir.

        The file is made once, with mode 600.
        """
        if not secret_key:
            secret_key = _key_file(data_dir / "secret.key")
        keys = [base64.b64decode(word.strip()) for word in secret_key.split(",")]
        if any(len(key) < 32 for key in keys):
            message = "STAMPWIRE_SECRET_KEY must be at least 32 bytes in base64."
            raise ValueError(message)
        return cls(*keys)

    def digest(self, secret: str) -> str:
        """What is stored of a key or session: HMAC-SHA256 under the present pepper, in hex."""
        return hmac.new(self._peppers[0], secret.encode(), sha256).hexdigest()

    def digests(self, secret: str) -> list[str]:
        """The digests a stored secret may have, the present pepper's first."""
        return [hmac.new(pepper, secret.encode(), sha256).hexdigest() for pepper in self._peppers]

    def encrypt(self, text: str, purpose: str) -> str:
        """Encrypt for storage; the purpose must be given again to decrypt."""
        nonce = os.urandom(12)
        sealed = self._ciphers[0].encrypt(nonce, text.encode(), purpose.encode())
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, stored: str, purpose: str) -> str:
        """The text that was encrypted for this purpose."""
        raw = base64.b64decode(stored)
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:12], raw[12:], purpose.encode()).decode()
            except InvalidTag:
                continue
        message = "This was encrypted under a secret key that is not configured any more."
        raise ValueError(message)


def new_secret_key() -> str:
    """A fresh secret key of a deployment: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def new_api_key(*, test: bool) -> str:
    """A fresh API key: prefix, 30 random base62 characters, 6 of checksum."""
    prefix = TEST_KEY_PREFIX if test else KEY_PREFIX
    return prefix + _checked_body()


def is_api_key(text: str) -> bool:
    """Whether the text is a key we could have made; a typo is refused without a query."""
    return text.startswith(KEY_PREFIX) and _is_checked(
        text.removeprefix(KEY_PREFIX).removeprefix("test_")
    )


def new_access_token() -> str:
    """A fresh access token: prefix, 30 random base62 characters, 6 of checksum."""
    return ACCESS_TOKEN_PREFIX + _checked_body()


def is_access_token(text: str) -> bool:
    """Whether the text is an access token we could have made."""
    return text.startswith(ACCESS_TOKEN_PREFIX) and _is_checked(
        text.removeprefix(ACCESS_TOKEN_PREFIX)
    )


def new_session_secret() -> str:
    """A fresh session secret."""
    return SESSION_PREFIX + secrets.token_urlsafe(32)


def new_password_reset() -> str:
    """A fresh secret to be mailed, with which a password is set anew (256 bits)."""
    return secrets.token_urlsafe(32)


def new_join_secret() -> str:
    """A fresh secret to be mailed, with which a card is fetched (256 bits)."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """An unguessable token for a URL or a barcode (128 bits)."""
    return secrets.token_urlsafe(16)


def new_redeem_code() -> str:
    """A redeem code of our own: 12 Crockford symbols, 60 bits."""
    return "".join(secrets.choice(_CROCKFORD) for _ in range(12))


def new_claim_code() -> str:
    """A claim code: 12 Crockford symbols, 60 bits."""
    return new_redeem_code()


def read_crockford(text: str) -> str:
    """A code as a person may type it, in Crockford's symbols: `o` is 0, `i` and `l` are 1."""
    return text.strip().upper().replace("-", "").replace(" ", "").translate(_TYPED_AS)


def is_crockford(text: str) -> bool:
    """Whether the text is a code of 12 Crockford symbols."""
    return len(text) == 12 and all(char in _CROCKFORD for char in text)


def new_signing_secret() -> str:
    """A webhook signing secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def password_digest(password: str) -> str:
    """What is stored of a password (argon2id). Takes tens of milliseconds on purpose."""
    return _passwords.hash(password)


def password_matches(digest: str, password: str) -> bool:
    """Whether this is the password. Takes tens of milliseconds on purpose."""
    try:
        return _passwords.verify(digest, password)
    except (VerificationError, InvalidHashError):
        return False


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def _checked_body() -> str:
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    return body + _checksum(body)


def _is_checked(body: str) -> bool:
    return len(body) == _RANDOM + _CHECK and hmac.compare_digest(
        _checksum(body[:_RANDOM]).encode(), body[_RANDOM:].encode()
    )


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def _key_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = new_secret_key()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
        return key
