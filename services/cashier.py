"""The cashier: leases sales that wait, fetches their receipts from the tills, and settles them.

Any number of them may run. Whoever died with a sale in hand is followed by another when the lease
runs out; a sale is settled in one transaction, by whoever leased it last.
"""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import structlog

from core.clock import Clock
from core.errors import Refused
from core.secrets import Secrets
from core.sweeper import ManyHanded
from db import Database, Transaction
from events.stream import Stream
from integrations.http import Outgoing
from integrations.tills import NoReceipt, Receipt, TillAway, TillRefuses
from models import Actor, Business, PointOfSale, PointOfSaleStatus, Sale
from services import sales
from services.points_of_sale import Connection, callback_url, now_well
from services.sale_refs import live_point

HANDS = 16
"""Sales in hand at once."""
HANDS_OF_ONE = 4
"""Of one point of sale: a till that does not answer keeps no other waiting."""
SET_UPS = 4

log = structlog.get_logger("stampwire.cashier")


class Cashier(ManyHanded[str]):
    """One per process."""

    name = "cashier"
    rest_seconds = 1.0

    def __init__(
        self,
        database: Database,
        stream: Stream,
        outgoing: Outgoing,
        secrets: Secrets,
        clock: Clock,
        url: str,
    ) -> None:
        super().__init__(stream.bell)
        self._database = database
        self._outgoing = outgoing
        self._secrets = secrets
        self._clock = clock
        self._url = url

    async def take_over(self) -> None:
        """Whoever had sales in hand is dead; only for the only worker there is."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: sales.take_over(tx, now))

    async def sweep(self) -> int:
        """Take sales in hand, and set up what is to be; says how much that was."""
        self._news.clear()
        now = self._clock.now()
        if not await self._database.read(None, lambda tx: sales.any_due(tx, now)):
            return 0
        if len(self._in_hand) >= HANDS:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
        free = HANDS - len(self._in_hand)
        counts = Counter(self._in_hand.values())
        busy = [id for id, count in counts.items() if count >= HANDS_OF_ONE]

        async def work(tx: Transaction) -> tuple[list[Sale], list[PointOfSale]]:
            return (
                await sales.claim(tx, now, min(free, HANDS_OF_ONE), busy),
                await sales.claim_set_ups(tx, now, SET_UPS),
            )

        claimed, points = await self._database.write(None, work)
        for sale in claimed:
            self._begin(self._serve(sale), sale.point_of_sale_id)
        for point in points:
            self._begin(self._set_up(point), point.id)
        return len(claimed) + len(points)

    async def _serve(self, sale: Sale) -> None:
        """Settle one sale."""
        try:
            await self._settle(sale)
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("sale broken off", sale=sale.id, error=type(error).__name__)

    async def _settle(self, sale: Sale) -> None:
        actor = await self._actor_of(sale)
        try:
            receipt = await self._receipt_of(actor, sale)
        except (TillAway, TillRefuses, NoReceipt) as error:
            await self._put_off(sale, error)
            return

        async def settle(tx: Transaction) -> None:
            await sales.settle(tx, actor, sale, receipt, self._clock.now())

        try:
            await self._database.write(sale.business_id, settle)
        except Refused as refusal:
            why = refusal.message
            await self._database.write(sale.business_id, lambda tx: sales.refuse(tx, sale, why))

    async def _receipt_of(self, actor: Actor, sale: Sale) -> Receipt | None:
        """What the till itself says; None where its call had said all, or took the sale back."""
        point = actor.point_of_sale
        if not sale.to_fetch or sale.refunded_at is not None:
            return None
        if point is None or point.settings is None:
            raise NoReceipt("The till was disconnected.")
        connection = Connection.of(point, self._secrets)
        told = Receipt(sale_id=sale.sale_id, closed_at=sale.closed_at, guest=sale.guest)
        fetch = connection.till.fetch_receipt
        receipt: Receipt = await fetch(self._outgoing, connection.settings, told)
        return receipt

    async def _put_off(self, sale: Sale, error: Exception) -> None:
        now = self._clock.now()
        after = error.retry_after if isinstance(error, TillAway) else None
        refused = isinstance(error, TillRefuses)

        async def work(tx: Transaction) -> None:
            why = str(error)
            await sales.put_off(tx, sale, why, now, retry_after=after, is_refused=refused)

        await self._database.write(sale.business_id, work)

    async def _actor_of(self, sale: Sale) -> Actor:
        async def work(tx: Transaction) -> Actor:
            business = await tx.get(Business, sale.business_id)
            point = await tx.get(PointOfSale, sale.point_of_sale_id)
            if business is None:
                raise LookupError(sale.business_id)
            return Actor(business, point_of_sale=point)

        return await self._database.read(sale.business_id, work)

    async def _set_up(self, point: PointOfSale) -> None:
        """Set up one connection at the till's side; where that fails, later again."""
        try:
            connection = Connection.of(point, self._secrets)
            problem = None
            after = sales.pause_after(point.set_up_tries)
            try:
                url = callback_url(self._url, point)
                await connection.till.set_up(self._outgoing, connection.settings, url)
            except TillAway as error:
                problem, after = str(error), max(after, error.retry_after or 0.0)
            except TillRefuses as error:
                problem = str(error)
            now = self._clock.now()

            async def work(tx: Transaction) -> None:
                known = await live_point(tx, point.id)
                if known.settings != point.settings:
                    return  # changed meanwhile: it is set up anew
                if problem is None:
                    await now_well(tx, known, now)
                elif known.status is PointOfSaleStatus.PENDING:
                    later: datetime = now + timedelta(seconds=after)
                    await tx.change(known, problem=problem, next_set_up_at=later)

            await self._database.write(point.business_id, work)
        except Exception as error:  # noqa: BLE001 -- the lease runs out, and it is tried again
            log.warning("set-up broken off", point=point.id, error=type(error).__name__)
