"""Passes in wallets: made, saved, removed, kept up to date, and given news to bring."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from heapq import heapify, heapreplace
from typing import Any

from sqlalchemy import delete, func, or_, update
from sqlmodel import col, select

from core.ids import Id
from db import BUSINESS, Query, Transaction, command, param, query
from integrations.wallets.seam import (
    AskAgain,
    Device,
    News,
    Outcome,
    PassFace,
    Refused,
)
from models import (
    Actor,
    Business,
    Card,
    Customer,
    LogHead,
    PassCursor,
    PassDevice,
    Platform,
    WalletPass,
)
from models.base import UtcTimestamp
from services.card_refs import CardRef
from services.cards import ReportCardSavedInput, report_card_saved
from services.pass_faces import digest_of, pass_face, shown_card
from services.pass_marks import IS_HELD, MARK, NOW, mark_by_events

LEASE = timedelta(seconds=60)
"""How long a pass may be in somebody's hands; longer than any telling takes."""
RINGS = 3
"""Messages that make a telephone ring within a day, as Google has it; the others come silently."""
A_DAY = timedelta(hours=24)
FIRST_WAIT, MOST_WAIT = timedelta(seconds=5), timedelta(hours=1)
MOST_EVENTS = 1_000
MOST_BUSINESSES = 100
MOST_DEVICES = 50
"""Telephones that hold one pass, the latest; no person has more."""
MOST_ON_ONE = 1_000
"""Passes on one telephone that it is told of at once."""

# -- Across all businesses: these run in the name of the system. ----------------------------------

_PLATFORM = param("platform", WalletPass.__table__.c.platform.type)  # type: ignore[attr-defined]
_BY_SERIAL: Query[tuple[WalletPass, Business]] = query(
    select(WalletPass, Business)
    .join(Business, col(Business.id) == col(WalletPass.business_id))
    .where(col(WalletPass.serial) == param("serial"), col(WalletPass.platform) == _PLATFORM)
)
_BEHIND: Query[tuple[PassCursor, int]] = query(
    select(PassCursor, LogHead.sequence)
    .join(LogHead, col(LogHead.business_id) == col(PassCursor.business_id))
    .where(col(LogHead.sequence) > col(PassCursor.sequence))
    .limit(MOST_BUSINESSES)
)


def _waiting() -> Query[tuple[str, datetime]]:
    """From one business with a mark to the next, each by one look at the index."""
    is_marked = (col(WalletPass.platform) == _PLATFORM, col(WalletPass.due_at).is_not(None))
    next_one = select(func.min(WalletPass.business_id)).where(*is_marked)
    found = next_one.with_only_columns(func.min(WalletPass.business_id).label("id"))
    tenant = found.cte("tenant", recursive=True)
    after = next_one.where(col(WalletPass.business_id) > tenant.c.id).scalar_subquery()
    tenant = tenant.union_all(select(after).where(tenant.c.id.is_not(None)))
    since = (
        select(func.min(WalletPass.due_at))
        .where(*is_marked, col(WalletPass.business_id) == tenant.c.id)
        .scalar_subquery()
    )
    return query(select(tenant.c.id, since).where(since <= NOW).order_by(since, tenant.c.id))


def _claim(order: Any) -> Query[WalletPass]:
    due = (
        select(WalletPass.serial)
        .where(
            col(WalletPass.platform) == _PLATFORM,
            col(WalletPass.business_id) == param("whose"),
            col(WalletPass.due_at) <= NOW,
        )
        .order_by(order)
        .limit(param("most"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return query(
        update(WalletPass)
        .where(
            col(WalletPass.serial).in_(select(due.c.serial)), col(WalletPass.platform) == _PLATFORM
        )
        .values(due_at=param("until", UtcTimestamp()), tries=col(WalletPass.tries) + 1)
        .returning(WalletPass)
    )


_WAITING = _waiting()
_CLAIM_OLDEST, _CLAIM_NEWEST = (
    _claim(order) for order in (col(WalletPass.due_at).asc(), col(WalletPass.due_at).desc())
)
_TAKE_OVER = command(update(WalletPass).where(col(WalletPass.due_at) > NOW).values(due_at=NOW))
_CHANGED_ON: Query[WalletPass] = query(
    select(WalletPass)
    .join(PassDevice, col(PassDevice.serial) == col(WalletPass.serial))
    .where(
        col(PassDevice.device) == param("device"),
        col(WalletPass.platform) == _PLATFORM,
        col(WalletPass.changed_at) > param("after", UtcTimestamp()),
    )
    .order_by(col(WalletPass.changed_at))
    .limit(MOST_ON_ONE)
)

# -- Within one business. -------------------------------------------------------------------------

_HELD = query(
    select(WalletPass)
    .where(
        col(WalletPass.business_id) == BUSINESS, IS_HELD, col(WalletPass.serial) == param("serial")
    )
    .order_by(col(WalletPass.platform))
    .with_for_update()
)
_PASS = query(
    select(WalletPass)
    .where(
        col(WalletPass.business_id) == BUSINESS,
        col(WalletPass.serial) == param("serial"),
        col(WalletPass.platform) == _PLATFORM,
    )
    .with_for_update()
)
_HEAD = query(select(LogHead.sequence).where(col(LogHead.business_id) == BUSINESS))
_MOVE_ON = command(
    update(PassCursor)
    .where(col(PassCursor.business_id) == BUSINESS, col(PassCursor.sequence) == param("after"))
    .values(sequence=param("until"))
)
_DEVICES = query(
    select(PassDevice)
    .where(col(PassDevice.business_id) == BUSINESS, col(PassDevice.serial) == param("serial"))
    .order_by(col(PassDevice.device))
)
_DEVICE = query(
    select(PassDevice).where(
        col(PassDevice.business_id) == BUSINESS,
        col(PassDevice.serial) == param("serial"),
        col(PassDevice.device) == param("device"),
    )
)
_DROP_FORMER = command(
    delete(PassDevice).where(
        col(PassDevice.business_id) == BUSINESS,
        col(PassDevice.serial) == param("serial"),
        col(PassDevice.device).not_in(
            select(PassDevice.device)
            .where(
                col(PassDevice.business_id) == BUSINESS, col(PassDevice.serial) == param("serial")
            )
            .order_by(col(PassDevice.created_at).desc(), col(PassDevice.device))
            .limit(MOST_DEVICES)
        ),
    )
)
_DROP_DEVICE = command(
    delete(PassDevice).where(
        col(PassDevice.business_id) == BUSINESS,
        col(PassDevice.serial) == param("serial"),
        col(PassDevice.device) == param("device"),
    )
)
_SHOW_ANEW = command(
    update(WalletPass)
    .where(
        col(WalletPass.business_id) == BUSINESS,
        col(WalletPass.serial) == param("serial"),
        col(WalletPass.platform) == _PLATFORM,
    )
    .values({"shown": "", **MARK})
)
_TELL_AGAIN = command(
    update(WalletPass)
    .where(
        col(WalletPass.business_id) == BUSINESS,
        col(WalletPass.serial) == param("serial"),
        col(WalletPass.platform) == _PLATFORM,
        or_(
            col(WalletPass.marks) != param("told_marks"),
            col(WalletPass.shown) != param("told_shown"),
        ),
    )
    .values({"shown": "", **MARK})
)
# A telephone that came back with another token meanwhile stays.
_DROP_GONE = command(
    delete(PassDevice).where(
        col(PassDevice.business_id) == BUSINESS,
        col(PassDevice.serial) == param("serial"),
        col(PassDevice.device) == param("device"),
        col(PassDevice.push_token) == param("push_token"),
    )
)


class Brought(Enum):
    """What became of news for a pass."""

    SOON = auto()
    """They are on their way."""
    LATER = auto()
    """The last ones are still on their way."""
    NOWHERE = auto()
    """Nobody has the pass in a wallet."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A pass in hand: what it shows now, who is to be told of it, and the news it is to bring."""

    held: WalletPass
    face: PassFace
    devices: Sequence[Device]
    news: News | None


async def add_pass(
    tx: Transaction, business: Business, card: Card, platform: Platform, real_now: datetime
) -> WalletPass:
    """The pass of a live card in a wallet; made at the first call."""
    made = WalletPass(
        serial=card.wallet_pass_id,
        platform=platform,
        business_id=business.id,
        card_id=card.id,
        created_at=real_now,
        changed_at=real_now.replace(microsecond=0),
    )
    if await tx.add_if_new(made):
        # What is in the log already, the pass shows from the beginning.
        await tx.add_if_new(PassCursor(business_id=business.id, sequence=await tx.one(_HEAD)))
        return made
    return await tx.one(_PASS, serial=made.serial, platform=platform)


async def find_pass(
    tx: Transaction, serial: str, platform: Platform
) -> tuple[WalletPass, Business] | None:
    """The pass with this serial, and whose it is. Runs in the name of the system."""
    return await tx.maybe(_BY_SERIAL, serial=serial, platform=platform)


async def report_saved(
    tx: Transaction, business: Business, serial: str, platform: Platform, real_now: datetime
) -> None:
    """A wallet says that the pass was saved: the card is, too. A void one is saved in vain."""
    held = await tx.maybe(_PASS, serial=serial, platform=platform)
    if held is None:
        return
    await tx.change(held, removed_at=None)
    told = ReportCardSavedInput(card=CardRef(id=Id(held.card_id)), platform=platform)
    face = await pass_face(tx, business, held, business.time(real_now), "")
    if not face.is_void:
        await report_card_saved(tx, Actor(business), told, business.time(real_now))


async def tell_again(tx: Transaction, held: WalletPass, real_now: datetime) -> None:
    """Somebody else told the wallet what this pass showed: what it shows since then may be lost."""
    await tx.run(
        _TELL_AGAIN,
        serial=held.serial,
        platform=held.platform,
        told_marks=held.marks,
        told_shown=held.shown,
        now=real_now,
    )


async def report_removed(
    tx: Transaction, serial: str, platform: Platform, real_now: datetime
) -> None:
    """A wallet says that its holder threw the pass away. That is no event."""
    held = await tx.maybe(_PASS, serial=serial, platform=platform)
    if held is not None:
        await tx.change(held, removed_at=real_now)


async def add_device(
    tx: Transaction, business: Business, serial: str, device: Device, real_now: datetime
) -> bool:
    """A telephone holds an Apple pass and wants to be told of it; says whether that is new.

    What happened between its being handed out and this, the telephone is told at once. Of somebody
    who was erased no telephone is kept.
    """
    if await _is_erased(tx, serial):
        return False
    known = await tx.maybe(_DEVICE, serial=serial, device=device.device)
    if known is not None:
        await tx.change(known, push_token=device.push_token)
        return False
    added = PassDevice(
        device=device.device,
        serial=serial,
        business_id=business.id,
        push_token=device.push_token,
        created_at=real_now,
    )
    is_new = await tx.add_if_new(added)
    await tx.run(_DROP_FORMER, serial=serial)
    await tx.run(_SHOW_ANEW, serial=serial, platform=Platform.APPLE, now=real_now)
    await report_saved(tx, business, serial, Platform.APPLE, real_now)
    return is_new


async def _is_erased(tx: Transaction, serial: str) -> bool:
    # Whoever erases her at this moment waits for the row, or was faster.
    held = await tx.maybe(_PASS, serial=serial, platform=Platform.APPLE)
    card = await tx.get(Card, held.card_id) if held else None
    customer = await tx.get(Customer, card.customer_id) if card else None
    return customer is None or customer.erased_at is not None


async def drop_device(tx: Transaction, serial: str, device: str) -> None:
    """A telephone does not hold the pass any more, or does not want to be told of it."""
    await tx.run(_DROP_DEVICE, serial=serial, device=device)


async def changed_on(tx: Transaction, device: str, after: datetime) -> list[WalletPass]:
    """The passes on a telephone that changed after a moment, the last one last. As the system."""
    return await tx.many(_CHANGED_ON, device=device, platform=Platform.APPLE, after=after)


# -- The passes of the worker. --------------------------------------------------------------------


async def behind(tx: Transaction) -> list[tuple[PassCursor, int]]:
    """Businesses whose log reaches further than it was looked through; as the system."""
    return await tx.many(_BEHIND)


async def follow(tx: Transaction, cursor: PassCursor, head: int, real_now: datetime) -> None:
    """Mark the passes of the cards that the next events are about; nothing if somebody did."""
    until = min(head, cursor.sequence + MOST_EVENTS)
    if await tx.run(_MOVE_ON, after=cursor.sequence, until=until):
        await mark_by_events(tx, cursor.sequence, until, real_now)


async def waiting(
    tx: Transaction, platform: Platform, real_now: datetime
) -> list[tuple[str, datetime]]:
    """The businesses of whose passes some are to be looked at, and since when; as the system."""
    return await tx.many(_WAITING, platform=platform, now=real_now)


def shares(
    waiting: Sequence[tuple[str, datetime]], busy: Mapping[str, int], free: int
) -> Mapping[str, int]:
    """How many hands each business gets: the fewest first, then whoever waits longest.

    `busy` are those that it has: one with many passes does not keep the others waiting.
    """
    turns = [(busy.get(whose, 0), place, whose) for place, (whose, _) in enumerate(waiting)]
    heapify(turns)
    given: Counter[str] = Counter()
    for _ in range(free if turns else 0):
        has, place, whose = turns[0]
        given[whose] += 1
        heapreplace(turns, (has + 1, place, whose))
    return given


async def claim(
    tx: Transaction, platform: Platform, real_now: datetime, shares: Mapping[str, int]
) -> list[WalletPass]:
    """Take passes in hand that are due, so many of each business; as the system.

    Half of them are those marked last: a stamp does not wait behind a campaign to everybody.
    """
    told = {"platform": platform, "now": real_now, "until": real_now + LEASE}
    taken: list[WalletPass] = []
    for whose, most in sorted(shares.items()):
        # One hand alone takes now the one, now the other.
        half = (most + real_now.microsecond % 2) // 2
        newest = await tx.many(_CLAIM_NEWEST, whose=whose, most=half, **told)
        rest = most - len(newest)
        taken += newest + await tx.many(_CLAIM_OLDEST, whose=whose, most=rest, **told)
    return taken


async def take_over(tx: Transaction, real_now: datetime) -> None:
    """Whoever had passes in hand is dead: for the only worker there is, as the system."""
    await tx.run(_TAKE_OVER, now=real_now)


async def look_at(tx: Transaction, taken: WalletPass, real_now: datetime, url: str) -> Look | None:
    """What a pass in hand shows now; None if the wallet knows, or another has it in hand.

    It is stored before the wallet is told: whoever asks then is answered with it.
    """
    held = await _in_hand(tx, taken)
    if held is None:
        return None
    business = await tx.get(Business, held.business_id)
    if business is None:
        raise LookupError(held.business_id)
    face = await pass_face(tx, business, held, business.time(real_now), url)
    digest, news = digest_of(face), None if face.is_void else _news_of(held, real_now)
    if digest == held.shown and news is None and held.tries == 1:
        await tx.change(held, due_at=None, tries=0, news_id=None)
        return None
    if digest != held.shown:
        await tx.change(held, shown=digest, changed_at=_next_second(held.changed_at, real_now))
    devices = await tx.many(_DEVICES, serial=held.serial)
    return Look(
        held=held,
        face=face,
        devices=[Device(device=one.device, push_token=one.push_token) for one in devices],
        news=news,
    )


async def settle(tx: Transaction, look: Look, outcome: Outcome, real_now: datetime) -> None:
    """Store what became of telling a wallet; nothing if another has the pass in hand by now."""
    held = await _in_hand(tx, look.held)
    if held is None:
        return
    if isinstance(outcome, AskAgain):
        wait = max(timedelta(seconds=outcome.seconds), FIRST_WAIT * 2 ** min(held.tries - 1, 10))
        await tx.change(held, due_at=real_now + min(wait, MOST_WAIT))
        return
    values: dict[str, Any] = {
        "due_at": None if held.marks == look.held.marks else real_now,
        "tries": 0,
    }
    if look.face.is_void or (look.news is not None and held.news_id == look.news.id):
        values["news_id"] = None
    if isinstance(outcome, Refused):
        values["shown"] = ""  # the next mark is told in any case
    else:
        for gone in outcome.gone:
            await tx.run(
                _DROP_GONE, serial=held.serial, device=gone.device, push_token=gone.push_token
            )
        if outcome.rang:
            values["told"] = [*_rings(held, real_now), real_now.isoformat()]
    await tx.change(held, **values)


def _news_of(held: WalletPass, real_now: datetime) -> News | None:
    if held.news_id is None or held.news is None:
        return None
    return News(
        id=held.news_id,
        title=held.news_title or "",
        text=held.news,
        rings=len(_rings(held, real_now)) < RINGS,
    )


def _rings(held: WalletPass, real_now: datetime) -> list[str]:
    """When the telephone rang within the last day."""
    return [told for told in held.told if real_now - datetime.fromisoformat(told) < A_DAY]


def _next_second(last: datetime, real_now: datetime) -> datetime:
    """HTTP tells of changes in whole seconds: no two of a pass may fall into one."""
    return max(real_now.replace(microsecond=0), last + timedelta(seconds=1))


async def _in_hand(tx: Transaction, taken: WalletPass) -> WalletPass | None:
    held = await tx.maybe(_PASS, serial=taken.serial, platform=taken.platform)
    return held if held is not None and held.due_at == taken.due_at else None


# -- News. ----------------------------------------------------------------------------------------


async def bring_news(
    tx: Transaction,
    platforms: Collection[Platform],
    serial: str,
    id: str,
    title: str,
    text: str,
    real_now: datetime,
) -> Brought:
    """Have the passes with this serial bring a message; it is stored with the transaction.

    Those in wallets that nobody here tells anything any more do not count: there it would wait for
    ever, and the next one behind it. Neither does a void one.
    """
    passes = [one for one in await tx.many(_HELD, serial=serial) if one.platform in platforms]
    if not passes or await shown_card(tx, serial) is None:
        return Brought.NOWHERE
    if any(held.news_id is not None for held in passes):
        return Brought.LATER
    for held in passes:
        await tx.change(
            held,
            news_title=title,
            news=text,
            news_id=id,
            due_at=held.due_at or real_now,
            marks=held.marks + 1,
        )
    return Brought.SOON
