"""Parity: receiver, subscriber and journal have the same bytes, for every type and vocabulary."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from core.clock import SystemClock
from core.secrets import Secrets
from db import Transaction
from events import event_types, record, to_english
from events.base import CustomerPart
from events.vocabulary import EVENTS
from factories import Cafe, a_business, a_card, a_card_template, a_voucher_goal, an_award_goal
from fakes.receiver import Delivered, Receiver, receiving
from models import Customer
from partners import BEGINNING, Api, Told, subscriber
from processes import RunningServer

BOTH = """id type sequence cursor
  en: payload(vocabulary: EN) id_: payload(vocabulary: ID) data: data(vocabulary: ID)"""
EVENTS_IN_BOTH = f"subscription ($after: String!) {{ events(after: $after) {{ {BOTH} }} }}"
JOURNAL_IN_BOTH = f"{{ events(first: 100, order: OLDEST_FIRST) {{ nodes {{ {BOTH} }} }} }}"
VOCABULARIES = ("EN", "ID")
EVENTS_OF_ALL = [name for name, kind in event_types().items() if not kind.opt_in]
"""The thirteen, which an endpoint gets without naming them."""


@pytest.fixture
def clock() -> SystemClock:
    """The true time: the public library takes no signature that is older than five minutes."""
    return SystemClock()


@dataclass
class Partner:
    """A business, its owner's API, a receiver with an endpoint per vocabulary, a subscriber."""

    cafe: Cafe
    api: Api
    receiver: Receiver
    endpoints: dict[str, Any]
    heard: Told

    async def same_bytes(self, count: int) -> list[Any]:
        """The journal, once everybody has these many events: the bytes are the same."""
        told = await self.heard.wait_for(count)
        await self.receiver.wait_for(2 * count)
        journal = (await self.api.send(JOURNAL_IN_BOTH))["data"]["events"]["nodes"]

        assert journal == told
        assert [event["sequence"] for event in journal] == list(range(1, count + 1))
        for vocabulary, shown in zip(VOCABULARIES, ("en", "id_"), strict=True):
            assert self._delivered(vocabulary) == {
                event["id"]: event[shown].encode() for event in journal
            }
        for event in journal:
            assert to_english(event["id_"]) == event["en"]
        return journal  # type: ignore[no-any-return]

    def _delivered(self, vocabulary: str) -> dict[str, bytes]:
        requests = self.receiver.to(f"/{vocabulary}")
        for request in requests:
            self.verify(vocabulary, request)
        bodies = {request.id: request.body for request in requests}
        assert len(bodies) == len(requests)
        return bodies

    def verify(self, vocabulary: str, request: Delivered) -> None:
        """It is ours, and carries its own id."""
        said = request.verified_by(self.endpoints[vocabulary]["signingSecret"])
        assert said["id"] == request.id


@pytest.fixture
async def partner(server: RunningServer, secrets: Secrets) -> AsyncIterator[Partner]:
    """Somebody who listens on every side."""
    async with _partner(server, secrets) as made:
        yield made


@asynccontextmanager
async def _partner(server: RunningServer, secrets: Secrets) -> AsyncIterator[Partner]:
    database = server.app.state.deployment.database
    cafe = await a_business(database, secrets, SystemClock().now())
    async with (
        Api(server.graphql, cafe.api_key) as api,
        receiving() as receiver,
        subscriber(server.socket, cafe.api_key, EVENTS_IN_BOTH, after=BEGINNING) as heard,
    ):
        endpoints = {
            vocabulary: await api.do(
                "CreateWebhookEndpoint", url=receiver.at(f"/{vocabulary}"), vocabulary=vocabulary
            )
            for vocabulary in VOCABULARIES
        }
        yield Partner(cafe, api, receiver, endpoints, heard)


async def test_what_happens_has_the_same_bytes_everywhere(
    server: RunningServer, partner: Partner
) -> None:
    database, owner, api = server.app.state.deployment.database, partner.cafe.owner, partner.api
    now = SystemClock().now()
    goals = [an_award_goal(1), await a_voucher_goal(database, owner, 2, now)]
    template = await a_card_template(database, owner, 2, goals, now)

    issued = await api.do(
        "IssueCard", templateId=template.id, customer={"email": "ana@mail.example", "name": "Ana"}
    )
    card = {"id": issued["card"]["id"]}
    await api.do("ReportCardSaved", card=card, platform="APPLE")
    await api.do("ReportCardOpened", card=card, platform="APPLE")
    added = await api.do("AddStamps", card=card, count=2)
    voucher = added["rewards"][1]["voucher"]["id"]
    await api.do("RedeemVoucher", voucher={"id": voucher}, via="STAFF_SCANNER")

    journal = await partner.same_bytes(10)
    assert [event["type"] for event in journal] == [
        "CARD_ISSUED",
        "CARD_SAVED",
        "CARD_OPENED",
        "STAMP_ADDED",
        "GOAL_REACHED",
        "REWARD_ISSUED",
        "GOAL_REACHED",
        "REWARD_ISSUED",
        "VOUCHER_ISSUED",
        "VOUCHER_REDEEMED",
    ]


async def test_all_thirteen_have_the_same_bytes_everywhere(
    server: RunningServer, partner: Partner
) -> None:
    database, owner = server.app.state.deployment.database, partner.cafe.owner
    now = SystemClock().now()
    card = await a_card(database, owner, now=now, name="Siti", email="siti@mail.example")

    async def happen(tx: Transaction) -> None:
        customer = await tx.get(Customer, card.customer_id)
        assert customer
        part = CustomerPart(
            id=customer.id, wallet_pass_id=card.wallet_pass_id, language=customer.language
        )
        for type in EVENTS_OF_ALL:
            sample = event_types()[type].sample()
            there = {"customer": part, "location_id": owner.location_id}
            if sample.card is not None:
                there["card"] = sample.card.model_copy(update={"id": card.id})
            record(tx, owner, sample.model_copy(update=there), now)

    await database.write(owner.business_id, happen)

    journal = await partner.same_bytes(14)
    assert [event["type"].lower() for event in journal[1:]] == EVENTS_OF_ALL
    assert [event["data"]["event"] for event in journal[1:]] == [
        EVENTS[type] for type in EVENTS_OF_ALL
    ]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_a_sample_of_each_type_is_sent_as_a_test(partner: Partner, vocabulary: str) -> None:
    endpoint = partner.endpoints[vocabulary]["endpoint"]["id"]

    for type in EVENTS_OF_ALL:
        given = await partner.api.do("SendTestEvent", id=endpoint, type=type.upper())
        request = partner.receiver.all[-1]
        sample = await partner.api.ask("EventSample", type=type.upper(), vocabulary=vocabulary)

        partner.verify(vocabulary, request)
        assert given["attempt"]["status"] == "SUCCEEDED"
        assert given["attempt"]["responseStatus"] == 204
        assert request.body.decode() == given["body"]
        assert request.headers["webhook-attempt-kind"] == "test"
        assert "webhook-previous-id" not in request.headers
        assert request.data["sequence"] == 0
        assert request.data["event"] == (type if vocabulary == "EN" else EVENTS[type])
        assert _shape(request.data) == _shape(sample["data"])

    assert len(partner.receiver.to(f"/{vocabulary}")) == len(EVENTS_OF_ALL) == 13
    assert await partner.api.journal() == []


def _shape(said: Any) -> Any:
    """Keys in their order, at every depth."""
    return [(key, _shape(value)) for key, value in said.items()] if isinstance(said, dict) else None
