"""Ids: type-prefixed, sortable and unguessable enough to be public (TypeIDs over UUIDv7)."""

import re
import secrets
import time
from datetime import datetime
from hashlib import sha256
from typing import NewType

Id = NewType("Id", str)
"""A TypeID such as `card_01jw…`: the prefix names the type, so it is the Relay global id too."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SHAPE = re.compile(r"[a-z]{1,8}_[0-7][0-9a-hjkmnp-tv-z]{25}")
_last = (0, 0)


def new_id(prefix: str) -> Id:
    """A fresh id; ids made by one process sort in the order they were made."""
    return _told(prefix, _uuid7())


def id_of(prefix: str, at: datetime, *words: str) -> Id:
    """The id of what these words name at that moment: the same each time, and sorting by it."""
    drawn = int.from_bytes(sha256("\0".join(words).encode()).digest()[:10], "big")
    return _told(prefix, _laid_out(int(at.timestamp() * 1_000), drawn >> 68, drawn))


def is_id(text: str) -> bool:
    """Whether the text has the shape of an id; says nothing of whether the thing exists."""
    return _SHAPE.fullmatch(text) is not None


def moment_of(id: str) -> float:
    """When an id was made, in seconds since 1970: the first 48 bits of a UUIDv7."""
    number = 0
    for digit in id.rpartition("_")[2][:10]:
        number = number << 5 | _ALPHABET.index(digit)
    return (number & (1 << 48) - 1) / 1000


def prefix_of(text: str) -> str:
    """The type prefix of an id, `""` for anything that is not one."""
    return text.partition("_")[0] if is_id(text) else ""


def _uuid7() -> int:
    """A UUIDv7 as a number; RFC 9562, method 1: a 12-bit counter within the millisecond."""
    global _last  # noqa: PLW0603 -- the one counter of this process
    now = time.time_ns() // 1_000_000
    moment, count = _last
    if now > moment:
        moment, count = now, secrets.randbits(8)
    elif count < 0xFFF:
        count += 1
    else:
        moment, count = moment + 1, 0
    _last = (moment, count)
    return _laid_out(moment, count, secrets.randbits(62))


def _laid_out(moment: int, count: int, drawn: int) -> int:
    return moment << 80 | 7 << 76 | count << 64 | 2 << 62 | drawn & (1 << 62) - 1


def _told(prefix: str, number: int) -> Id:
    digits = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return Id(f"{prefix}_{''.join(digits)}")
