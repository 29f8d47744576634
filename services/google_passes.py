"""Passes in Google Wallet: made when their holder asks for them, saved and removed as Google says.

Google repeats itself until it is answered, and sometimes after that: each of its calls counts once.
"""

from datetime import datetime
from hashlib import sha256

from sqlalchemy import or_, update
from sqlmodel import col

from db import BUSINESS, Transaction, command, param
from integrations.wallets.google_callback import Called
from integrations.wallets.seam import PassFace
from models import Business, Card, Platform, UsedLink, WalletPass
from models.base import UtcTimestamp
from services.pass_faces import pass_face
from services.passes import add_pass, report_removed, report_saved

_HEAR = command(
    update(WalletPass)
    .where(
        col(WalletPass.business_id) == BUSINESS,
        col(WalletPass.serial) == param("serial"),
        col(WalletPass.platform) == Platform.GOOGLE,
        or_(
            col(WalletPass.heard_until).is_(None),
            col(WalletPass.heard_until) <= param("until", UtcTimestamp()),
        ),
    )
    .values(heard_until=param("until", UtcTimestamp()))
)


async def offer(
    tx: Transaction, business: Business, card: Card, real_now: datetime, url: str
) -> tuple[WalletPass, PassFace]:
    """The pass of a live card, and what it shows now; `url` is our public address."""
    held = await add_pass(tx, business, card, Platform.GOOGLE, real_now)
    return held, await pass_face(tx, business, held, business.time(real_now), url)


async def hear(tx: Transaction, business: Business, called: Called, real_now: datetime) -> None:
    """Take down what became of a pass; nothing if Google said so, or what came after, before."""
    heard = UsedLink(
        digest=sha256(f"google wallet {called.nonce}".encode()).hexdigest(),
        business_id=business.id,
        expires_at=called.expires_at,
    )
    if not await tx.add_if_new(heard):
        return
    if not await tx.run(_HEAR, serial=called.serial, until=called.expires_at):
        return
    if called.is_saved:
        await report_saved(tx, business, called.serial, Platform.GOOGLE, real_now)
    else:
        await report_removed(tx, called.serial, Platform.GOOGLE, real_now)
