"""The card's page: what its holder sees, in her language, and what opening it reports."""

import asyncio
import re
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlmodel import col, select

from core.clock import ManualClock
from db import BUSINESS, Database, query
from events.log import events_after
from factories import (
    Cafe,
    a_card,
    a_card_template,
    a_voucher,
    a_voucher_template,
    an_award_goal,
    stamps,
)
from models import Card, Consent, Customer, RedemptionMode
from processes import RunningServer
from resolvers.context import Deployment
from services.cards import DeleteCardInput, delete_card
from services.contacts import browsers_of
from services.undo import VoidVoucherInput, void_voucher
from services.vouchers import ValidityInput

_CONSENTS = query(select(Consent).where(col(Consent.business_id) == BUSINESS))
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    """A card of four stamps, three of them there: a cookie at two, cake at four."""
    template = await a_card_template(
        database,
        cafe.owner,
        4,
        [an_award_goal(2, "A cookie"), an_award_goal(4, "Cake & <b>cream</b>")],
        clock.now(),
        name="<i>Kopi</i> card",
    )
    made = await a_card(
        database, cafe.owner, template.id, clock.now(), email="siti@mail.example", language="en"
    )
    await stamps(database, cafe.owner, made, 3, clock.now())
    return made


async def _opened(database: Database, cafe: Cafe) -> list[Any]:
    """Every card_opened in the log."""
    rows = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    return [row for row in rows if row.type == "card_opened"]


async def test_it_shows_the_card_to_its_holder(
    http: httpx2.AsyncClient, cafe: Cafe, card: Card
) -> None:
    answer = await http.get(f"/c/{card.token}", headers=BROWSER)

    assert answer.status_code == 200
    assert len(answer.content) < 50_000
    assert cafe.business.name in answer.text
    assert card.number in answer.text
    assert "3 of 4 stamps" in answer.text
    assert re.findall(r'<li class="(.*?)"', answer.text) == [" full", "goal full", " full", "goal"]
    assert "One more to go" in answer.text
    assert "siti@mail.example" not in answer.text


async def test_what_people_typed_is_shown_as_text(http: httpx2.AsyncClient, card: Card) -> None:
    answer = await http.get(f"/c/{card.token}", headers=BROWSER)

    assert "&lt;i&gt;Kopi&lt;/i&gt; card" in answer.text
    assert "Cake &amp; &lt;b&gt;cream&lt;/b&gt;" in answer.text
    assert "<i>Kopi" not in answer.text
    assert "<b>cream" not in answer.text
    assert answer.text.count("<script") == answer.text.count('<script src="../push.js" defer>') == 1


async def test_it_is_private_and_runs_nothing_but_our_own(
    http: httpx2.AsyncClient, card: Card
) -> None:
    answer = await http.get(f"/c/{card.token}", headers=BROWSER)

    policy = answer.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert policy.startswith("default-src 'none'; img-src 'self'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert f'<style nonce="{nonce}">' in answer.text
    assert "style=" not in answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-robots-tag"] == "noindex"


async def test_its_vouchers_are_those_that_can_be_redeemed(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    now = clock.now()
    at_till = await a_voucher_template(
        database,
        cafe.owner,
        now,
        title="Free coffee",
        redeem_code="FREECOFFEE",
        redemption_mode=RedemptionMode.REDEEM_CODE,
        validity=ValidityInput(days=30),
    )
    coffee = await a_voucher(database, cafe.owner, at_till.id, card, now)
    plain = await a_voucher(database, cafe.owner, None, card, now)
    voided = await a_voucher(database, cafe.owner, None, card, now)
    told = VoidVoucherInput(id=voided.id)

    async def void(tx: Any) -> Any:
        return await void_voucher(tx, cafe.owner, told, now)

    await database.write(cafe.business.id, void)

    page = (await http.get(f"/c/{card.token}", headers=BROWSER)).text
    clock.advance(timedelta(days=31))
    later = (await http.get(f"/c/{card.token}", headers=BROWSER)).text

    assert f"../codes/{coffee.token}.svg?format=qr" in page
    assert "FREECOFFEE" in page
    assert "Valid until 1 April 2026" in page
    assert f"../codes/{plain.token}.svg?format=token" in page
    assert voided.token not in page
    assert coffee.token not in later
    assert plain.token in later


async def test_it_speaks_the_customers_language(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    card = await a_card(
        database, cafe.owner, None, clock.now(), phone="+6281234567890", language="id-ID"
    )

    answer = await http.get(f"/c/{card.token}", headers={**BROWSER, "accept-language": "en"})

    assert '<html lang="id">' in answer.text
    assert "0 dari 3 stempel" in answer.text


async def test_opening_it_is_reported_at_most_once_an_hour(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    await http.get(f"/c/{card.token}", headers=BROWSER)
    await http.get(f"/c/{card.token}", headers=BROWSER)
    first = await _soon(database, cafe, 1)
    clock.advance(timedelta(hours=1))
    await http.get(f"/c/{card.token}", headers=BROWSER)
    second = await _soon(database, cafe, 2)

    assert [row.card_id for row in second] == [card.id, card.id]
    assert (first[0].actor_id, first[0].location_id) == (None, None)
    assert '"platform":"web"' in first[0].body


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "*/*"},
        {**BROWSER, "purpose": "prefetch"},
        {**BROWSER, "sec-purpose": "prefetch;prerender"},
        {**BROWSER, "user-agent": "TelegramBot (like TwitterBot)"},
        {**BROWSER, "user-agent": "WhatsApp/2.23.20.0"},
        {**BROWSER, "user-agent": "facebookexternalhit/1.1"},
    ],
)
async def test_a_program_that_peeks_has_not_opened_it(
    http: httpx2.AsyncClient, card: Card, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it will be reported is known before the page is on its way."""
    reports: list[Any] = []
    monkeypatch.setattr("endpoints.card_page.BackgroundTask", lambda *told: reports.append(told))

    answer = await http.get(f"/c/{card.token}", headers=headers)
    head = await http.head(f"/c/{card.token}", headers=BROWSER)
    peeked = len(reports)
    await http.get(f"/c/{card.token}", headers=BROWSER)

    assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
    assert (peeked, len(reports)) == (0, 1)


async def test_a_report_that_fails_does_not_break_the_page(
    http: httpx2.AsyncClient,
    server: RunningServer,
    database: Database,
    cafe: Cafe,
    card: Card,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*_: Any) -> None:
        raise ConnectionError

    deployment: Deployment = server.app.state.deployment
    monkeypatch.setattr(deployment.database, "write", fails)
    answer = await http.get(f"/c/{card.token}", headers=BROWSER)
    again = await http.get("/livez")

    assert (answer.status_code, again.status_code) == (200, 200)
    assert await _opened(database, cafe) == []


@pytest.mark.parametrize("language", ["id", "en-GB"])
async def test_a_deleted_card_is_not_there(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    card: Card,
    language: str,
) -> None:
    async def delete(tx: Any) -> Any:
        return await delete_card(tx, cafe.owner, DeleteCardInput(id=card.id), clock.now())

    await database.write(cafe.business.id, delete)

    for token in (card.token, "AAAAAAAAAAAAAAAAAAAAAA", "%00"):
        answer = await http.get(f"/c/{token}", headers={**BROWSER, "accept-language": language})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        words = "Kartu ini tidak ada" if language == "id" else "This card is not here"
        assert words in answer.text
    assert await _opened(database, cafe) == []


async def _soon(database: Database, cafe: Cafe, count: int) -> list[Any]:
    """The log's card_opened, once there are so many: the page does not wait for the report."""
    for _ in range(500):
        if len(found := await _opened(database, cafe)) >= count:
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError


# -- What the holder tells of herself. ------------------------------------------------------------


async def holder(database: Database, cafe: Cafe, card: Card) -> tuple[Customer, dict[str, bool]]:
    """Who holds a card, and what she said of each channel."""

    async def work(tx: Any) -> Any:
        return await tx.get(Customer, card.customer_id), await tx.many(_CONSENTS)

    customer, consents = await database.read(cafe.business.id, work)
    return customer, {consent.channel.value: consent.granted for consent in consents}


async def test_the_holder_tells_her_birthday_language_and_what_may_be_sent(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, card: Card
) -> None:
    form = {"day": "7", "month": "11", "year": "1990", "language": "id", "mail": "on"}

    answer = await http.post(f"/c/{card.token}", data=form)
    page = (await http.get(f"/c/{card.token}?saved", headers=BROWSER)).text
    customer, consents = await holder(database, cafe, card)

    assert (answer.status_code, answer.headers["location"]) == (303, f"{card.token}?saved")
    assert (customer.birthday, customer.language) == ("1990-11-07", "id")
    assert consents == {"email": True, "push": False}
    # Whoever finds the link learns that the birthday is known, not which it is.
    assert "sudah tersimpan" in page
    assert "1990" not in page
    assert 'name="mail" checked' in page
    assert 'name="push" checked' not in page


async def test_an_empty_form_takes_nothing_away(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, card: Card
) -> None:
    await http.post(f"/c/{card.token}", data={"day": "7", "month": "11", "push": "on"})
    await http.post(f"/c/{card.token}", data={"language": "en", "push": "on"})

    customer, consents = await holder(database, cafe, card)
    assert (customer.birthday, customer.language) == ("--11-07", "en")
    assert consents == {"email": False, "push": True}


@pytest.mark.on("sqlite")
async def test_a_day_that_is_none_is_told_beside_the_field(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, card: Card
) -> None:
    answer = await http.post(f"/c/{card.token}", data={"day": "31", "month": "2", "mail": "on"})

    customer, consents = await holder(database, cafe, card)
    assert answer.status_code == 422
    assert 'role="alert">There is no such day.' in answer.text
    assert 'value="31"' in answer.text
    assert (customer.birthday, consents) == (None, {})


@pytest.mark.on("sqlite")
async def test_nobody_tells_anything_of_a_card_that_is_not_there(
    http: httpx2.AsyncClient, card: Card
) -> None:
    answer = await http.post("/c/AAAAAAAAAAAAAAAAAAAAAA", data={"language": "id"})
    script = await http.post(f"/c/{card.token}", json={"language": "id"})

    assert (answer.status_code, script.status_code) == (404, 415)


# -- Notifications of the browser. ----------------------------------------------------------------


def a_browser(endpoint: str = "https://push.example/send/1") -> dict[str, Any]:
    """What a browser's PushSubscription says."""
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    raw = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"p256dh": urlsafe_b64encode(raw), "auth": urlsafe_b64encode(b"x" * 16)}
    said = {name: value.decode().rstrip("=") for name, value in keys.items()}
    return {"endpoint": endpoint, "expirationTime": None, "keys": said}


async def test_a_browser_may_be_notified_and_may_stop_it(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, card: Card
) -> None:
    browser = a_browser()
    url = f"/c/{card.token}/push"

    told = [(await http.post(url, json=browser)).status_code for _ in range(2)]
    known = await database.read(cafe.business.id, lambda tx: browsers_of(tx, card.customer_id))
    _, consents = await holder(database, cafe, card)
    gone = await http.request("DELETE", url, json=browser)
    left = await database.read(cafe.business.id, lambda tx: browsers_of(tx, card.customer_id))

    assert told == [204, 204]
    assert [one.endpoint for one in known] == [browser["endpoint"]]
    assert consents == {"push": True}
    assert (gone.status_code, left) == (204, [])


@pytest.mark.on("sqlite")
async def test_what_no_browser_says_is_refused(http: httpx2.AsyncClient, card: Card) -> None:
    url, good = f"/c/{card.token}/push", a_browser()
    bad = [
        (400, [1]),
        (400, {"endpoint": 1}),
        (400, {"endpoint": good["endpoint"]}),
        (400, good | {"endpoint": "https://10.0.0.1/push"}),
        (400, good | {"keys": {"p256dh": "AAAA", "auth": "AAAA"}}),
        (413, good | {"more": "x" * 6_000}),
    ]

    answers = [(await http.post(url, json=said)).status_code for _, said in bad]

    assert answers == [status for status, _ in bad]
    assert (await http.post(url, content=b"{}")).status_code == 415
    assert (await http.post("/c/AAAAAAAAAAAAAAAAAAAAAA/push", json=good)).status_code == 404
    for name in ("push.js", "push-worker.js"):
        script = await http.get(f"/{name}")
        assert script.headers["content-type"].startswith("text/javascript")
        assert len(script.content) < 4_000


@pytest.mark.on("sqlite")
async def test_the_whole_page_is_light(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock, card: Card
) -> None:
    """With its script and three vouchers, each with a QR code and a barcode."""
    now = clock.now()
    template = await a_voucher_template(
        database,
        cafe.owner,
        now,
        redeem_code="FREECOFFEE",
        redemption_mode=RedemptionMode.REDEEM_CODE,
    )
    for _ in range(3):
        await a_voucher(database, cafe.owner, template.id, card, now)

    page = await http.get(f"/c/{card.token}", headers=BROWSER)
    pictures = re.findall(r'src="\.\.(/[^"]+)"', page.text)
    parts = [await http.get(path.replace("&amp;", "&")) for path in pictures]

    assert len(pictures) == 7
    assert {part.status_code for part in parts} == {200}
    assert sum(len(part.content) for part in [page, *parts]) < 50_000
