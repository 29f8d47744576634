"""Logos: the picture of a business, where it was uploaded to us."""

import re

from core.memory import Memory
from db import Database
from models import Business
from services.uploads import chunks_of, public_picture

MOST_BYTES = 1_000_000
_known: Memory[str, bytes] = Memory(16 * MOST_BYTES)
"""A picture's name is the digest of what is in it: it never changes."""
_OURS = re.compile(r"/images/([0-9a-f]{64})\.[a-z]+")


async def logo_of(database: Database, business: Business, url: str) -> bytes | None:
    """The business's logo; None for one that is elsewhere, or too large for a small picture."""
    found = _OURS.fullmatch((business.logo_url or "").removeprefix(url))
    if found is None:
        return None
    name = found[1]
    if (known := _known.get(name)) is not None:
        return known
    picture = await database.read(None, lambda tx: public_picture(tx, name))
    if picture is None or picture.size > MOST_BYTES:
        return None
    logo = b"".join([piece async for piece in chunks_of(database, picture)])
    _known.keep(name, logo, len(logo))
    return logo
