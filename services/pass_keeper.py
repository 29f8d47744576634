"""The keeper of passes: sees what happens to cards, and tells the wallets that hold them.

Any number of them may run. Whoever died with a pass in hand is followed by another when the lease
runs out, and tells the same again: nothing appears twice then.
"""

import asyncio
from collections import Counter
from collections.abc import Collection
from datetime import datetime

import structlog

from core.clock import Clock
from core.sweeper import ManyHanded
from db import Database, Transaction
from events.stream import Stream
from integrations.channels.seam import Accepted, Answer, Letter, Rejected, RetryAfter
from integrations.wallets import Wallets
from integrations.wallets.seam import AskAgain, Refused, Wallet
from models import PassCursor, Platform, WalletPass
from services import passes
from services.passes import Brought

HANDS = 16
"""Passes of one wallet in hand at once."""
TELL_SECONDS = 40.0
"""How long a wallet may take; well within a lease."""
NEWS_SECONDS = 300.0
"""How long a message waits for the one before it on the same pass."""

log = structlog.get_logger("stampwire.passes")


async def bring(
    database: Database, platforms: Collection[Platform], letter: Letter, real_now: datetime
) -> Answer:
    """Have the passes at a letter's address bring it; the keeper of these wallets tells them."""
    told = letter.address, letter.id, letter.subject, letter.text
    brought = await database.write(
        letter.business_id, lambda tx: passes.bring_news(tx, platforms, *told, real_now)
    )
    if brought is Brought.LATER:
        return RetryAfter(NEWS_SECONDS, is_tried=False)
    return Accepted() if brought is Brought.SOON else Rejected("no pass")


class PassKeeper(ManyHanded[tuple[Platform, str]]):
    """One per process."""

    name = "passes"
    rest_seconds = 1.0

    def __init__(
        self, database: Database, stream: Stream, wallets: Wallets, clock: Clock, url: str
    ) -> None:
        super().__init__(stream.bell)
        self._database = database
        self._wallets = wallets
        self._clock = clock
        self._url = url

    async def take_over(self) -> None:
        """Whoever had passes in hand is dead; only for the only worker there is."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: passes.take_over(tx, now))

    async def sweep(self) -> int:
        """Follow the logs, and take passes in hand; says how much that was."""
        self._news.clear()
        did = 0
        for cursor, head in await self._database.read(None, passes.behind):
            did += await self._follow(cursor, head)
        for wallet in self._wallets.all:
            did += await self._take(wallet)
        return did

    async def _follow(self, cursor: PassCursor, head: int) -> bool:
        """Follow the log of one business; says whether that went well."""
        now = self._clock.now()

        async def work(tx: Transaction) -> None:
            await passes.follow(tx, cursor, head, now)

        try:
            await self._database.write(cursor.business_id, work)
        except Exception as error:  # noqa: BLE001 -- it keeps no other business waiting
            log.warning("log not followed", business=cursor.business_id, error=type(error).__name__)
            return False
        return True

    async def _take(self, wallet: Wallet) -> int:
        """Take passes of a wallet in hand, as many as there are hands; says how many."""
        now, platform = self._clock.now(), wallet.platform
        busy = Counter(whose for kind, whose in self._in_hand.values() if kind is platform)
        free = HANDS - busy.total()
        if free <= 0:
            return 0
        waiting = await self._database.read(None, lambda tx: passes.waiting(tx, platform, now))
        shares = passes.shares(waiting, busy, free)
        if not shares:
            return 0
        taken = await self._database.write(None, lambda tx: passes.claim(tx, platform, now, shares))
        for held in taken:
            self._begin(self._serve(wallet, held), (platform, held.business_id))
        return len(taken)

    async def _serve(self, wallet: Wallet, taken: WalletPass) -> None:
        """See what a pass shows, and tell its wallet if that is not what it knows."""
        database, business_id = self._database, taken.business_id
        try:
            look = await database.write(
                business_id,
                lambda tx: passes.look_at(tx, taken, self._clock.now(), self._url),
            )
            if look is None:
                return
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    outcome = await wallet.show(look.face, look.devices, look.news)
            except Exception as error:  # noqa: BLE001 -- whatever a wallet does, we go on
                outcome = AskAgain(seconds=30, reason=type(error).__name__)
            if isinstance(outcome, AskAgain | Refused):
                kind = type(outcome).__name__
                log.warning(
                    "wallet not told", wallet=str(wallet.platform), answer=kind, why=outcome.reason
                )
            told = outcome
            await database.write(
                business_id, lambda tx: passes.settle(tx, look, told, self._clock.now())
            )
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("pass not kept", error=type(error).__name__)
