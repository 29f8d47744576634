"""What people typed is text on every page for customers, and what a browser says is no part of it.

HTML and header injection.
"""

from typing import Any

import pytest

from factories import a_card, a_card_template, a_claim_code, an_award_goal

pytestmark = pytest.mark.on("sqlite")

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(1)</script></svg>{{7*7}}"
ODD_HEADERS = {
    "accept-language": EVIL,
    "user-agent": EVIL,
    "x-forwarded-host": "evil.example",
    "referer": "https://evil.example/" + EVIL,
}


async def test_what_people_typed_is_text_on_every_page(open_house: Any) -> None:
    house = await open_house(name=EVIL)
    template = await a_card_template(
        house.database, house.actor, 3, [an_award_goal(3, EVIL)], name=EVIL
    )
    card = await a_card(house.database, house.actor, template.id, name=EVIL, email="a@b.example")
    code = await a_claim_code(house.database, house.actor, template.id)
    url, session = house.owner.server.url, house.owner.session
    for path in (
        f"/c/{card.token}",
        f"/claim/{code.code}",
        "/c/" + "x" * 20,
        "/claim/ABCDEFGHJKMN",
    ):
        async with session.get(url + path, headers=ODD_HEADERS) as answer:
            text, headers = await answer.text(), answer.headers

        assert answer.status in (200, 404)
        assert (answer.status == 404) == ("x" * 20 in path or "ABCDEFGHJKMN" in path)
        assert answer.status == 404 or "&lt;script&gt;" in text, path
        assert text.count("<script") == text.count('<script src="../push.js" defer>')
        assert "<img src=x" not in text
        assert answer.status == 404 or "{{7*7}}" in text, path
        assert "evil.example" not in text
        assert "evil.example" not in str(headers)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_no_answer_quotes_an_address_as_html(house: Any) -> None:
    url, session = house.owner.server.url, house.owner.session
    for path in (f"/{EVIL}", f"/images/{EVIL}.png", f"/codes/{EVIL}.svg", f"/hooks/sample/{EVIL}",
                 f"/graphql?query={EVIL}", f"/codes/{'x' * 20}.svg?format={EVIL}"):  # fmt: skip
        async with session.get(url + path, headers=house.owner.headers) as answer:
            assert 400 <= answer.status < 500 or path.startswith("/graphql"), path
            assert answer.content_type in ("application/json", "text/plain"), path
            assert "<script" not in await answer.text() or answer.content_type == "application/json"
