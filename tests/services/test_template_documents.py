"""Card templates as documents, what publishing would change, and what then changes when."""

import copy
import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from core.clock import ManualClock
from core.errors import Code, Forbidden, Refused
from core.ids import Id, new_id
from db import Database
from factories import Cafe, a_business, a_card, a_staff, a_voucher_template, an_award_goal, stamps
from models import (
    Card,
    CardTemplate,
    Overflow,
    RedemptionMode,
    Role,
    TemplateStatus,
    VariantType,
    VoucherTemplate,
)
from services.card_templates import (
    AmountRuleInput,
    BirthdayRuleInput,
    CreateCardTemplateInput,
    Design,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LimitsInput,
    LotteryInput,
    LotteryVariantInput,
    PublishCardTemplateInput,
    VoucherRewardInput,
    card_template_changes,
    create_card_template,
    publish_card_template,
    rules_of,
    update_card_template,
)
from services.template_documents import (
    FORMAT,
    Document,
    ImportCardTemplateInput,
    export_card_template,
    import_card_template,
)
from services.vouchers import ValidityInput

NOTHING = Id("tpl_00000000000000000000000000")


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    return await a_business(database, now=clock.now())


async def do(database: Database, cafe: Cafe, service: Any, told: Any, clock: ManualClock) -> Any:
    return await database.write(
        cafe.business.id, lambda tx: service(tx, cafe.owner, told, clock.now())
    )


async def look(database: Database, cafe: Cafe, service: Any, *told: Any) -> Any:
    return await database.read(cafe.business.id, lambda tx: service(tx, cafe.owner, *told))


@pytest.fixture
async def rich(database: Database, cafe: Cafe, clock: ManualClock) -> CardTemplate:
    """A draft that says all that a template can say."""
    coffee = await a_voucher_template(
        database,
        cafe.owner,
        title="Free coffee",
        description="Any size",
        image_url="https://cdn.example/coffee.png",
        redeem_code="FREECOFFEE",
        validity=ValidityInput(days=30),
        redemption_mode=RedemptionMode.REDEEM_CODE,
    )
    cake = await a_voucher_template(
        database,
        cafe.owner,
        title="Cake",
        generates_code=True,
        validity=ValidityInput(date=date(2027, 1, 31)),
    )
    variants = [
        LotteryVariantInput(
            type=VariantType.VOUCHER,
            probability=1_000,
            name="Cake",
            greeting="Yum",
            stock=5,
            voucher_template_id=Id(cake.id),
        ),
        LotteryVariantInput(type=VariantType.TRY_AGAIN, probability=2_000, name="Again"),
        LotteryVariantInput(type=VariantType.NO_PRIZE, probability=7_000, name="Nothing"),
    ]
    voucher = VoucherRewardInput(voucher_template_id=Id(coffee.id), title="Coffee!")
    told = CreateCardTemplateInput(
        name="Kopi card",
        stamps_required=10,
        earning_rule=EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal(25_000))),
        overflow=Overflow.DISCARD,
        goals=[
            an_award_goal(3),
            GoalInput(stamps=6, reward=GoalRewardInput(voucher=voucher)),
            GoalInput(stamps=10, reward=GoalRewardInput(lottery=LotteryInput(variants=variants))),
        ],
        birthday=BirthdayRuleInput(days_before=3, voucher_template_id=Id(coffee.id)),
        inactivity_days=None,
        limits=LimitsInput(max_stamps_per_day=4),
        auto_play=True,
        design=Design({"colour": "#6f4e37", "deep": {"er": [1, None]}}),
    )
    made = (await do(database, cafe, create_card_template, told, clock)).card_template
    assert made
    template: CardTemplate = made
    return template


async def test_a_document_says_what_the_api_would_be_given(
    database: Database, cafe: Cafe, rich: CardTemplate
) -> None:
    document = await look(database, cafe, export_card_template, rich.id)

    assert json.loads(json.dumps(document)) == document
    assert document == {
        "format": FORMAT,
        "currency": "IDR",
        "name": "Kopi card",
        "stampsRequired": 10,
        "earningRule": {"byAmount": {"amountPerStamp": "25000.00"}},
        "overflow": "DISCARD",
        "goals": [
            {"stamps": 3, "reward": {"award": {"title": "A cookie"}}},
            {
                "stamps": 6,
                "reward": {"voucher": {"voucherTemplateId": "v1", "title": "Coffee!"}},
            },
            {
                "stamps": 10,
                "reward": {
                    "lottery": {
                        "variants": [
                            {
                                "type": "VOUCHER",
                                "probability": 1_000,
                                "name": "Cake",
                                "greeting": "Yum",
                                "stock": 5,
                                "voucherTemplateId": "v2",
                            },
                            {"type": "TRY_AGAIN", "probability": 2_000, "name": "Again"},
                            {"type": "NO_PRIZE", "probability": 7_000, "name": "Nothing"},
                        ],
                        "title": "Lottery",
                    }
                },
            },
        ],
        "birthday": {"daysBefore": 3, "voucherTemplateId": "v1"},
        "inactivityDays": None,
        "limits": {"maxStampsPerDay": 4},
        "autoPlay": True,
        "design": {"colour": "#6f4e37", "deep": {"er": [1, None]}},
        "voucherTemplates": {
            "v1": {
                "title": "Free coffee",
                "description": "Any size",
                "imageUrl": "https://cdn.example/coffee.png",
                "redeemCode": "FREECOFFEE",
                "validity": {"days": 30},
                "redemptionMode": "REDEEM_CODE",
            },
            "v2": {
                "title": "Cake",
                "generatesCode": True,
                "validity": {"date": "2027-01-31"},
            },
        },
    }


async def test_another_business_brings_it_in_as_a_draft(
    database: Database, cafe: Cafe, clock: ManualClock, rich: CardTemplate
) -> None:
    other = await a_business(database)
    document = await look(database, cafe, export_card_template, rich.id)
    told = ImportCardTemplateInput(document=document, name="Their card")

    made = (await do(database, other, import_card_template, told, clock)).card_template

    again = await look(database, other, export_card_template, made.id)
    _, rules = await look(database, other, _rules, made)
    theirs = await look(database, other, _voucher_templates, rules)
    assert (made.name, made.status, made.business_id) == (
        "Their card",
        TemplateStatus.DRAFT,
        other.business.id,
    )
    assert again == {**document, "name": "Their card"}
    assert {item.business_id for item in theirs} == {other.business.id}


async def _rules(tx: Any, actor: Any, template: CardTemplate) -> Any:
    return await rules_of(tx, template, 1)


async def _voucher_templates(tx: Any, actor: Any, rules: Any) -> list[VoucherTemplate]:
    named = {rules.goals[1][0]["voucher_template_id"], rules.values["birthday_voucher_template_id"]}
    found = [await tx.get(VoucherTemplate, id) for id in named]
    assert all(found)
    return found


_SMALL: dict[str, Any] = {
    "format": FORMAT,
    "name": "Card",
    "stampsRequired": 3,
    "earningRule": {"perOrder": True},
    "goals": [{"stamps": 3, "reward": {"voucher": {"voucherTemplateId": "v1"}}}],
    "voucherTemplates": {"v1": {"title": "Coffee"}},
}


def _with(value: Any, *path: Any) -> dict[str, Any]:
    document = copy.deepcopy(_SMALL)
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, ""),
        ([], ""),
        ("format", ""),
        (_with("other/1", "format"), ""),
        (_with(None, "name"), "name"),
        (_with(3, "name"), "name"),
        (_with("", "name"), "name"),
        (_with("x" * 201, "name"), "name"),
        (_with("3", "stampsRequired"), "stampsRequired"),
        (_with(True, "stampsRequired"), "stampsRequired"),
        (_with(10**30, "stampsRequired"), "stampsRequired"),
        (_with({}, "earningRule"), "earningRule"),
        (_with({"perOrder": True, "byAmount": None}, "earningRule"), "earningRule"),
        (_with({"byAmount": {"amountPerStamp": "1e999999"}}, "earningRule"),
         "earningRule.byAmount.amountPerStamp"),
        (_with({"byAmount": {"amountPerStamp": "NaN"}}, "earningRule"),
         "earningRule.byAmount.amountPerStamp"),
        (_with({"byAmount": {"amountPerStamp": "10"}}, "earningRule"), "currency"),
        (_with("carry_over", "overflow"), "overflow"),
        (_with({}, "goals"), "goals"),
        (_with([], "goals"), "goals"),
        (_with([1], "goals"), "goals.0"),
        (_with(2, "goals", 0, "stamps"), "goals"),
        (_with("v2", "goals", 0, "reward", "voucher", "voucherTemplateId"),
         "goals.0.reward.voucher.voucherTemplateId"),
        (_with({"award": {"title": "A", "imageUrl": "javascript:alert(1)"}}, "goals", 0, "reward"),
         "goals.0.reward.award.imageUrl"),
        (_with({"title": "x", "idempotencyKey": "k"}, "voucherTemplates", "v1"),
         "voucherTemplates.v1.idempotencyKey"),
        (_with("", "voucherTemplates", "v1", "title"), "voucherTemplates.v1.title"),
        (_with({"date": "soon"}, "voucherTemplates", "v1", "validity"),
         "voucherTemplates.v1.validity.date"),
        (_with({"days": 0}, "voucherTemplates", "v1", "validity"),
         "voucherTemplates.v1.validity.days"),
        (_with([], "voucherTemplates"), "voucherTemplates"),
        (_with({f"v{n}": {"title": "x"} for n in range(51)}, "voucherTemplates"),
         "voucherTemplates"),
        (_with("x" * 30_000, "design"), "design"),
        (_with({"x": "y" * 30_000}, "design"), "design"),
        (_with("key", "idempotencyKey"), "idempotencyKey"),
        (_with(1, "surprise"), "surprise"),
    ],
)  # fmt: skip
async def test_what_is_no_such_document_is_refused_and_leaves_nothing(
    database: Database, cafe: Cafe, clock: ManualClock, document: Any, path: str
) -> None:
    told = ImportCardTemplateInput(document=Document(document))

    with pytest.raises(Refused) as refused:
        await do(database, cafe, import_card_template, told, clock)

    assert refused.value.code in (Code.INVALID, Code.TEXT_TOO_LONG)
    assert refused.value.field == ["input", "document", *filter(None, path.split("."))]


async def test_scanners_take_nothing_out_and_bring_nothing_in(
    database: Database, cafe: Cafe, clock: ManualClock, rich: CardTemplate
) -> None:
    scanner = await a_staff(database, cafe.owner, Role.SCANNER)
    told = ImportCardTemplateInput(document=Document(_SMALL))

    with pytest.raises(Forbidden):
        await look(database, Cafe(cafe.business, scanner, "", ""), export_card_template, rich.id)
    with pytest.raises(Forbidden):
        await look(database, Cafe(cafe.business, scanner, "", ""), card_template_changes, rich.id)
    with pytest.raises(Forbidden):
        await database.write(
            cafe.business.id, lambda tx: import_card_template(tx, scanner, told, clock.now())
        )
    other = await a_business(database)
    assert await look(database, other, export_card_template, rich.id) is None
    assert await look(database, other, card_template_changes, rich.id) is None
    assert await look(database, cafe, export_card_template, NOTHING) is None


async def test_what_publishing_would_change_is_told_before(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    told = ImportCardTemplateInput(document=Document(_SMALL))
    template = (await do(database, cafe, import_card_template, told, clock)).card_template
    publish = PublishCardTemplateInput(id=Id(template.id))

    draft = await look(database, cafe, card_template_changes, template.id)
    await do(database, cafe, publish_card_template, publish, clock)
    published = await look(database, cafe, card_template_changes, template.id)
    for given in ({"inactivity_days": 14}, {"auto_play": True}, {"design": {"colour": "red"}}):
        await do(database, cafe, update_card_template, {"id": template.id, **given}, clock)
    waiting = await look(database, cafe, card_template_changes, template.id)
    await do(database, cafe, publish_card_template, publish, clock)
    after = await look(database, cafe, card_template_changes, template.id)

    assert {change.before for change in draft} == {None}
    assert {"stampsRequired", "goals"} <= {change.field for change in draft}
    assert [(change.field, change.before, change.after) for change in waiting] == [
        ("inactivityDays", "30", "14"),
        ("autoPlay", "false", "true"),
        ("design", "{}", '{"colour": "red"}'),
    ]
    assert (published, after) == ([], [])


async def test_what_is_taken_out_is_what_is_published(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    told = ImportCardTemplateInput(document=Document(_SMALL))
    template = (await do(database, cafe, import_card_template, told, clock)).card_template
    publish = PublishCardTemplateInput(id=Id(template.id))
    await do(database, cafe, publish_card_template, publish, clock)
    before = await look(database, cafe, export_card_template, template.id)
    await do(database, cafe, update_card_template, {"id": template.id, "inactivity_days": 7}, clock)
    waiting = await look(database, cafe, export_card_template, template.id)
    await do(database, cafe, publish_card_template, publish, clock)
    after = await look(database, cafe, export_card_template, template.id)

    assert waiting == before
    assert after == {**before, "inactivityDays": 7}


async def test_goals_change_with_the_next_cycle(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    told = ImportCardTemplateInput(document=Document(_SMALL))
    template = (await do(database, cafe, import_card_template, told, clock)).card_template
    publish = PublishCardTemplateInput(id=Id(template.id))
    await do(database, cafe, publish_card_template, publish, clock)
    old = await a_card(database, cafe.owner, template.id)
    await stamps(database, cafe.owner, old, 2)
    given = {"stamps_required": 2, "goals": [an_award_goal(2, "A cake")], "id": template.id}
    await do(database, cafe, update_card_template, given, clock)
    waiting = await stamps(database, cafe.owner, await a_card(database, cafe.owner, template.id), 2)
    await do(database, cafe, publish_card_template, publish, clock)

    first = await stamps(database, cafe.owner, old, 1)
    new = await stamps(database, cafe.owner, await a_card(database, cafe.owner, template.id), 2)
    second = await stamps(database, cafe.owner, old, 2)

    def won(done: Any) -> list[str]:
        return [reward.title for reward in done.rewards]

    assert (won(waiting), won(first), won(new), won(second)) == (
        [],
        ["Coffee"],
        ["A cake"],
        ["A cake"],
    )
    card = await look(database, cafe, _card, old.id)
    assert (card.cycle, card.stamps) == (2, 2)


async def _card(tx: Any, actor: Any, id: str) -> Card | None:
    found: Card | None = await tx.get(Card, id)
    return found


async def test_ids_of_documents_are_keys_and_never_ids(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    other = await a_business(database)
    foreign = await a_voucher_template(database, other.owner)
    for id in (foreign.id, new_id("vt"), "__proto__"):
        document = _with(id, "goals", 0, "reward", "voucher", "voucherTemplateId")
        told = ImportCardTemplateInput(document=Document(document))
        with pytest.raises(Refused, match="no key of"):
            await do(database, cafe, import_card_template, told, clock)
