"""Our samples of Syrve, and what we ask of it, judged by the client of its official description."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from iikocloudapi import AppAuth, IikoCloud, parse_webhook
from iikocloudapi.webhooks import DeliveryOrderUpdateEvent, TableOrderUpdateEvent

from fakes import syrve
from fakes.tills import standing_in
from integrations.http import Outgoing
from integrations.tills import Call, Receipt, Refund, till_of

PHONE = "+6281234567890"
URL = "https://stamps.example/tills/pos_1"
GUEST = "7f1d9a1e-0c3a-4b5e-9d2f-1a2b3c4d5e6f"


def our_reading(body: bytes) -> list[Any]:
    """What we understand of a call."""
    till = till_of("syrve")
    settings = till.settings(**a_connection("https://api-eu.iiko.services"))
    return till.read_sales(settings, Call(method="POST", url=URL, headers={}, body=body))


def a_connection(url: str) -> dict[str, Any]:
    """The settings of a connection, as they are kept."""
    return {
        **syrve.KEYS,
        "organizationId": syrve.ORGANIZATION,
        "baseUrl": url,
        "currency": "IDR",
        "timezone": "Asia/Jakarta",
        "authToken": "the token of our webhook",
    }


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        (TableOrderUpdateEvent, syrve.event("7", total=20_000, phone=PHONE, guest=GUEST)),
        (DeliveryOrderUpdateEvent, syrve.delivery("7", total=20_000, phone=PHONE)),
    ],
)
def test_a_sale_says_to_the_oracle_what_it_says_to_us(kind: Any, sample: Any) -> None:
    body = syrve.webhook(sample)

    [event] = parse_webhook(body)
    [receipt] = our_reading(body)

    assert type(event) is kind
    order = event.event_info.order
    assert isinstance(receipt, Receipt)
    assert (receipt.sale_id, receipt.phone) == (event.event_info.id, order.phone)
    assert receipt.total == order.sum == Decimal(20_000)
    assert receipt.guest == getattr(order.customer, "id", None)
    # The organisation's local time, which the oracle leaves without a zone.
    assert order.when_closed == datetime(2026, 3, 2, 18, 59, 30, 120_000)  # noqa: DTZ001
    assert receipt.closed_at == datetime(2026, 3, 2, 11, 59, 30, 120_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sample", "status", "is_refund"),
    [
        (syrve.event("7", "Bill"), "Bill", False),
        (syrve.event("7", "New"), "New", False),
        (syrve.event("7", "Deleted"), "Deleted", True),
        (syrve.delivery("7", "OnWay", phone=PHONE), "OnWay", False),
        (syrve.delivery("7", "Cancelled", phone=PHONE), "Cancelled", True),
    ],
)
def test_every_other_status_is_one_that_the_oracle_knows(
    sample: Any, status: str, *, is_refund: bool
) -> None:
    body = syrve.webhook(sample, {"eventType": "PersonalShift"})

    [event, _] = parse_webhook(body)

    statuses = type(event.event_info.order.status)
    assert status in {member.value for member in statuses}
    assert our_reading(body) == ([Refund(sale_id=event.event_info.id)] if is_refund else [])


@pytest.fixture
async def stand_in() -> syrve.Syrve:
    """The organisation that our other tests talk to."""
    made = syrve.Syrve()
    card = {"id": GUEST, "track": "113772", "number": "113772", "validToDate": None}
    made.guests[GUEST] = {"id": GUEST, "phone": PHONE, "cards": [card]}
    return made


async def test_what_we_ask_is_what_the_official_client_asks(stand_in: syrve.Syrve) -> None:
    till = till_of("syrve")
    async with (
        standing_in(stand_in.app) as url,
        httpx2.AsyncClient() as way,
        AsyncExitStack() as closing,
    ):
        settings = till.settings(**a_connection(url))
        outgoing = Outgoing(allow_insecure=True)
        closing.push_async_callback(outgoing.close)
        await till.set_up(outgoing, settings, URL)
        ours = dict(stand_in.webhooks)
        auth = AppAuth(
            api_key=syrve.KEYS["apiKey"],
            app_id=syrve.KEYS["appId"],
            client_secret=syrve.KEYS["clientSecret"],
        )
        client = IikoCloud(auth, base_url=url, http_client=way)
        await client.webhooks.update_settings(
            organization_id=syrve.ORGANIZATION,
            web_hooks_uri=URL,
            auth_token=settings.auth_token,
            web_hooks_filter=ours["webHooksFilter"],
        )
        theirs = dict(stand_in.webhooks)
        kept = await client.webhooks.settings(organization_id=syrve.ORGANIZATION)
        asked = {"organization_id": syrve.ORGANIZATION, "type": "id", "id": GUEST}
        guest = await client.loyalty.customer.info(body=asked)
        receipt = await till.fetch_receipt(outgoing, settings, Receipt(sale_id="1", guest=GUEST))

    assert ours == theirs
    assert kept.web_hooks_uri == URL
    assert guest.phone == receipt.phone == PHONE
    assert [card.number for card in guest.cards] == list(receipt.cards) == ["113772"]
