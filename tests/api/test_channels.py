"""Channels of a business: connected, reached by links, left by STOP, and used by campaigns."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.settings import Settings
from db import BUSINESS, query
from factories import a_card, a_card_template
from fakes import telegram
from fakes.providers import serving
from fakes.push_service import PushService
from fakes.seven_loc import SevenLoc, signed
from fakes.telegram import Telegram
from houses import House
from models import (
    Card,
    CardTemplate,
    ChannelConnection,
    Contact,
    Message,
    MessageStatus,
    Messenger,
    PushSubscription,
    Role,
)
from patience import carry, until
from services import outbox
from services.contacts import messenger_links
from services.due import run_due
from services.postman import Postman

CONNECT = """mutation($input: ConnectChannelInput!) { connectChannel(input: $input) {
    channel { id kind channel status name problem callbackUrl }
    userErrors { code field message } } }"""
CHANNELS = "query { channels { id kind channel status reachableCustomers } }"
CAMPAIGN = """mutation($input: CreateCampaignInput!) { createCampaign(input: $input) {
    campaign { id status } userErrors { code field } } }"""
DRY_RUN = """query($input: CreateCampaignInput!) { campaignDryRun(input: $input) {
    notifications { channel count } messengers { messenger count } userErrors { code } } }"""
RESULTS = """query($id: ID!) { campaign(id: $id) { status results {
    channel accepted failed skipped waiting delivered undelivered
    problems { reason count } } } }"""
_CONTACTS = query(select(Contact).where(col(Contact.business_id) == BUSINESS).order_by(Contact.id))
_MESSAGES = query(select(Message).where(col(Message.business_id) == BUSINESS).order_by(Message.id))
_BROWSERS = query(select(PushSubscription).where(col(PushSubscription.business_id) == BUSINESS))
_CONNECTIONS = query(
    select(ChannelConnection).where(col(ChannelConnection.business_id) == BUSINESS)
)
CONSENTS = "query($id: ID!) { customer(id: $id) { consents { channel granted } } }"


@pytest.fixture
async def bot() -> AsyncIterator[Telegram]:
    """The counterpart."""
    fake = Telegram()
    async with serving(fake):
        yield fake


@pytest.fixture
def settings(settings: Settings, bot: Telegram) -> Settings:
    """Where bots are served is at the fake's."""
    return settings.model_copy(update={"telegram_url": bot.url})


@dataclass
class Shop:
    """A café with a bot, and somebody with a card."""

    house: House
    bot: Telegram
    template: CardTemplate
    card: Card
    channel: dict[str, Any]

    async def link(self, card: Card | None = None) -> str:
        """The token of the card page's Telegram link."""
        house, now = self.house, self.house.deployment.clock.now()
        links = await house.database.read(
            house.actor.business_id,
            lambda tx: messenger_links(
                tx, card or self.card, now, secrets=house.deployment.secrets
            ),
        )
        [url] = [link.url for link in links if link.messenger is Messenger.TELEGRAM]
        head, _, token = url.partition("?start=")
        assert head == "https://t.me/kopi_bot"
        assert len(token) <= 64
        return token

    async def tell(self, update: Any, *, secret: str | None = None) -> tuple[int, Any]:
        """What the bot's webhook is answered."""
        [*_, (_, told)] = [one for one in self.bot.told if one[0] == "setWebhook"]
        assert told["url"] == self.channel["callbackUrl"]
        path = told["url"].removeprefix(self.house.deployment.settings.url)
        session = self.house.owner.session
        headers = {"x-telegram-bot-api-secret-token": secret or told["secret_token"]}
        url = f"{self.house.owner.server.url}{path}"
        async with session.post(url, json=update, headers=headers) as answer:
            return answer.status, await answer.json()

    async def bind(self, card: Card | None = None, chat: int = 7) -> None:
        """The link is pressed."""
        status, said = await self.tell(telegram.start(chat, await self.link(card)))
        assert status == 200
        assert "From now on" in said["text"] or "kini menerima" in said["text"]

    async def consents(self) -> dict[str, bool]:
        """What the customer said last."""
        data = await self.house.owner.do(CONSENTS, {"id": self.card.customer_id})
        return {one["channel"]: one["granted"] for one in data["customer"]["consents"]}

    def campaign(self, *channels: str) -> dict[str, Any]:
        """A campaign to be made."""
        return {
            "input": {
                "templateId": self.template.id,
                "notificationText": "2-for-1 today",
                "messageText": "Dear {name}, come.",
                "channels": list(channels) or ["MESSENGERS"],
            }
        }

    async def send(self, *channels: str) -> str:
        """A campaign that was begun."""
        made = (await self.house.owner.do(CAMPAIGN, self.campaign(*channels)))["createCampaign"]
        assert made["userErrors"] == []
        return str(made["campaign"]["id"])

    async def begin(self) -> Postman:
        """Time does what is due; somebody to carry what there is."""
        house = self.house
        deployment = house.deployment
        await run_due(deployment.database, house.actor.business_id, deployment.clock)
        return Postman(
            deployment.database,
            deployment.stream,
            deployment.channels,
            deployment.clock,
            deployment.settings.url,
        )

    async def sent(self, id: str) -> Any:
        """Its results once it is sent, by the server's own worker or by us."""
        postman = await self.begin()

        async def is_sent() -> bool:
            await carry(postman)
            data = await self.house.owner.do(RESULTS, {"id": id})
            return bool(data["campaign"]["status"] == "SENT")

        await until(is_sent)
        data = await self.house.owner.do(RESULTS, {"id": id})
        [result] = data["campaign"]["results"]
        return result


async def connect(house: House, kind: str, settings: dict[str, str]) -> Any:
    told = {"input": {"kind": kind, "settings": settings}}
    return (await house.owner.do(CONNECT, told))["connectChannel"]


@pytest.fixture
async def shop(house: House, bot: Telegram) -> Shop:
    """Connected."""
    template = await a_card_template(house.database, house.actor)
    card = await a_card(
        house.database, house.actor, template.id, name="Ana", email="ana@mail.example"
    )
    made = await connect(house, "TELEGRAM", telegram.SETTINGS)
    assert made["userErrors"] == []
    return Shop(house, bot, template, card, made["channel"])


async def test_a_link_binds_a_chat_a_campaign_reaches_it_and_stop_ends_it(shop: Shop) -> None:
    before = await shop.house.owner.do(CHANNELS)
    await shop.bind()
    during = await shop.house.owner.do(CHANNELS)
    told = (await shop.house.owner.do(DRY_RUN, shop.campaign()))["campaignDryRun"]
    result = await shop.sent(await shop.send())
    status, said = await shop.tell(telegram.stop(7))
    after = await shop.sent(await shop.send())

    assert [one["reachableCustomers"] for one in before["channels"]][-1] == 0
    assert during["channels"][-1] == {
        "id": shop.channel["id"],
        "kind": "TELEGRAM",
        "channel": "MESSENGERS",
        "status": "CONNECTED",
        "reachableCustomers": 1,
    }
    assert told["notifications"] == [{"channel": "MESSENGERS", "count": 1}]
    assert told["messengers"] == [{"messenger": "TELEGRAM", "count": 1}]
    assert (result["accepted"], result["failed"], result["skipped"]) == (1, 0, 0)
    [message] = shop.bot.got
    assert message["chat_id"] == "7"
    assert message["text"].startswith("Dear Ana, come.\n\n")
    assert f"/c/{shop.card.token}" in message["text"]
    assert (status, said["chat_id"]) == (200, "7")
    assert await shop.consents() == {"MESSENGERS": False}
    assert (after["accepted"], after["skipped"]) == (0, 1)
    assert len(shop.bot.got) == 1


async def test_a_link_is_good_once_and_for_a_day(shop: Shop, clock: ManualClock) -> None:
    first, second = await shop.link(), await shop.link()
    await shop.tell(telegram.start(7, first))
    _, repeated = await shop.tell(telegram.start(7, first))
    _, passed_on = await shop.tell(telegram.start(8, first))
    _, guessed = await shop.tell(telegram.start(8, "x" * 60))
    clock.advance(timedelta(hours=25))
    _, late = await shop.tell(telegram.start(8, second))

    assert "lama" in passed_on["text"] or "old" in passed_on["text"]
    assert {passed_on["text"]} == {guessed["text"], late["text"]}
    assert repeated["text"] != late["text"]
    [contact] = await shop.house.all(_CONTACTS)
    assert (contact.address, contact.customer_id) == ("7", shop.card.customer_id)
    assert await shop.consents() == {"MESSENGERS": True}


async def test_an_old_start_that_comes_again_does_not_undo_a_stop(shop: Shop) -> None:
    token = await shop.link()
    for update in (telegram.start(7, token), telegram.block(7), telegram.start(7, token)):
        assert (await shop.tell(update))[0] == 200
    await shop.tell(telegram.stop(7))

    [contact] = await shop.house.all(_CONTACTS)
    assert (contact.revoked_at is not None, contact.revoked_by) == (True, "block")
    assert await shop.consents() == {"MESSENGERS": False}


async def test_what_is_not_signed_by_the_provider_changes_nothing(
    shop: Shop, open_house: Callable[..., Awaitable[House]]
) -> None:
    other = await open_house()
    theirs = await connect(other, "TELEGRAM", telegram.SETTINGS)
    [*_, (_, told)] = shop.bot.told
    own = Shop(shop.house, shop.bot, shop.template, shop.card, theirs["channel"])
    before = await shop.house.dump()

    forged = await shop_tell_at(shop, shop.channel["callbackUrl"], "guessed")
    unknown = await shop_tell_at(shop, shop.channel["callbackUrl"] + "x", told["secret_token"])
    # A token of our card, brought to another business's bot.
    status, said = await own.tell(telegram.start(7, await shop.link()))

    assert (forged, unknown) == (401, 401)
    assert status == 200
    assert "terlalu lama" in said["text"] or "too old" in said["text"]
    assert await shop.house.dump() == before


async def shop_tell_at(shop: Shop, url: str, secret: str) -> int:
    update = telegram.start(7, await shop.link())
    headers = {"x-telegram-bot-api-secret-token": secret}
    async with shop.house.owner.session.post(url, json=update, headers=headers) as answer:
        return answer.status


async def test_messengers_wait_for_a_provider(house: House, bot: Telegram) -> None:
    template = await a_card_template(house.database, house.actor)
    card = await a_card(house.database, house.actor, template.id)
    shop = Shop(house, bot, template, card, {})
    refused = (await house.owner.do(CAMPAIGN, shop.campaign()))["createCampaign"]
    wrong = await connect(house, "TELEGRAM", {"botToken": "1:wrong"})
    missing = await connect(house, "WHATSAPP", {"phoneNumberId": "1"})
    own = await connect(house, "EMAIL", {})
    inner = await connect(house, "SEVEN_LOC", {"baseUrl": "https://10.0.0.1", "apiToken": "x"})

    assert refused["userErrors"] == [
        {"code": "CHANNEL_NOT_CONNECTED", "field": ["input", "channels"]}
    ]
    assert wrong["userErrors"][0]["message"] == "Telegram says: Unauthorized"
    assert missing["userErrors"][0]["field"] == ["input", "settings", "accessToken"]
    assert "needs no connecting" in own["userErrors"][0]["message"]
    assert inner["userErrors"][0]["code"] == "INVALID"
    assert await house.all(_CONNECTIONS) == []


async def test_a_block_found_while_sending_revokes(shop: Shop) -> None:
    await shop.bind()
    shop.bot.refused.add("7")

    result = await shop.sent(await shop.send())

    async def is_revoked() -> bool:
        return (await shop.consents()) == {"MESSENGERS": False}

    await until(is_revoked)
    assert (result["accepted"], result["failed"]) == (0, 1)
    [contact] = await shop.house.all(_CONTACTS)
    assert contact.revoked_by == "block"


async def test_a_provider_that_refuses_us_is_shown_as_failing_until_it_is_tested(
    shop: Shop,
) -> None:
    await shop.bind()
    shop.bot.mood = "closed to us"
    result = await shop.sent(await shop.send())

    async def is_failing() -> bool:
        shown = await shop.house.owner.do(CHANNELS)
        return bool(shown["channels"][-1]["status"] == "FAILING")

    await until(is_failing)
    test = """mutation($input: TestChannelInput!) { testChannel(input: $input) {
        ok detail userErrors { code } } }"""
    told = await shop.house.owner.do(test, {"input": {"id": shop.channel["id"]}})
    shown = await shop.house.owner.do(CHANNELS)

    assert result["failed"] == 1
    assert told["testChannel"] == {
        "ok": True,
        "detail": "Connected as @kopi_bot.",
        "userErrors": [],
    }
    assert shown["channels"][-1]["status"] == "CONNECTED"


async def test_disconnecting_forgets_the_settings_and_tells_the_provider(shop: Shop) -> None:
    await shop.bind()
    document = """mutation($input: DisconnectChannelInput!) { disconnectChannel(input: $input) {
        deletedId userErrors { code } } }"""
    asked = {"input": {"id": shop.channel["id"], "idempotencyKey": "once"}}
    first = await shop.house.owner.do(document, asked)
    again = await shop.house.owner.do(document, asked)
    refused = await shop.house.owner.do(document, {"input": {"id": shop.channel["id"]}})
    shown = await shop.house.owner.do(CHANNELS)
    unreached = await shop.house.owner.do(CAMPAIGN, shop.campaign())
    back = await connect(shop.house, "TELEGRAM", telegram.SETTINGS)
    result = await shop.sent(await shop.send())
    await connect(shop.house, "TELEGRAM", telegram.SETTINGS)
    notices = await shop.house.owner.do("{ notices(first: 9) { nodes { kind message } } }")

    did = ["connected", "connected", "disconnected", "given other settings"]
    assert sorted((one["kind"], one["message"]) for one in notices["notices"]["nodes"]) == [
        ("CHANNEL_CHANGED", f'The channel TELEGRAM "@kopi_bot" was {what} by Ayu (OWNER).')
        for what in did
    ]
    assert (
        first == again == {"disconnectChannel": {"deletedId": shop.channel["id"], "userErrors": []}}
    )
    assert refused["disconnectChannel"]["userErrors"] == [{"code": "NOT_FOUND"}]
    assert "deleteWebhook" in [method for method, _ in shop.bot.told]
    assert {one["kind"] for one in shown["channels"]} == {"FILE", "WEB_PUSH"}
    assert unreached["createCampaign"]["userErrors"][0]["code"] == "CHANNEL_NOT_CONNECTED"
    assert back["channel"]["id"] == shop.channel["id"]
    assert result["accepted"] == 1


async def test_nothing_secret_is_stored_or_shown(shop: Shop) -> None:
    [connection] = await shop.house.all(_CONNECTIONS)
    scanner, client = await shop.house.hire(Role.SCANNER)

    assert telegram.TOKEN not in str(connection.__dict__)
    assert telegram.TOKEN not in str(shop.channel)
    assert (await client.call(CHANNELS)).code == "FORBIDDEN"
    assert scanner.role is Role.SCANNER


async def test_too_much_stops_the_bot_for_every_process(shop: Shop, clock: ManualClock) -> None:
    await shop.bind()
    shop.bot.mood = "too much"
    id = await shop.send()
    await carry(await shop.begin())

    async def is_paused() -> bool:
        [connection] = await shop.house.all(_CONNECTIONS)
        return connection.paused_until is not None

    await until(is_paused)
    shop.bot.mood = "good"
    [connection] = await shop.house.all(_CONNECTIONS)
    asked = shop.bot.asked
    # Another process, which has never heard of it.
    deployment = shop.house.deployment
    deployment.channels._opened.clear()
    clock.advance(timedelta(seconds=3))
    [message] = await shop.house.all(_MESSAGES)
    shown = await shop.house.owner.do(CHANNELS)
    assert connection.paused_until == clock.now() + timedelta(seconds=4)
    assert shown["channels"][-1]["status"] == "WAITING"
    assert (message.status, shop.bot.asked) == (MessageStatus.QUEUED, asked)
    clock.advance(timedelta(seconds=10))
    assert (await shop.sent(id))["accepted"] == 1


async def test_what_a_dead_worker_had_in_hand_is_not_sent_again(
    shop: Shop, clock: ManualClock
) -> None:
    await shop.bind()
    shop.bot.mood = "silent"
    deployment, house = shop.house.deployment, shop.house
    id = await shop.send()
    first = await shop.begin()
    await first.sweep()
    await first.sweep()
    await until(lambda: shop.bot.asked == 1)
    [message] = await house.all(_MESSAGES)
    assert message.status is MessageStatus.SENDING
    # Its lease ends, as it would with a worker that was killed.
    clock.advance(outbox.LEASE)
    other = Postman(
        deployment.database, deployment.stream, deployment.channels, clock, "https://x.example"
    )
    await carry(other)
    shop.bot.mood = "good"
    shop.bot.speaks.set()

    await first.drain()
    result = await shop.sent(id)

    assert (result["failed"], result["accepted"]) == (1, 0)
    assert shop.bot.asked == 1


async def test_reports_may_come_in_any_order(house: House) -> None:
    fake = SevenLoc()
    async with serving(fake):
        made = await connect(house, "SEVEN_LOC", fake.settings)
        template = await a_card_template(house.database, house.actor)
        card = await a_card(house.database, house.actor, template.id, phone="+6281234567")
        consent = """mutation($input: SetConsentInput!) { setConsent(input: $input) {
            userErrors { code } } }"""
        said = {"customerId": card.customer_id, "channel": "MESSENGERS", "granted": True}
        await house.owner.do(consent, {"input": said})
        shop = Shop(house, Telegram(), template, card, made["channel"])
        told = (await house.owner.do(DRY_RUN, shop.campaign()))["campaignDryRun"]
        campaign = await shop.send()
        assert (await shop.sent(campaign))["accepted"] == 1
        [message] = await house.all(_MESSAGES)
        [(_, callback)] = fake.told
        failed = {"type": "failed", "ref": message.reference, "reason": "off"}
        kinds = []
        for report in (failed, {**failed, "type": "delivered"}, failed, {**failed, "ref": "x"}):
            body, headers = signed(callback["secret"], report)
            url = made["channel"]["callbackUrl"]
            async with house.owner.session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
            [kept] = await house.all(_MESSAGES)
            assert kept.status is MessageStatus.ACCEPTED
            result = await shop.sent(campaign)
            kinds.append((result["delivered"], result["undelivered"], result["problems"]))
        stop = {"type": "stopped", "messenger": "viber", "phone": "+6281234567"}
        body, headers = signed(callback["secret"], stop)
        async with house.owner.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200

    assert kinds == [(0, 1, [{"reason": "off", "count": 1}]), *[(1, 0, [])] * 3]
    assert told["messengers"] == [{"messenger": "VIBER", "count": 1}]
    assert [one["phone"] for one in fake.got] == ["+6281234567"]
    assert await shop.consents() == {"MESSENGERS": False}


async def test_a_browser_is_notified_and_forgotten_when_it_is_gone(house: House) -> None:
    template = await a_card_template(house.database, house.actor)
    card = await a_card(house.database, house.actor, template.id)
    shop = Shop(house, Telegram(), template, card, {})
    fake = PushService()
    async with serving(fake):
        endpoint, browser = fake.subscribe()
        told = {"endpoint": endpoint, "keys": browser.keys}
        url = f"{house.owner.server.url}/c/{card.token}/push"
        async with house.owner.session.post(url, json=told) as answer:
            assert answer.status in (200, 201, 204), await answer.text()
        shown = await house.owner.do(CHANNELS)
        first = await shop.sent(await shop.send("PUSH"))
        fake.refused.add("one")
        second = await shop.sent(await shop.send("PUSH"))

        async def is_gone() -> bool:
            return await house.all(_BROWSERS) == []

        await until(is_gone)

    by_kind = {one["kind"]: one["reachableCustomers"] for one in shown["channels"]}
    assert by_kind["WEB_PUSH"] == 1
    assert (first["accepted"], second["failed"]) == (1, 1)
    [said] = browser.shown
    assert (said["title"], said["text"]) == ("Kopi Kenangan", "2-for-1 today")
    assert said["url"].endswith(f"/c/{card.token}")
