"""Contacts: told, moved and erased with their customer; ways out; and the key of pushes."""

import asyncio
import base64
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Invalid, LimitReached
from core.ids import Id, new_id
from core.secrets import Secrets
from db import BUSINESS, Database, query
from factories import NOW, Cafe, a_business, a_card, a_card_template
from fakes.push_service import Browser
from integrations.channels import purpose_of_connection, seal_settings
from models import (
    Actor,
    Card,
    Channel,
    ChannelConnection,
    ChannelKind,
    Consent,
    Contact,
    Messenger,
    PushSubscription,
    UsedLink,
)
from services.contacts import (
    MOST_BROWSERS,
    bind,
    contacts_of,
    new_link_token,
    revoke_address,
    subscribe_push,
    unsubscribe_push,
)
from services.housekeeping import keep_house
from services.merging import MergeCustomersInput, merge_customers
from services.privacy import EraseCustomerInput, erase_customer, export_customer
from services.push_keys import private_push_key, public_push_key
from services.secret_keys import look, seal_anew
from services.unsubscribing import business_of, unsubscribe, unsubscribe_path

_CONTACTS = query(select(Contact).where(col(Contact.business_id) == BUSINESS))
_BROWSERS = query(select(PushSubscription).where(col(PushSubscription.business_id) == BUSINESS))
_CONSENTS = query(select(Consent).where(col(Consent.business_id) == BUSINESS))
_LINKS = query(select(UsedLink).where(col(UsedLink.business_id) == BUSINESS))
ENDPOINT = "https://push.example/one"


@dataclass
class Desk:
    """A café with a bot and two people who hold cards."""

    database: Database
    secrets: Secrets
    cafe: Cafe
    connection: ChannelConnection
    ana: Card
    budi: Card

    async def do(self, work: Any) -> Any:
        """In one transaction of the café."""
        return await self.database.write(self.cafe.business.id, work)

    async def all(self, statement: Any) -> list[Any]:
        return await self.do(lambda tx: tx.many(statement))

    async def bind(self, card: Card, chat: str) -> bool:
        """A link of the card's page is pressed in a chat."""
        token = new_link_token(self.secrets, self.connection, card.customer_id, NOW)
        told = (self.connection, Messenger.TELEGRAM, chat, token, NOW)
        return await self.do(
            lambda tx: bind(tx, Actor(self.cafe.business), *told, secrets=self.secrets)
        )

    async def allow(self, card: Card, endpoint: str = ENDPOINT, keys: Any = None) -> Any:
        """A browser is allowed to notify."""
        keys, actor = keys or Browser().keys, Actor(self.cafe.business)
        return await self.do(
            lambda tx: subscribe_push(tx, actor, card, endpoint, keys, NOW, allow_insecure=False)
        )

    async def said(self, card: Card) -> dict[Channel, bool]:
        """What the holder said last."""
        consents = await self.all(_CONSENTS)
        return {one.channel: one.granted for one in consents if one.customer_id == card.customer_id}


@pytest.fixture
async def desk(database: Database, secrets: Secrets) -> Desk:
    cafe = await a_business(database, secrets)
    template = await a_card_template(database, cafe.owner)
    id = new_id("chn")
    connection = ChannelConnection(
        id=id,
        business_id=cafe.business.id,
        kind=ChannelKind.TELEGRAM,
        settings=seal_settings(secrets, id, {"botToken": "1:a"}),
        connected_at=NOW,
    )
    await database.write(cafe.business.id, lambda tx: tx.add(connection))
    ana = await a_card(database, cafe.owner, template.id, email="ana@mail.example")
    budi = await a_card(database, cafe.owner, template.id, email="budi@mail.example")
    return Desk(database, secrets, cafe, connection, ana, budi)


async def test_a_chat_is_of_whoever_bound_it_last(desk: Desk) -> None:
    assert await desk.bind(desk.ana, "7")
    assert await desk.bind(desk.budi, "7")

    [contact] = await desk.all(_CONTACTS)
    assert contact.customer_id == desk.budi.customer_id


async def test_consent_ends_with_the_last_chat(desk: Desk) -> None:
    await desk.bind(desk.ana, "7")
    await desk.bind(desk.ana, "8")

    async def stop(chat: str) -> bool:
        told = (desk.connection, Messenger.TELEGRAM, chat, NOW)
        return await desk.do(
            lambda tx: revoke_address(tx, Actor(desk.cafe.business), *told, by="stop")
        )

    first = await stop("7"), await desk.said(desk.ana)
    second = await stop("8"), await desk.said(desk.ana)

    assert first == (True, {Channel.MESSENGERS: True})
    assert second == (True, {Channel.MESSENGERS: False})
    assert await stop("8") is False
    assert await stop("9") is False


async def test_one_link_in_two_chats_at_once_binds_one(desk: Desk) -> None:
    token = new_link_token(desk.secrets, desk.connection, desk.ana.customer_id, NOW)
    actor = Actor(desk.cafe.business)

    async def press(chat: str) -> bool:
        told = (desk.connection, Messenger.TELEGRAM, chat, token, NOW)
        return await desk.do(lambda tx: bind(tx, actor, *told, secrets=desk.secrets))

    bound = await asyncio.gather(*(press(str(chat)) for chat in range(4)))

    assert sorted(bound) == [False, False, False, True]
    assert len(await desk.all(_CONTACTS)) == 1


async def test_a_browser_is_kept_once_and_ten_are_enough(desk: Desk) -> None:
    await desk.allow(desk.ana)
    again = await desk.allow(desk.ana)
    for number in range(1, MOST_BROWSERS):
        await desk.allow(desk.ana, f"{ENDPOINT}/{number}")

    with pytest.raises(LimitReached):
        await desk.allow(desk.ana, f"{ENDPOINT}/more")
    assert await desk.said(desk.ana) == {Channel.PUSH: True}
    assert len(await desk.all(_BROWSERS)) == MOST_BROWSERS
    assert again.endpoint == ENDPOINT
    assert await desk.do(lambda tx: unsubscribe_push(tx, desk.ana, ENDPOINT))
    assert not await desk.do(lambda tx: unsubscribe_push(tx, desk.ana, ENDPOINT))
    assert not await desk.do(lambda tx: unsubscribe_push(tx, desk.budi, f"{ENDPOINT}/1"))


@pytest.mark.parametrize(
    ("endpoint", "keys"),
    [
        ("http://push.example/one", None),
        ("https://127.0.0.1/one", None),
        ("https://10.0.0.1/one", None),
        ("https://push.example/" + "x" * 1_000, None),
        (ENDPOINT, {"p256dh": "AA", "auth": "AA"}),
        (ENDPOINT, {"auth": "AA"}),
        (ENDPOINT, {**Browser().keys, "auth": "AAAA"}),
        (ENDPOINT, {**Browser().keys, "p256dh": base64.b64encode(b"\x04" * 65).decode()}),
    ],
)
async def test_what_no_push_service_gives_is_refused(desk: Desk, endpoint: str, keys: Any) -> None:
    with pytest.raises(Invalid):
        await desk.allow(desk.ana, endpoint, keys)

    assert await desk.all(_BROWSERS) == []
    assert await desk.said(desk.ana) == {}


async def test_who_is_merged_brings_chats_and_browsers(desk: Desk) -> None:
    await desk.bind(desk.budi, "7")
    await desk.allow(desk.ana)
    await desk.allow(desk.budi)
    await desk.allow(desk.budi, f"{ENDPOINT}/two")
    keep, merge = Id(desk.ana.customer_id), Id(desk.budi.customer_id)
    told = MergeCustomersInput(keep_id=keep, merge_id=merge)
    link = new_link_token(desk.secrets, desk.connection, merge, NOW)

    await desk.do(lambda tx: merge_customers(tx, desk.cafe.owner, told, NOW))

    browsers = await desk.all(_BROWSERS)
    assert {one.customer_id for one in browsers} == {keep}
    assert sorted(one.endpoint for one in browsers) == [ENDPOINT, f"{ENDPOINT}/two"]
    assert [one.address for one in await desk.do(lambda tx: contacts_of(tx, keep))] == ["7"]
    actor, at = Actor(desk.cafe.business), (desk.connection, Messenger.TELEGRAM, "8", link, NOW)
    assert await desk.do(lambda tx: bind(tx, actor, *at, secrets=desk.secrets))
    assert {one.customer_id for one in await desk.all(_CONTACTS)} == {keep}


async def test_what_is_held_is_told_and_erased(desk: Desk) -> None:
    await desk.bind(desk.ana, "7001")
    await desk.allow(desk.ana)
    id = Id(desk.ana.customer_id)
    token = new_link_token(desk.secrets, desk.connection, id, NOW)

    told = await desk.do(lambda tx: export_customer(tx, desk.cafe.owner, id, NOW))
    await desk.do(lambda tx: erase_customer(tx, desk.cafe.owner, EraseCustomerInput(id=id), NOW))

    assert told["held"]["contact"][0]["address"] == "7001"
    assert told["held"]["push_subscription"][0]["endpoint"] == ENDPOINT
    assert await desk.all(_CONTACTS) == await desk.all(_BROWSERS) == []
    actor, at = Actor(desk.cafe.business), (desk.connection, Messenger.TELEGRAM, "8", token, NOW)
    assert not await desk.do(lambda tx: bind(tx, actor, *at, secrets=desk.secrets))


async def test_used_links_are_forgotten_when_they_would_have_ended(
    desk: Desk, clock: ManualClock
) -> None:
    await desk.bind(desk.ana, "7")
    await keep_house(desk.database, clock.now() + timedelta(hours=23))
    before = len(await desk.all(_LINKS))
    await keep_house(desk.database, clock.now() + timedelta(hours=25))

    assert (before, len(await desk.all(_LINKS))) == (1, 0)


async def test_one_click_ends_mails_and_a_guess_does_not(desk: Desk) -> None:
    token = unsubscribe_path(desk.secrets, desk.ana.customer_id).rpartition("/")[2]
    mangled = f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}"
    told = desk.database, desk.secrets

    guessed = [await unsubscribe(*told, text, NOW) for text in (mangled, "", "é" * 48, "x" * 48)]
    asked = await business_of(*told, token)
    untouched = await desk.said(desk.ana)
    done = [await unsubscribe(*told, token, NOW) for _ in range(2)]

    assert guessed == [None] * 4
    assert untouched == {}
    assert {business and business.id for business in (asked, *done)} == {desk.cafe.business.id}
    assert await desk.said(desk.ana) == {Channel.EMAIL: False}
    assert await desk.said(desk.budi) == {}


async def test_the_key_of_pushes_is_made_once_and_sealed_anew_with_the_rest(desk: Desk) -> None:
    database, secrets = desk.database, desk.secrets
    made = await asyncio.gather(*(public_push_key(database, secrets, NOW) for _ in range(4)))
    fresh = os.urandom(32)
    both = Secrets(fresh)
    both._peppers += secrets._peppers
    both._ciphers += secrets._ciphers

    sealed = await seal_anew(database, both)
    private = await private_push_key(database, Secrets(fresh), NOW)
    found = await look(database, Secrets(fresh))

    assert len(set(made)) == 1
    assert private.startswith("-----BEGIN PRIVATE KEY-----")
    assert (sealed.closed, found.closed) == (0, 0)
    assert found.all == 2
    settings = (await desk.do(lambda tx: tx.get(ChannelConnection, desk.connection.id))).settings
    assert "1:a" in Secrets(fresh).decrypt(settings, purpose_of_connection(desk.connection.id))
