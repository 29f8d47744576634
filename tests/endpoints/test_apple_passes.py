"""Passes in Apple Wallet: fetched, held by telephones, told that they changed, and fetched anew."""

import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from sqlmodel import col, select

from core.buckets import Bucket
from core.clock import ManualClock
from core.ids import Id
from core.settings import Settings
from db import BUSINESS, Database, query
from events.log import events_after
from factories import Cafe, a_business, a_campaign, a_card, stamps
from fakes.apple import PASS_TYPE, Pushes, authority, push_service
from models import Card, PassDevice, WalletPass
from patience import look_often, until
from processes import RunningServer
from resolvers import charges
from services.card_refs import CardRef
from services.cards import ReplaceCardInput, replace_card

_DEVICES = query(select(PassDevice).where(col(PassDevice.business_id) == BUSINESS))
_PASSES = query(select(WalletPass).where(col(WalletPass.business_id) == BUSINESS))
URL = "https://kopi.example"
ROOT = "/passes/apple/v1"


@pytest.fixture
async def pushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pushes]:
    async with push_service(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
        look_often(monkeypatch)
        yield running


@pytest.fixture
def settings(settings: Settings, pushes: Pushes) -> Settings:
    told = {**authority().settings, "apple_push_url": pushes.url, "public_url": URL}
    return settings.model_copy(update=told)


@pytest.fixture
async def http(server: RunningServer) -> AsyncIterator[httpx2.AsyncClient]:
    where = f"http://{server.settings.host}:{server.settings.port}"
    async with httpx2.AsyncClient(base_url=where) as client:
        yield client


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    return await a_card(database, cafe.owner, None, clock.now(), email="siti@mail.example")


@dataclass
class Phone:
    """A telephone: it does with a pass what Apple's do."""

    http: httpx2.AsyncClient
    device: str
    push_token: str
    shown: dict[str, Any] = field(default_factory=dict)
    since: str = ""
    modified: str = ""

    async def add(self, card: Card) -> httpx2.Response:
        """Fetch the pass of a card and keep it."""
        self._read(await self.http.get(f"/c/{card.token}/card.pkpass"))
        return await self.register()

    async def register(self, method: str = "POST", **changes: str) -> httpx2.Response:
        return await self.http.request(
            method,
            f"{ROOT}/devices/{self.device}/registrations/{self._path(changes)}",
            json={"pushToken": self.push_token} if method == "POST" else None,
            headers=self._headers(changes),
        )

    async def changed(self) -> list[str]:
        """What it is told after a push."""
        path = f"{ROOT}/devices/{self.device}/registrations/{PASS_TYPE}"
        answer = await self.http.get(path, params={"passesUpdatedSince": self.since})
        if answer.status_code == 204:
            return []
        told = answer.json()
        self.since = told["lastUpdated"]
        serials: list[str] = told["serialNumbers"]
        return serials

    async def fetch(self, **changes: str) -> httpx2.Response:
        """Fetch the pass again, if it changed."""
        headers = self._headers(changes)
        if self.modified:
            headers["if-modified-since"] = self.modified
        answer = await self.http.get(f"{ROOT}/passes/{self._path(changes)}", headers=headers)
        if answer.status_code == 200:
            self._read(answer)
            self.modified = answer.headers["last-modified"]
        return answer

    @property
    def stamps(self) -> str:
        """The stamps on the pass."""
        text: str = self.shown["storeCard"]["headerFields"][0]["value"]
        return text

    def _path(self, changes: dict[str, str]) -> str:
        kind = changes.get("kind", self.shown["passTypeIdentifier"])
        return f"{kind}/{changes.get('serial', self.shown['serialNumber'])}"

    def _headers(self, changes: dict[str, str]) -> dict[str, str]:
        scheme = changes.get("scheme", "ApplePass")
        return {"authorization": f"{scheme} {changes.get('token', self.token)}"}

    @property
    def token(self) -> str:
        """What the pass shows of itself."""
        token: str = self.shown["authenticationToken"]
        return token

    def _read(self, answer: httpx2.Response) -> None:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/vnd.apple.pkpass"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            self.shown = orjson.loads(packed.read("pass.json"))


@pytest.fixture
def phone(http: httpx2.AsyncClient) -> Phone:
    return Phone(http, "d1c0ffee", "ab" * 32)


async def _saved(database: Database, cafe: Cafe) -> int:
    rows = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    return sum(row.type == "card_saved" for row in rows)


async def _at_rest(database: Database, cafe: Cafe) -> bool:
    passes = await database.read(cafe.business.id, lambda tx: tx.many(_PASSES))
    return all(held.due_at is None for held in passes)


async def test_a_stamp_reaches_the_telephone(
    phone: Phone, card: Card, cafe: Cafe, database: Database, pushes: Pushes
) -> None:
    assert (await phone.add(card)).status_code == 201
    assert phone.shown["webServiceURL"] == f"{URL}/passes/apple"
    assert phone.stamps == "0 / 3"
    await until(lambda: pushes.told[phone.push_token] == 1)  # it may have missed something
    assert await phone.changed() == [card.wallet_pass_id]
    assert (await phone.fetch()).status_code == 200
    assert (await phone.fetch()).status_code == 304
    await stamps(database, cafe.owner, card, 2)
    await until(lambda: pushes.told[phone.push_token] == 2)
    assert await phone.changed() == [card.wallet_pass_id]
    assert (await phone.fetch()).status_code == 200
    assert phone.stamps == "2 / 3"
    assert (await phone.fetch()).status_code == 304
    assert (pushes.topics, pushes.versions, pushes.bodies) == ({PASS_TYPE}, {"2"}, {b"{}"})


async def test_the_first_telephone_tells_that_the_card_was_saved(
    phone: Phone, card: Card, cafe: Cafe, database: Database
) -> None:
    assert (await phone.add(card)).status_code == 201
    assert (await phone.register()).status_code == 200
    other = Phone(phone.http, "another", "cd" * 32)
    assert (await other.add(card)).status_code == 201
    assert await _saved(database, cafe) == 1
    assert (await phone.register("DELETE")).status_code == 200
    assert (await phone.register()).status_code == 201
    assert await _saved(database, cafe) == 1


@pytest.mark.on("sqlite")
async def test_a_telephone_that_lets_go_is_told_nothing(
    phone: Phone, card: Card, cafe: Cafe, database: Database, pushes: Pushes
) -> None:
    await phone.add(card)
    await until(lambda: pushes.told[phone.push_token] == 1)
    assert (await phone.register("DELETE")).status_code == 200
    assert await phone.changed() == []
    other = Phone(phone.http, "another", "cd" * 32)
    await other.add(card)
    await stamps(database, cafe.owner, card)
    await until(lambda: _at_rest(database, cafe))
    assert pushes.told[phone.push_token] == 1


@pytest.mark.on("sqlite")
@pytest.mark.parametrize(
    "answer", [(410, {"reason": "Unregistered"}), (400, {"reason": "BadDeviceToken"})]
)
async def test_a_telephone_that_apple_knows_no_more_is_forgotten(
    phone: Phone, card: Card, cafe: Cafe, database: Database, pushes: Pushes, answer: Any
) -> None:
    pushes.answers[phone.push_token] = answer
    await phone.add(card)

    async def is_forgotten() -> bool:
        devices = await database.read(cafe.business.id, lambda tx: tx.many(_DEVICES))
        return not devices

    await until(is_forgotten)
    assert await phone.changed() == []


async def test_the_pass_of_a_replaced_card_becomes_void(
    phone: Phone, card: Card, cafe: Cafe, database: Database, pushes: Pushes, clock: ManualClock
) -> None:
    await phone.add(card)
    await until(lambda: pushes.told[phone.push_token] == 1)
    told = ReplaceCardInput(card=CardRef(id=Id(card.id)))
    new = (
        await database.write(
            cafe.business.id, lambda tx: replace_card(tx, cafe.owner, told, clock.now())
        )
    ).card
    await until(lambda: pushes.told[phone.push_token] == 2)
    assert await phone.changed() == [card.wallet_pass_id]
    await phone.fetch()
    assert phone.shown["voided"] is True
    assert "barcodes" not in phone.shown
    assert new.token not in orjson.dumps(phone.shown).decode()
    assert (await phone.http.get(f"/c/{card.token}/card.pkpass")).status_code == 404


async def test_what_a_telephone_may_not_see_it_does_not(
    phone: Phone, card: Card, cafe: Cafe, database: Database, clock: ManualClock
) -> None:
    other = await a_business(database)
    theirs = await a_card(database, other.owner, None, clock.now())
    stranger = Phone(phone.http, "stranger", "ef" * 32)
    await stranger.add(theirs)
    await phone.add(card)
    for wrong in (
        {"serial": theirs.wallet_pass_id},
        {"serial": "wp_unknown"},
        {"kind": "pass.example.other"},
        {"token": stranger.token},
        {"token": "x"},
        {"scheme": "Bearer"},
    ):
        for answer in (
            await phone.fetch(**wrong),
            await phone.register(**wrong),
            await phone.register("DELETE", **wrong),
        ):
            assert answer.status_code == 401
            assert answer.json()["error"]["message"] == "This is no pass that you hold."
    assert len(await database.read(cafe.business.id, lambda tx: tx.many(_DEVICES))) == 1


@pytest.mark.on("sqlite")
async def test_bad_requests_are_refused(phone: Phone, card: Card) -> None:
    await phone.add(card)
    good, phone.push_token = phone.push_token, "../../etc"
    assert (await phone.register()).status_code == 400
    phone.push_token = "ab" * 5_000
    assert (await phone.register()).status_code == 413
    phone.push_token, phone.device = good, "%2e%2e%2f" * 20
    assert (await phone.register()).status_code in (400, 404)
    phone.device = "nobody"
    assert await phone.changed() == []
    for path in (f"{ROOT}/devices/d1c0ffee/registrations/pass.other", "/c/" + "x" * 22):
        assert (await phone.http.get(path)).status_code in (204, 404)
    log = {"logs": ["[2026] Register task (for device wp_1) encountered error"]}
    assert (await phone.http.post(f"{ROOT}/log", json=log)).status_code == 200
    assert (await phone.http.post(f"{ROOT}/log", json={"logs": "x" * 20_000})).status_code == 413


async def test_strange_devices_and_dates_are_never_our_fault(phone: Phone, card: Card) -> None:
    await phone.add(card)
    for phone.device in ("%00", "%f0%9f%93%b1", "x" * 1_000, "%27%3b--"):
        assert (await phone.register("DELETE")).status_code == 200
        assert (await phone.register()).status_code == 400
        assert await phone.changed() == []
    serial = "%00%ff" + "x" * 1_000
    assert (await phone.fetch(serial=serial)).status_code == 401
    for phone.modified in ("Mon, 01 Jan 2024 00:00:00 +99999999999999999", "0" * 5_000):
        assert (await phone.fetch()).status_code == 200


@pytest.mark.on("sqlite")
async def test_a_telephone_holds_passes_of_two_businesses(
    phone: Phone, card: Card, database: Database, pushes: Pushes, clock: ManualClock
) -> None:
    other = await a_business(database)
    theirs = await a_card(database, other.owner, None, clock.now())
    twin = Phone(phone.http, phone.device, phone.push_token)
    assert [(await one.add(held)).status_code for one, held in ((phone, card), (twin, theirs))] == [
        201,
        201,
    ]
    await until(lambda: pushes.told[phone.push_token] == 2)
    assert {*await phone.changed()} == {card.wallet_pass_id, theirs.wallet_pass_id}
    assert (await twin.register("DELETE")).status_code == 200
    phone.since = ""
    assert await phone.changed() == [card.wallet_pass_id]


@pytest.mark.on("sqlite")
async def test_who_guesses_or_asks_without_end_is_stopped(
    phone: Phone, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    await phone.add(card)
    asks: dict[str, Callable[[], Awaitable[httpx2.Response]]] = {
        "fetch": lambda: phone.http.get(f"/c/{card.token}/card.pkpass"),
        "guess": lambda: phone.fetch(token="x"),
        "complain": lambda: phone.http.post(f"{ROOT}/log", json={"logs": []}),
        "register": phone.register,
    }
    for kind, ask in asks.items():
        small = Bucket(kind, 3, 1)
        monkeypatch.setattr(charges, "_strangers", lambda _, small=small: small)
        statuses = [(await ask()).status_code for _ in range(4)]
        assert statuses[3] == 429
        assert 429 not in statuses[:3]
    # It was the pass that asked too often: others behind the same address go on.
    assert (await phone.fetch(token="x")).status_code == 401


@pytest.mark.on("sqlite")
async def test_a_tag_lies_in_the_past_of_what_is_being_stored(
    phone: Phone, card: Card, pushes: Pushes, clock: ManualClock
) -> None:
    await phone.add(card)
    await until(lambda: pushes.told[phone.push_token] == 1)
    await phone.changed()
    assert int(phone.since) <= clock.now().timestamp() - 10
    phone.since = str(int(clock.now().timestamp()) + 100)
    assert await phone.changed() == []
    phone.since = "yesterday"
    assert await phone.changed() == [card.wallet_pass_id]


@pytest.mark.on("sqlite")
@pytest.mark.parametrize(("language", "words"), [("en", "Add to"), ("id", "Tambahkan ke")])
async def test_the_page_of_a_card_leads_to_its_pass(
    http: httpx2.AsyncClient, cafe: Cafe, database: Database, language: str, words: str
) -> None:
    card = await a_card(database, cafe.owner, None, email="ana@mail.example", language=language)
    page = await http.get(f"/c/{card.token}", headers={"user-agent": "an iPhone"})
    assert f'href="{card.token}/card.pkpass" rel="nofollow">{words} Apple Wallet</a>' in page.text
    assert "Google Wallet" not in page.text
    assert len(page.content) < 50_000


@pytest.mark.on("sqlite")
async def test_a_campaign_comes_with_the_pass(
    phone: Phone, card: Card, cafe: Cafe, database: Database, pushes: Pushes, clock: ManualClock
) -> None:
    await phone.add(card)
    await until(lambda: pushes.told[phone.push_token] == 1)
    owner, soon = cafe.owner, clock.now() + timedelta(minutes=1)
    campaign = await a_campaign(database, owner, card.template_id, clock.now(), scheduled_at=soon)
    clock.advance(timedelta(minutes=2))
    await until(lambda: pushes.told[phone.push_token] == 2)
    assert await phone.changed() == [card.wallet_pass_id]
    await phone.fetch()
    (news,) = (one for one in phone.shown["storeCard"]["backFields"] if "changeMessage" in one)
    assert (news["value"], news["changeMessage"]) == (campaign.notification_text, "%@")


@pytest.mark.on("sqlite")
async def test_the_api_tells_where_a_card_is_put_into_a_wallet(
    phone: Phone, card: Card, cafe: Cafe
) -> None:
    await phone.add(card)
    asked = """query($id: ID!) {
        card(ref: {id: $id}) { appleWalletUrl googleWalletUrl }
        channels { kind channel reachableCustomers }
    }"""
    answer = await phone.http.post(
        "/graphql",
        json={"query": asked, "variables": {"id": card.id}},
        headers={"authorization": f"Bearer {cafe.api_key}"},
    )
    told = answer.json()["data"]
    assert told["card"] == {
        "appleWalletUrl": f"{URL}/c/{card.token}/card.pkpass",
        "googleWalletUrl": None,
    }
    assert {"kind": "WALLET", "channel": "PUSH", "reachableCustomers": 1} in told["channels"]
