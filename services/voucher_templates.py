"""Voucher templates: made, changed, archived."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc

from core.errors import Invalid, NotFound
from core.ids import Id, new_id
from db import Transaction
from models import Actor, RedemptionMode, VoucherTemplate
from services.operation import MANAGERS, Input, Outcome, operation
from services.text import image_url, long_text, short_text
from services.vouchers import ValidityInput, redeem_code_of, validity_of


@dataclass(kw_only=True)
class CreateVoucherTemplateInput(Input):
    """The voucher template to make."""

    title: Annotated[str, Doc("What the customer reads, at most 200 characters.")]
    description: Annotated[str | None, Doc("More about it, at most 5000 characters.")] = None
    image_url: Annotated[str | None, Doc("A picture's address.")] = None
    redeem_code: Annotated[
        str | None, Doc("The code of every voucher issued, 1 to 64 characters; many share it.")
    ] = None
    generates_code: Annotated[
        bool, Doc("Give each voucher a code of its own instead of a shared one.")
    ] = False
    validity: Annotated[
        ValidityInput | None, Doc("How long a voucher lasts; absent: for ever.")
    ] = None
    redemption_mode: Annotated[RedemptionMode, Doc("How vouchers are redeemed.")] = (
        RedemptionMode.STAFF_SCAN
    )


@dataclass(kw_only=True)
class ArchiveVoucherTemplateInput(Input):
    """The voucher template to archive."""

    id: Annotated[Id, Doc("The voucher template's id.")]


@dataclass(kw_only=True)
class VoucherTemplateOutcome(Outcome):
    """The voucher template as it now is."""

    voucher_template: VoucherTemplate | None = None


@operation(*MANAGERS)
async def create_voucher_template(
    tx: Transaction, actor: Actor, input: CreateVoucherTemplateInput, now: datetime
) -> VoucherTemplateOutcome:
    """Make a voucher template, to be issued by goals, birthdays, campaigns, calls or by hand."""
    values = _checked(vars(input))
    _check_one_code(values["redeem_code"], generates=values["generates_code"])
    template = VoucherTemplate(
        id=new_id("vt"), business_id=actor.business_id, created_at=now, **values
    )
    await tx.add(template)
    return VoucherTemplateOutcome(voucher_template=template)


@operation(*MANAGERS)
async def update_voucher_template(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    given: Mapping[str, Any],
    now: datetime,  # noqa: ARG001 -- and when
) -> VoucherTemplateOutcome:
    """Change the given fields of a voucher template. Vouchers issued before stay as they are.

    Takes `id` and any of `title`, `description`, `image_url`, `redeem_code`, `generates_code`,
    `validity` (null: for ever), `redemption_mode`.
    """
    template = await _find(tx, given["id"])
    values = _checked(given)
    _check_one_code(
        values.get("redeem_code", template.redeem_code),
        generates=values.get("generates_code", template.generates_code),
    )
    if values:
        template = await tx.change(template, **values)
    return VoucherTemplateOutcome(voucher_template=template)


@operation(*MANAGERS)
async def archive_voucher_template(
    tx: Transaction, actor: Actor, input: ArchiveVoucherTemplateInput, now: datetime
) -> VoucherTemplateOutcome:
    """Archive a voucher template: no new promise names it. What was promised is still kept."""
    template = await _find(tx, input.id)
    if template.archived_at is None:
        template = await tx.change(template, archived_at=now, archived_by=actor.staff_id)
    return VoucherTemplateOutcome(voucher_template=template)


async def _find(tx: Transaction, id: str) -> VoucherTemplate:
    template = await tx.get(VoucherTemplate, id)
    if template is None:
        raise NotFound("voucher template", "input", "id")
    return template


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "title" in given:
        values["title"] = short_text(given["title"] or "", "input", "title")
    if "description" in given:
        values["description"] = long_text(given["description"], "input", "description")
    if "image_url" in given:
        values["image_url"] = image_url(given["image_url"], "input", "imageUrl")
    if "redeem_code" in given:
        code = given["redeem_code"]
        values["redeem_code"] = redeem_code_of(code, "input", "redeemCode") if code else None
    for name, path in (("generates_code", "generatesCode"), ("redemption_mode", "redemptionMode")):
        if name in given:
            if given[name] is None:
                raise Invalid("This must not be empty.", "input", path)
            values[name] = given[name]
    if "validity" in given:
        kind, number, day = validity_of(given["validity"], "input", "validity")
        values |= {"validity": kind, "validity_number": number, "validity_date": day}
    return values


def _check_one_code(redeem_code: str | None, *, generates: bool) -> None:
    if redeem_code is not None and generates:
        raise Invalid("Vouchers share a code or get one each, not both.", "input", "generatesCode")
