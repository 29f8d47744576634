"""The page of a claim code: what a receipt is worth, told to whoever scans it."""

import re
from datetime import timedelta

import httpx2
import pytest

from core.clock import ManualClock
from core.ids import Id
from db import Database
from factories import Cafe, a_card, a_claim_code
from models import Card, ClaimCode
from processes import RunningServer
from services.card_refs import CardRef
from services.claim_codes import ClaimStampsInput, claim_stamps
from tests.endpoints.pictures import read_svg


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    """A card."""
    return await a_card(database, cafe.owner, now=clock.now())


@pytest.fixture
async def code(database: Database, cafe: Cafe, card: Card, clock: ManualClock) -> ClaimCode:
    """A code worth two stamps, for an hour."""
    return await a_claim_code(
        database,
        cafe.owner,
        card.template_id,
        clock.now(),
        stamps=2,
        expires_at=clock.now() + timedelta(hours=1),
    )


async def test_it_says_what_the_code_is_worth_and_shows_it(
    http: httpx2.AsyncClient, server: RunningServer, cafe: Cafe, code: ClaimCode
) -> None:
    answer = await http.get(f"/claim/{code.code}")

    assert answer.status_code == 200
    for words in (cafe.business.name, "Coffee card", "2 stamps", code.code):
        assert words in answer.text
    [picture] = re.findall(r"<svg xmlns.*?</svg>", answer.text, re.DOTALL)
    assert read_svg(picture.encode())[1] == f"{server.url}/claim/{code.code}"
    assert answer.headers["cache-control"] == "private, no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_its_address_is_a_picture_for_whoever_prints_it(
    http: httpx2.AsyncClient, server: RunningServer, cafe: Cafe, code: ClaimCode
) -> None:
    asked = {"query": "{ claimCodes(first: 1) { nodes { url codeUrl } } }"}
    key = {"authorization": f"Bearer {cafe.api_key}"}
    told = (await http.post("/graphql", json=asked, headers=key)).json()["data"]
    [shown] = told["claimCodes"]["nodes"]
    picture = await http.get(shown["codeUrl"])

    assert read_svg(picture.content)[1] == shown["url"] == f"{server.url}/claim/{code.code}"
    assert (await http.get(f"/claim/{code.code}/code.png")).content.startswith(b"\x89PNG")
    assert (await http.get(f"/claim/{code.code}/code.gif")).status_code == 404
    assert (await http.get("/claim/NOSUCHCODE00/code.svg")).status_code == 404


async def test_it_speaks_the_readers_language(http: httpx2.AsyncClient, code: ClaimCode) -> None:
    answer = await http.get(f"/claim/{code.code}", headers={"accept-language": "id-ID"})

    assert "2 stempel" in answer.text


async def test_a_used_or_expired_code_is_not_shown(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    card: Card,
    code: ClaimCode,
    clock: ManualClock,
) -> None:
    told = ClaimStampsInput(code=code.code, card=CardRef(id=Id(card.id)))
    other = await a_claim_code(
        database,
        cafe.owner,
        card.template_id,
        clock.now(),
        expires_at=clock.now() + timedelta(hours=1),
    )
    await database.write(
        cafe.business.id, lambda tx: claim_stamps(tx, cafe.owner, told, clock.now())
    )

    used = await http.get(f"/claim/{code.code}")
    clock.advance(timedelta(hours=1))
    expired = await http.get(f"/claim/{other.code}")

    assert "This code was used" in used.text
    assert "This code has expired" in expired.text
    for answer, gone in ((used, code), (expired, other)):
        assert answer.status_code == 200
        assert gone.code not in answer.text


@pytest.mark.parametrize("text", ["0000000000000", "000000000000", "%00", "x' OR 1=1"])
async def test_an_unknown_code_has_a_page_that_says_so(http: httpx2.AsyncClient, text: str) -> None:
    answer = await http.get(f"/claim/{text}")

    assert answer.status_code == 404
    assert "This code is not here" in answer.text
