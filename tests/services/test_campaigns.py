"""Campaigns: whom they reach, what they say, and that nobody is written to twice."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.clock import ManualClock
from core.errors import Code, Forbidden, Refused
from core.ids import Id
from core.settings import Settings
from db import Database, database_of, query
from events.stream import Stream
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_location,
    a_staff,
    a_voucher,
    a_voucher_template,
    stamps,
)
from integrations.channels import Accepted, Answer, Channels, Letter, Rejected, RetryAfter
from models import (
    Actor,
    Campaign,
    CampaignStatus,
    Card,
    CardTemplate,
    Channel,
    Customer,
    DailyFigure,
    EventRow,
    Message,
    MessageStatus,
    Mode,
    Platform,
    Role,
    Voucher,
    filled_in,
    one_line,
)
from patience import carry
from services import campaigns, outbox
from services.audience import SegmentInput
from services.campaigns import (
    CampaignRehearsed,
    CancelCampaignInput,
    ChannelResult,
    CreateCampaignInput,
    cancel_campaign,
    create_campaign,
    rehearse_campaign,
    results_of,
)
from services.card_refs import CardRef
from services.cards import DeleteCardInput, ReportCardSavedInput, delete_card, report_card_saved
from services.clock import AdvanceTestClockInput, advance_test_clock, move_clock
from services.customers import SetConsentInput, set_consent
from services.due import run_due
from services.postman import Postman
from services.text import cut, graphemes

PUSH, EMAIL, MESSENGERS = Channel.PUSH, Channel.EMAIL, Channel.MESSENGERS
BOTH = frozenset({PUSH, EMAIL})
URL = "https://cards.example"
_EVENTS = query(select(EventRow).order_by(EventRow.sequence))
_MESSAGES = query(select(Message).order_by(Message.id))
_VOUCHERS = query(select(Voucher))
_FIGURES = query(select(DailyFigure))
_CUSTOMERS = query(select(Customer))


@dataclass
class Sender:
    """A channel that takes what it is given, unless it was told what to answer."""

    channel: Channel
    answers: list[Any] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    most_letters: int = 4
    most_text: int = 1_000
    is_stand_in: bool = False
    on_send: Callable[[], Awaitable[None]] | None = None

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        self.letters += letters
        if self.on_send is not None:
            await self.on_send()
        return [self._answer() for _ in letters]

    async def forget(self, customer_id: str) -> None:
        self.letters = [one for one in self.letters if one.customer_id != customer_id]

    def _answer(self) -> Answer:
        answer = self.answers.pop(0) if self.answers else Accepted()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class House:
    """A café, its card, and the people who hold one."""

    cafe: Cafe
    database: Database
    clock: ManualClock
    template: CardTemplate
    cards: dict[str, Card] = field(default_factory=dict)
    push: Sender = field(default_factory=lambda: Sender(PUSH))
    email: Sender = field(default_factory=lambda: Sender(EMAIL))

    @property
    def owner(self) -> Actor:
        return self.cafe.owner

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def a_holder(
        self,
        name: str,
        *,
        saved: bool = True,
        push: bool | None = None,
        email: bool | None = True,
        **values: Any,
    ) -> Card:
        """Somebody with a card, who said this about the channels."""
        told = {"email": f"{name.lower()}@mail.example", "name": name, **values}
        card = await a_card(self.database, self.owner, self.template.id, self.now, **told)
        if saved:
            report = ReportCardSavedInput(card=CardRef(id=Id(card.id)), platform=Platform.APPLE)
            await self.do(report_card_saved, report)
        for channel, granted in ((PUSH, push), (EMAIL, email)):
            if granted is not None:
                said = SetConsentInput(
                    customer_id=Id(card.customer_id), channel=channel, granted=granted
                )
                await self.do(set_consent, said)
        self.cards[name] = card
        return card

    async def do(self, service: Any, told: Any, actor: Actor | None = None, **more: Any) -> Any:
        """An operation, now."""
        who = actor or self.owner
        now = who.business.time(self.now)
        return await self.database.write(
            who.business_id, lambda tx: service(tx, who, told, now, **more)
        )

    def asked(self, **values: Any) -> CreateCampaignInput:
        """A campaign to everybody by both channels, unless told."""
        defaults = {
            "template_id": Id(self.template.id),
            "notification_text": "2-for-1 today",
            "message_text": "Dear {name}, {left} to go.",
            "channels": [PUSH, EMAIL],
        }
        return CreateCampaignInput(**{**defaults, **values})

    async def campaign(self, **values: Any) -> Campaign:
        """A campaign that was made; nothing is sent yet."""
        made = await self.do(create_campaign, self.asked(**values), connected=BOTH)
        assert made.campaign
        return made.campaign

    async def rehearsed(self, **values: Any) -> CampaignRehearsed:
        return await self.do(rehearse_campaign, self.asked(**values), connected=BOTH)

    async def begin(self) -> None:
        """Time does what is due: campaigns start."""
        await run_due(self.database, self.cafe.business.id, self.clock)

    def postman(self, database: Any = None) -> Postman:
        database = database or self.database
        stream = Stream(database, "memory://")
        return Postman(database, stream, Channels([self.push, self.email]), self.clock, URL)

    async def sent(self, **values: Any) -> Campaign:
        """A campaign that was sent."""
        campaign = await self.campaign(**values)
        await self.begin()
        await carry(self.postman())
        return await self.again(campaign)

    async def again(self, campaign: Campaign) -> Campaign:
        found = await self.database.read(
            campaign.business_id, lambda tx: tx.get(Campaign, campaign.id)
        )
        assert found
        return found

    async def all(self, statement: Any) -> list[Any]:
        return await self.database.read(None, lambda tx: tx.many(statement))

    async def caused(self) -> list[EventRow]:
        """The events that the system caused."""
        return [row for row in await self.all(_EVENTS) if row.actor_id is None]

    async def results(self, campaign: Campaign) -> dict[Channel, tuple[int, int, int, int]]:
        """Accepted, failed, skipped, waiting on each channel."""
        found: list[ChannelResult] = await self.database.read(
            campaign.business_id, lambda tx: results_of(tx, campaign)
        )
        return {one.channel: (one.accepted, one.failed, one.skipped, one.waiting) for one in found}

    def name_of(self, letter: Letter) -> str:
        return next(
            name for name, card in self.cards.items() if card.customer_id == letter.customer_id
        )


@pytest.fixture
async def house(database: Database, clock: ManualClock) -> House:
    cafe = await a_business(database, mode=Mode.TEST, default_language="en")
    template = await a_card_template(database, cafe.owner, stamps_required=6)
    return House(cafe, database, clock, template)


def _of(house: House, sender: Sender) -> list[str]:
    return sorted(house.name_of(letter) for letter in sender.letters)


@pytest.fixture
async def people(house: House) -> House:
    """Everybody reaches or misses a campaign in another way."""
    await house.a_holder("Ana")
    await house.a_holder("Budi", email=False)
    await house.a_holder("Citra", push=False)
    await house.a_holder("Dewi", email=None)
    await house.a_holder("Eko", saved=False)
    await house.a_holder("Fitri", push=False, email=False)
    told = {"email": None, "phone": "+6281234567890"}
    await house.a_holder("Gita", **told)
    return house


async def test_the_dry_run_tells_just_what_is_then_sent(people: House) -> None:
    told = await people.rehearsed()
    campaign = await people.sent()

    assert told.audience_size == campaign.audience_size == 7
    counts = {one.channel: one.count for one in told.notifications}
    assert counts == {PUSH: len(people.push.letters), EMAIL: len(people.email.letters)}
    assert _of(people, people.push) == ["Ana", "Budi", "Dewi", "Gita"]
    assert _of(people, people.email) == ["Ana", "Citra", "Eko"]
    assert await people.results(campaign) == {PUSH: (4, 0, 3, 0), EMAIL: (3, 0, 4, 0)}
    by_customer = {one.customer.id: one.text for one in told.sample}
    for letter in people.email.letters:
        assert by_customer.get(letter.customer_id, letter.text) == letter.text
    assert len(told.sample) == 5


async def test_a_dry_run_writes_nothing(people: House) -> None:
    await people.rehearsed(voucher_template_id=None)

    assert await people.all(_MESSAGES) == []
    assert await people.all(query(select(Campaign))) == []


async def test_who_refused_every_channel_gets_nothing_at_all(people: House) -> None:
    gift = await a_voucher_template(people.database, people.owner)

    campaign = await people.sent(voucher_template_id=Id(gift.id))

    events = await people.caused()
    fitri = people.cards["Fitri"].id
    assert {row.type for row in events} == {"reward_issued", "voucher_issued", "campaign_sent"}
    assert fitri not in {row.card_id for row in events}
    assert len({row.card_id for row in events}) == 6
    assert fitri not in {row.card_id for row in await people.all(_VOUCHERS)}
    about = [row for row in await people.all(_MESSAGES) if row.card_id == fitri]
    assert {(row.status, row.error) for row in about} == {(MessageStatus.SKIPPED, "no consent")}
    assert {(row.subject, row.text, row.address) for row in about} == {("", "", None)}
    assert campaign.status is CampaignStatus.SENT


async def test_reward_voucher_and_campaign_follow_each_other_in_both_vocabularies(
    house: House,
) -> None:
    card = await house.a_holder("Ana")
    gift = await a_voucher_template(house.database, house.owner, redeem_code="FREECOFFEE")

    campaign = await house.sent(name="Rainy week", voucher_template_id=Id(gift.id))

    rewarded, issued, sent = await house.caused()
    assert [row.type for row in (rewarded, issued, sent)] == [
        "reward_issued",
        "voucher_issued",
        "campaign_sent",
    ]
    [voucher] = await house.all(_VOUCHERS)
    assert (voucher.source, voucher.campaign_id) == ("campaign", campaign.id)
    body = json.loads(sent.body)
    assert body["card"]["id"] == card.id
    assert body["campaign"] == {
        "id": campaign.id,
        "name": "Rainy week",
        "channels": ["push", "email"],
        "voucher_id": voucher.id,
    }
    assert json.loads(rewarded.body)["reward"]["source"] == "campaign"
    assert json.loads(issued.body)["voucher"]["redeem_code"] == "FREECOFFEE"


async def test_campaign_sent_names_the_channels_that_accepted(house: House) -> None:
    await house.a_holder("Ana")
    await house.a_holder("Budi")
    house.push.answers = [Rejected("gone"), Rejected("gone")]
    house.email.answers = [Rejected("mailbox full"), Accepted()]

    campaign = await house.sent()

    [event] = await house.caused()
    assert json.loads(event.body)["campaign"]["channels"] == ["email"]
    assert event.card_id == house.cards["Budi"].id
    assert await house.results(campaign) == {PUSH: (0, 2, 0, 0), EMAIL: (1, 1, 0, 0)}
    errors = Counter(row.error for row in await house.all(_MESSAGES))
    assert errors == {"gone": 2, "mailbox full": 1, None: 1}


async def test_accepted_messages_count_as_notifications(people: House) -> None:
    people.push.answers = [Rejected("gone")]

    await people.sent()

    figures = await people.all(_FIGURES)
    assert sum(row.notifications for row in figures) == 6
    assert {row.template_id for row in figures if row.notifications} == {people.template.id}


@pytest.mark.parametrize(
    ("segment", "names"),
    [
        ({}, "Ana Budi Citra Dewi"),
        ({"stamps_at_least": 3}, "Citra Dewi"),
        ({"stamps_at_most": 1}, "Ana Budi"),
        ({"stamps_at_least": 1, "stamps_at_most": 3}, "Budi Citra"),
        ({"stamps_left_at_most": 1}, "Dewi"),
        ({"stamps_left_at_most": 3}, "Citra Dewi"),
        ({"last_activity_before": NOW + timedelta(days=2)}, "Ana Budi"),
        ({"last_activity_after": NOW + timedelta(days=2)}, "Citra Dewi"),
        ({"language": "en"}, "Ana Citra"),
        ({"language": "ID"}, "Budi Dewi"),
        ({"has_active_voucher": True}, "Ana"),
        ({"has_active_voucher": False}, "Budi Citra Dewi"),
        ({"location": "Menteng"}, "Dewi"),
        ({"language": "id", "stamps_at_least": 1, "has_active_voucher": False}, "Budi Dewi"),
        ({"stamps_at_least": 6}, ""),
    ],
)
async def test_a_segment_holds_those_for_whom_all_of_it_holds(
    house: House, segment: dict[str, Any], names: str
) -> None:
    there = await a_location(house.database, house.owner)
    waiter = await a_staff(house.database, house.owner, location_id=there.id)
    await house.a_holder("Ana", language="en")
    await house.a_holder("Budi", language="id")
    await house.a_holder("Citra", language="en-gb")
    await house.a_holder("Dewi", language="id")
    await a_voucher(house.database, house.owner, None, house.cards["Ana"], house.now)
    await stamps(house.database, house.owner, house.cards["Budi"], 1, house.now)
    house.clock.advance(timedelta(days=3))
    await stamps(house.database, house.owner, house.cards["Citra"], 3, house.now)
    await stamps(house.database, waiter, house.cards["Dewi"], 5, house.now)
    if "location" in segment:
        segment = {"location_id": Id(there.id)}
    told = SegmentInput(**segment)

    rehearsed = await house.rehearsed(segment=told)
    campaign = await house.sent(segment=told)

    assert " ".join(_of(house, house.push)) == names
    assert rehearsed.audience_size == campaign.audience_size == len(names.split())


async def test_a_card_that_was_deleted_is_in_no_audience(people: House) -> None:
    await people.do(delete_card, DeleteCardInput(id=Id(people.cards["Ana"].id)))

    campaign = await people.sent()

    assert campaign.audience_size == 6
    assert "Ana" not in _of(people, people.push)


async def test_the_audience_is_frozen_when_sending_starts(
    people: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "BATCH", 2)
    campaign = await people.campaign()
    await people.a_holder("Hadi")
    await people.begin()
    await people.a_holder("Intan")
    await people.do(delete_card, DeleteCardInput(id=Id(people.cards["Gita"].id)))

    await carry(people.postman())

    assert campaign.audience_size == 7
    assert (await people.again(campaign)).audience_size == 8
    assert {"Hadi"} < set(_of(people, people.push))
    assert not {"Intan", "Gita"} & set(_of(people, people.push))
    assert await people.results(await people.again(campaign)) == {
        PUSH: (4, 0, 4, 0),
        EMAIL: (4, 0, 4, 0),
    }


@pytest.mark.parametrize(
    ("values", "code", "path"),
    [
        ({"template_id": Id("tpl_unknown")}, Code.NOT_FOUND, "templateId"),
        ({"voucher_template_id": Id("vt_unknown")}, Code.NOT_FOUND, "voucherTemplateId"),
        ({"notification_text": "x" * 21}, Code.TEXT_TOO_LONG, "notificationText"),
        ({"notification_text": "e\u0301" * 21}, Code.TEXT_TOO_LONG, "notificationText"),
        ({"notification_text": "a" + "\u0301" * 300}, Code.TEXT_TOO_LONG, "notificationText"),
        ({"notification_text": " "}, Code.INVALID, "notificationText"),
        ({"message_text": " \n"}, Code.INVALID, "messageText"),
        ({"message_text": "x" * 5_001}, Code.TEXT_TOO_LONG, "messageText"),
        ({"channels": []}, Code.INVALID, "channels"),
        ({"channels": [PUSH, MESSENGERS]}, Code.CHANNEL_NOT_CONNECTED, "channels"),
        ({"scheduled_at": NOW - timedelta(hours=1)}, Code.INVALID, "scheduledAt"),
        ({"scheduled_at": NOW + timedelta(days=367)}, Code.INVALID, "scheduledAt"),
        ({"segment": SegmentInput(stamps_at_least=-1)}, Code.INVALID, "stampsAtLeast"),
        ({"segment": SegmentInput(stamps_left_at_most=51)}, Code.INVALID, "stampsLeftAtMost"),
        (
            {"segment": SegmentInput(stamps_at_least=4, stamps_at_most=3)},
            Code.INVALID,
            "stampsAtMost",
        ),
        (
            {"segment": SegmentInput(last_activity_after=NOW, last_activity_before=NOW)},
            Code.INVALID,
            "lastActivityBefore",
        ),
        ({"segment": SegmentInput(language="x")}, Code.INVALID, "language"),
        ({"segment": SegmentInput(location_id=Id("loc_unknown"))}, Code.NOT_FOUND, "locationId"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_stored(
    house: House, values: dict[str, Any], code: Code, path: str
) -> None:
    for service in (create_campaign, rehearse_campaign):
        with pytest.raises(Refused) as refused:
            await house.do(service, house.asked(**values), connected=BOTH)

        assert (refused.value.code, (refused.value.field or [""])[-1]) == (code, path)
    assert await house.all(query(select(Campaign))) == []


async def test_scanners_make_and_cancel_no_campaigns(house: House) -> None:
    scanner = await a_staff(house.database, house.owner)
    manager = await a_staff(house.database, house.owner, Role.MANAGER)
    campaign = await house.campaign()

    for service, told, more in (
        (create_campaign, house.asked(), {"connected": BOTH}),
        (rehearse_campaign, house.asked(), {"connected": BOTH}),
        (cancel_campaign, CancelCampaignInput(id=Id(campaign.id)), {}),
    ):
        with pytest.raises(Forbidden):
            await house.do(service, told, scanner, **more)

    assert (await house.again(campaign)).status is CampaignStatus.SCHEDULED
    made = await house.do(create_campaign, house.asked(), manager, connected=BOTH)
    assert made.campaign.created_by_id == manager.staff_id


async def test_a_campaign_without_a_name_has_the_cards_and_the_local_time(house: House) -> None:
    assert (await house.campaign()).name == "Coffee card 2026-03-02 19:00"


async def test_twenty_characters_are_counted_as_people_count_them(house: House) -> None:
    family = "👨‍👩‍👧‍👦" * 20

    campaign = await house.campaign(notification_text=family)

    assert campaign.notification_text == family
    assert one_line(family) == family
    assert len(graphemes(family)) == 20


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{name}: {stamps} of 6, {left} to go", "{stamps} <b>: 2 of 6, 4 to go"),
        ("{{7*7}} ${7*7} {0} {} {name.__class__}", "{{7*7}} ${7*7} {0} {} {name.__class__}"),
        ("{{name}}", "{{stamps} <b>}"),
        ("%0d%0aBcc: all@mail.example %s %(name)s", "%0d%0aBcc: all@mail.example %s %(name)s"),
        ("{{ config }} {% raw %} <script>", "{{ config }} {% raw %} <script>"),
        ("one\r\ntwo", "one\r\ntwo"),
    ],
)
async def test_only_three_placeholders_mean_anything(house: House, text: str, read: str) -> None:
    card = await house.a_holder("Ana")
    await house.database.write(
        house.cafe.business.id, lambda tx: _rename(tx, card.customer_id, "{stamps} <b>")
    )
    await stamps(house.database, house.owner, card, 2, house.now)

    await house.sent(message_text=text, channels=[EMAIL])

    [letter] = house.email.letters
    assert letter.text == read


async def _rename(tx: Any, customer_id: str, name: str) -> None:
    await tx.change(await tx.get(Customer, customer_id), name=name)


async def test_no_text_of_anybodys_reaches_a_second_line_of_a_header(house: House) -> None:
    card = await house.a_holder("Ana")
    evil = "Ana\r\nBcc: all@mail.example\u2028x\x1b\x85y"
    await house.database.write(
        house.cafe.business.id, lambda tx: _rename(tx, card.customer_id, evil)
    )

    await house.sent(notification_text="{name}\r\nHi")

    for letter in (*house.email.letters, *house.push.letters):
        assert len(letter.subject.splitlines()) == 1
        assert letter.subject.isprintable()
    assert house.email.letters[0].subject == "Ana Bcc: all@mail.example x y Hi"


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    values = {"name": "{left}{name}", "stamps": 1, "left": 2}

    assert filled_in("{name}{left}{Name}{ name }", values) == "{left}{name}2{Name}{ name }"


@pytest.mark.parametrize(
    ("text", "most", "cut_text"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("a👨‍👩‍👧‍👦b", 5, "a…"),
        ("one two", 5, "one…"),
    ],
)
def test_a_text_is_cut_between_characters(text: str, most: int, cut_text: str) -> None:
    assert cut(text, most) == cut_text


async def test_letters_say_who_what_and_where(house: House) -> None:
    card = await house.a_holder("Ana")

    await house.sent()

    [push], [email] = house.push.letters, house.email.letters
    assert (push.address, push.subject, push.text) == (
        card.wallet_pass_id,
        "Kopi Kenangan",
        "2-for-1 today",
    )
    assert (email.address, email.subject, email.text) == (
        "ana@mail.example",
        "2-for-1 today",
        "Dear Ana, 6 to go.",
    )
    assert push.url == email.url == f"{URL}/c/{card.token}"


async def test_a_long_text_is_cut_to_what_the_channel_takes(house: House) -> None:
    await house.a_holder("Ana")
    house.email.most_text = 10

    await house.sent(message_text="x" * 100)

    assert house.email.letters[0].text == "x" * 9 + "…"


async def test_a_channel_that_asks_to_wait_is_asked_again_and_given_up_in_the_end(
    house: House,
) -> None:
    await house.a_holder("Ana")
    house.email.answers = [RetryAfter(5)] * outbox.MOST_TRIES
    campaign = await house.campaign()
    await house.begin()
    postman = house.postman()

    for attempt in range(1, outbox.MOST_TRIES + 1):
        await carry(postman)
        assert await carry(postman) == 0
        assert len(house.email.letters) == attempt
        house.clock.advance(timedelta(seconds=5))

    assert await house.results(campaign) == {PUSH: (1, 0, 0, 0), EMAIL: (0, 1, 0, 0)}
    assert len({letter.id for letter in house.email.letters}) == 1
    [event] = await house.caused()
    assert json.loads(event.body)["campaign"]["channels"] == ["push"]
    await carry(postman)
    assert (await house.again(campaign)).status is CampaignStatus.SENT


async def test_a_channel_that_breaks_down_leaves_an_unknown_outcome_and_is_not_repeated(
    people: House,
) -> None:
    people.email.answers = [RuntimeError("boom")]

    campaign = await people.sent()

    assert await people.results(campaign) == {PUSH: (4, 0, 3, 0), EMAIL: (0, 3, 4, 0)}
    assert len(people.email.letters) == 3
    assert {row.error for row in await people.all(_MESSAGES) if row.status == "failed"} == {
        "unknown outcome"
    }


async def test_a_channel_that_was_disconnected_meanwhile_fails(people: House) -> None:
    campaign = await people.campaign()
    await people.begin()
    stream = Stream(people.database, "memory://")
    postman = Postman(people.database, stream, Channels([people.push]), people.clock, URL)

    await carry(postman)

    assert (await people.results(campaign))[EMAIL] == (0, 3, 4, 0)


# -- Whoever dies, and whenever. ------------------------------------------------------------------


class Death(BaseException):
    """A power cut; nothing in the house can catch it."""


class Mortal:
    """A database whose process dies at its nth write: before it, or after it was committed."""

    def __init__(self, database: Database, dies_at: int, *, committed: bool) -> None:
        self._database = database
        self._left = dies_at
        self._committed = committed
        self.on_commit = None

    async def read(self, *args: Any) -> Any:
        self._breathe()
        return await self._database.read(*args)

    async def write(self, *args: Any) -> Any:
        self._breathe()
        self._left -= 1
        if self._left == 0 and not self._committed:
            raise Death
        result = await self._database.write(*args)
        if self._left == 0:
            raise Death
        return result

    def _breathe(self) -> None:
        if self._left <= 0:
            raise Death


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
async def test_at_most_once_wherever_the_postman_dies(
    people: House, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    monkeypatch.setattr(campaigns, "BATCH", 3)
    gift = await a_voucher_template(people.database, people.owner)
    deaths, step = 0, 1
    while True:
        people.push.letters, people.email.letters = [], []
        campaign = await people.campaign(voucher_template_id=Id(gift.id))
        await people.begin()
        postman = people.postman(Mortal(people.database, step, committed=committed))
        died = False
        try:
            await carry(postman)
        except Death:
            died = True
        await asyncio.gather(*postman._in_hand, return_exceptions=True)
        people.clock.advance(outbox.LEASE)
        await carry(people.postman())

        await _nothing_twice_and_nobody_left_out(people, await people.again(campaign))
        if not died:
            break
        deaths, step = deaths + 1, step + 1

    assert deaths > 8


async def test_at_most_once_where_the_postman_dies_in_the_middle_of_a_hand_over(
    people: House,
) -> None:
    people.email.answers = [Death()]
    campaign = await people.campaign()
    await people.begin()
    postman = people.postman()
    with pytest.raises(Death):
        await carry(postman)
    await asyncio.gather(*postman._in_hand, return_exceptions=True)

    assert await carry(people.postman()) == 0
    waiting = await people.results(await people.again(campaign))
    people.clock.advance(outbox.LEASE)
    await carry(people.postman())

    assert waiting[EMAIL] == (0, 0, 4, 3)
    assert await people.results(await people.again(campaign)) == {
        PUSH: (4, 0, 3, 0),
        EMAIL: (0, 3, 4, 0),
    }
    await _nothing_twice_and_nobody_left_out(people, await people.again(campaign))


async def test_the_only_postman_takes_over_at_once(people: House) -> None:
    people.email.answers = [Death()]
    campaign = await people.campaign()
    await people.begin()
    postman = people.postman()
    with pytest.raises(Death):
        await carry(postman)
    await asyncio.gather(*postman._in_hand, return_exceptions=True)
    successor = people.postman()

    await successor.take_over()
    await carry(successor)

    assert (await people.again(campaign)).status is CampaignStatus.SENT


async def test_a_postman_who_is_told_to_stop_finishes_what_he_has_in_hand(people: House) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        begun.set()
        await goes_on.wait()

    people.email.on_send = slowly
    campaign = await people.campaign()
    await people.begin()
    postman = people.postman()
    working = asyncio.create_task(postman.run())
    await asyncio.wait_for(begun.wait(), 10)

    postman.stop()
    goes_on.set()
    await asyncio.wait_for(working, 10)

    assert (await people.results(campaign))[EMAIL][0] == 3
    statuses = {row.status for row in await people.all(_MESSAGES)}
    assert MessageStatus.SENDING not in statuses


@pytest.fixture
async def second(settings: Settings, database: Database) -> AsyncIterator[Database]:
    """The same database, as another process has it."""
    other = database_of(settings)
    await other.open()
    yield other
    await other.close()


async def test_two_postmen_share_the_work_and_repeat_none_of_it(
    people: House, second: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "BATCH", 2)
    people.push.on_send = people.email.on_send = lambda: asyncio.sleep(0.002)
    sent = [await people.campaign() for _ in range(5)]
    await people.begin()

    first, other = people.postman(), people.postman(second)
    while await _any_sending(people):
        await asyncio.gather(carry(first), carry(other))

    for campaign in sent:
        again = await people.again(campaign)
        assert await people.results(again) == {PUSH: (4, 0, 3, 0), EMAIL: (3, 0, 4, 0)}
    letters = [*people.push.letters, *people.email.letters]
    assert len(letters) == len({letter.id for letter in letters}) == 5 * 7
    events = Counter((row.card_id, json.loads(row.body)["campaign"]["id"]) for row in
                     await people.caused())  # fmt: skip
    assert set(events.values()) == {1}
    assert len(events) == 5 * 6


async def _any_sending(house: House) -> bool:
    return await house.database.read(house.cafe.business.id, campaigns.is_sending)


async def _nothing_twice_and_nobody_left_out(house: House, campaign: Campaign) -> None:
    """The audience is dealt with: each at most once per channel, and told of once if reached."""
    assert campaign.status is CampaignStatus.SENT
    letters = [*house.push.letters, *house.email.letters]
    places = Counter((letter.customer_id, letter.channel) for letter in letters)
    assert set(places.values()) <= {1}
    for counts in (await house.results(campaign)).values():
        assert sum(counts) == campaign.audience_size
        assert counts[3] == 0
    accepted: dict[str, set[str]] = {}
    for row in await house.all(_MESSAGES):
        if row.campaign_id == campaign.id and row.status is MessageStatus.ACCEPTED:
            accepted.setdefault(row.card_id, set()).add(row.channel)
    told = [
        (row.card_id, set(json.loads(row.body)["campaign"]["channels"]))
        for row in await house.caused()
        if row.type == "campaign_sent" and json.loads(row.body)["campaign"]["id"] == campaign.id
    ]
    assert len(told) == len(dict(told))
    assert dict(told) == accepted
    vouchers = [row for row in await house.all(_VOUCHERS) if row.campaign_id == campaign.id]
    assert len(vouchers) == len({row.card_id for row in vouchers})
    if campaign.voucher_template_id is not None:
        assert len(vouchers) == 6


# -- In time, and not at all. ---------------------------------------------------------------------


async def test_a_campaign_starts_in_its_time(house: House) -> None:
    await house.a_holder("Ana")
    campaign = await house.campaign(scheduled_at=house.now + timedelta(hours=3))

    house.clock.advance(timedelta(hours=2, minutes=59))
    await house.begin()
    await carry(house.postman())
    before = await house.again(campaign)
    house.clock.advance(timedelta(minutes=1))
    await house.begin()
    await carry(house.postman())
    after = await house.again(campaign)

    assert (before.status, before.started_at) == (CampaignStatus.SCHEDULED, None)
    assert (after.status, after.started_at) == (CampaignStatus.SENT, campaign.scheduled_at)
    assert after.finished_at == house.now


async def test_a_campaign_that_is_a_day_late_is_not_sent(house: House) -> None:
    await house.a_holder("Ana")
    campaign = await house.campaign(scheduled_at=house.now + timedelta(hours=3))

    house.clock.advance(timedelta(hours=27, seconds=1))
    await house.begin()
    await carry(house.postman())

    after = await house.again(campaign)
    assert (after.status, after.cancelled_by_id) == (CampaignStatus.CANCELLED, None)
    assert house.push.letters == []


async def test_a_test_clock_sends_campaigns_on_its_way_in_the_order_of_time(house: House) -> None:
    await house.a_holder("Ana")
    gift = await a_voucher_template(house.database, house.owner)
    second = await house.campaign(
        name="second", scheduled_at=house.now + timedelta(days=2), voucher_template_id=Id(gift.id)
    )
    first = await house.campaign(name="first", scheduled_at=house.now + timedelta(days=1))
    postman = house.postman()
    decided = await house.do(advance_test_clock, AdvanceTestClockInput(days=3))

    moved = await move_clock(
        house.database,
        house.clock,
        house.cafe.business.id,
        decided,
        lambda: postman.finish_campaigns(house.cafe.business.id),
    )

    assert [(row.type, row.occurred_at) for row in moved.events] == [
        ("campaign_sent", first.scheduled_at),
        ("reward_issued", second.scheduled_at),
        ("voucher_issued", second.scheduled_at),
        ("campaign_sent", second.scheduled_at),
    ]


async def test_a_campaign_cancelled_before_its_time_sends_nothing(house: House) -> None:
    await house.a_holder("Ana")
    campaign = await house.campaign(scheduled_at=house.now + timedelta(hours=3))

    cancelled = await house.do(cancel_campaign, CancelCampaignInput(id=Id(campaign.id)))
    again = await house.do(cancel_campaign, CancelCampaignInput(id=Id(campaign.id)))
    house.clock.advance(timedelta(hours=4))
    await house.begin()
    await carry(house.postman())

    assert cancelled.campaign.status is CampaignStatus.CANCELLED
    assert cancelled.campaign.cancelled_by_id == house.owner.staff_id
    assert again.campaign == cancelled.campaign
    assert (house.push.letters, await house.all(_MESSAGES)) == ([], [])


async def test_a_campaign_cancelled_in_the_middle_reaches_nobody_more(
    people: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "BATCH", 3)
    campaign = await people.campaign()
    told = CancelCampaignInput(id=Id(campaign.id))

    async def cancel() -> None:
        people.push.on_send = None
        await people.do(cancel_campaign, told)

    people.push.on_send = cancel
    people.email.answers = [RetryAfter(1)]
    await people.begin()
    await carry(people.postman())
    people.clock.advance(timedelta(minutes=5))
    await carry(people.postman())

    after = await people.again(campaign)
    results = await people.results(after)
    assert after.status is CampaignStatus.CANCELLED
    assert {sum(counts) for counts in results.values()} == {7}
    assert {counts[3] for counts in results.values()} == {0}
    reached = {letter.customer_id for letter in people.push.letters}
    assert 0 < len(reached) <= 3
    assert len(people.email.letters) == len({letter.id for letter in people.email.letters})
    told_of = {row.customer_id for row in await people.caused()}
    assert told_of >= reached


async def test_a_campaign_that_was_sent_cannot_be_cancelled(people: House) -> None:
    campaign = await people.sent()

    with pytest.raises(Refused) as refused:
        await people.do(cancel_campaign, CancelCampaignInput(id=Id(campaign.id)))
    with pytest.raises(Refused) as unknown:
        await people.do(cancel_campaign, CancelCampaignInput(id=Id("cmp_unknown")))

    assert refused.value.code is Code.CAMPAIGN_SENT
    assert unknown.value.code is Code.NOT_FOUND
    assert (await people.again(campaign)).status is CampaignStatus.SENT


async def test_nobody_of_another_business_is_written_to(people: House, database: Database) -> None:
    other = await a_business(database)
    template = await a_card_template(database, other.owner)
    await a_card(database, other.owner, template.id, email="ana@mail.example")

    with pytest.raises(Refused) as refused:
        await people.campaign(template_id=Id(template.id))
    campaign = await people.sent()

    assert refused.value.code is Code.NOT_FOUND
    assert campaign.audience_size == 7
    assert {letter.business_id for letter in people.push.letters} == {people.cafe.business.id}
