"""Texts people type: what every field of the kind accepts."""

import re
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import regex

from core.errors import Code, Invalid, Refused

_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")
_CURRENCY = re.compile(r"[A-Z]{3}")


def short_text(text: str, *path: str, most: int = 200) -> str:
    """A name or title: trimmed, not empty, of one line, without control characters."""
    trimmed = " ".join(clean(text, *path).split())
    if not trimmed:
        raise Invalid("This must not be empty.", *path)
    return within(trimmed, *path, most=most)


def long_text(text: str | None, *path: str, most: int = 5_000) -> str | None:
    """A description: trimmed, None where nothing was said."""
    if text is None or not text.strip():
        return None
    return within(clean(text, *path).strip(), *path, most=most)


def within(text: str, *path: str, most: int) -> str:
    """The text, if it is not too long."""
    if len(text) > most:
        raise Refused(Code.TEXT_TOO_LONG, f"At most {most} characters.", *path)
    return text


def graphemes(text: str) -> list[str]:
    """The characters of a text as people count them: a family of four is one (UAX #29)."""
    found: list[str] = regex.findall(r"\X", text)
    return found


def cut(text: str, most: int) -> str:
    """The text, cut where it is too long; no character is torn apart."""
    if len(text) <= most:
        return text
    kept, length = [], 1
    for char in graphemes(text[: most + 100]):
        length += len(char)
        if length > most:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def clean(text: str, *path: str) -> str:
    """The text, if every database can hold it."""
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise Invalid("This text has a character that cannot be stored.", *path)
    return text


def language_of(text: str, *path: str) -> str:
    """A language tag in lower case."""
    if len(text) > 35 or not _LANGUAGE.fullmatch(text):
        raise Invalid("This is not a language tag, such as `id`.", *path)
    return text.lower()


def currency_of(text: str, *path: str) -> str:
    """A currency code of ISO 4217."""
    if not _CURRENCY.fullmatch(text):
        raise Invalid("This is not a currency code, such as IDR.", *path)
    return text


def timezone_of(text: str, *path: str) -> str:
    """A timezone of the IANA database."""
    if text not in available_timezones():
        raise Invalid("This is not a timezone, such as Asia/Jakarta.", *path)
    return text


def image_url(text: str | None, *path: str) -> str | None:
    """An https address of a picture."""
    if text is None or not text.strip():
        return None
    told = within(clean(text, *path).strip(), *path, most=2_000)
    if urlsplit(told).scheme not in ("https", "http") or any(char.isspace() for char in told):
        raise Invalid("This is not the address of a picture.", *path)
    return told
