"""Faces: what a pass in a wallet shows, which is what the page of its card shows."""

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from sqlmodel import col, select

from db import BUSINESS, Transaction, param, query
from integrations.wallets.seam import PassFace
from models import Business, Card, WalletPass, one_line
from services.outbox import path_of
from services.tokens import face_of

BACKGROUND, FOREGROUND = "#3c2a21", "#fbf5ea"
"""The colours of a card whose design tells none: those of its page."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")

_BY_SERIAL = query(
    select(Card).where(
        col(Card.business_id) == BUSINESS, col(Card.wallet_pass_id) == param("serial")
    )
)


async def shown_card(tx: Transaction, serial: str) -> Card | None:
    """The live card that a pass shows, or the one that it was joined to; None for a void pass."""
    card = await tx.maybe(_BY_SERIAL, serial=serial)
    if card is not None and card.merged_into is not None:
        card = await tx.get(Card, card.merged_into)
    return None if card is None or card.deleted_at is not None else card


async def pass_face(
    tx: Transaction, business: Business, held: WalletPass, now: datetime, url: str
) -> PassFace:
    """What a pass shows now, by the programme's time; `url` is our public address.

    A pass is void once its card was replaced or deleted. A void one tells nothing of what becomes
    of the card, for the telephone may be another's: neither its token and address, nor its stamps.
    """
    shown = await shown_card(tx, held.serial)
    card, is_void = shown or await tx.get(Card, held.card_id), shown is None
    if card is None:
        raise LookupError(held.card_id)
    face = await face_of(tx, business, card, now)
    goal, design = None if is_void else face.next_goal, face.promise.version.design
    return PassFace(
        serial=held.serial,
        business_id=business.id,
        template_id=card.template_id,
        business=one_line(business.name),
        title=one_line(face.template.name),
        language=face.customer.language,
        number=card.number,
        token="" if is_void else card.token,
        url="" if is_void else f"{url}{path_of(card)}",
        stamps=0 if is_void else card.stamps,
        required=face.promise.required,
        next_goal=one_line(goal.title) if goal else None,
        left=goal.stamps - card.stamps if goal else 0,
        goals=[goal.stamps for goal in face.promise.goals],
        vouchers=[] if is_void else [one_line(voucher.title) for voucher in face.vouchers],
        background=_colour(design, "background", BACKGROUND),
        foreground=_colour(design, "foreground", FOREGROUND),
        logo_url=business.logo_url,
        news=None if is_void else held.news,
        is_void=is_void,
    )


def digest_of(face: PassFace) -> str:
    """The same for two faces that look alike."""
    return sha256(orjson.dumps(face)).hexdigest()


def _colour(design: Mapping[str, Any], name: str, usual: str) -> str:
    told = design.get(name)
    return told.lower() if isinstance(told, str) and _COLOUR.fullmatch(told) else usual
