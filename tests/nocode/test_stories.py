"""The three stories of the reference text, as the page tells them, to the very end.

A real call of the API makes a real event; its signed request comes to a hook; the trigger of the
Zapier app, or a catch hook, hands it to the steps of the page; the fakes of Mailchimp, Slack and a
CRM say what has come of it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.ids import Id
from factories import a_card_template, a_voucher_template
from fakes.receiver import Delivered, Receiver
from houses import House
from models import CardTemplate, Mode
from nocode.tools import APP, AppRun, Zapier, connected
from nocode.world import World, a_world
from nocode.zaps import Zap, zaps_of
from processes import ROOT
from services.card_templates import (
    BirthdayRuleInput,
    GoalInput,
    GoalRewardInput,
    VoucherRewardInput,
)

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

ZAPS = zaps_of(ROOT / "docs" / "integrations" / "zapier.md")
CATCH_HOOK = "https://hooks.zapier.com/hooks/catch/…"
STORIES = (
    "redeemed vouchers tag customers in mailchimp",
    "goals are told on slack",
    "birthdays make tasks in your crm",
)
ANA, BEN = "ana@mail.example", "ben@mail.example"

ISSUE = """mutation($input: IssueCardInput!) { issueCard(input: $input) {
  card { id number customer { id } } userErrors { message } } }"""
CONSENT = """mutation($id: ID!) {
  setConsent(input: {customerId: $id, channel: EMAIL, granted: true}) {
    userErrors { message } } }"""
STAMP = """mutation($id: ID!, $count: Int!) { addStamps(input: {card: {id: $id}, count: $count}) {
  rewards { voucher { id } } userErrors { message } } }"""
REDEEM = """mutation($id: ID!) { redeemVoucher(input: {voucher: {id: $id}}) {
  voucher { status } userErrors { message } } }"""
ADVANCE = """mutation { advanceTestClock(input: {days: 3}) {
  eventCount userErrors { message } } }"""
NOW = "{ viewer { business { now } } }"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Mailchimp, Slack and a CRM."""
    async with a_world() as made:
        yield made


@pytest.fixture
async def house(open_house: Callable[..., Awaitable[House]]) -> House:
    """A café whose clock can be moved to a birthday."""
    return await open_house(mode=Mode.TEST)


@pytest.fixture
async def template(house: House) -> CardTemplate:
    """A card whose third stamp gives a voucher, and that knows birthdays."""
    coffee, cake = [
        Id((await a_voucher_template(house.database, house.actor, **values)).id)
        for values in ({"redeem_code": "FREECOFFEE"}, {"title": "A birthday cake"})
    ]
    goal = GoalRewardInput(voucher=VoucherRewardInput(voucher_template_id=coffee))
    return await a_card_template(
        house.database,
        house.actor,
        goals=[GoalInput(stamps=3, reward=goal)],
        birthday=BirthdayRuleInput(voucher_template_id=cake),
    )


@dataclass
class Story:
    """A worked example at work: what comes to its hook runs its steps."""

    house: House
    hooks: Receiver
    zapier: Zapier
    world: World
    zap: Zap
    kept: Any = None

    @property
    def key(self) -> str:
        """The key of the app's trigger that its first step names."""
        return self.zap.trigger.name.removeprefix("Stampwire: ").lower().replace(" ", "_")

    async def begin(self) -> None:
        """Switch the Zap on: by the app, or by the mutation of the page."""
        if self.zap.mutation is None:
            url = self.hooks.at("/zap")
            self.kept = await self.zapier.trigger(self.key, "performSubscribe", targetUrl=url)
            return
        assert self.zap.mutation.count(CATCH_HOOK) == 1
        mutation = self.zap.mutation.replace(CATCH_HOOK, self.hooks.at("/catch"))
        made = (await self.house.owner.do(mutation))["createWebhookEndpoint"]
        assert made["userErrors"] == []

    async def end(self, count: int) -> list[bool]:
        """Run it with each of so many requests; tells which came to the last step."""
        came = await self.hooks.wait_for(count)
        assert len(came) == count
        bodies = [await self._body_of(one) for one in sorted(came, key=lambda one: one.id)]
        return [await self.zap.run(body, self.world) for body in bodies]

    async def _body_of(self, came: Delivered) -> Any:
        if self.zap.mutation is not None:
            return came.data
        label = self.zap.trigger.fields["Contact Data"]
        choice = {"Of those who agreed to be written to": "consented", "None": "none"}[label]
        assert f"{choice}: '{label}" in (APP / "contacts.js").read_text()
        [body] = await self.zapier.caught(self.key, self.kept, came, contact=choice)
        return body


@pytest.fixture
def story(house: House, hooks: Receiver, tester: AppRun, world: World) -> Callable[[str], Story]:
    """An example of the page, by its heading."""
    return lambda title: Story(house, hooks, connected(tester, house.owner), world, ZAPS[title])


async def issue(house: House, template: CardTemplate, email: str, **values: Any) -> Any:
    """A card for somebody; Ana agrees to e-mails, Ben does not."""
    customer = {"name": email.partition("@")[0].title(), "email": email, **values}
    told = {"templateId": template.id, "customer": customer}
    made = (await house.owner.do(ISSUE, {"input": told}))["issueCard"]
    assert made["userErrors"] == []
    if email == ANA:
        await house.owner.do(CONSENT, {"id": made["card"]["customer"]["id"]})
    return made["card"]


async def stamp(house: House, card: Any) -> Any:
    """Three stamps; the voucher they give."""
    given = (await house.owner.do(STAMP, {"id": card["id"], "count": 3}))["addStamps"]
    [reward] = given["rewards"]
    return reward["voucher"]


def test_the_page_tells_each_story_for_both_ways() -> None:
    ways = [title.removeprefix("By catch hook: ").lower() for title in ZAPS]

    assert sorted(ways) == sorted(title.lower() for title in (*STORIES, *STORIES))


@pytest.mark.parametrize("title", [title for title in ZAPS if STORIES[0] in title.lower()])
async def test_a_redeemed_voucher_puts_the_tag_on_the_right_address(
    house: House, template: CardTemplate, story: Callable[[str], Story], world: World, title: str
) -> None:
    told = story(title)
    await told.begin()

    for email in (ANA, BEN):
        voucher = await stamp(house, await issue(house, template, email))
        await house.owner.do(REDEEM, {"id": voucher["id"]})

    assert await told.end(2) == [True, False]
    assert world.mailchimp.tags_of(ANA) == ["redeemed FREECOFFEE"]
    assert [member["email_address"] for member in world.mailchimp.members.values()] == [ANA]


@pytest.mark.parametrize("title", [title for title in ZAPS if STORIES[1] in title.lower()])
async def test_a_goal_puts_the_message_into_the_channel(
    house: House, template: CardTemplate, story: Callable[[str], Story], world: World, title: str
) -> None:
    told = story(title)
    await told.begin()

    card = await issue(house, template, ANA)
    await stamp(house, card)

    assert await told.end(1) == [True]
    text = f"Card {card['number']} (Coffee card) reached goal 1: 3 of 3 stamps."
    assert world.slack.channels == {"#loyalty": [text]}


@pytest.mark.parametrize("title", [title for title in ZAPS if STORIES[2] in title.lower()])
async def test_a_birthday_makes_a_task_with_the_right_name(
    house: House, template: CardTemplate, story: Callable[[str], Story], world: World, title: str
) -> None:
    told = story(title)
    await told.begin()
    world.crm.contacts = {ANA: "501", BEN: "502"}

    now = datetime.fromisoformat((await house.owner.do(NOW))["viewer"]["business"]["now"])
    birthday = f"--{now + timedelta(days=2):%m-%d}"  # ahead of Jakarta's day at any hour
    for email in (ANA, BEN):
        await issue(house, template, email, birthday=birthday)
    assert (await house.owner.do(ADVANCE))["advanceTestClock"]["userErrors"] == []

    assert sorted(await told.end(2)) == [False, True]
    assert world.crm.tasks_of(ANA) == ["Congratulate Ana"]
    [task] = world.crm.tasks
    assert task["note"].startswith("Birthday in 0 days. Gift: v_")
    assert datetime.fromisoformat(task["due"]) > now
