"""What the ledger writes: each row and each event in full, for stamps, vouchers and undoing."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import col, select

from core.ids import Id
from core.luck import Luck
from db import BUSINESS, Database, query
from events.log import events_after
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_location,
    a_staff,
    a_voucher_template,
)
from models import (
    Actor,
    Card,
    CardStatus,
    Customer,
    Goal,
    Operation,
    OperationKind,
    Platform,
    RedeemedVia,
    RedemptionMode,
    Reward,
    RewardType,
    Role,
    Row,
    Source,
    StampChannel,
    Voucher,
    VoucherStatus,
    VoucherTemplate,
)
from models.card_templates import TemplateStatus
from services import cards
from services.card_refs import CardRef
from services.card_templates import (
    AmountRuleInput,
    AwardInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    VoucherRewardInput,
)
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    IssueCardInput,
    ReplaceCardInput,
    ReportCardOpenedInput,
    ReportCardSavedInput,
    add_stamps,
    delete_card,
    issue_card,
    replace_card,
    report_card_opened,
    report_card_saved,
)
from services.customers import CustomerInput
from services.undo import VoidOperationInput, VoidVoucherInput, void_operation, void_voucher
from services.vouchers import (
    CustomVoucherInput,
    IssueVoucherInput,
    RedeemVoucherInput,
    ValidityInput,
    VoucherRef,
    issue_voucher,
    redeem_voucher,
)

_ALL: dict[type[Row], Any] = {
    kind: query(
        select(kind).where(col(kind.business_id) == BUSINESS).order_by(col(kind.id))  # type: ignore[attr-defined]
    )
    for kind in (Card, Customer, Goal, Operation, Reward, Voucher, VoucherTemplate)
}
LATER = NOW + timedelta(minutes=5)


class Counter:
    """A café in euros, whose scanner stands at a counter."""

    def __init__(self, database: Database, cafe: Cafe, bar: Actor) -> None:
        self.database = database
        self.cafe = cafe
        self.bar = bar

    async def do(self, operation: Any, input: Any, now: Any = NOW, *, by: Any = None) -> Any:
        """Perform an operation."""
        actor = by or self.bar
        return await self.database.write(
            self.cafe.business.id, lambda tx: operation(tx, actor, input, now)
        )

    async def all(self, kind: type[Row]) -> list[Any]:
        """The café's rows of a kind."""
        return await self.database.read(self.cafe.business.id, lambda tx: tx.many(_ALL[kind]))

    async def told(self, since: int = 0) -> list[tuple[str, dict[str, Any]]]:
        """The events after so many, with what each says."""
        rows = await self.database.read(self.cafe.business.id, lambda tx: events_after(tx, 0, 100))
        said = []
        for row in rows[since:]:
            assert (row.actor_id, row.location_id) == (self.bar.staff_id, self.bar.location_id)
            body = json.loads(row.body)
            said.append((row.type, body.get("data", body)))
        return said


@pytest.fixture
async def counter(database: Database) -> Counter:
    """A café in euros, whose scanner stands at a counter."""
    cafe = await a_business(database, currency="EUR")
    at = await a_location(database, cafe.owner)
    bar = await a_staff(database, cafe.owner, Role.SCANNER, location_id=Id(at.id))
    return Counter(database, cafe, bar)


def values(row: Row, *without: str) -> dict[str, Any]:
    """What a row holds, but for its absent parts."""
    return {
        name: value
        for name, value in row.model_dump().items()
        if value is not None and name not in without
    }


async def a_held_card(counter: Counter) -> tuple[Card, VoucherTemplate]:
    """A card of 3 stamps at 2.50 each: a cookie at 2, a coffee for a day at 3."""
    coffee = await a_voucher_template(
        counter.database, counter.cafe.owner, title="Coffee", description="A good one",
        image_url="https://kopi.example/c.png", redeem_code="CUP",
        validity=ValidityInput(days=1), redemption_mode=RedemptionMode.REDEEM_CODE,
    )  # fmt: skip
    award = AwardInput(title="Cookie", description="Sweet", image_url="https://kopi.example/k.png")
    template = await a_card_template(
        counter.database, counter.cafe.owner, 3,
        [
            GoalInput(stamps=2, reward=GoalRewardInput(award=award)),
            GoalInput(stamps=3, reward=GoalRewardInput(
                voucher=VoucherRewardInput(voucher_template_id=Id(coffee.id)))),
        ],
        earning_rule=EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal("2.50"))),
    )  # fmt: skip
    card = await a_card(counter.database, counter.bar, template.id)
    return card, coffee


async def a_plain_card(counter: Counter) -> Card:
    """A card of a template of its own, issued at the counter."""
    template = await a_card_template(counter.database, counter.cafe.owner)
    return await a_card(counter.database, counter.bar, template.id)


async def test_a_card_as_it_is_issued(counter: Counter) -> None:
    template = await a_card_template(counter.database, counter.cafe.owner)
    holder = CustomerInput(email="siti@mail.example", language="id")
    told = IssueCardInput(template_id=Id(template.id), customer=holder)

    done = await counter.do(issue_card, told)
    again = await counter.do(issue_card, told, LATER)

    [card] = await counter.all(Card)
    [customer] = await counter.all(Customer)
    assert done.card == again.card == card
    assert [(one.created, one.customer_created) for one in (done, again)] == [
        (True, True), (False, False),
    ]  # fmt: skip
    assert (card.id[:5], card.wallet_pass_id[:3], card.status) == (
        "card_",
        "wp_",
        CardStatus.ACTIVE,
    )
    assert len(card.number) == 6
    assert values(card, "id", "number", "token", "wallet_pass_id", "version_id") == {
        "business_id": counter.cafe.business.id,
        "customer_id": customer.id,
        "template_id": template.id,
        "issued_by_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "created_at": NOW,
        "last_activity_at": NOW,
        "stamps": 0,
        "cycle": 1,
        "lines": 0,
    }
    assert customer.last_activity_at == NOW
    [event] = [one for one in await counter.told() if one[0] == "card_issued"]
    assert event[1]["location_id"] == counter.bar.location_id
    assert event[1]["customer"]["id"] == customer.id
    assert event[1]["customer"]["wallet_pass_id"] == card.wallet_pass_id
    assert event[1]["card"] == {
        "id": card.id,
        "number": card.number,
        "template_id": template.id,
        "template_version": 1,
        "stamps": 0,
        "stamps_required": 3,
        "goal_index": None,
    }
    assert event[1]["issued_via"] == "api"


async def test_stamps_as_they_are_written(counter: Counter) -> None:
    card, coffee = await a_held_card(counter)
    before = len(await counter.told())
    told = AddStampsInput(
        card=CardRef(id=Id(card.id)), amount=Decimal("8.00"), channel=StampChannel.API,
        external_ref="receipt 7",
    )  # fmt: skip

    done = await counter.do(add_stamps, told, LATER)

    [line] = [one for one in await counter.all(Operation) if one.kind is OperationKind.STAMPS]
    assert done.operation == line
    assert line.id.startswith("op_")
    assert values(line, "id") == {
        "business_id": counter.cafe.business.id,
        "kind": OperationKind.STAMPS,
        "card_id": card.id,
        "line": 1,
        "version_before_id": card.version_id,
        "version_id": card.version_id,
        "staff_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "count": 3,
        "amount": 800,
        "before": 0,
        "after": 3,
        "cycle_before": 1,
        "cycle_after": 1,
        "channel": StampChannel.API,
        "external_ref": "receipt 7",
        "occurred_at": LATER,
        "created_at": LATER,
    }
    [stored] = await counter.all(Card)
    assert stored == done.card
    assert (stored.stamps, stored.cycle, stored.lines) == (3, 1, 1)
    assert stored.last_stamp_at == stored.last_activity_at == LATER
    [customer] = await counter.all(Customer)
    assert customer.last_activity_at == LATER

    goals = [goal for goal in await counter.all(Goal) if goal.version_id == card.version_id]
    cookie_goal, coffee_goal = sorted(goals, key=lambda goal: goal.position)
    [voucher] = await counter.all(Voucher)
    cookie, cup = sorted(await counter.all(Reward), key=lambda reward: reward.goal_position)
    assert done.rewards == [cookie, cup]
    shared = {
        "business_id": counter.cafe.business.id,
        "card_id": card.id,
        "operation_id": line.id,
        "staff_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "cycle": 1,
        "source": Source.GOAL,
        "issued_at": LATER,
    }
    assert cookie.id.startswith("rw_")
    assert values(cookie, "id") == shared | {
        "goal_id": cookie_goal.id,
        "goal_position": cookie_goal.position,
        "type": RewardType.AWARD,
        "title": "Cookie",
        "snapshot": {"description": "Sweet", "image_url": "https://kopi.example/k.png"},
    }
    assert values(cup, "id", "snapshot") == shared | {
        "goal_id": coffee_goal.id,
        "goal_position": coffee_goal.position,
        "type": RewardType.VOUCHER,
        "title": coffee_goal.title,
        "voucher_id": voucher.id,
    }
    assert voucher.id.startswith("v_")
    ends = voucher.expires_at
    assert NOW + timedelta(days=1) < ends < NOW + timedelta(days=2)
    assert values(voucher, "id", "token") == {
        "business_id": counter.cafe.business.id,
        "card_id": card.id,
        "template_id": coffee.id,
        "operation_id": line.id,
        "staff_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "title": "Coffee",
        "description": "A good one",
        "image_url": "https://kopi.example/c.png",
        "redeem_code": "CUP",
        "redemption_mode": RedemptionMode.REDEEM_CODE,
        "source": Source.GOAL,
        "goal_position": coffee_goal.position,
        "cycle": 1,
        "status": VoucherStatus.ACTIVE,
        "expires_at": ends,
        "issued_at": LATER,
    }
    assert (voucher.type, voucher.redeem_code_formats) == ("voucher", ["text", "qr", "barcode"])

    events = (await counter.told())[before:]
    assert [name for name, _ in events] == [
        "stamp_added", "goal_reached", "reward_issued", "goal_reached", "reward_issued",
        "voucher_issued",
    ]  # fmt: skip
    for _, said in events:
        assert said["location_id"] == counter.bar.location_id
        assert said["customer"]["id"] == customer.id
        assert said["customer"]["wallet_pass_id"] == card.wallet_pass_id
        assert said["card"]["id"] == card.id
    places = [said["card"].get("goal_index") for _, said in events]
    first, last = cookie_goal.position, coffee_goal.position
    assert places == [None, first, first, last, last, last]
    assert events[0][1]["stamp"] == {
        "operation_id": line.id, "count": 3, "before": 0, "after": 3, "required": 3, "cycle": 1,
        "channel": "api", "amount": events[0][1]["stamp"]["amount"], "currency": "EUR",
        "external_ref": "receipt 7",
    }  # fmt: skip
    assert Decimal(str(events[0][1]["stamp"]["amount"])) == Decimal(8)
    assert [said["goal"] for _, said in events if "goal" in said] == [
        {"index": first, "stamps": 2, "is_final": False, "reward_format": "award"},
        {"index": last, "stamps": 3, "is_final": True, "reward_format": "voucher"},
    ]
    assert [said["reward"] for _, said in events if "reward" in said] == [
        {"id": row.id, "type": row.type, "title": row.title, "source": "goal",
         "voucher_id": row.voucher_id}
        for row in (cookie, cup)
    ]  # fmt: skip
    issued = events[-1][1]["voucher"]
    assert {name: issued[name] for name in ("id", "type", "redeem_code", "title", "source")} == {
        "id": voucher.id, "type": "voucher", "redeem_code": "CUP", "title": "Coffee",
        "source": "goal",
    }  # fmt: skip
    assert issued["redeem_code_formats"] == ["text", "qr", "barcode"]
    assert issued["issued_at"] == "2026-03-02T12:05:00Z"
    assert issued["expires_at"] == f"{ends:%Y-%m-%dT%H:%M:%SZ}"
    assert issued["status"] == "active"


async def test_a_voucher_from_its_issue_to_its_redemption_as_it_is_written(
    counter: Counter,
) -> None:
    card = await a_plain_card(counter)
    [customer] = await counter.all(Customer)
    before = len(await counter.told())
    custom = CustomVoucherInput(
        title="Cake", description="A slice", image_url="https://kopi.example/s.png",
        redeem_code="CAKE", redemption_mode=RedemptionMode.SELF_REDEEM,
        validity=ValidityInput(days=3),
    )  # fmt: skip
    told = IssueVoucherInput(custom=custom, card=CardRef(id=Id(card.id)), redeem_code="SLICE")
    voucher = (await counter.do(issue_voucher, told)).voucher
    shared = {
        "business_id": counter.cafe.business.id,
        "card_id": card.id,
        "voucher_id": voucher.id,
        "staff_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "count": 0,
    }
    stored = {
        "business_id": counter.cafe.business.id,
        "card_id": card.id,
        "staff_id": counter.bar.staff_id,
        "location_id": counter.bar.location_id,
        "title": "Cake",
        "description": "A slice",
        "image_url": "https://kopi.example/s.png",
        "redeem_code": "SLICE",
        "redemption_mode": RedemptionMode.SELF_REDEEM,
        "source": Source.API,
        "status": VoucherStatus.ACTIVE,
        "expires_at": voucher.expires_at,
        "issued_at": NOW,
    }
    assert values(voucher, "id", "token") == stored

    ref = VoucherRef(token=voucher.token)
    told_to = RedeemVoucherInput(voucher=ref, via=RedeemedVia.POS)
    redeemed = (await counter.do(redeem_voucher, told_to, LATER)).voucher

    assert values(redeemed, "id", "token") == stored | {
        "status": VoucherStatus.REDEEMED,
        "redeemed_at": LATER,
        "redeemed_via": RedeemedVia.POS,
        "redeemed_by_id": counter.bar.staff_id,
    }
    lines = await counter.all(Operation)
    assert all(line.id.startswith("op_") for line in lines)
    assert sorted((values(line, "id") for line in lines), key=lambda one: one["occurred_at"]) == [
        shared | {"kind": OperationKind.VOUCHER_ISSUE, "occurred_at": NOW, "created_at": NOW},
        shared | {"kind": OperationKind.VOUCHER_REDEEM, "occurred_at": LATER, "created_at": LATER},
    ]
    [holder] = await counter.all(Customer)
    [held] = await counter.all(Card)
    assert holder.last_activity_at == held.last_activity_at == LATER

    (first, issued), (second, spent) = (await counter.told())[before:]
    assert (first, second) == ("voucher_issued", "voucher_redeemed")
    for said in (issued, spent):
        assert said["location_id"] == counter.bar.location_id
        assert said["customer"]["id"] == customer.id
        assert said["customer"]["wallet_pass_id"] == card.wallet_pass_id
        assert said["card"]["id"] == card.id
        assert said["voucher"]["id"] == voucher.id
        assert said["voucher"]["redeem_code"] == "SLICE"
        assert said["voucher"]["type"] == "voucher"
        assert said["voucher"]["redeem_code_formats"] == ["text", "qr", "barcode"]
    assert issued["voucher"]["title"] == "Cake"
    assert spent["voucher"]["status"] == "redeemed"
    assert spent["voucher"]["redeemed_via"] == "pos"
    assert spent["voucher"]["redeemed_at"] == "2026-03-02T12:05:00Z"


async def test_what_undoing_writes(counter: Counter) -> None:
    card, _ = await a_held_card(counter)
    ref = CardRef(id=Id(card.id))
    done = await counter.do(add_stamps, AddStampsInput(card=ref, count=3))
    custom = CustomVoucherInput(title="Cake")
    cake = (await counter.do(issue_voucher, IssueVoucherInput(custom=custom, card=ref))).voucher
    before = len(await counter.told())

    told = VoidOperationInput(id=Id(done.operation.id), reason=" wrong card ")
    undone = await counter.do(void_operation, told, LATER)
    voided = await counter.do(void_voucher, VoidVoucherInput(id=Id(cake.id), reason="no"), LATER)

    lines = {one.id: one for one in await counter.all(Operation)}
    stamps_line = lines[done.operation.id]
    void = lines[stamps_line.voided_by_id]
    assert undone.operation == stamps_line
    assert void.id.startswith("op_")
    assert (void.kind, void.reason) == (OperationKind.VOID, "wrong card")
    assert (void.business_id, void.card_id) == (counter.cafe.business.id, card.id)
    assert (void.staff_id, void.location_id) == (counter.bar.staff_id, counter.bar.location_id)
    assert void.occurred_at == void.created_at == LATER
    assert undone.card.stamps == 0
    assert {reward.voided_at for reward in await counter.all(Reward)} == {LATER}
    assert sorted(row.id for row in undone.rewards) == sorted(row.id for row in done.rewards)
    for voucher in await counter.all(Voucher):
        assert voucher.status is VoucherStatus.VOIDED
        assert (voucher.voided_at, voucher.voided_by_id) == (LATER, counter.bar.staff_id)
    assert [voucher.id for voucher in undone.vouchers] == [done.rewards[1].voucher_id]
    assert voided.voucher.id == cake.id
    [issue] = [one for one in lines.values() if one.kind is OperationKind.VOUCHER_ISSUE]
    cake_void = lines[issue.voided_by_id]
    assert (cake_void.reason, cake_void.voucher_id) == ("no", cake.id)
    for _, said in (await counter.told())[before:]:
        assert said["location_id"] == counter.bar.location_id
        assert said["customer"]["id"] == card.customer_id
        assert said["card"]["id"] == card.id


async def test_a_card_that_is_saved_opened_replaced_and_deleted(counter: Counter) -> None:
    card = await a_plain_card(counter)
    ref = CardRef(id=Id(card.id))
    before = len(await counter.told())
    saved = ReportCardSavedInput(card=ref, platform=Platform.APPLE)
    opened = ReportCardOpenedInput(card=ref, platform=Platform.GOOGLE)
    assert (await counter.do(report_card_saved, saved)).card == card
    assert (await counter.do(report_card_saved, saved)).card == card
    hour = timedelta(hours=1)
    for at in (NOW, NOW + hour - timedelta(seconds=1), NOW + hour):
        done = await counter.do(report_card_opened, opened, at)
    assert done.card.last_opened_at == NOW + hour
    told = (await counter.told())[before:]
    assert [(name, said["card"]["platform"]) for name, said in told] == [
        ("card_saved", "apple"), ("card_opened", "google"), ("card_opened", "google"),
    ]  # fmt: skip
    for _, said in told:
        assert said["location_id"] == counter.bar.location_id
        assert said["customer"]["id"] == card.customer_id
        assert said["customer"]["wallet_pass_id"] == card.wallet_pass_id
        assert said["card"]["id"] == card.id

    new = (await counter.do(replace_card, ReplaceCardInput(card=ref), LATER)).card
    assert new.token != card.token
    assert new.wallet_pass_id != card.wallet_pass_id
    assert new.wallet_pass_id.startswith("wp_")
    assert (new.replaced_at, new.replaced_by_id) == (LATER, counter.bar.staff_id)
    assert (new.id, new.number) == (card.id, card.number)

    owner = counter.cafe.owner
    gone = await counter.do(delete_card, DeleteCardInput(id=Id(card.id)), LATER, by=owner)
    [stored] = await counter.all(Card)
    assert gone.deleted_id == card.id
    assert (stored.deleted_at, stored.deleted_by_id) == (LATER, owner.staff_id)
    assert stored.status is CardStatus.DELETED


def test_a_voucher_template_is_archived_since_when_it_was() -> None:
    live, old = (VoucherTemplate.model_construct(archived_at=at) for at in (None, NOW))

    assert [live.status, old.status] == [TemplateStatus.PUBLISHED, TemplateStatus.ARCHIVED]


class Told(Luck):
    """Luck that was told beforehand."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.asked: list[int] = []

    def below(self, limit: int) -> int:
        self.asked.append(limit)
        return self.numbers.pop(0)


@pytest.mark.parametrize(
    ("ever", "digits"), [(0, 6), (89_999, 6), (90_000, 7), (899_999, 7), (900_000, 8)]
)
async def test_card_numbers_grow_when_a_tenth_is_used(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, ever: int, digits: int
) -> None:
    async def known(_: Any) -> int:
        return ever

    monkeypatch.setattr(cards, "_cards_ever", known)
    luck = Told(0, 7)

    number = await counter.database.read(
        counter.cafe.business.id, lambda tx: cards._free_number(tx, luck)
    )

    assert number == f"{10 ** (digits - 1)}"
    assert luck.asked == [9 * 10 ** (digits - 1)]


async def test_a_number_somebody_has_is_not_given_again(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = await a_business(counter.database)
    card = await a_plain_card(counter)
    taken, luck = int(card.number) - 100_000, Told(int(card.number) - 100_000, 5)

    async def number_in(business: str, luck: Luck) -> str:
        return await counter.database.read(business, lambda tx: cards._free_number(tx, luck))

    assert await number_in(counter.cafe.business.id, luck) == "100005"
    assert await number_in(elsewhere.business.id, Told(taken)) == card.number


async def test_cards_are_counted_again_when_a_hundredth_was_added(counter: Counter) -> None:
    cards._counted.clear()
    known: list[int] = []
    for _ in range(4):
        known.append(await counter.database.read(counter.cafe.business.id, cards._cards_ever))
        await a_card(counter.database, counter.cafe.owner)

    assert known == sorted(known)
    cards._counted[counter.cafe.business.id] = (250, 1)
    told = [
        await counter.database.read(counter.cafe.business.id, cards._cards_ever) for _ in range(3)
    ]
    assert told[0] == 251
    assert told[1] == 4  # two were issued since, a hundredth of 250
