"""The way out of mails, as a person and as a mail program take it."""

from typing import Any

import pytest

from factories import a_card, a_card_template
from houses import House
from models import Channel
from services.customers import SetConsentInput, set_consent
from services.unsubscribing import unsubscribe_path

CONSENTS = "query($id: ID!) { customer(id: $id) { consents { channel granted } } }"
pytestmark = pytest.mark.on("sqlite")


async def test_opening_the_page_ends_nothing_and_one_click_does(house: House) -> None:
    template = await a_card_template(house.database, house.actor)
    card = await a_card(house.database, house.actor, template.id)
    told: Any = {"customer_id": card.customer_id, "channel": Channel.EMAIL, "granted": True}
    said = SetConsentInput(**told)
    now = house.deployment.clock.now()
    await house.database.write(
        house.actor.business_id, lambda tx: set_consent(tx, house.actor, said, now)
    )
    path = unsubscribe_path(house.deployment.secrets, card.customer_id)
    url, session = f"{house.owner.server.url}{path}", house.owner.session

    async with session.get(url) as answer:
        asked = answer.status, await answer.text()
        policy = answer.headers["content-security-policy"]
    before = await house.owner.do(CONSENTS, {"id": card.customer_id})
    async with session.post(url, data={"List-Unsubscribe": "One-Click"}) as answer:
        done = answer.status, await answer.text()
    after = await house.owner.do(CONSENTS, {"id": card.customer_id})
    async with session.post(url[:-1] + "!") as answer:
        forged = answer.status

    assert asked[0] == done[0] == 200
    assert '<form method="post"' in asked[1]
    assert "form-action 'self'" in policy
    assert "<form" not in done[1]
    assert before["customer"]["consents"] == [{"channel": "EMAIL", "granted": True}]
    assert after["customer"]["consents"] == [{"channel": "EMAIL", "granted": False}]
    assert forged == 404
