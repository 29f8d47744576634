"""The link to a card, mailed to whoever asked for it."""

from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.errors import Code, Refused
from core.ids import Id
from core.settings import Settings
from db import Database, query
from events.stream import Stream
from factories import Cafe, a_business, a_card_template
from integrations.channels import Channels
from models import CardTemplate, Channel, DailyFigure, EventRow, Message, MessageStatus
from patience import carry
from services.cards import CardIssuedOutcome, IssueCardInput, issue_card
from services.customers import CustomerInput, SetConsentInput, set_consent
from services.postman import Postman

_MESSAGES = query(select(Message).order_by(Message.id))
_FIGURES = query(select(DailyFigure))
_EVENTS = query(select(EventRow))


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    return await a_business(database, name="Kopi {name}\r\nBcc: x")


@pytest.fixture
async def template(database: Database, cafe: Cafe) -> CardTemplate:
    return await a_card_template(database, cafe.owner)


@pytest.fixture
def issue(database: Database, cafe: Cafe, template: CardTemplate, clock: ManualClock) -> Any:
    """Issue a card and send its link."""

    async def work(send_link: Channel | None = Channel.EMAIL, **customer: Any) -> CardIssuedOutcome:
        told = IssueCardInput(
            template_id=Id(template.id),
            customer=CustomerInput(**customer),
            send_link=send_link,
        )
        return await database.write(
            cafe.business.id, lambda tx: issue_card(tx, cafe.owner, told, clock.now())
        )

    return work


async def all_of(database: Database, statement: Any) -> list[Any]:
    return await database.read(None, lambda tx: tx.many(statement))


@pytest.mark.parametrize(
    ("language", "subject", "text"),
    [
        ("en", "Your card at Kopi {name} Bcc: x", "Hello Ana,\n\nhere is your card"),
        ("id", "Kartu Anda di Kopi {name} Bcc: x", "Halo Ana,\n\nini kartu Anda"),
        ("id-id", "Kartu Anda di Kopi {name} Bcc: x", "Halo Ana,\n\nini kartu Anda"),
        ("ko", "Your card at Kopi {name} Bcc: x", "Hello Ana,\n\nhere is your card"),
    ],
)
async def test_the_link_is_mailed_in_the_customers_language(
    issue: Any, database: Database, language: str, subject: str, text: str
) -> None:
    made = await issue(email="ana@mail.example", name="Ana", language=language)

    [message] = await all_of(database, _MESSAGES)
    assert (message.subject, message.text.startswith(text)) == (subject, True)
    assert (message.channel, message.address) == (Channel.EMAIL, "ana@mail.example")
    assert (message.url, message.campaign_id) == (f"/c/{made.card.token}", None)


async def test_the_postman_carries_it_and_no_campaign_is_told_of(
    issue: Any, database: Database, settings: Settings, clock: ManualClock
) -> None:
    made = await issue(email="ana@mail.example")
    postman = Postman(
        database,
        Stream(database, "memory://"),
        Channels.of(settings),
        clock,
        "https://cards.example",
    )

    assert await carry(postman) == 1
    assert await carry(postman) == 0

    [line] = (settings.data_dir / "outbox/email.jsonl").read_text().splitlines()
    assert f"https://cards.example/c/{made.card.token}" in line
    [message] = await all_of(database, _MESSAGES)
    assert (message.status, message.sent_at) == (MessageStatus.ACCEPTED, clock.now())
    assert [row.type for row in await all_of(database, _EVENTS)] == ["card_issued"]
    assert {row.notifications for row in await all_of(database, _FIGURES)} == {0}


async def test_who_has_the_card_already_is_mailed_the_same_link_again(
    issue: Any, database: Database
) -> None:
    first = await issue(send_link=None, email="ana@mail.example")
    none_yet = await all_of(database, _MESSAGES)
    again = await issue(email="ana@mail.example")

    [message] = await all_of(database, _MESSAGES)
    assert none_yet == []
    assert (again.created, again.card.id) == (False, first.card.id)
    assert message.url == f"/c/{first.card.token}"


async def test_no_consent_is_needed_for_what_was_asked_for(
    issue: Any, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    made = await issue(send_link=None, email="ana@mail.example")
    said = SetConsentInput(
        customer_id=Id(made.card.customer_id), channel=Channel.EMAIL, granted=False
    )
    await database.write(
        cafe.business.id, lambda tx: set_consent(tx, cafe.owner, said, clock.now())
    )

    await issue(email="ana@mail.example")

    [message] = await all_of(database, _MESSAGES)
    assert message.status is MessageStatus.QUEUED


@pytest.mark.parametrize(
    ("channel", "customer", "code"),
    [
        (Channel.EMAIL, {"phone": "+6281234567890"}, Code.INVALID),
        (Channel.PUSH, {"email": "ana@mail.example"}, Code.INVALID),
        (Channel.MESSENGERS, {"phone": "+6281234567890"}, Code.CHANNEL_NOT_CONNECTED),
    ],
)
async def test_a_link_that_cannot_be_mailed_issues_no_card(
    issue: Any, database: Database, channel: Channel, customer: dict[str, str], code: Code
) -> None:
    with pytest.raises(Refused) as refused:
        await issue(channel, **customer)

    assert (refused.value.code, refused.value.field) == (code, ["input", "sendLink"])
    assert await all_of(database, _EVENTS) == []
    assert await all_of(database, _MESSAGES) == []
