"""Card templates: the rules of a promise, its versions, and what a change says."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from db import BUSINESS, Database, query
from models import (
    Actor,
    CardTemplate,
    CardTemplateVersion,
    EarningRule,
    Goal,
    IdempotencyRecord,
    LotteryVariant,
    Overflow,
    RewardType,
    Role,
    TemplateStatus,
    VariantType,
)
from services.card_refs import CardRef
from services.card_templates import (
    AmountRuleInput,
    ArchiveCardTemplateInput,
    AwardInput,
    BirthdayRuleInput,
    CardTemplateUpdated,
    Change,
    CreateCardTemplateInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LimitsInput,
    LotteryInput,
    LotteryVariantInput,
    PublishCardTemplateInput,
    VoucherRewardInput,
    archive_card_template,
    create_card_template,
    publish_card_template,
    update_card_template,
)
from services.cards import AddStampsInput, IssueCardInput, add_stamps, issue_card
from services.customers import CustomerInput
from services.idempotency import _stored, replay
from services.voucher_templates import (
    ArchiveVoucherTemplateInput,
    CreateVoucherTemplateInput,
    archive_voucher_template,
    create_voucher_template,
)

_VERSIONS = query(
    select(CardTemplateVersion)
    .where(col(CardTemplateVersion.business_id) == BUSINESS)
    .order_by(col(CardTemplateVersion.version))
)
_GOALS = query(
    select(Goal).where(col(Goal.business_id) == BUSINESS).order_by(col(Goal.position), col(Goal.id))
)
_VARIANTS = query(
    select(LotteryVariant)
    .where(col(LotteryVariant.business_id) == BUSINESS)
    .order_by(col(LotteryVariant.position))
)


def award(stamps: int, title: str = "Cookie") -> GoalInput:
    return GoalInput(stamps=stamps, reward=GoalRewardInput(award=AwardInput(title=title)))


def variant(type_: VariantType, probability: int, name: str, **values: Any) -> LotteryVariantInput:
    return LotteryVariantInput(type=type_, probability=probability, name=name, **values)


def lottery(stamps: int, *variants: LotteryVariantInput) -> GoalInput:
    told = LotteryInput(variants=list(variants))
    return GoalInput(stamps=stamps, reward=GoalRewardInput(lottery=told))


SIMPLE = CreateCardTemplateInput(
    name="Kopi card",
    stamps_required=6,
    earning_rule=EarningRuleInput(per_order=True),
    goals=[award(3), award(6, "Coffee")],
)


@pytest.fixture
async def coffee(perform: Any, owner: Actor) -> str:
    """The id of a voucher template."""
    asked = CreateVoucherTemplateInput(title="Free coffee", description="Any size")
    return (await perform(create_voucher_template, owner, asked)).voucher_template.id


@pytest.fixture
async def draft(perform: Any, owner: Actor) -> CardTemplate:
    """A template that was never published."""
    return (await perform(create_card_template, owner, SIMPLE)).card_template


@pytest.fixture
async def published(perform: Any, owner: Actor, draft: CardTemplate) -> CardTemplate:
    """A template that cards are issued by."""
    asked = PublishCardTemplateInput(id=draft.id)
    return (await perform(publish_card_template, owner, asked)).card_template


@pytest.fixture
def stored(database: Database, owner: Actor) -> Any:
    """All rows that a statement finds in the owner's business."""
    return lambda statement: database.read(owner.business_id, lambda tx: tx.many(statement))


async def test_the_template_of_the_contract_is_drafted(
    perform: Any, owner: Actor, coffee: str, stored: Any
) -> None:
    voucher = GoalRewardInput(voucher=VoucherRewardInput(voucher_template_id=coffee))
    asked = CreateCardTemplateInput(
        name="Kopi card",
        stamps_required=6,
        earning_rule=EarningRuleInput(per_order=True),
        overflow=Overflow.CARRY_OVER,
        goals=[
            award(3),
            lottery(
                5,
                variant(VariantType.AWARD, 2_500, "Muffin", stock=10),
                variant(VariantType.NO_PRIZE, 7_500, "Next time"),
            ),
            GoalInput(stamps=6, reward=voucher),
        ],
        birthday=BirthdayRuleInput(days_before=0, voucher_template_id=coffee),
        inactivity_days=30,
        design={"colour": "#4b2e2b", "icons": ["☕"]},
    )

    done = await perform(create_card_template, owner, asked)

    template = done.card_template
    assert (template.status, template.version) == (TemplateStatus.DRAFT, 1)
    [version] = await stored(_VERSIONS)
    assert (version.template_id, version.version) == (template.id, 1)
    assert (version.stamps_required, version.inactivity_days) == (6, 30)
    assert (version.birthday_days_before, version.birthday_voucher_template_id) == (0, coffee)
    assert version.design == {"colour": "#4b2e2b", "icons": ["☕"]}
    goals = await stored(_GOALS)
    assert [(goal.position, goal.stamps, goal.reward_type, goal.title) for goal in goals] == [
        (1, 3, RewardType.AWARD, "Cookie"),
        (2, 5, RewardType.LOTTERY, "Lottery"),
        (3, 6, RewardType.VOUCHER, "Free coffee"),
    ]
    assert (goals[2].voucher_template_id, goals[2].description) == (coffee, "Any size")
    variants = await stored(_VARIANTS)
    assert [(item.goal_id, item.position, item.probability, item.stock) for item in variants] == [
        (goals[1].id, 1, 2_500, 10),
        (goals[1].id, 2, 7_500, None),
    ]


async def test_an_amount_that_earns_a_stamp_is_kept_in_minor_units(
    perform: Any, owner: Actor, stored: Any
) -> None:
    rule = EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal("25000.50")))

    await perform(create_card_template, owner, replace(SIMPLE, earning_rule=rule))

    [version] = await stored(_VERSIONS)
    assert (version.earning_rule, version.amount_per_stamp) == (EarningRule.BY_AMOUNT, 2_500_050)


def by_amount(text: str) -> EarningRuleInput:
    return EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal(text)))


NOBODY = "vt_01jwsample0000000000000000"
PRIZE = variant(VariantType.AWARD, 10_000, "Muffin")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": " "}, "name"),
        ({"stamps_required": 0}, "stampsRequired"),
        ({"stamps_required": 51}, "stampsRequired"),
        ({"earning_rule": EarningRuleInput(per_order=False)}, "earningRule.perOrder"),
        ({"earning_rule": by_amount("0")}, "earningRule.byAmount.amountPerStamp"),
        ({"earning_rule": by_amount("0.001")}, "earningRule.byAmount.amountPerStamp"),
        ({"goals": []}, "goals"),
        ({"goals": [award(stamps) for stamps in range(1, 12)]}, "goals"),
        ({"goals": [award(3)]}, "goals"),
        ({"goals": [award(3), award(7)]}, "goals"),
        ({"goals": [award(0), award(6)]}, "goals.0.stamps"),
        ({"goals": [award(3), award(3), award(6)]}, "goals.1.stamps"),
        ({"goals": [award(6), award(3)]}, "goals.1.stamps"),
        ({"goals": [award(6, "")]}, "goals.0.reward.award.title"),
        ({"goals": [lottery(6)]}, "goals.0.reward.lottery.variants"),
        (
            {"goals": [lottery(6, replace(PRIZE, probability=9_999))]},
            "goals.0.reward.lottery.variants",
        ),
        (
            {
                "goals": [
                    lottery(6, replace(PRIZE, probability=-1), replace(PRIZE, probability=10_001))
                ]
            },
            "goals.0.reward.lottery.variants",
        ),
        (
            {"goals": [lottery(6, variant(VariantType.TRY_AGAIN, 10_000, "Again"))]},
            "goals.0.reward.lottery.variants",
        ),
        (
            {"goals": [lottery(6, variant(VariantType.VOUCHER, 10_000, "Coffee"))]},
            "goals.0.reward.lottery.variants.0.voucherTemplateId",
        ),
        (
            {"goals": [lottery(6, replace(PRIZE, voucher_template_id=NOBODY))]},
            "goals.0.reward.lottery.variants.0.voucherTemplateId",
        ),
        (
            {"goals": [lottery(6, replace(PRIZE, stock=-1))]},
            "goals.0.reward.lottery.variants.0.stock",
        ),
        ({"inactivity_days": 0}, "inactivityDays"),
        ({"limits": LimitsInput(max_stamps_per_operation=51)}, "limits.maxStampsPerOperation"),
        ({"limits": LimitsInput(min_seconds_between=0)}, "limits.minSecondsBetween"),
        ({"design": {"text": "\ud800"}}, "design"),
    ],
)
async def test_a_template_whose_rules_do_not_hold_together_is_refused(
    perform: Any, owner: Actor, stored: Any, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await perform(create_card_template, owner, replace(SIMPLE, **values))

    assert refused.value.field == ["input", *field.split(".")]
    assert await stored(_VERSIONS) == []


async def test_a_template_names_only_vouchers_that_can_be_issued(
    perform: Any, owner: Actor, coffee: str, make_business: Any
) -> None:
    other = await make_business("other@kopi.example")
    asked = replace(SIMPLE, birthday=BirthdayRuleInput(days_before=31, voucher_template_id=coffee))

    with pytest.raises(Invalid) as refused:
        await perform(create_card_template, owner, asked)
    assert refused.value.field == ["input", "birthday", "daysBefore"]
    asked = replace(SIMPLE, birthday=BirthdayRuleInput(voucher_template_id=coffee))
    with pytest.raises(NotFound):
        await perform(create_card_template, Actor(other.business, other.owner), asked)
    await perform(archive_voucher_template, owner, ArchiveVoucherTemplateInput(id=coffee))
    with pytest.raises(Refused) as archived:
        await perform(create_card_template, owner, asked)
    assert archived.value.code is Code.TEMPLATE_ARCHIVED
    assert archived.value.field == ["input", "birthday", "voucherTemplateId"]


async def test_a_draft_is_revised_in_place(
    perform: Any, owner: Actor, draft: CardTemplate, stored: Any
) -> None:
    prize = lottery(4, PRIZE)
    given = {"id": draft.id, "name": "Teh card", "stamps_required": 4, "goals": [prize]}

    done = await perform(update_card_template, owner, given)

    assert done.card_template == draft.with_values(name="Teh card")
    assert done.changes == [
        Change(field="name", before="Kopi card", after="Teh card"),
        Change(field="stampsRequired", before="6", after="4"),
        Change(
            field="goals",
            before="3: award Cookie; 6: award Coffee",
            after="4: lottery Lottery, 10000 award Muffin",
        ),
    ]
    [version] = await stored(_VERSIONS)
    assert (version.version, version.stamps_required) == (1, 4)
    assert [goal.stamps for goal in await stored(_GOALS)] == [4]

    again = {"id": draft.id, "goals": [award(4)]}
    await perform(update_card_template, owner, again)

    assert await stored(_VARIANTS) == []


async def test_an_update_that_changes_nothing_writes_nothing(
    perform: Any, owner: Actor, published: CardTemplate, stored: Any
) -> None:
    given = {"id": published.id, "goals": SIMPLE.goals, "overflow": Overflow.CARRY_OVER}

    done = await perform(update_card_template, owner, given)

    assert (done.card_template, done.changes) == (published, [])
    assert len(await stored(_VERSIONS)) == 1


async def test_a_published_template_changes_when_its_next_version_is_published(
    perform: Any, owner: Actor, published: CardTemplate, stored: Any, row: Any
) -> None:
    given = {"id": published.id, "inactivity_days": None}
    updated = await perform(update_card_template, owner, given)
    assert (updated.card_template.version, updated.card_template.draft_version) == (1, 2)
    assert updated.changes == [Change(field="inactivityDays", before="30", after=None)]

    await perform(update_card_template, owner, {"id": published.id, "auto_play": True})
    one, two = await stored(_VERSIONS)
    assert (one.inactivity_days, one.auto_play) == (30, False)
    assert (two.version, two.inactivity_days, two.auto_play) == (2, None, True)
    assert await row(owner, CardTemplate, published.id) == updated.card_template

    asked = PublishCardTemplateInput(id=published.id)
    done = await perform(publish_card_template, owner, asked)
    assert (done.card_template.version, done.card_template.draft_version) == (2, None)
    assert (await perform(publish_card_template, owner, asked)).card_template == done.card_template
    assert len(await stored(_GOALS)) == 4


async def test_an_open_cycle_keeps_its_goals_and_the_next_goes_by_the_new_version(
    perform: Any, owner: Actor, published: CardTemplate
) -> None:
    ana = CustomerInput(email="ana@example.com")
    issue = IssueCardInput(template_id=published.id, customer=ana)
    card = (await perform(issue_card, owner, issue)).card
    given = {"id": published.id, "stamps_required": 2, "goals": [award(2, "Tea")]}
    await perform(update_card_template, owner, given)
    await perform(publish_card_template, owner, PublishCardTemplateInput(id=published.id))

    done = await perform(add_stamps, owner, AddStampsInput(card=CardRef(id=card.id), count=8))

    assert [reward.title for reward in done.rewards] == ["Cookie", "Coffee", "Tea"]
    assert (done.card.stamps, done.card.cycle) == (2, 2)


async def test_a_draft_and_an_archived_template_issue_no_cards(
    perform: Any, owner: Actor, draft: CardTemplate
) -> None:
    issue = IssueCardInput(template_id=draft.id, customer=CustomerInput(email="ana@example.com"))
    with pytest.raises(Refused) as refused:
        await perform(issue_card, owner, issue)
    assert refused.value.code is Code.TEMPLATE_NOT_PUBLISHED

    done = await perform(archive_card_template, owner, ArchiveCardTemplateInput(id=draft.id))

    assert done.card_template.status is TemplateStatus.ARCHIVED
    for call in (
        perform(issue_card, owner, issue),
        perform(publish_card_template, owner, PublishCardTemplateInput(id=draft.id)),
        perform(update_card_template, owner, {"id": draft.id, "auto_play": True}),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code is Code.TEMPLATE_ARCHIVED


async def test_scanners_and_strangers_change_no_template(
    perform: Any, owner: Actor, draft: CardTemplate, hire: Any, make_business: Any, row: Any
) -> None:
    other = await make_business("other@kopi.example")
    asked = PublishCardTemplateInput(id=draft.id)

    with pytest.raises(Forbidden):
        await perform(publish_card_template, await hire(Role.SCANNER), asked)
    with pytest.raises(NotFound):
        await perform(publish_card_template, Actor(other.business, other.owner), asked)

    assert await row(owner, CardTemplate, draft.id) == draft


async def test_a_replay_tells_the_same_changes(database: Database, owner: Actor) -> None:
    change = Change(field="name", before="a", after="b")
    record = IdempotencyRecord(
        business_id=owner.business_id,
        actor_id=owner.id,
        mutation="update_card_template",
        key="k",
        fingerprint="f",
        outcome=_stored(CardTemplateUpdated(changes=[change])),
        created_at=owner.business.created_at,
    )

    told = await database.read(
        owner.business_id, lambda tx: replay(tx, record, CardTemplateUpdated)
    )

    assert told.changes == [change]
