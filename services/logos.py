"""Logos: the picture of a business, where it was uploaded to us."""

import re

from db import Database
from models import Business
from services.uploads import chunks_of, public_picture

MOST_BYTES = 1_000_000
_OURS = re.compile(r"/images/([0-9a-f]{64})\.[a-z]+")


async def logo_of(database: Database, business: Business, url: str) -> bytes | None:
    """The business's logo; None for one that is elsewhere, or too large for a small picture."""
    found = _OURS.fullmatch((business.logo_url or "").removeprefix(url))
    if found is None:
        return None
    picture = await database.read(None, lambda tx: public_picture(tx, found[1]))
    if picture is None or picture.size > MOST_BYTES:
        return None
    return b"".join([piece async for piece in chunks_of(database, picture)])
