"""The join page: a card for whoever proves an address, and nothing before that."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.ids import Id
from core.settings import Settings
from db import BUSINESS, Database, param, query
from events.log import events_after
from factories import Cafe, a_business, a_card, a_card_template
from models import Card, CardTemplate, Consent, Customer, JoinRequest
from processes import RunningServer
from services.card_templates import ArchiveCardTemplateInput, archive_card_template
from services.housekeeping import keep_house
from services.joining import MOST_LIVE, MOST_OF_ADDRESS, SetJoinPageInput, set_join_page
from tests.endpoints.pictures import read_svg

FORM = {"email": "Budi@mail.example", "name": "Budi", "day": "3", "month": "5", "year": ""}
_BY_EMAIL = query(
    select(Customer).where(
        col(Customer.business_id) == BUSINESS, col(Customer.email) == param("email")
    )
)
_CARDS = query(select(Card).where(col(Card.business_id) == BUSINESS))
_REQUESTS = query(select(JoinRequest).where(col(JoinRequest.business_id) == BUSINESS))
_CONSENTS = query(select(Consent).where(col(Consent.business_id) == BUSINESS))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few misses."""
    return settings.model_copy(update={"misses_per_minute": 5})


@pytest.fixture
async def template(database: Database, cafe: Cafe, clock: ManualClock) -> CardTemplate:
    """A card anybody may ask for."""
    made = await a_card_template(database, cafe.owner, now=clock.now())
    return await opened(database, cafe, made, clock, privacy_text="We are <b>kind</b>.")


async def opened(
    database: Database, cafe: Cafe, template: CardTemplate, clock: ManualClock, **given: Any
) -> CardTemplate:
    """The template, its join page open unless told otherwise."""
    said = SetJoinPageInput(template_id=Id(template.id), **({"is_open": True} | given))

    async def work(tx: Any) -> Any:
        return await set_join_page(tx, cafe.owner, said, clock.now())

    done = await database.write(cafe.business.id, work)
    return done.card_template


async def mails(settings: Settings, number: int) -> list[dict[str, Any]]:
    """What was mailed, so many as soon as they are there: the stand-in keeps it in a file."""
    file = Path(settings.data_dir) / "outbox" / "email.jsonl"
    async with asyncio.timeout(20):
        while True:
            lines = file.read_bytes().splitlines() if file.exists() else []
            if len(lines) >= number:
                return [orjson.loads(line) for line in lines]
            await asyncio.sleep(0.02)


async def link(http: httpx2.AsyncClient, settings: Settings, template: CardTemplate) -> str:
    """Where the mail leads that somebody has just asked for."""
    before = Path(settings.data_dir) / "outbox" / "email.jsonl"
    known = len(before.read_bytes().splitlines()) if before.exists() else 0
    answer = await http.post(f"/join/{template.id}", data=FORM)
    assert answer.status_code == 200, answer.text
    url: str = (await mails(settings, known + 1))[-1]["url"]
    return url


async def rows(database: Database, cafe: Cafe, statement: Any, **values: Any) -> list[Any]:
    """Rows of the café."""
    return await database.read(cafe.business.id, lambda tx: tx.many(statement, **values))


async def test_it_shows_what_one_collects_for_and_what_becomes_of_the_data(
    http: httpx2.AsyncClient, cafe: Cafe, template: CardTemplate
) -> None:
    answer = await http.get(f"/join/{template.id}")

    assert answer.status_code == 200
    assert len(answer.content) < 50_000
    assert cafe.business.name in answer.text
    assert "We are &lt;b&gt;kind&lt;/b&gt;." in answer.text
    assert '<html lang="en">' in answer.text
    assert "<script" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    # A yes to news is given, never taken.
    assert '<input type="checkbox" name="mail">' in answer.text


@pytest.mark.on("sqlite")
async def test_it_speaks_the_readers_language(
    http: httpx2.AsyncClient, template: CardTemplate
) -> None:
    by_header = await http.get(f"/join/{template.id}", headers={"accept-language": "id-ID,en"})
    by_choice = await http.get(f"/join/{template.id}?lang=id", headers={"accept-language": "en"})

    for answer in (by_header, by_choice):
        assert '<html lang="id">' in answer.text
        assert "Ambil kartu saya" in answer.text


async def test_the_code_for_the_counter_leads_to_it(
    http: httpx2.AsyncClient, server: RunningServer, template: CardTemplate
) -> None:
    svg = await http.get(f"/join/{template.id}/code.svg")
    png = await http.get(f"/join/{template.id}/code.png")

    assert read_svg(svg.content)[1] == f"{server.url}/join/{template.id}"
    assert png.content.startswith(b"\x89PNG")
    assert (await http.get(f"/join/{template.id}/code.gif")).status_code == 404


async def test_a_page_that_is_not_open_is_not_there(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    closed = await a_card_template(database, cafe.owner, now=clock.now())
    shut = await a_card_template(database, cafe.owner, now=clock.now())
    await opened(database, cafe, shut, clock)
    await opened(database, cafe, shut, clock, is_open=False)
    archived = await a_card_template(database, cafe.owner, now=clock.now())
    await opened(database, cafe, archived, clock)
    told = ArchiveCardTemplateInput(id=Id(archived.id))
    await database.write(
        cafe.business.id, lambda tx: archive_card_template(tx, cafe.owner, told, clock.now())
    )

    for path in (closed.id, shut.id, archived.id, "tpl_none", "x%00y"):
        assert (await http.get(f"/join/{path}")).status_code == 404
        assert (await http.post(f"/join/{path}", data=FORM)).status_code == 404
        assert (await http.get(f"/join/{path}/code.svg")).status_code == 404


async def test_following_the_mail_makes_the_card_and_nothing_does_before(
    http: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
) -> None:
    answer = await http.post(f"/join/{template.id}", data=FORM | {"mail": "on"})
    [mail] = await mails(settings, 1)

    assert "Budi@mail.example" in answer.text
    assert (mail["address"], mail["channel"]) == ("budi@mail.example", "email")
    assert cafe.business.name in mail["subject"]
    assert await rows(database, cafe, _CARDS) == []
    assert await rows(database, cafe, _BY_EMAIL, email="budi@mail.example") == []

    looked = await http.get(mail["url"])
    assert looked.status_code == 200
    assert await rows(database, cafe, _CARDS) == []

    got = await http.post(mail["url"])
    again = await http.post(mail["url"])

    [card] = await rows(database, cafe, _CARDS)
    [customer] = await rows(database, cafe, _BY_EMAIL, email="budi@mail.example")
    assert got.status_code == again.status_code == 303
    assert got.headers["location"] == again.headers["location"] == f"../../c/{card.token}"
    assert card.customer_id == customer.id
    assert (customer.name, customer.birthday, customer.language) == ("Budi", "--05-03", "en")
    said = {row.channel.value: row.granted for row in await rows(database, cafe, _CONSENTS)}
    assert said == {"email": True, "push": False}
    events = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    assert [event.type for event in events] == ["card_issued"]
    assert (await http.get(f"/c/{card.token}")).status_code == 200


async def test_the_holder_of_an_address_gets_the_card_it_has(
    http: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    template: CardTemplate,
) -> None:
    card = await a_card(
        database, cafe.owner, template.id, clock.now(), email="budi@mail.example", name="Boodie"
    )

    url = await link(http, settings, template)
    got = await http.post(url)

    assert got.headers["location"] == f"../../c/{card.token}"
    [customer] = await rows(database, cafe, _BY_EMAIL, email="budi@mail.example")
    assert customer.name == "Boodie"


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"email": "budi"}, "email"),
        ({"email": ""}, "email"),
        ({"email": "x" * 400 + "@mail.example"}, "email"),
        ({"day": "31", "month": "2"}, "birthday"),
        ({"day": "3", "month": ""}, "birthday"),
        ({"day": "²", "month": "2"}, "birthday"),
        ({"year": "1800"}, "birthday"),
        ({"name": "x" * 201}, "name"),
    ],
)
@pytest.mark.on("sqlite")
async def test_what_is_wrong_is_said_beside_it_and_the_rest_is_kept(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    given: dict[str, str],
    place: str,
) -> None:
    answer = await http.post(f"/join/{template.id}", data=FORM | given)

    assert answer.status_code == 422
    assert answer.text.count('role="alert"') == 1
    kept = "name" if place == "email" else "email"
    assert f'value="{FORM[kept]}"' in answer.text
    assert await rows(database, cafe, _REQUESTS) == []


@pytest.mark.on("sqlite")
async def test_a_body_that_is_no_form_is_refused(
    http: httpx2.AsyncClient, template: CardTemplate
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    url = f"/join/{template.id}"

    assert (await http.post(url, json=FORM)).status_code == 415
    assert (
        await http.post(url, content=b"email=" + b"x" * 11_000, headers=form)
    ).status_code == 413
    assert (await http.post(url, content=b"email=%ff", headers=form)).status_code == 400
    assert (await http.post(url, content=b"a=1&" * 30, headers=form)).status_code == 400


async def test_a_link_is_good_for_a_day(
    http: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    template: CardTemplate,
) -> None:
    url = await link(http, settings, template)
    clock.advance(timedelta(hours=24))

    assert (await http.get(url)).status_code == 404
    assert (await http.post(url)).status_code == 404
    assert await rows(database, cafe, _CARDS) == []
    clock.advance(timedelta(seconds=1))
    await keep_house(database, clock.now())
    assert await rows(database, cafe, _REQUESTS) == []


@pytest.mark.on("sqlite")
async def test_a_closed_page_makes_no_card(
    http: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    template: CardTemplate,
) -> None:
    url = await link(http, settings, template)
    await opened(database, cafe, template, clock, is_open=False)

    assert (await http.post(url)).status_code == 404
    assert await rows(database, cafe, _CARDS) == []


async def test_an_address_is_mailed_a_few_times_a_day_and_a_place_may_ask_a_few_times(
    http: httpx2.AsyncClient, settings: Settings, template: CardTemplate
) -> None:
    told = [await http.post(f"/join/{template.id}", data=FORM) for _ in range(MOST_LIVE + 1)]
    others = [
        await http.post(f"/join/{template.id}", data=FORM | {"email": f"{number}@mail.example"})
        for number in range(MOST_OF_ADDRESS)
    ]

    assert [answer.status_code for answer in told] == [200] * (MOST_LIVE + 1)
    assert told[0].text.split("</style>")[1] == told[-1].text.split("</style>")[1]
    refused = [answer for answer in others if answer.status_code == 429]
    accepted = len(others) - len(refused)
    assert accepted == MOST_OF_ADDRESS - MOST_LIVE - 1
    assert int(refused[0].headers["retry-after"]) > 0
    sent = await mails(settings, MOST_LIVE + accepted)
    assert sum(mail["address"] == "budi@mail.example" for mail in sent) == MOST_LIVE


@pytest.mark.on("sqlite")
async def test_secrets_cannot_be_guessed_at_length(
    http: httpx2.AsyncClient, template: CardTemplate
) -> None:
    answers = [(await http.get(f"/join/confirm/{number}")).status_code for number in range(7)]

    assert answers[0] == 404
    assert answers[-1] == 429


async def test_erasing_a_customer_drops_what_was_asked(
    http: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
) -> None:
    await http.post(await link(http, settings, template))
    await link(http, settings, template)
    [customer] = await rows(database, cafe, _BY_EMAIL, email="budi@mail.example")
    before = await mails(settings, 2)
    mutation = "mutation($id: ID!) { eraseCustomer(input: {id: $id}) { erasedId } }"

    answer = await http.post(
        "/graphql",
        json={"query": mutation, "variables": {"id": customer.id}},
        headers={"authorization": f"Bearer {cafe.api_key}"},
    )

    assert answer.json()["data"]["eraseCustomer"]["erasedId"] == customer.id
    assert await rows(database, cafe, _REQUESTS) == []
    # The stand-in's file keeps nothing of her either, asked for before she was a customer.
    assert len(before) == 2
    assert await mails(settings, 0) == []


@pytest.mark.on("sqlite")
async def test_only_its_own_business_opens_a_page(
    database: Database, server: RunningServer, cafe: Cafe, clock: ManualClock
) -> None:
    other = await a_business(database, server.app.state.deployment.secrets, clock.now())
    theirs = await a_card_template(database, other.owner, now=clock.now())

    with pytest.raises(Exception, match="card template"):
        await opened(database, cafe, theirs, clock)


@pytest.mark.on("sqlite")
async def test_a_name_cannot_bend_the_mail(
    http: httpx2.AsyncClient, settings: Settings, template: CardTemplate
) -> None:
    name = "Budi\r\nBcc: all@mail.example {email} {{7*7}}"

    await http.post(f"/join/{template.id}", data=FORM | {"name": name})

    [mail] = await mails(settings, 1)
    assert mail["text"].startswith("Hello Budi Bcc: all@mail.example {email} {{7*7}},\n")
    assert "\n" not in mail["subject"]
