"""Card templates as documents: taken out as JSON, and brought in as a draft, here or elsewhere.

A document says what `createCardTemplate` is given, in the same words. The voucher templates it
names are in it, under keys of its own.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, NewType, TypeVar, get_args, get_origin, get_type_hints

from annotated_doc import Doc

from core.errors import Invalid, Refused
from core.ids import Id
from core.money import major_units
from db import Transaction
from models import Actor, CardTemplate, RewardType, Validity, VoucherTemplate
from services.card_templates import (
    AmountRuleInput,
    AwardInput,
    BirthdayRuleInput,
    CardTemplateOutcome,
    CreateCardTemplateInput,
    Design,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LimitsInput,
    LotteryInput,
    LotteryVariantInput,
    Rules,
    VoucherRewardInput,
    create_card_template,
    rules_of,
)
from services.operation import MANAGERS, Input, allow, operation
from services.voucher_templates import CreateVoucherTemplateInput, create_voucher_template
from services.vouchers import ValidityInput

FORMAT = "stampwire.card-template/1"
_MOST_VOUCHER_TEMPLATES = 50
_PATH = ("input", "document")
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,4})?")

Document = NewType("Document", dict[str, Any])
"""A card template as JSON."""
D = TypeVar("D")


@dataclass(kw_only=True)
class ImportCardTemplateInput(Input):
    """The document to bring in."""

    document: Annotated[Document, Doc("What `exportCardTemplate` gave, here or elsewhere.")]
    name: Annotated[str | None, Doc("The template's name; absent: the one in the document.")] = None


async def export_card_template(tx: Transaction, actor: Actor, id: str) -> Document | None:
    """A card template as a document: what is published, or the draft before the first time.

    None if there is no such template. Forbidden for scanners.
    """
    allow(actor, MANAGERS)
    template = await tx.get(CardTemplate, id)
    if template is None:
        return None
    _, rules = await rules_of(tx, template, template.version)
    vouchers: dict[str, VoucherTemplate] = {}
    for voucher_template_id in _named(rules):
        row = await tx.get(VoucherTemplate, voucher_template_id)
        if row is not None:
            vouchers[voucher_template_id] = row
    keys = {
        voucher_template_id: f"v{place}" for place, voucher_template_id in enumerate(vouchers, 1)
    }
    return Document(
        {
            "format": FORMAT,
            "currency": actor.business.currency,
            **_said(_card_template(actor, template, rules, keys)),
            "voucherTemplates": {
                keys[voucher_template_id]: _said(_voucher_template(row))
                for voucher_template_id, row in vouchers.items()
            },
        }
    )


@operation(*MANAGERS)
async def import_card_template(
    tx: Transaction, actor: Actor, input: ImportCardTemplateInput, now: datetime
) -> CardTemplateOutcome:
    """Draft a card template from a document that `exportCardTemplate` gave, here or elsewhere.

    The voucher templates in it are made anew. Cards are issued by it once it is published.
    """
    told = dict(input.document) if isinstance(input.document, dict) else {}
    if told.pop("format", None) != FORMAT:
        raise Invalid(f"This is no document of the format {FORMAT}.", *_PATH)
    currency, vouchers = told.pop("currency", None), told.pop("voucherTemplates", {})
    if input.name is not None:
        told["name"] = input.name
    asked = _built(CreateCardTemplateInput, told, *_PATH)
    if asked.earning_rule.by_amount is not None and currency != actor.business.currency:
        raise Invalid("Its amounts are of another currency.", *_PATH, "currency")
    asked = _with_ids(asked, await _make_voucher_templates(tx, actor, vouchers, now))
    try:
        return await create_card_template(tx, actor, asked, now)
    except Refused as refusal:
        refusal.field = [*_PATH, *(refusal.field or [])[1:]]
        raise


async def _make_voucher_templates(
    tx: Transaction, actor: Actor, told: Any, now: datetime
) -> dict[str, str]:
    """The ids of the voucher templates of a document, by their keys in it."""
    path = (*_PATH, "voucherTemplates")
    if not isinstance(told, dict) or len(told) > _MOST_VOUCHER_TEMPLATES:
        raise Invalid(f"An object of at most {_MOST_VOUCHER_TEMPLATES} voucher templates.", *path)
    ids: dict[str, str] = {}
    for key, item in told.items():
        asked = _built(CreateVoucherTemplateInput, item, *path, key)
        try:
            made = await create_voucher_template(tx, actor, asked, now)
        except Refused as refusal:
            refusal.field = [*path, key, *(refusal.field or [])[1:]]
            raise
        if made.voucher_template is not None:
            ids[key] = made.voucher_template.id
    return ids


def _named(rules: Rules) -> list[str]:
    """The ids of the voucher templates that rules name, each once, in their order."""
    named = [rules.values["birthday_voucher_template_id"]]
    for goal, variants in rules.goals:
        named += [goal["voucher_template_id"], *(item["voucher_template_id"] for item in variants)]
    return list(dict.fromkeys(id for id in named if id is not None))


def _card_template(
    actor: Actor, template: CardTemplate, rules: Rules, keys: Mapping[str, str]
) -> CreateCardTemplateInput:
    """What would have to be asked for to draft this template, its voucher templates by key."""
    values = rules.values
    amount, days = values["amount_per_stamp"], values["birthday_days_before"]
    limits = LimitsInput(
        **{item.name: values[item.name] for item in dataclasses.fields(LimitsInput)}
    )
    by_amount = amount and AmountRuleInput(
        amount_per_stamp=major_units(amount, actor.business.currency)
    )
    return CreateCardTemplateInput(
        name=template.name,
        stamps_required=values["stamps_required"],
        earning_rule=EarningRuleInput(by_amount=by_amount, per_order=None if by_amount else True),
        overflow=values["overflow"],
        goals=[_goal(goal, variants, keys) for goal, variants in rules.goals],
        birthday=None
        if days is None
        else BirthdayRuleInput(
            days_before=days,
            voucher_template_id=_key(values["birthday_voucher_template_id"], keys),
        ),
        inactivity_days=values["inactivity_days"],
        limits=None if limits == LimitsInput() else limits,
        auto_play=values["auto_play"],
        design=Design(values["design"]),
    )


def _goal(
    goal: Mapping[str, Any], variants: list[dict[str, Any]], keys: Mapping[str, str]
) -> GoalInput:
    title = goal["title"]
    if goal["reward_type"] is RewardType.AWARD:
        award = AwardInput(
            title=title, description=goal["description"], image_url=goal["image_url"]
        )
        reward = GoalRewardInput(award=award)
    elif goal["reward_type"] is RewardType.VOUCHER:
        key = _key(goal["voucher_template_id"], keys)
        reward = GoalRewardInput(voucher=VoucherRewardInput(voucher_template_id=key, title=title))
    else:
        outcomes = [_variant(item, keys) for item in variants]
        reward = GoalRewardInput(lottery=LotteryInput(variants=outcomes, title=title))
    return GoalInput(stamps=goal["stamps"], reward=reward)


def _variant(item: Mapping[str, Any], keys: Mapping[str, str]) -> LotteryVariantInput:
    id = item["voucher_template_id"]
    values = {name: value for name, value in item.items() if name != "position"}
    return LotteryVariantInput(**{**values, "voucher_template_id": id and _key(id, keys)})


def _key(id: str, keys: Mapping[str, str]) -> Id:
    return Id(keys[id])


def _voucher_template(row: VoucherTemplate) -> CreateVoucherTemplateInput:
    validity = None
    if row.validity is Validity.DAYS:
        validity = ValidityInput(days=row.validity_number)
    elif row.validity is Validity.MONTHS:
        validity = ValidityInput(months=row.validity_number)
    elif row.validity is Validity.FIXED_DATE:
        validity = ValidityInput(date=row.validity_date)
    return CreateVoucherTemplateInput(
        title=row.title,
        description=row.description,
        image_url=row.image_url,
        redeem_code=row.redeem_code,
        generates_code=row.generates_code,
        validity=validity,
        redemption_mode=row.redemption_mode,
    )


def _with_ids(asked: Any, ids: Mapping[str, str], *path: str) -> Any:
    """The same, with the ids of voucher templates in place of their keys in the document."""
    if isinstance(asked, list):
        return [_with_ids(item, ids, *path, str(place)) for place, item in enumerate(asked)]
    if not dataclasses.is_dataclass(asked) or isinstance(asked, type):
        return asked
    values: dict[str, Any] = {}
    for item in dataclasses.fields(asked):
        value, below = getattr(asked, item.name), (*path, _camel(item.name))
        if item.name != "voucher_template_id" or value is None:
            values[item.name] = _with_ids(value, ids, *below)
        elif value not in ids:
            raise Invalid("This is no key of `voucherTemplates`.", *_PATH, *below)
        else:
            values[item.name] = ids[value]
    return dataclasses.replace(asked, **values)


# -- From inputs to JSON and back: the words are those of the API. --------------------------------


def _said(value: Any) -> Any:
    """An input as JSON; what it does not say is left out, but for nulls that have a meaning."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            _camel(item.name): _said(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if getattr(value, item.name) != item.default
        }
    if isinstance(value, list):
        return [_said(item) for item in value]
    if isinstance(value, StrEnum):
        return value.name
    return str(value) if isinstance(value, Decimal | date) else value


def _built(kind: type[D], said: Any, *path: str) -> D:
    """The input that JSON says. Invalid, with the place, where it says something else."""
    if not isinstance(said, dict):
        raise Invalid("An object is wanted here.", *path)
    hints, values = get_type_hints(kind), {}
    fields = {_camel(item.name): item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    fields.pop("idempotencyKey", None)
    for key, value in said.items():
        if key not in fields:
            raise Invalid("This is not known here.", *path, str(key)[:50])
        values[fields[key].name] = _value(hints[fields[key].name], value, *path, key)
    for key, item in fields.items():
        if item.name not in values and item.default is dataclasses.MISSING:
            raise Invalid("This is missing.", *path, key)
    if getattr(kind, "one_of", False) and len(values) != 1:
        raise Invalid("Give exactly one of them.", *path)
    return kind(**values)


def _value(hint: Any, said: Any, *path: str) -> Any:
    if NoneType in get_args(hint):
        if said is None:
            return None
        [hint] = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is list:
        if not isinstance(said, list):
            raise Invalid("A list is wanted here.", *path)
        [item] = get_args(hint)
        return [_value(item, part, *path, str(place)) for place, part in enumerate(said)]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _built(hint, said, *path)
    return _word(getattr(hint, "__supertype__", hint), said, *path)


def _word(kind: Any, said: Any, *path: str) -> Any:
    """A single value: text, number, word of an enum, date, or a design."""
    try:
        if kind is Decimal and isinstance(said, str) and _AMOUNT.fullmatch(said):
            return Decimal(said)
        if kind is date and isinstance(said, str):
            return date.fromisoformat(said)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return kind[said]
    except (ValueError, KeyError, TypeError):
        raise Invalid("This is no value for this place.", *path) from None
    if get_origin(kind) is dict and isinstance(said, dict):
        return said
    if kind in (str, int, bool) and type(said) is kind:
        return said
    raise Invalid("This is no value for this place.", *path)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
