"""Passes in wallets: told of what happens to their cards, once, in the end, whatever breaks off."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.ids import Id
from db import BUSINESS, Database, query
from events.log import events_after
from events.stream import Stream
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_voucher,
    an_award_goal,
    stamps,
)
from integrations.channels.seam import Accepted, Letter, Rejected, RetryAfter
from integrations.wallets import Wallets
from integrations.wallets.seam import AskAgain, Device, News, Outcome, PassFace, Refused, Told
from models import Card, Channel, PassCursor, PassDevice, Platform, WalletPass
from services import passes
from services.businesses import update_business
from services.card_refs import CardRef
from services.card_templates import update_card_template
from services.cards import (
    DeleteCardInput,
    ReplaceCardInput,
    ReportCardSavedInput,
    delete_card,
    replace_card,
    report_card_saved,
)
from services.customers import update_customer
from services.merging import MergeCustomersInput, merge_customers
from services.pass_keeper import NEWS_SECONDS, PassKeeper, bring
from services.passes import Brought
from services.privacy import EraseCustomerInput, erase_customer, export_customer

_PASSES = query(select(WalletPass).where(col(WalletPass.business_id) == BUSINESS))
_CURSORS = query(select(PassCursor).where(col(PassCursor.business_id) == BUSINESS))
_DEVICES = query(select(PassDevice).where(col(PassDevice.business_id) == BUSINESS))
URL = "https://kopi.example"
MINUTE = timedelta(minutes=1)


@dataclass
class Fake:
    """A wallet: what it was told, and what it answers."""

    platform: Any = Platform.GOOGLE
    told: list[tuple[PassFace, Sequence[Device], News | None]] = field(default_factory=list)
    answers: list[Outcome | BaseException] = field(default_factory=list)
    meanwhile: Any = None

    async def show(
        self, face: PassFace, devices: Sequence[Device], news: News | None = None
    ) -> Outcome:
        self.told.append((face, devices, news))
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        answer = self.answers.pop(0) if self.answers else Told(rang=bool(news and news.rings))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def faces(self) -> list[PassFace]:
        """What it was told to show."""
        return [face for face, _, _ in self.told]


@dataclass
class Desk:
    """A café whose customer Siti has her card in a wallet."""

    database: Database
    clock: ManualClock
    cafe: Cafe
    card: Card
    wallet: Fake
    keeper: PassKeeper

    async def do(self, work: Any) -> Any:
        """In one transaction of the café."""
        return await self.database.write(self.cafe.business.id, work)

    async def stamp(self, count: int = 1, card: Card | None = None) -> None:
        await stamps(self.database, self.cafe.owner, card or self.card, count, self.clock.now())

    async def perform(self, service: Any, told: Any) -> Any:
        return await self.do(lambda tx: service(tx, self.cafe.owner, told, self.clock.now()))

    async def save(self, card: Card | None = None, platform: Platform = Platform.GOOGLE) -> None:
        """A card is put into a wallet."""
        saved, now = card or self.card, self.clock.now()

        async def work(tx: Any) -> None:
            held = await passes.add_pass(tx, self.cafe.business, saved, platform, now)
            await passes.report_saved(tx, self.cafe.business, held.serial, platform, now)

        await self.do(work)

    def another(self, *wallets: Fake) -> PassKeeper:
        """A keeper in another process."""
        told = {str(wallet.platform): wallet for wallet in wallets or (self.wallet,)}
        stream = Stream(self.database, "memory://")
        return PassKeeper(self.database, stream, Wallets(**told), self.clock, URL)  # type: ignore[arg-type]

    async def passes(self) -> list[WalletPass]:
        return await self.do(lambda tx: tx.many(_PASSES))

    async def bring(self, id: str, text: str = "Promo!") -> Brought:
        serial, now = self.card.wallet_pass_id, self.clock.now()
        return await self.do(
            lambda tx: passes.bring_news(tx, [*Platform], serial, id, "Kopi", text, now)
        )


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> Desk:
    cafe = await a_business(database)
    goals = [an_award_goal(5), an_award_goal(10, "A cake")]
    template = await a_card_template(database, cafe.owner, stamps_required=10, goals=goals)
    told = {"email": "siti@mail.example", "language": "id"}
    card = await a_card(database, cafe.owner, template.id, NOW, **told)
    wallet = Fake()
    stream = Stream(database, "memory://")
    keeper = PassKeeper(database, stream, Wallets(google=wallet), clock, URL)  # type: ignore[arg-type]
    return Desk(database, clock, cafe, card, wallet, keeper)


async def test_a_pass_shows_what_happens_to_its_card(desk: Desk) -> None:
    await desk.stamp()
    await desk.save()
    await desk.stamp(2)
    await desk.keeper.finish()
    (face,) = desk.wallet.faces
    assert (face.serial, face.stamps, face.required) == (desk.card.wallet_pass_id, 3, 10)
    assert (face.number, face.token) == (desk.card.number, desk.card.token)
    assert face.url == f"{URL}/c/{desk.card.token}"
    assert (face.business, face.language, face.is_void) == ("Kopi Kenangan", "id", False)
    assert (face.next_goal, face.left, face.goals) == ("A cookie", 2, [5, 10])
    (held,) = await desk.passes()
    assert (held.due_at, held.tries) == (None, 0)


@pytest.mark.on("sqlite")
async def test_what_changes_nothing_is_not_told(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    await desk.keeper.finish()
    told = len(desk.wallet.told)
    await desk.perform(
        report_card_saved,
        ReportCardSavedInput(card=CardRef(id=Id(desk.card.id)), platform=Platform.WEB),
    )
    await desk.keeper.finish()
    assert len(desk.wallet.told) == told
    (held,) = await desk.passes()
    assert (held.due_at, held.tries) == (None, 0)


@pytest.mark.on("sqlite")
async def test_stamps_together_are_told_together(desk: Desk) -> None:
    await desk.save()
    for _ in range(4):
        await desk.stamp()
    await desk.keeper.finish()
    assert [face.stamps for face in desk.wallet.faces] == [4]


async def test_a_stamp_does_not_wait_behind_a_change_of_every_pass(desk: Desk) -> None:
    waiting = [
        await a_card(
            desk.database, desk.cafe.owner, desk.card.template_id, phone=f"+62811111111{n}"
        )
        for n in range(4)
    ]
    for card in (desk.card, *waiting):
        await desk.save(card)
    await desk.keeper.finish()
    await desk.perform(update_business, {"name": "Kopi Baru"})
    desk.clock.advance(MINUTE)
    await desk.stamp()
    now = desk.clock.now()
    for cursor, head in await desk.database.read(None, passes.behind):
        await desk.do(lambda tx, at=(cursor, head): passes.follow(tx, *at, now))
    shares = {desk.cafe.business.id: 2}
    taken = await desk.database.write(
        None, lambda tx: passes.claim(tx, Platform.GOOGLE, now, shares)
    )
    assert len(taken) == 2
    assert taken[0].serial == desk.card.wallet_pass_id
    assert taken[1].serial in {card.wallet_pass_id for card in waiting}


@pytest.mark.on("sqlite")
async def test_each_change_falls_into_a_second_of_its_own(desk: Desk) -> None:
    await desk.save()
    moments = []
    for _ in range(3):
        await desk.stamp()
        await desk.keeper.finish()
        moments.append((await desk.passes())[0].changed_at)
    assert moments == sorted(set(moments))
    assert not any(moment.microsecond for moment in moments)


async def test_what_happens_while_a_wallet_is_told_is_told_next(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    another = desk.another()

    async def meanwhile() -> None:
        await desk.stamp()
        assert await another.sweep() == 1  # it sees the event
        assert not another._in_hand  # and leaves the pass to whoever has it in hand

    desk.wallet.meanwhile = meanwhile
    await desk.keeper.finish()
    assert [face.stamps for face in desk.wallet.faces] == [1, 2]


async def test_whoever_dies_with_a_pass_in_hand_is_followed_by_another(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    desk.wallet.answers = [asyncio.CancelledError()]
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(*await _taken(desk))
    await desk.keeper.finish()
    assert len(desk.wallet.told) == 1  # the lease holds
    desk.clock.advance(passes.LEASE)
    await desk.keeper.finish()
    assert [face.stamps for face in desk.wallet.faces] == [1, 1]
    (held,) = await desk.passes()
    assert held.due_at is None


async def test_the_only_worker_takes_over_at_once(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    desk.wallet.answers = [asyncio.CancelledError()]
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(*await _taken(desk))
    await desk.keeper.take_over()
    await desk.keeper.finish()
    assert [face.stamps for face in desk.wallet.faces] == [1, 1]


async def test_who_comes_back_after_the_lease_stores_nothing(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()

    async def meanwhile() -> None:
        desk.clock.advance(passes.LEASE)
        await desk.stamp()
        desk.wallet.answers = [AskAgain(seconds=100, reason="busy")]
        await desk.another().finish()
        desk.wallet.answers = [Told()]

    desk.wallet.meanwhile = meanwhile
    await desk.keeper.finish()
    (held,) = await desk.passes()
    assert held.due_at == desk.clock.now() + timedelta(seconds=100)


async def _taken(desk: Desk) -> list[Any]:
    await desk.keeper.sweep()
    return list(desk.keeper._in_hand)


@pytest.mark.on("sqlite")
async def test_a_wallet_that_is_away_is_told_later_and_later(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    waits = []
    for answer in (
        AskAgain(seconds=0, reason="away"),
        OSError("broken"),
        *[AskAgain(seconds=0, reason="away")] * 12,
    ):
        desk.wallet.answers = [answer]
        await desk.keeper.finish()
        (held,) = await desk.passes()
        assert held.due_at is not None
        waits.append((held.due_at - desk.clock.now()).total_seconds())
        desk.clock.advance(held.due_at - desk.clock.now())
    assert waits[:4] == [5, 30, 20, 40]
    assert max(waits) == waits[-1] == 3_600
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].stamps == 1
    (held,) = await desk.passes()
    assert (held.due_at, held.tries) == (None, 0)


@pytest.mark.on("sqlite")
async def test_what_a_wallet_refuses_is_told_again_at_the_next_change_only(desk: Desk) -> None:
    await desk.save()
    await desk.stamp()
    desk.wallet.answers = [Refused(reason="no such class")]
    await desk.keeper.finish()
    assert len(desk.wallet.told) == 1
    await desk.perform(
        report_card_saved,
        ReportCardSavedInput(card=CardRef(id=Id(desk.card.id)), platform=Platform.WEB),
    )
    await desk.keeper.finish()
    assert len(desk.wallet.told) == 2


async def test_the_pass_of_a_replaced_card_is_void_and_tells_nothing_of_the_new_one(
    desk: Desk,
) -> None:
    await desk.save()
    ref = CardRef(id=Id(desk.card.id))
    new = (await desk.perform(replace_card, ReplaceCardInput(card=ref))).card
    await desk.keeper.finish()
    (face,) = desk.wallet.faces
    assert face.is_void
    assert (face.token, face.url, face.vouchers) == ("", "", [])
    await desk.save(new)
    await desk.stamp()
    await desk.keeper.finish()
    shown = {face.serial: face for face in desk.wallet.faces}
    assert not shown[new.wallet_pass_id].is_void
    assert shown[new.wallet_pass_id].token == new.token
    assert shown[desk.card.wallet_pass_id].is_void


@pytest.mark.on("sqlite")
async def test_the_pass_of_a_deleted_card_is_void(desk: Desk) -> None:
    await desk.save()
    await desk.perform(delete_card, DeleteCardInput(id=Id(desk.card.id)))
    await desk.keeper.finish()
    assert [face.is_void for face in desk.wallet.faces] == [True]


async def test_a_pass_goes_on_with_the_card_that_its_own_was_joined_to(desk: Desk) -> None:
    template = desk.card.template_id
    other = await a_card(desk.database, desk.cafe.owner, template, phone="+628111111111")
    await desk.stamp(2)
    await desk.stamp(3, other)
    await desk.save()
    told = MergeCustomersInput(keep_id=Id(other.customer_id), merge_id=Id(desk.card.customer_id))
    await desk.perform(merge_customers, told)
    await desk.keeper.finish()
    face = desk.wallet.faces[-1]
    assert (face.serial, face.stamps, face.token) == (desk.card.wallet_pass_id, 5, other.token)
    assert not face.is_void
    await desk.stamp(1, other)
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].stamps == 6
    await desk.perform(replace_card, ReplaceCardInput(card=CardRef(id=Id(other.id))))
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].is_void


async def test_what_is_told_of_an_erased_customer_names_nobody(desk: Desk) -> None:
    await desk.save()
    await desk.save(platform=Platform.APPLE)
    now, serial = desk.clock.now(), desk.card.wallet_pass_id
    device = Device(device="telephone", push_token="aa" * 16)
    await desk.do(lambda tx: passes.add_device(tx, desk.cafe.business, serial, device, now))
    assert await desk.bring("msg_1", "Happy birthday, Siti") is Brought.SOON
    exported = await desk.database.read(
        desk.cafe.business.id,
        lambda tx: export_customer(tx, desk.cafe.owner, desk.card.customer_id, now),
    )
    assert [one["device"] for one in exported["held"]["pass_device"]] == ["telephone"]
    assert {one["serial"] for one in exported["held"]["wallet_pass"]} == {serial}
    await desk.perform(erase_customer, EraseCustomerInput(id=Id(desk.card.customer_id)))
    await desk.keeper.finish()
    assert await desk.do(lambda tx: tx.many(_DEVICES)) == []
    assert {(held.news, held.news_title, held.news_id) for held in await desk.passes()} == {
        (None, None, None)
    }
    ((face, _, news),) = desk.wallet.told
    assert face.is_void
    assert news is None
    assert "Siti" not in str(asdict(face))


async def test_names_and_languages_are_shown_as_they_are_now(desk: Desk) -> None:
    await desk.save()
    await desk.perform(update_business, {"name": "Kopi Baru"})
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].business == "Kopi Baru"
    await desk.perform(update_card_template, {"id": desk.card.template_id, "name": "Tea"})
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].title == "Tea"
    await desk.perform(update_customer, {"id": desk.card.customer_id, "language": "en"})
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].language == "en"


@pytest.mark.on("sqlite")
async def test_a_design_gives_the_colours_and_nothing_else_does(desk: Desk) -> None:
    card = await a_card(desk.database, desk.cafe.owner, None)
    for told, colours in (
        ({"background": "#0B6E4F", "foreground": "#ffffff"}, ("#0b6e4f", "#ffffff")),
        ({"background": "red", "foreground": 7}, ("#3c2a21", "#fbf5ea")),
    ):
        template = await a_card_template(desk.database, desk.cafe.owner, design=told)
        card = await a_card(desk.database, desk.cafe.owner, template.id)
        await desk.save(card)
        await desk.stamp(card=card)
        await desk.keeper.finish()
        face = desk.wallet.faces[-1]
        assert (face.background, face.foreground) == colours


@pytest.mark.on("sqlite")
async def test_vouchers_of_the_card_are_shown(desk: Desk) -> None:
    await desk.save()
    voucher = await a_voucher(desk.database, desk.cafe.owner, card=CardRef(id=Id(desk.card.id)))
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].vouchers == [voucher.title]


async def test_a_wallet_reports_once_that_a_card_was_saved(desk: Desk) -> None:
    await desk.save()
    await desk.save()
    assert len(await desk.passes()) == 1
    rows = await desk.do(_saved)
    assert rows == 1


async def _saved(tx: Any) -> int:
    return sum(row.type == "card_saved" for row in await events_after(tx, 0, 100))


async def test_news_come_with_the_pass_once(desk: Desk) -> None:
    await desk.save()
    assert await desk.bring("msg_1") is Brought.SOON
    assert await desk.bring("msg_2") is Brought.LATER
    await desk.keeper.finish()
    ((face, _, news),) = desk.wallet.told
    assert news == News(id="msg_1", title="Kopi", text="Promo!", rings=True)
    assert face.news == "Promo!"
    await desk.stamp()
    await desk.keeper.finish()
    assert desk.wallet.told[-1][2] is None
    assert desk.wallet.faces[-1].news == "Promo!"


async def test_a_channel_is_told_what_became_of_its_letter(desk: Desk) -> None:
    letter = Letter(
        id="msg_1",
        business_id=desk.cafe.business.id,
        customer_id=desk.card.customer_id,
        channel=Channel.PUSH,
        address=desk.card.wallet_pass_id,
        subject="Kopi",
        text="Promo!",
        url=None,
    )
    database, here = desk.database, [Platform.GOOGLE]
    sent = [await bring(database, here, letter, NOW)]
    await desk.save()
    sent += [await bring(database, here, replace(letter, id=id), NOW) for id in ("msg_1", "msg_2")]
    assert sent == [Rejected("no pass"), Accepted(), RetryAfter(NEWS_SECONDS, is_tried=False)]


@pytest.mark.on("sqlite")
async def test_news_that_a_wallet_could_not_take_come_later(desk: Desk) -> None:
    await desk.save()
    await desk.bring("msg_1")
    desk.wallet.answers = [AskAgain(seconds=10, reason="away")]
    await desk.keeper.finish()
    desk.clock.advance(MINUTE)
    await desk.keeper.finish()
    assert [news.id for _, _, news in desk.wallet.told if news] == ["msg_1", "msg_1"]
    assert await desk.bring("msg_2") is Brought.SOON


@pytest.mark.on("sqlite")
async def test_a_telephone_rings_three_times_a_day(desk: Desk) -> None:
    await desk.save()
    for number in range(5):
        await desk.bring(f"msg_{number}", f"News {number}")
        await desk.keeper.finish()
        desk.clock.advance(MINUTE)
    assert [news.rings for _, _, news in desk.wallet.told if news] == [True] * 3 + [False] * 2
    desk.clock.advance(timedelta(hours=24))
    await desk.bring("msg_6", "News 6")
    await desk.keeper.finish()
    assert desk.wallet.told[-1][2] is not None
    assert desk.wallet.told[-1][2].rings


async def test_news_reach_nobody_where_no_wallet_holds_the_pass(desk: Desk) -> None:
    assert await desk.bring("msg_1") is Brought.NOWHERE
    now, card = desk.clock.now(), desk.card
    for platform in (Platform.APPLE, Platform.GOOGLE):
        await desk.do(
            lambda tx, platform=platform: passes.add_pass(
                tx, desk.cafe.business, card, platform, now
            )
        )
    assert await desk.bring("msg_1") is Brought.NOWHERE  # nobody saved it yet
    await desk.save()
    serial = card.wallet_pass_id
    await desk.do(lambda tx: passes.report_removed(tx, serial, Platform.GOOGLE, now))
    assert await desk.bring("msg_1") is Brought.NOWHERE
    await desk.save()
    assert await desk.bring("msg_1") is Brought.SOON


async def test_a_log_is_looked_through_once_and_from_the_first_pass_on(desk: Desk) -> None:
    await desk.stamp(5)
    await desk.save()
    (cursor,) = await desk.do(lambda tx: tx.many(_CURSORS))
    (behind,) = await desk.database.read(None, passes.behind)
    assert behind[1] == cursor.sequence + 1  # that it was saved
    now = desk.clock.now()
    for _ in range(2):  # two workers saw the same
        await desk.do(lambda tx: passes.follow(tx, *behind, now))
    (held,) = await desk.passes()
    assert held.marks == 1
    assert await desk.database.read(None, passes.behind) == []


async def test_passes_of_another_wallet_and_business_are_left_alone(desk: Desk) -> None:
    other = await a_business(desk.database)
    card = await a_card(desk.database, other.owner, None)
    now = desk.clock.now()
    await desk.database.write(
        other.business.id,
        lambda tx: passes.add_pass(tx, other.business, card, Platform.GOOGLE, now),
    )
    await desk.save()
    await desk.save(platform=Platform.APPLE)  # of which the operator has no certificate any more
    await desk.stamp()
    await desk.keeper.finish()
    assert {face.business_id for face in desk.wallet.faces} == {desk.cafe.business.id}
    assert {held.platform for held in await desk.passes() if held.due_at} == {Platform.APPLE}


async def test_a_business_with_many_passes_keeps_no_other_waiting(desk: Desk) -> None:
    for number in range(3):
        phone = f"+62811111111{number}"
        await desk.save(await a_card(desk.database, desk.cafe.owner, None, phone=phone))
    other = await a_business(desk.database)
    card = await a_card(desk.database, other.owner, None)
    now = desk.clock.now()
    await desk.database.write(
        other.business.id,
        lambda tx: passes.add_pass(tx, other.business, card, Platform.GOOGLE, now),
    )
    for at, cafe in ((0, desk.cafe), (1, other), (2, desk.cafe)):
        desk.clock.advance(MINUTE)
        told, moment = {"name": f"Name {at}"}, desk.clock.now()
        await desk.database.write(
            cafe.business.id,
            lambda tx, cafe=cafe, told=told, at=moment: update_business(tx, cafe.owner, told, at),
        )
    waiting = await desk.database.read(
        None, lambda tx: passes.waiting(tx, Platform.GOOGLE, desk.clock.now())
    )
    many, one = desk.cafe.business.id, other.business.id
    assert [whose for whose, _ in waiting] == [one, many]
    assert passes.shares(waiting, {}, 3) == {one: 2, many: 1}
    assert passes.shares(waiting, {many: 15}, 1) == {one: 1}
    assert passes.shares([], {many: 1}, 5) == {}
    apples = await desk.database.read(
        None, lambda tx: passes.waiting(tx, Platform.APPLE, desk.clock.now())
    )
    assert apples == []


@pytest.mark.on("sqlite")
async def test_a_log_that_cannot_be_followed_keeps_no_other_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await a_business(desk.database)
    card, now = await a_card(desk.database, other.owner, None), desk.clock.now()
    await desk.save()
    await desk.database.write(
        other.business.id,
        lambda tx: passes.add_pass(tx, other.business, card, Platform.GOOGLE, now),
    )
    await desk.stamp()
    await stamps(desk.database, other.owner, card, 2, now)
    follow = passes.follow

    async def broken(tx: Any, cursor: PassCursor, *told: Any) -> None:
        if cursor.business_id == desk.cafe.business.id:
            raise OSError("broken")
        await follow(tx, cursor, *told)

    monkeypatch.setattr(passes, "follow", broken)
    await desk.keeper.finish()
    assert [(face.business_id, face.stamps) for face in desk.wallet.faces] == [
        (other.business.id, 2)
    ]


@pytest.mark.on("sqlite")
async def test_a_void_pass_tells_nothing_of_the_card_that_took_its_place(desk: Desk) -> None:
    await desk.save()
    await desk.stamp(4)
    await desk.perform(replace_card, ReplaceCardInput(card=CardRef(id=Id(desk.card.id))))
    await desk.keeper.finish()
    assert desk.wallet.faces[-1].is_void
    told = len(desk.wallet.told)
    await desk.stamp(2)
    await desk.keeper.finish()
    assert len(desk.wallet.told) == told
    face = desk.wallet.faces[-1]
    assert (face.stamps, face.next_goal, face.left, face.count) == (0, None, 0, "–")


async def test_news_for_a_void_pass_or_a_wallet_of_former_times_wait_for_nobody(desk: Desk) -> None:
    now, serial = desk.clock.now(), desk.card.wallet_pass_id
    await desk.save(platform=Platform.APPLE)
    phone = Device(device="telephone", push_token="aa" * 16)
    await desk.do(lambda tx: passes.add_device(tx, desk.cafe.business, serial, phone, now))
    here = [Platform.GOOGLE]  # the certificate for the other one has ended
    told = serial, "msg_1", "Kopi", "Promo!", now
    assert await desk.do(lambda tx: passes.bring_news(tx, here, *told)) is Brought.NOWHERE
    await desk.save()
    assert await desk.bring("msg_2") is Brought.SOON
    await desk.perform(replace_card, ReplaceCardInput(card=CardRef(id=Id(desk.card.id))))
    assert await desk.bring("msg_3") is Brought.NOWHERE
    await desk.another(desk.wallet, Fake(Platform.APPLE)).finish()
    assert {held.news_id for held in await desk.passes()} == {None}


async def test_a_pass_keeps_the_latest_telephones_only(desk: Desk) -> None:
    await desk.save(platform=Platform.APPLE)
    serial = desk.card.wallet_pass_id

    async def work(tx: Any) -> None:
        for number in range(passes.MOST_DEVICES + 5):
            desk.clock.advance(timedelta(seconds=1))
            phone = Device(device=f"telephone-{number}", push_token="aa" * 16)
            now = desk.clock.now()
            assert await passes.add_device(tx, desk.cafe.business, serial, phone, now)

    await desk.do(work)
    kept = {one.device for one in await desk.do(lambda tx: tx.many(_DEVICES))}
    assert kept == {f"telephone-{number}" for number in range(5, passes.MOST_DEVICES + 5)}


async def test_of_somebody_who_was_erased_no_telephone_is_kept(desk: Desk) -> None:
    await desk.save(platform=Platform.APPLE)
    await desk.perform(erase_customer, EraseCustomerInput(id=Id(desk.card.customer_id)))
    now, serial = desk.clock.now(), desk.card.wallet_pass_id
    phone = Device(device="telephone", push_token="aa" * 16)
    assert not await desk.do(
        lambda tx: passes.add_device(tx, desk.cafe.business, serial, phone, now)
    )
    assert await desk.do(lambda tx: tx.many(_DEVICES)) == []
