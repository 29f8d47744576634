"""Card templates: drafted, published in versions, archived."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, NewType

from annotated_doc import Doc
from sqlalchemy import delete
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.money import major_units, minor_units
from db import BUSINESS, Transaction, among, command, param, query
from models import (
    MAX_GOALS,
    MAX_STAMPS,
    Actor,
    CardTemplate,
    CardTemplateVersion,
    EarningRule,
    Goal,
    LotteryVariant,
    Overflow,
    RewardType,
    TemplateStatus,
    VariantType,
)
from services.operation import MANAGERS, Input, Outcome, allow, operation
from services.pass_marks import mark_passes
from services.text import clean, image_url, long_text, short_text, within
from services.vouchers import find_voucher_template

_LOCKED = query(
    select(CardTemplate)
    .where(col(CardTemplate.business_id) == BUSINESS, col(CardTemplate.id) == param("id"))
    .with_for_update(key_share=True)
)
_VERSION = query(
    select(CardTemplateVersion).where(
        col(CardTemplateVersion.business_id) == BUSINESS,
        col(CardTemplateVersion.template_id) == param("template_id"),
        col(CardTemplateVersion.version) == param("version"),
    )
)
_GOALS = query(
    select(Goal)
    .where(col(Goal.business_id) == BUSINESS, col(Goal.version_id) == param("version_id"))
    .order_by(col(Goal.position))
)
_VARIANTS = query(
    select(LotteryVariant)
    .where(col(LotteryVariant.business_id) == BUSINESS, among(col(LotteryVariant.goal_id), "goals"))
    .order_by(col(LotteryVariant.position))
)
_DROP_VARIANTS = command(
    delete(LotteryVariant).where(
        col(LotteryVariant.business_id) == BUSINESS, among(col(LotteryVariant.goal_id), "goals")
    )
)
_DROP_GOALS = command(
    delete(Goal).where(
        col(Goal.business_id) == BUSINESS, col(Goal.version_id) == param("version_id")
    )
)
_DROP_VERSION = command(
    delete(CardTemplateVersion).where(
        col(CardTemplateVersion.business_id) == BUSINESS,
        col(CardTemplateVersion.id) == param("version_id"),
    )
)
Design = NewType("Design", dict[str, Any])
"""How a card looks: a JSON object of the designer's own."""

_CERTAIN = 10_000
_MAX_VARIANTS = 20
_MAX_DESIGN = 20_000


@dataclass(kw_only=True)
class AmountRuleInput:
    """Stamps by what was spent."""

    amount_per_stamp: Annotated[Decimal, Doc("What earns one stamp, in the business's currency.")]


@dataclass(kw_only=True)
class EarningRuleInput:
    """What earns a stamp."""

    one_of: ClassVar[bool] = True

    per_order: Annotated[
        bool | None, Doc("Stamps are counted by whoever adds them; only `true` has a meaning.")
    ] = None
    by_amount: Annotated[AmountRuleInput | None, Doc("So much spent earns one stamp.")] = None


@dataclass(kw_only=True)
class AwardInput:
    """A gift handed over at once."""

    title: Annotated[str, Doc("What it is, at most 200 characters.")]
    description: Annotated[str | None, Doc("More about it.")] = None
    image_url: Annotated[str | None, Doc("A picture's address.")] = None


@dataclass(kw_only=True)
class VoucherRewardInput:
    """A voucher, to be redeemed later."""

    voucher_template_id: Annotated[Id, Doc("The voucher template.")]
    title: Annotated[str | None, Doc("What it is; absent: the voucher template's title.")] = None


@dataclass(kw_only=True)
class LotteryVariantInput:
    """One outcome of a lottery."""

    type: Annotated[VariantType, Doc("What it gives.")]
    probability: Annotated[
        int, Doc("In hundredths of a percent; those of all variants sum to exactly 10000.")
    ]
    name: Annotated[str, Doc("What it is called, at most 200 characters.")]
    greeting: Annotated[str | None, Doc("What the customer then reads.")] = None
    stock: Annotated[int | None, Doc("How many there are; absent: no end of them.")] = None
    voucher_template_id: Annotated[
        Id | None, Doc("The voucher template, for the type VOUCHER only.")
    ] = None


@dataclass(kw_only=True)
class LotteryInput:
    """A lottery ticket."""

    variants: Annotated[list[LotteryVariantInput], Doc("Its outcomes, 1 to 20.")]
    title: Annotated[str | None, Doc("What it is called; absent: Lottery.")] = None


@dataclass(kw_only=True)
class GoalRewardInput:
    """What waits at a goal."""

    one_of: ClassVar[bool] = True

    award: Annotated[AwardInput | None, Doc("A gift handed over at once.")] = None
    voucher: Annotated[VoucherRewardInput | None, Doc("A voucher.")] = None
    lottery: Annotated[LotteryInput | None, Doc("A lottery ticket.")] = None


@dataclass(kw_only=True)
class GoalInput:
    """A mark on the card, and the reward that waits there."""

    stamps: Annotated[int, Doc("How many stamps reach it.")]
    reward: Annotated[GoalRewardInput, Doc("What waits there.")]


@dataclass(kw_only=True)
class BirthdayRuleInput:
    """A voucher for the customer's birthday."""

    days_before: Annotated[int, Doc("How many days before the birthday it comes, 0 to 30.")] = 0
    voucher_template_id: Annotated[Id, Doc("The voucher template.")]


@dataclass(kw_only=True)
class LimitsInput:
    """How fast a card may fill; what is absent is not limited."""

    max_stamps_per_operation: Annotated[int | None, Doc("1 to 50.")] = None
    max_stamps_per_day: Annotated[int | None, Doc("By card and local day, 1 to 1000.")] = None
    min_seconds_between: Annotated[
        int | None, Doc("From one stamping of a card to the next, 1 to 86400.")
    ] = None


@dataclass(kw_only=True)
class CreateCardTemplateInput(Input):
    """The card template to draft."""

    name: Annotated[str, Doc("Its name, at most 200 characters.")]
    stamps_required: Annotated[int, Doc("Stamps of a full card, 1 to 50.")]
    earning_rule: Annotated[EarningRuleInput, Doc("What earns a stamp.")]
    overflow: Annotated[Overflow, Doc("What becomes of stamps beyond a full card.")] = (
        Overflow.CARRY_OVER
    )
    goals: Annotated[
        list[GoalInput], Doc("1 to 10, at ascending counts; the last one at `stampsRequired`.")
    ]
    birthday: Annotated[
        BirthdayRuleInput | None, Doc("A voucher for the birthday; absent: none.")
    ] = None
    inactivity_days: Annotated[
        int | None, Doc("After so many silent days a customer is inactive, 1 to 365; null: never.")
    ] = 30
    limits: Annotated[LimitsInput | None, Doc("How fast a card may fill; absent: as it likes.")] = (
        None
    )
    auto_play: Annotated[bool, Doc("Play lottery tickets as soon as they are given.")] = False
    design: Annotated[
        Design | None, Doc("How the card looks; kept as it is, at most 20000 characters.")
    ] = None


@dataclass(kw_only=True)
class PublishCardTemplateInput(Input):
    """The card template to publish."""

    id: Annotated[Id, Doc("The card template's id.")]


@dataclass(kw_only=True)
class ArchiveCardTemplateInput(Input):
    """The card template to archive."""

    id: Annotated[Id, Doc("The card template's id.")]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one field of a card template said before and says now, in words."""

    field: Annotated[str, Doc("The field of the input, such as `goals`.")]
    before: Annotated[str | None, Doc("What it said; null for nothing.")]
    after: Annotated[str | None, Doc("What it says now; null for nothing.")]


@dataclass(kw_only=True)
class CardTemplateOutcome(Outcome):
    """The card template as it now is."""

    card_template: CardTemplate | None = None


@dataclass(kw_only=True)
class CardTemplateUpdated(Outcome):
    """The card template as it now is, and what the update changed."""

    card_template: CardTemplate | None = None
    changes: Annotated[list[Change], Doc("What the update changed, field by field.")] = field(
        default_factory=list
    )


@dataclass
class Rules:
    """The rules of one version: its own columns, and its goals with their variants."""

    values: dict[str, Any]
    goals: list[tuple[dict[str, Any], list[dict[str, Any]]]]


@operation(*MANAGERS)
async def create_card_template(
    tx: Transaction, actor: Actor, input: CreateCardTemplateInput, now: datetime
) -> CardTemplateOutcome:
    """Draft a card template. Cards are issued by it once it is published."""
    template = CardTemplate(
        id=new_id("tpl"),
        business_id=actor.business_id,
        name=short_text(input.name, "input", "name"),
        created_at=now,
    )
    rules = await _revised(tx, actor, Rules({}, []), vars(input))
    await tx.add(template)
    await _add_version(tx, actor, template, rules, number=template.version, now=now)
    return CardTemplateOutcome(card_template=template)


@operation(*MANAGERS)
async def update_card_template(
    tx: Transaction, actor: Actor, given: Mapping[str, Any], now: datetime
) -> CardTemplateUpdated:
    """Change the given fields of a card template, and tell what that changes.

    The name changes at once. The rules of a published template change when the update is
    published: until then they are the draft of the next version, which further updates revise.

    Takes `id` and any field of `CreateCardTemplateInput`.
    """
    template = await _locked(tx, given["id"])
    _check_not_archived(template)
    version, before = await rules_of(tx, template, _latest(template))
    after = await _revised(tx, actor, before, given)
    name = short_text(given["name"] or "", "input", "name") if "name" in given else template.name
    changes = [
        *_differences({"name": template.name}, {"name": name}),
        *_differences(_in_words(actor, before), _in_words(actor, after)),
    ]
    if name != template.name:
        template = await tx.change(template, name=name)
        await mark_passes(tx, actor, now, template_id=template.id)
    if before != after:
        number = _draft_number(template)
        if version.version == number:
            await _drop_version(tx, version)
        await _add_version(tx, actor, template, after, number=number, now=now)
        if template.published_at is not None:
            template = await tx.change(template, draft_version=number)
    return CardTemplateUpdated(card_template=template, changes=changes)


@operation(*MANAGERS)
async def publish_card_template(
    tx: Transaction, actor: Actor, input: PublishCardTemplateInput, now: datetime
) -> CardTemplateOutcome:
    """Publish a card template, or the draft of its next version.

    New cards, and the next cycle of every card, go by it; an open cycle keeps its goals.
    """
    template = await _locked(tx, input.id)
    _check_not_archived(template)
    if template.published_at is None or template.draft_version is not None:
        template = await tx.change(
            template,
            version=template.draft_version or template.version,
            draft_version=None,
            published_at=template.published_at or now,
            published_by=template.published_by or actor.staff_id,
        )
        await mark_passes(tx, actor, now, template_id=template.id)
    return CardTemplateOutcome(card_template=template)


@operation(*MANAGERS)
async def archive_card_template(
    tx: Transaction, actor: Actor, input: ArchiveCardTemplateInput, now: datetime
) -> CardTemplateOutcome:
    """Archive a card template: no card is issued by it any more. Cards that exist go on."""
    template = await _locked(tx, input.id)
    if template.archived_at is None:
        template = await tx.change(template, archived_at=now, archived_by=actor.staff_id)
    return CardTemplateOutcome(card_template=template)


async def card_template_changes(tx: Transaction, actor: Actor, id: str) -> list[Change] | None:
    """What publishing a template now would change, field by field; None if there is no such one.

    Of a template that was never published, all that it says. Forbidden for scanners.
    """
    allow(actor, MANAGERS)
    template = await tx.get(CardTemplate, id)
    if template is None:
        return None
    after = _in_words(actor, (await rules_of(tx, template, _latest(template)))[1])
    if template.published_at is None:
        return list(_differences(dict.fromkeys(after), after))
    before = _in_words(actor, (await rules_of(tx, template, template.version))[1])
    return list(_differences(before, after))


async def _locked(tx: Transaction, id: str) -> CardTemplate:
    template = await tx.maybe(_LOCKED, id=id)
    if template is None:
        raise NotFound("card template", "input", "id")
    return template


def _check_not_archived(template: CardTemplate) -> None:
    if template.status is TemplateStatus.ARCHIVED:
        raise Refused(Code.TEMPLATE_ARCHIVED, "This card template is archived.", "input", "id")


def _latest(template: CardTemplate) -> int:
    """The latest version, draft or not."""
    return template.draft_version or template.version


def _draft_number(template: CardTemplate) -> int:
    """The version that an update writes: only what was never published is written again."""
    if template.published_at is None:
        return template.version
    return template.draft_version or template.version + 1


async def rules_of(
    tx: Transaction, template: CardTemplate, number: int
) -> tuple[CardTemplateVersion, Rules]:
    """A version, and its rules."""
    version = await tx.one(_VERSION, template_id=template.id, version=number)
    goals = await tx.many(_GOALS, version_id=version.id)
    variants = await tx.many(_VARIANTS, goals=[goal.id for goal in goals])
    return version, Rules(
        _columns(version, _OF_VERSION),
        [
            (
                _columns(goal, _OF_GOAL),
                [_columns(item, _OF_VARIANT) for item in variants if item.goal_id == goal.id],
            )
            for goal in goals
        ],
    )


_OF_VERSION = (
    "stamps_required",
    "earning_rule",
    "amount_per_stamp",
    "overflow",
    "birthday_days_before",
    "birthday_voucher_template_id",
    "inactivity_days",
    "max_stamps_per_operation",
    "max_stamps_per_day",
    "min_seconds_between",
    "auto_play",
    "design",
)
_OF_GOAL = (
    "position",
    "stamps",
    "reward_type",
    "title",
    "description",
    "image_url",
    "voucher_template_id",
)
_OF_VARIANT = (
    "position",
    "type",
    "probability",
    "name",
    "greeting",
    "stock",
    "voucher_template_id",
)


def _columns(row: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


async def _add_version(
    tx: Transaction,
    actor: Actor,
    template: CardTemplate,
    rules: Rules,
    *,
    number: int,
    now: datetime,
) -> None:
    version = CardTemplateVersion(
        id=new_id("tpv"),
        business_id=actor.business_id,
        template_id=template.id,
        version=number,
        created_at=now,
        created_by=actor.staff_id,
        **rules.values,
    )
    await tx.add(version)
    for values, variants in rules.goals:
        goal = Goal(
            id=new_id("goal"), business_id=actor.business_id, version_id=version.id, **values
        )
        await tx.add(goal)
        for item in variants:
            await tx.add(
                LotteryVariant(
                    id=new_id("lv"), business_id=actor.business_id, goal_id=goal.id, **item
                )
            )


async def _drop_version(tx: Transaction, version: CardTemplateVersion) -> None:
    """Remove a version that was never published, so that no card goes by it."""
    goals = await tx.many(_GOALS, version_id=version.id)
    await tx.run(_DROP_VARIANTS, goals=[goal.id for goal in goals])
    await tx.run(_DROP_GOALS, version_id=version.id)
    await tx.run(_DROP_VERSION, version_id=version.id)


async def _revised(tx: Transaction, actor: Actor, rules: Rules, given: Mapping[str, Any]) -> Rules:
    """The rules with the given fields changed; refused where they do not hold together."""
    values, goals = dict(rules.values), rules.goals
    if "stamps_required" in given:
        required = _required(given, "stamps_required", "stampsRequired")
        values["stamps_required"] = _between(1, required, MAX_STAMPS, "stampsRequired")
    if "earning_rule" in given:
        values |= _earning(actor, _required(given, "earning_rule", "earningRule"))
    for name, path in (("overflow", "overflow"), ("auto_play", "autoPlay")):
        if name in given:
            values[name] = _required(given, name, path)
    if "birthday" in given:
        values |= await _birthday(tx, given["birthday"])
    if "inactivity_days" in given:
        days = given["inactivity_days"]
        values["inactivity_days"] = (
            None if days is None else _between(1, days, 365, "inactivityDays")
        )
    if "limits" in given:
        values |= _limits(given["limits"] or LimitsInput())
    if "design" in given:
        values["design"] = _design(given["design"] or {})
    if "goals" in given:
        told = _required(given, "goals", "goals")
        goals = [await _goal(tx, goal, place) for place, goal in enumerate(told)]
    _check_goals([goal for goal, _ in goals], values["stamps_required"])
    return Rules(values, goals)


def _earning(actor: Actor, told: EarningRuleInput) -> dict[str, Any]:
    path: tuple[str, ...] = ("input", "earningRule")
    if told.by_amount is None:
        if not told.per_order:
            raise Invalid("`perOrder` can only be true.", *path, "perOrder")
        return {"earning_rule": EarningRule.PER_ORDER, "amount_per_stamp": None}
    path = (*path, "byAmount", "amountPerStamp")
    try:
        units = minor_units(told.by_amount.amount_per_stamp, actor.business.currency)
    except ValueError:
        raise Invalid("This is not an amount of the business's currency.", *path) from None
    if units <= 0:
        raise Invalid("An amount that earns a stamp is positive.", *path)
    return {"earning_rule": EarningRule.BY_AMOUNT, "amount_per_stamp": units}


async def _birthday(tx: Transaction, told: BirthdayRuleInput | None) -> dict[str, Any]:
    days = template_id = None
    if told is not None:
        days = _between(0, told.days_before, 30, "birthday", "daysBefore")
        path = ("input", "birthday", "voucherTemplateId")
        template_id = (await find_voucher_template(tx, told.voucher_template_id, *path)).id
    return {"birthday_days_before": days, "birthday_voucher_template_id": template_id}


def _limits(told: LimitsInput) -> dict[str, Any]:
    most = {
        "max_stamps_per_operation": ("maxStampsPerOperation", MAX_STAMPS),
        "max_stamps_per_day": ("maxStampsPerDay", 1_000),
        "min_seconds_between": ("minSecondsBetween", 86_400),
    }
    return {
        name: None if value is None else _between(1, value, limit, "limits", path)
        for name, (path, limit) in most.items()
        for value in [getattr(told, name)]
    }


def _design(told: Any) -> dict[str, Any]:
    path = ("input", "design")
    if not isinstance(told, dict):
        raise Invalid("A design is a JSON object.", *path)
    within(clean(json.dumps(told, ensure_ascii=False), *path), *path, most=_MAX_DESIGN)
    return told


async def _goal(
    tx: Transaction, told: GoalInput, place: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of a goal, and those of its variants."""
    path: tuple[str, ...] = ("input", "goals", str(place), "reward")
    award, voucher, lottery = told.reward.award, told.reward.voucher, told.reward.lottery
    values: dict[str, Any] = {
        "position": place + 1,
        "stamps": told.stamps,
        "description": None,
        "image_url": None,
        "voucher_template_id": None,
    }
    variants: list[dict[str, Any]] = []
    if award is not None:
        path = (*path, "award")
        values["reward_type"] = RewardType.AWARD
        values["title"] = short_text(award.title, *path, "title")
        values["description"] = long_text(award.description, *path, "description")
        values["image_url"] = image_url(award.image_url, *path, "imageUrl")
    elif voucher is not None:
        path = (*path, "voucher")
        template = await find_voucher_template(
            tx, voucher.voucher_template_id, *path, "voucherTemplateId"
        )
        title = voucher.title
        values["reward_type"] = RewardType.VOUCHER
        values["title"] = short_text(title, *path, "title") if title else template.title
        values["description"], values["image_url"] = template.description, template.image_url
        values["voucher_template_id"] = template.id
    elif lottery is not None:
        path = (*path, "lottery")
        values["reward_type"] = RewardType.LOTTERY
        values["title"] = short_text(lottery.title or "Lottery", *path, "title")
        variants = await _variants(tx, lottery.variants, *path, "variants")
    else:
        raise Invalid("Give one of award, voucher and lottery.", *path)
    return values, variants


async def _variants(
    tx: Transaction, told: Sequence[LotteryVariantInput], *path: str
) -> list[dict[str, Any]]:
    if not 1 <= len(told) <= _MAX_VARIANTS:
        raise Invalid(f"1 to {_MAX_VARIANTS} variants.", *path)
    if any(item.probability < 1 for item in told):
        raise Invalid("A probability is at least 1 (a hundredth of a percent).", *path)
    if (total := sum(item.probability for item in told)) != _CERTAIN:
        raise Invalid(f"The probabilities sum to {_CERTAIN}, not to {total}.", *path)
    variants = [await _variant(tx, item, place, *path) for place, item in enumerate(told)]
    if all(item.type is VariantType.TRY_AGAIN or item.stock is not None for item in told):
        raise Invalid("A lottery needs an outcome other than TRY_AGAIN that cannot run out.", *path)
    return variants


async def _variant(
    tx: Transaction, told: LotteryVariantInput, place: int, *above: str
) -> dict[str, Any]:
    path = (*above, str(place))
    if (told.type is VariantType.VOUCHER) != (told.voucher_template_id is not None):
        raise Invalid(
            "A variant names a voucher template where its type is VOUCHER, and only there.",
            *path,
            "voucherTemplateId",
        )
    if told.voucher_template_id is not None:
        await find_voucher_template(tx, told.voucher_template_id, *path, "voucherTemplateId")
    if told.stock is not None and not 0 <= told.stock < 10**9:
        raise Invalid("A stock is not negative.", *path, "stock")
    if told.stock is not None and told.type in (VariantType.TRY_AGAIN, VariantType.NO_PRIZE):
        raise Invalid("Only what can be won has a stock.", *path, "stock")
    return {
        "position": place + 1,
        "type": told.type,
        "probability": told.probability,
        "name": short_text(told.name, *path, "name"),
        "greeting": long_text(told.greeting, *path, "greeting", most=500),
        "stock": told.stock,
        "voucher_template_id": told.voucher_template_id,
    }


def _check_goals(goals: Sequence[Mapping[str, Any]], required: int) -> None:
    if not 1 <= len(goals) <= MAX_GOALS:
        raise Invalid(f"1 to {MAX_GOALS} goals.", "input", "goals")
    last = 0
    for place, goal in enumerate(goals):
        if goal["stamps"] <= last:
            raise Invalid(
                "Goals stand at ascending counts, from 1.", "input", "goals", str(place), "stamps"
            )
        last = goal["stamps"]
    if last != required:
        raise Invalid(f"The last goal is the full card, at {required} stamps.", "input", "goals")


def _required(given: Mapping[str, Any], name: str, path: str) -> Any:
    if given[name] is None:
        raise Invalid("This must not be empty.", "input", path)
    return given[name]


def _between(least: int, number: int, most: int, *path: str) -> int:
    if not least <= number <= most:
        raise Invalid(f"Between {least} and {most}.", "input", *path)
    return number


def _in_words(actor: Actor, rules: Rules) -> dict[str, str | None]:
    """What the rules say, by field of the API, each in words that can be compared."""
    values = rules.values
    amount, days = values["amount_per_stamp"], values["birthday_days_before"]
    currency = actor.business.currency
    told = {
        "stampsRequired": values["stamps_required"],
        "earningRule": (
            "per order" if amount is None else f"{major_units(amount, currency)} {currency}"
        ),
        "overflow": values["overflow"].name,
        "goals": "; ".join(_goal_in_words(goal, variants) for goal, variants in rules.goals),
        "birthday": (
            None
            if days is None
            else f"{values['birthday_voucher_template_id']}, {days} days before"
        ),
        "inactivityDays": values["inactivity_days"],
        "limits.maxStampsPerOperation": values["max_stamps_per_operation"],
        "limits.maxStampsPerDay": values["max_stamps_per_day"],
        "limits.minSecondsBetween": values["min_seconds_between"],
        "autoPlay": "true" if values["auto_play"] else "false",
        "design": json.dumps(values["design"], ensure_ascii=False, sort_keys=True),
    }
    return {name: None if value is None else str(value) for name, value in told.items()}


def _goal_in_words(goal: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> str:
    words = [f"{goal['stamps']}: {goal['reward_type']} {goal['title']}"]
    words += [
        str(goal[name])
        for name in ("description", "image_url", "voucher_template_id")
        if goal[name]
    ]
    words += [
        " ".join(
            str(item[name])
            for name in ("probability", "type", "name", "greeting", "stock", "voucher_template_id")
            if item[name] is not None
        )
        for item in variants
    ]
    return ", ".join(words)


def _differences(
    before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> Iterator[Change]:
    for name, value in after.items():
        if value != before[name]:
            yield Change(field=name, before=before[name], after=value)
