"""Cards in Google Wallet: put there by their holders, kept up to date, and what Google calls."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlmodel import col, select

from conftest import serving as running
from core.clock import ManualClock
from core.settings import Settings
from db import BUSINESS, Database, query
from events.log import events_after
from factories import Cafe, a_business, a_campaign, a_card, stamps
from fakes.google_wallet import ISSUER, Google
from fakes.providers import serving
from models import Card, Platform, WalletPass
from patience import look_often, until
from services.card_refs import CardRef
from services.cards import ReplaceCardInput, replace_card

_PASSES = query(select(WalletPass).where(col(WalletPass.business_id) == BUSINESS))
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def google(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    look_often(monkeypatch)
    fake = Google(now=clock.now)
    async with serving(fake):
        yield fake


@pytest.fixture
def settings(settings: Settings, google: Google) -> Settings:
    return settings.model_copy(update=google.settings)


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    return await a_card(
        database, cafe.owner, None, clock.now(), email="siti@mail.example", language="id"
    )


class Holder:
    """Somebody with a card, a telephone, and an account at Google."""

    def __init__(
        self, http: httpx2.AsyncClient, google: Google, database: Database, cafe: Cafe, card: Card
    ) -> None:
        self.http, self.google, self.database = http, google, database
        self.cafe, self.card = cafe, card
        self.told = {"id": f"{ISSUER}.{card.wallet_pass_id}", "classId": ""}

    async def ask(self) -> httpx2.Response:
        """Press the button of the card's page."""
        return await self.http.get(f"/c/{self.card.token}/google")

    async def save(self) -> None:
        """Press it, and put the card into the wallet; Google calls back."""
        self.told = self.google.save((await self.ask()).headers["location"])
        assert (await self.call("save")).status_code == 200

    async def call(self, kind: str, **changes: Any) -> httpx2.Response:
        """Have Google call back."""
        return await self.http.post(
            "/passes/google", json=self.google.called(self.told, kind, **changes)
        )

    @property
    def shown(self) -> dict[str, Any]:
        """What the telephone shows."""
        return self.google.object(self.card.wallet_pass_id)

    @property
    def balance(self) -> str:
        """The stamps it shows."""
        text: str = self.shown["loyaltyPoints"]["balance"]["string"]
        return text

    async def saved(self, cafe: Cafe | None = None) -> list[str]:
        """The cards that a business's log says were saved."""
        business_id = (cafe or self.cafe).business.id
        rows = await self.database.read(business_id, lambda tx: events_after(tx, 0, 100))
        return [str(row.card_id) for row in rows if row.type == "card_saved"]

    async def passes(self) -> list[WalletPass]:
        """The passes of the business."""
        return await self.database.read(self.cafe.business.id, lambda tx: tx.many(_PASSES))


@pytest.fixture
def holder(
    http: httpx2.AsyncClient, google: Google, database: Database, cafe: Cafe, card: Card
) -> Holder:
    return Holder(http, google, database, cafe, card)


# -- The way there. -------------------------------------------------------------------------------


async def test_the_button_makes_the_card_at_google_and_leads_there(holder: Holder) -> None:
    first, second = await holder.ask(), await holder.ask()

    told = holder.google.save(first.headers["location"])
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.headers["referrer-policy"] == "no-referrer"
    assert told["id"] == f"{ISSUER}.{holder.card.wallet_pass_id}"
    assert holder.balance == "0 / 3"
    assert holder.shown["barcode"]["value"] == holder.card.token
    assert holder.shown["loyaltyPoints"]["label"] == "Stempel"
    # That it was asked for does not say that it was saved.
    assert await holder.saved() == []
    assert [one.platform for one in await holder.passes()] == [Platform.GOOGLE]


@pytest.mark.on("sqlite")
async def test_while_google_is_away_its_holder_is_asked_to_try_again(holder: Holder) -> None:
    holder.google.mood = "busy"
    away = await holder.ask()
    holder.google.mood = "good"
    back = await holder.ask()

    assert (away.status_code, back.status_code) == (503, 303)
    assert "Google Wallet tidak menjawab" in away.text


@pytest.mark.on("sqlite")
async def test_there_is_no_way_for_a_card_that_is_not_there(holder: Holder) -> None:
    answer = await holder.http.get("/c/AAAAAAAAAAAAAAAAAAAAAA/google")

    assert (answer.status_code, holder.google.asked) == (404, 0)


@pytest.mark.on("sqlite")
async def test_the_logo_of_businesses_without_one_is_a_picture(http: httpx2.AsyncClient) -> None:
    logo = await http.get("/passes/logo.png")

    assert logo.headers["content-type"] == "image/png"
    assert logo.content.startswith(b"\x89PNG")
    assert len(logo.content) < 30_000


# -- Kept up to date. -----------------------------------------------------------------------------


async def test_a_stamp_shows_in_the_wallet_and_rings_nowhere(
    holder: Holder, clock: ManualClock
) -> None:
    await holder.save()

    await stamps(holder.database, holder.cafe.owner, holder.card, 2, clock.now())
    await until(lambda: holder.balance == "2 / 3")

    assert holder.google.rings(holder.card.wallet_pass_id) == 0
    assert "messages" not in holder.shown


async def test_what_google_could_not_be_told_it_is_told_later(
    holder: Holder, clock: ManualClock
) -> None:
    await holder.save()
    holder.google.mood, asked = "broken", holder.google.asked
    await stamps(holder.database, holder.cafe.owner, holder.card, 1, clock.now())
    await until(lambda: holder.google.asked > asked)
    holder.google.mood = "good"

    async def is_told() -> bool:
        clock.advance(MINUTE)
        return holder.balance == "1 / 3"

    await until(is_told)


async def test_a_replaced_card_is_void_at_google(holder: Holder, clock: ManualClock) -> None:
    await holder.save()
    told = ReplaceCardInput(card=CardRef(id=holder.card.id))  # type: ignore[arg-type]

    await holder.database.write(
        holder.cafe.business.id, lambda tx: replace_card(tx, holder.cafe.owner, told, clock.now())
    )
    await until(lambda: holder.shown["state"] == "INACTIVE")
    again = await holder.call("save")

    assert holder.card.token not in str(holder.shown)
    assert again.status_code == 200
    assert await holder.saved() == [holder.card.id]


@pytest.mark.on("sqlite")
async def test_a_campaign_comes_with_the_pass_and_rings(holder: Holder, clock: ManualClock) -> None:
    await holder.save()
    database, owner = holder.database, holder.cafe.owner
    soon = clock.now() + MINUTE
    await a_campaign(database, owner, holder.card.template_id, clock.now(), scheduled_at=soon)
    clock.advance(MINUTE)
    await until(lambda: "messages" in holder.shown)

    [message] = holder.shown["messages"]
    assert (message["header"], message["body"]) == (holder.cafe.business.name, "2-for-1 today")
    assert message["id"].startswith("msg_")
    assert holder.google.rings(holder.card.wallet_pass_id) == 1


# -- What Google calls. ---------------------------------------------------------------------------


async def test_saved_is_reported_once_and_removed_is_known(
    holder: Holder, clock: ManualClock
) -> None:
    await holder.save()
    repeated = [(await holder.call("save", nonce="n1")).status_code for _ in range(2)]
    gone = await holder.call("del", nonce="n2")
    [removed] = await holder.passes()
    # It was sent before, and comes late: Google does not promise an order.
    await holder.call("save", nonce="n1")
    [still] = await holder.passes()
    await holder.call("save", nonce="n3")
    [back] = await holder.passes()

    assert (repeated, gone.status_code) == ([200, 200], 200)
    assert (removed.removed_at, still.removed_at, back.removed_at) == (
        clock.now(), clock.now(), None,
    )  # fmt: skip
    assert await holder.saved() == [holder.card.id]


async def test_what_another_business_gave_out_is_that_business_s(
    holder: Holder, database: Database, clock: ManualClock
) -> None:
    other = await a_business(database, now=clock.now())
    theirs = await a_card(database, other.owner, None, clock.now())
    await holder.save()
    holder.told["id"] = f"{ISSUER}.{theirs.wallet_pass_id}"
    without_pass = await holder.call("save")
    await holder.http.get(f"/c/{theirs.token}/google")
    with_pass = await holder.call("save")

    assert (without_pass.status_code, with_pass.status_code) == (200, 200)
    assert await holder.saved() == [holder.card.id]
    assert await holder.saved(other) == [theirs.id]


@pytest.mark.on("sqlite")
async def test_whoever_is_not_google_changes_nothing(holder: Holder, clock: ManualClock) -> None:
    await holder.ask()
    holder.told["classId"] = f"{ISSUER}.tpl_1"
    changed = holder.google.called(holder.told, "save")
    changed["signedMessage"] = changed["signedMessage"].replace("save", "del")
    forgeries: dict[str, Any] = {
        "foreign root": holder.google.called(
            holder.told, "save", root=ec.generate_private_key(ec.SECP256R1())
        ),
        "wrong issuer": holder.google.called(holder.told, "save", issuer="1"),
        "expired": holder.google.called(holder.told, "save", expTimeMillis=0),
        "changed message": changed,
        "nothing": {},
        "a list": [],
    }

    answers = {
        name: await holder.http.post("/passes/google", json=told)
        for name, told in forgeries.items()
    }
    long = await holder.http.post("/passes/google", content=b"[" * 50_001)

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        forgeries, 401
    )
    assert len({answer.text for answer in answers.values()}) == 1
    assert long.status_code == 413
    assert await holder.saved() == []


@pytest.mark.on("sqlite")
async def test_without_googles_keys_it_is_asked_to_come_again(holder: Holder) -> None:
    holder.told = holder.google.save((await holder.ask()).headers["location"])
    holder.google.has_keys = False
    away = await holder.call("save")
    holder.google.has_keys = True
    back = await holder.call("save")

    assert (away.status_code, back.status_code) == (503, 200)
    assert await holder.saved() == [holder.card.id]


@pytest.mark.on("sqlite")
async def test_there_is_nothing_of_google_where_it_is_not_set(
    settings: Settings, clock: ManualClock
) -> None:
    unset = settings.model_copy(update={"google_wallet_issuer": ""})
    async with running(unset, clock) as server, httpx2.AsyncClient(base_url=server.url) as http:
        answers = [
            await http.get("/c/AAAAAAAAAAAAAAAAAAAAAA/google"),
            await http.post("/passes/google"),
        ]

    assert [answer.status_code for answer in answers] == [404, 404]
