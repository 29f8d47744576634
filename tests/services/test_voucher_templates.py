"""Voucher templates: made, changed, archived."""

from datetime import date
from typing import Any

import pytest

from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from models import Actor, RedemptionMode, Role, Validity, VoucherTemplate
from services.voucher_templates import (
    ArchiveVoucherTemplateInput,
    CreateVoucherTemplateInput,
    archive_voucher_template,
    create_voucher_template,
    update_voucher_template,
)
from services.vouchers import IssueVoucherInput, ValidityInput, issue_voucher


@pytest.fixture
async def coffee(perform: Any, owner: Actor) -> VoucherTemplate:
    """A free coffee for thirty days."""
    asked = CreateVoucherTemplateInput(
        title="Free coffee", redeem_code="FREECOFFEE", validity=ValidityInput(days=30)
    )
    done = await perform(create_voucher_template, owner, asked)
    return done.voucher_template


async def test_a_voucher_template_is_made(coffee: VoucherTemplate, owner: Actor, row: Any) -> None:
    assert (coffee.title, coffee.redeem_code) == ("Free coffee", "FREECOFFEE")
    assert (coffee.validity, coffee.validity_number) == (Validity.DAYS, 30)
    assert coffee.redemption_mode is RedemptionMode.STAFF_SCAN
    assert await row(owner, VoucherTemplate, coffee.id) == coffee


async def test_the_given_fields_change(
    coffee: VoucherTemplate, perform: Any, owner: Actor, row: Any
) -> None:
    last = date(2026, 12, 31)
    given = {"redeem_code": None, "generates_code": True, "validity": ValidityInput(date=last)}

    done = await perform(update_voucher_template, owner, {"id": coffee.id, **given})

    assert done.voucher_template == coffee.with_values(
        redeem_code=None,
        generates_code=True,
        validity=Validity.FIXED_DATE,
        validity_number=None,
        validity_date=last,
    )
    assert await row(owner, VoucherTemplate, coffee.id) == done.voucher_template


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"title": None}, ["title"]),
        ({"redemption_mode": None}, ["redemptionMode"]),
        ({"generates_code": True}, ["generatesCode"]),
        ({"validity": ValidityInput(days=0)}, ["validity", "days"]),
        ({"validity": ValidityInput(unlimited=False)}, ["validity", "unlimited"]),
        ({"image_url": "file:///etc/passwd"}, ["imageUrl"]),
    ],
)
async def test_a_voucher_template_needs_sound_values(
    coffee: VoucherTemplate,
    perform: Any,
    owner: Actor,
    row: Any,
    given: dict[str, Any],
    field: list[str],
) -> None:
    with pytest.raises(Invalid) as refused:
        await perform(update_voucher_template, owner, {"id": coffee.id, **given})

    assert refused.value.field == ["input", *field]
    assert await row(owner, VoucherTemplate, coffee.id) == coffee


async def test_an_archived_template_is_not_issued(
    coffee: VoucherTemplate, perform: Any, owner: Actor
) -> None:
    done = await perform(archive_voucher_template, owner, ArchiveVoucherTemplateInput(id=coffee.id))

    assert done.voucher_template.status == "archived"
    with pytest.raises(Refused) as refused:
        await perform(issue_voucher, owner, IssueVoucherInput(template_id=coffee.id))
    assert refused.value.code is Code.TEMPLATE_ARCHIVED


async def test_scanners_and_strangers_leave_it_as_it_is(
    coffee: VoucherTemplate, perform: Any, owner: Actor, hire: Any, make_business: Any, row: Any
) -> None:
    other = await make_business("other@kopi.example")
    asked = ArchiveVoucherTemplateInput(id=coffee.id)

    with pytest.raises(Forbidden):
        await perform(archive_voucher_template, await hire(Role.SCANNER), asked)
    with pytest.raises(NotFound):
        await perform(archive_voucher_template, Actor(other.business, other.owner), asked)

    assert await row(owner, VoucherTemplate, coffee.id) == coffee
