"""The keeper of passes: sees what happens to cards, and tells the wallets that hold them.

Any number of them may run. Whoever died with a pass in hand is followed by another when the lease
runs out, and tells the same again: nothing appears twice then.
"""

import asyncio
from collections import Counter
from datetime import datetime

import structlog

from core.clock import Clock
from core.sweeper import Sweeper
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
REST_SECONDS = 0.05
NEWS_SECONDS = 30.0
"""How long a message waits for the one before it on the same pass."""
DRAIN_SECONDS = 10.0

log = structlog.get_logger("stampwire.passes")


async def bring(database: Database, letter: Letter, real_now: datetime) -> Answer:
    """Have the passes at a letter's address bring it; the keeper tells their wallets."""
    told = letter.address, letter.id, letter.subject, letter.text
    brought = await database.write(
        letter.business_id, lambda tx: passes.bring_news(tx, *told, real_now)
    )
    if brought is Brought.LATER:
        return RetryAfter(NEWS_SECONDS, is_tried=False)
    return Accepted() if brought is Brought.SOON else Rejected("no pass")


class PassKeeper(Sweeper):
    """One per process."""

    name = "passes"
    rest_seconds = 1.0

    def __init__(
        self, database: Database, stream: Stream, wallets: Wallets, clock: Clock, url: str
    ) -> None:
        super().__init__()
        self._database = database
        self._stream = stream
        self._wallets = wallets
        self._clock = clock
        self._url = url
        self._news = asyncio.Event()
        self._in_hand: dict[asyncio.Task[None], Platform] = {}

    async def run(self) -> None:
        """Keep passes until told to stop; what is in hand is finished, or left to the next one."""
        with self._stream.bell() as self._news:
            try:
                await super().run()
            finally:
                await self.drain()

    def stop(self) -> None:
        """Begin nothing more."""
        super().stop()
        self._news.set()

    async def take_over(self) -> None:
        """Whoever had passes in hand is dead; only for the only worker there is."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: passes.take_over(tx, now))

    async def sweep(self) -> int:
        """Follow the logs, and take passes in hand; says how much that was."""
        self._news.clear()
        now = self._clock.now()
        did = 0
        for cursor, head in await self._database.read(None, passes.behind):

            async def follow(
                tx: Transaction, cursor: PassCursor = cursor, head: int = head
            ) -> None:
                await passes.follow(tx, cursor, head, now)

            await self._database.write(cursor.business_id, follow)
            did += 1
        for wallet in self._wallets.all:
            did += await self._take(wallet)
        return did

    async def finish(self) -> None:
        """Do all that can be done now, and wait until it is done."""
        while await self.sweep() or self._in_hand:
            if self._in_hand:
                await asyncio.wait(self._in_hand)

    async def drain(self) -> None:
        """Finish what is in hand, within ten seconds; a lease that is not let go runs out."""
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=DRAIN_SECONDS)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self.rest_seconds):
                await self._news.wait()
        except TimeoutError:
            return
        if not self._stop.is_set():  # what happens together is told together
            await asyncio.sleep(REST_SECONDS)

    async def _take(self, wallet: Wallet) -> int:
        """Take passes of a wallet in hand, as many as there are hands; says how many."""
        now, platform = self._clock.now(), wallet.platform
        free = HANDS - Counter(self._in_hand.values())[platform]
        if free <= 0 or not await self._database.read(
            None, lambda tx: passes.anything_due(tx, platform, now)
        ):
            return 0
        taken = await self._database.write(None, lambda tx: passes.claim(tx, platform, now, free))
        for held in taken:
            task = asyncio.create_task(self._serve(wallet, held), name="passes-serve")
            self._in_hand[task] = platform
            task.add_done_callback(self._done)
        return len(taken)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_hand.pop(task, None)
        self._news.set()

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
