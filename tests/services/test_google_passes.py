"""Google's passes in the keeper's hands: news ring so often and no more, and come once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Transaction
from events.log import events_after
from events.stream import Stream
from factories import Cafe, a_business, a_card, stamps
from fakes.google_wallet import Google
from fakes.providers import serving
from integrations.http import Outgoing
from integrations.wallets import Wallets
from integrations.wallets.google import GoogleWallet
from integrations.wallets.google_callback import Called
from models import Card, Platform
from services.google_passes import hear, offer
from services.pass_keeper import PassKeeper
from services.passes import (
    LEASE,
    Brought,
    bring_news,
    claim,
    find_pass,
    look_at,
    report_removed,
    report_saved,
    tell_again,
)

URL = "https://cards.example"


@dataclass
class Bench:
    """A card that is in Google Wallet, and the keeper of its pass."""

    google: Google
    wallet: GoogleWallet
    database: Database
    cafe: Cafe
    card: Card
    clock: ManualClock

    @property
    def keeper(self) -> PassKeeper:
        """A keeper that is told when to look: no bell wakes it."""
        wallets, stream = Wallets(google=self.wallet), Stream(self.database, "memory://")
        return PassKeeper(self.database, stream, wallets, self.clock, URL)

    async def do(self, work: Any) -> Any:
        """Do this in the café's name."""
        return await self.database.write(self.cafe.business.id, work)

    async def bring(self, id: str) -> Brought:
        """Have the pass bring a message."""
        told = self.card.wallet_pass_id, id, "Kopi", "2-for-1 today"
        told_at, here = self.clock.now(), [Platform.GOOGLE]
        brought: Brought = await self.do(lambda tx: bring_news(tx, here, *told, told_at))
        return brought

    @property
    def messages(self) -> list[tuple[str, str]]:
        """What the pass has brought."""
        return self.google.messages(self.card.wallet_pass_id)

    @property
    def balance(self) -> str:
        """The stamps it shows."""
        shown = self.google.object(self.card.wallet_pass_id)
        text: str = shown["loyaltyPoints"]["balance"]["string"]
        return text


@pytest.fixture
async def bench(
    database: Database, settings: Settings, secrets: Secrets, clock: ManualClock
) -> AsyncIterator[Bench]:
    google, outgoing = Google(now=clock.now), Outgoing(allow_insecure=True)
    async with serving(google):
        set_up = settings.model_copy(update=google.settings)
        wallet = Wallets.of(set_up, outgoing, secrets, clock).google
        assert wallet is not None
        wallet._requests.per_second = 10_000
        cafe = await a_business(database, now=clock.now())
        card = await a_card(database, cafe.owner, None, clock.now())
        bench = Bench(google, wallet, database, cafe, card, clock)

        async def save(tx: Transaction) -> Any:
            _, face = await offer(tx, cafe.business, card, clock.now(), URL)
            serial = card.wallet_pass_id
            await report_saved(tx, cafe.business, serial, Platform.GOOGLE, clock.now())
            return face

        await wallet.save_link(await bench.do(save))
        yield bench
        await outgoing.close()


async def test_three_messages_a_day_ring_and_the_fourth_comes_silently(bench: Bench) -> None:
    for number in range(4):
        assert await bench.bring(f"msg_{number}") is Brought.SOON
        await bench.keeper.finish()
    bench.clock.advance(timedelta(days=1))
    await bench.bring("msg_4")
    await bench.keeper.finish()

    assert [kind for _, kind in bench.messages] == [
        "TEXT_AND_NOTIFY", "TEXT_AND_NOTIFY", "TEXT_AND_NOTIFY", "TEXT", "TEXT_AND_NOTIFY",
    ]  # fmt: skip
    # That the fourth may not ring, we know without asking.
    assert bench.google.calls.count(("POST", "loyaltyObject/addMessage")) == 5


async def test_whoever_dies_after_telling_is_followed_by_one_who_tells_it_once(
    bench: Bench,
) -> None:
    await bench.bring("msg_1")
    now = bench.clock.now()
    whose = {bench.cafe.business.id: 1}
    [taken] = await bench.database.write(None, lambda tx: claim(tx, Platform.GOOGLE, now, whose))
    look = await bench.do(lambda tx: look_at(tx, taken, now, URL))
    await bench.wallet.show(look.face, look.devices, look.news)
    # Here it dies, and nobody knows that it told. For as long as its lease lasts, nobody asks.
    await bench.keeper.finish()
    waiting = await bench.bring("msg_2")
    bench.clock.advance(LEASE)
    await bench.keeper.finish()
    later = await bench.bring("msg_2")

    assert (waiting, later) == (Brought.LATER, Brought.SOON)
    assert bench.messages == [("msg_1", "TEXT_AND_NOTIFY")]
    assert bench.google.rings(bench.card.wallet_pass_id) == 1


async def test_a_pass_that_was_taken_out_brings_nothing(bench: Bench) -> None:
    serial, now = bench.card.wallet_pass_id, bench.clock.now()

    await bench.do(lambda tx: report_removed(tx, serial, Platform.GOOGLE, now))
    gone = await bench.bring("msg_1")
    await bench.do(lambda tx: report_saved(tx, bench.cafe.business, serial, Platform.GOOGLE, now))
    back = await bench.bring("msg_1")

    assert (gone, back) == (Brought.NOWHERE, Brought.SOON)


async def test_a_button_that_tells_of_the_past_is_followed_by_the_present(bench: Bench) -> None:
    """Its holder presses the button again while a stamp is on its way to Google."""
    now = bench.clock.now()
    held, face = await bench.do(lambda tx: offer(tx, bench.cafe.business, bench.card, now, URL))
    await stamps(bench.database, bench.cafe.owner, bench.card, 2, now)
    await bench.keeper.finish()
    told = [bench.balance]
    await bench.wallet.save_link(face)
    told.append(bench.balance)
    await bench.do(lambda tx: tell_again(tx, held, now))
    await bench.keeper.finish()
    bench.google.calls.clear()
    await bench.keeper.finish()

    assert [*told, bench.balance] == ["2 / 3", "0 / 3", "2 / 3"]
    assert bench.google.calls == []


async def test_calls_of_google_count_once_and_in_their_own_order(bench: Bench) -> None:
    """It says that the card was taken out, and then that it was saved; they come crosswise."""
    now, seen = bench.clock.now(), []

    async def hear_of(nonce: str, hours: int, *, is_saved: bool) -> None:
        until = now + timedelta(hours=hours)
        called = Called(
            serial=bench.card.wallet_pass_id, is_saved=is_saved, nonce=nonce, expires_at=until
        )
        await bench.do(lambda tx: hear(tx, bench.cafe.business, called, now))
        held = await bench.do(lambda tx: find_pass(tx, called.serial, Platform.GOOGLE))
        seen.append(held[0].removed_at is None)

    await asyncio.gather(*(hear_of("n2", 2, is_saved=True) for _ in range(4)))
    await hear_of("n1", 1, is_saved=False)
    await hear_of("n3", 3, is_saved=False)
    await hear_of("n2", 2, is_saved=True)
    assert seen == [True] * 5 + [False] * 2
    rows = await bench.do(lambda tx: events_after(tx, 0, 100))
    assert [row.type for row in rows].count("card_saved") == 1
