"""The postman: writes what campaigns have to say, and carries messages to their channels.

Any number of them may run. A campaign's next recipients are written for under the lock of its
row, and a message belongs to whoever took it from the outbox: see there what a crash leaves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog

from core.clock import Clock
from core.sweeper import ManyHanded
from db import Database, Transaction
from events.stream import Stream
from integrations.channels import Channels
from integrations.channels.seam import HELD_BACK, UNKNOWN, Answer, Letter
from models import Actor, Business, Campaign, Channel, Message
from services import campaigns, outbox, routes
from services.routes import Route
from services.text import cut
from services.unsubscribing import unsubscribe_path

HANDS = 8
"""Hand-overs at once."""
TAKEN_AT_ONCE = 100
CAMPAIGNS_AT_ONCE = 20
SEND_SECONDS = 30.0
RECORD_SECONDS = 20.0
"""How long the answers are tried to be stored; with the hand-over, less than a lease."""

log = structlog.get_logger("stampwire.postman")


class Postman(ManyHanded[None]):
    """One per process; letters of one business and channel go out together."""

    name = "postman"
    rest_seconds = 2.0
    pause_seconds = 0.1

    def __init__(
        self, database: Database, stream: Stream, channels: Channels, clock: Clock, url: str
    ) -> None:
        super().__init__(stream.bell)
        self._database = database
        self._channels = channels
        self._clock = clock
        self._url = url

    async def take_over(self) -> None:
        """Whoever had messages in hand is dead; only for the only worker there is."""
        now = self._clock.now()
        await self._database.write(None, lambda tx: outbox.take_over(tx, now))

    async def sweep(self) -> int:
        """Write what can be written, and begin to carry what waits; says how much that was."""
        self._news.clear()
        now = self._clock.now()

        async def work(tx: Transaction) -> tuple[list[Message], list[Campaign], bool]:
            return (
                await outbox.lost(tx, now, TAKEN_AT_ONCE),
                await campaigns.under_way(tx, CAMPAIGNS_AT_ONCE),
                await outbox.anything_waits(tx, now),
            )

        lost, under_way, waits = await self._database.read(None, work)
        did = len(lost)
        for business_id, messages in _by_business(lost).items():
            await self._record(business_id, messages, [UNKNOWN] * len(messages))
        for campaign in under_way:
            wrote = await self._write_next(campaign)
            did, waits = did + wrote, waits or wrote
        if waits and not self._stop.is_set():
            did += await self._take()
        return did

    async def finish_campaigns(self, business_id: str, patience: float = 30.0) -> None:
        """Send all that campaigns of a business have under way: before a test clock moves on.

        What a channel wants to have later is left to the others.
        """
        end = asyncio.get_running_loop().time() + patience
        while await self._database.read(business_id, campaigns.is_sending):
            did = await self.sweep()
            await self.finish()
            if not did:
                # Another postman has the last of it in hand.
                if asyncio.get_running_loop().time() > end:
                    return
                await asyncio.sleep(0.02)

    async def _write_next(self, campaign: Campaign) -> bool:
        async def work(tx: Transaction) -> bool:
            actor, clock_now = await self._system(tx, campaign.business_id), self._clock.now()
            now = actor.business.time(clock_now)
            return await campaigns.write_next(tx, actor, campaign.id, now, clock_now)

        return await self._database.write(campaign.business_id, work)

    async def _take(self) -> int:
        """Take messages from the outbox and begin to hand them over; says how many."""
        if len(self._in_hand) >= HANDS:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
        now = self._clock.now()
        taken = await self._database.write(None, lambda tx: outbox.claim(tx, now, TAKEN_AT_ONCE))
        together: dict[tuple[str, Channel], list[Message]] = defaultdict(list)
        for message in taken:
            together[message.business_id, message.channel].append(message)
        for (business_id, channel), messages in together.items():
            most = self._channels.most_letters(channel)
            for start in range(0, len(messages), most):
                part = messages[start : start + most]
                self._begin(self._hand_over(business_id, channel, part), None)
        return len(taken)

    async def _hand_over(
        self, business_id: str, channel: Channel, messages: Sequence[Message]
    ) -> None:
        try:
            ways = await self._ways(business_id, channel, messages)
            answers = await self._answers(business_id, channel, messages, ways)
            await self._record(business_id, messages, answers)
            await self._learn(business_id, messages, ways, answers)
        except Exception as error:  # noqa: BLE001 -- they are found in the outbox when the lease is over
            log.warning("answers not stored", business=business_id, error=type(error).__name__)

    async def _ways(
        self, business_id: str, channel: Channel, messages: Sequence[Message]
    ) -> list[Route | Answer]:
        now = self._clock.now()
        try:
            return await self._database.read(
                business_id, lambda tx: routes.routes_of(tx, channel, messages, now)
            )
        except Exception as error:  # noqa: BLE001 -- nobody was asked anything: they go back
            log.warning("routes not read", business=business_id, error=type(error).__name__)
            return [HELD_BACK] * len(messages)

    async def _answers(
        self,
        business_id: str,
        channel: Channel,
        messages: Sequence[Message],
        ways: Sequence[Route | Answer],
    ) -> list[Answer]:
        """What became of each; what goes to one provider goes there together, in its portions."""
        answers: list[Answer] = [
            routes.NOT_CONNECTED if isinstance(way, Route) else way for way in ways
        ]
        senders: dict[int, Any] = {}
        together: dict[int, list[tuple[int, Letter]]] = defaultdict(list)
        for place, (message, way) in enumerate(zip(messages, ways, strict=True)):
            if isinstance(way, Route) and (sender := self._sender(channel, message, way)):
                letter = self._letter(message, way, sender.most_text)
                senders[id(sender)] = sender
                together[id(sender)].append((place, letter))

        async def send(sender: Any, part: Sequence[tuple[int, Letter]]) -> None:
            told = await self._told(business_id, sender, [letter for _, letter in part])
            for (place, _), answer in zip(part, told, strict=True):
                answers[place] = answer

        await asyncio.gather(
            *(
                send(sender, together[key][start : start + sender.most_letters])
                for key, sender in senders.items()
                for start in range(0, len(together[key]), sender.most_letters)
            )
        )
        return answers

    def _sender(self, channel: Channel, message: Message, way: Route) -> Any:
        """Whoever takes it: a provider that the business connected, or a sender for all."""
        if way.connection is None:
            return self._channels.sender(channel, message.address or "")
        try:
            return self._channels.provider(way.connection)
        except (ValueError, LookupError):  # sealed with a key that is gone: `doctor` tells
            return None

    @staticmethod
    async def _told(business_id: str, sender: Any, letters: Sequence[Letter]) -> Sequence[Answer]:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                answers: Sequence[Answer] = await sender.send(letters)
        except Exception as error:  # noqa: BLE001 -- whatever a provider does, we go on
            kind = type(sender).__module__.rpartition(".")[2]
            log.warning(
                "channel failed", sender=kind, business=business_id, error=type(error).__name__
            )
            answers = []
        return answers if len(answers) == len(letters) else [UNKNOWN] * len(letters)

    def _letter(self, message: Message, way: Route, most_text: int) -> Letter:
        secrets, path = self._channels.secrets, None
        if secrets and message.campaign_id and message.channel is Channel.EMAIL:
            path = unsubscribe_path(secrets, message.customer_id)
        return Letter(
            id=message.id,
            business_id=message.business_id,
            customer_id=message.customer_id,
            channel=message.channel,
            address=way.address,
            subject=message.subject,
            text=cut(message.text, most_text),
            url=f"{self._url}{message.url}" if message.url else None,
            business=way.business,
            language=way.language,
            campaign_id=message.campaign_id,
            unsubscribe_url=f"{self._url}{path}" if path else None,
            messenger=way.messenger,
            keys=way.keys,
        )

    async def _learn(
        self,
        business_id: str,
        messages: Sequence[Message],
        ways: Sequence[Route | Answer],
        answers: Sequence[Answer],
    ) -> None:
        told = [
            (message, way, answer)
            for message, way, answer in zip(messages, ways, answers, strict=True)
            if isinstance(way, Route) and routes.worth_learning(way, answer)
        ]
        if not told:
            return

        async def work(tx: Transaction) -> None:
            actor, clock_now = await self._system(tx, business_id), self._clock.now()
            await routes.learn(tx, actor, told, actor.business.time(clock_now), clock_now)

        await self._database.write(business_id, work)

    async def _record(
        self, business_id: str, messages: Sequence[Message], answers: Sequence[Answer]
    ) -> None:
        """Store the answers; a database that is away for a moment is waited for."""

        async def work(tx: Transaction) -> None:
            actor, clock_now = await self._system(tx, business_id), self._clock.now()
            now = actor.business.time(clock_now)
            told = list(zip(messages, answers, strict=True))
            await outbox.record_answers(tx, actor, told, now, clock_now)

        loop = asyncio.get_running_loop()
        end, pause = loop.time() + RECORD_SECONDS, 0.1
        while True:
            try:
                await self._database.write(business_id, work)
            except Exception:
                if loop.time() + pause > end:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)
            else:
                return

    @staticmethod
    async def _system(tx: Transaction, business_id: str) -> Actor:
        business = await tx.get(Business, business_id)
        if business is None:
            raise LookupError(business_id)
        return Actor(business)


def _by_business(messages: Sequence[Message]) -> dict[str, list[Message]]:
    together: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        together[message.business_id].append(message)
    return together
