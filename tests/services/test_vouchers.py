"""Vouchers: issued by template or by hand, redeemed once by whatever names them, voided unspent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Code, NotFound, Refused, VoucherAlreadyRedeemed, VoucherHasExpired
from core.ids import Id, new_id
from db import BUSINESS, Database, query
from events.log import events_after
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_staff,
    a_voucher,
    a_voucher_template,
    stamps,
)
from models import (
    Actor,
    Card,
    Customer,
    Operation,
    OperationKind,
    RedeemedVia,
    Role,
    Source,
    Voucher,
    VoucherStatus,
)
from services.card_refs import CardRef
from services.customers import CustomerRef
from services.undo import VoidVoucherInput, void_voucher
from services.voucher_templates import ArchiveVoucherTemplateInput, archive_voucher_template
from services.vouchers import (
    CustomVoucherInput,
    IssueVoucherInput,
    RedeemVoucherInput,
    ValidityInput,
    VoucherCodeRef,
    VoucherRef,
    can_redeem,
    issue_voucher,
    redeem_voucher,
)

LEDGER = query(
    select(Operation).where(col(Operation.business_id) == BUSINESS).order_by(col(Operation.id))
)


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café."""
    return await a_business(database)


async def do(
    database: Database, actor: Actor, operation: Any, input: Any, now: datetime = NOW
) -> Any:
    """Perform an operation."""
    return await database.write(actor.business_id, lambda tx: operation(tx, actor, input, now))


async def redeem(database: Database, actor: Actor, ref: VoucherRef, now: datetime = NOW) -> Voucher:
    """Redeem a voucher."""
    told = RedeemVoucherInput(voucher=ref, via=RedeemedVia.STAFF_SCANNER)
    done = await do(database, actor, redeem_voucher, told, now)
    voucher: Voucher = done.voucher
    return voucher


async def as_stored(database: Database, voucher: Voucher) -> Voucher:
    """The voucher as it is stored now."""
    found = await database.read(voucher.business_id, lambda tx: tx.get(Voucher, voucher.id))
    assert found
    return found


async def a_coded_voucher(
    database: Database, actor: Actor, code: str, card: Card | None = None
) -> Voucher:
    """A voucher with this redeem code."""
    told = IssueVoucherInput(
        custom=CustomVoucherInput(title="Coffee", redeem_code=code),
        card=None if card is None else CardRef(id=Id(card.id)),
    )
    made = await do(database, actor, issue_voucher, told)
    voucher: Voucher = made.voucher
    return voucher


def by_code(code: str, **whose: Any) -> VoucherRef:
    """A reference by redeem code."""
    return VoucherRef(code=VoucherCodeRef(redeem_code=code, **whose))


# ---- issuing -------------------------------------------------------------------------------------


async def test_a_template_gives_its_texts_and_an_end(database: Database, cafe: Cafe) -> None:
    template = await a_voucher_template(
        database,
        cafe.owner,
        title="A free coffee",
        redeem_code="FREECOFFEE",
        validity=ValidityInput(days=30),
    )
    card = await a_card(database, cafe.owner)

    voucher = await a_voucher(database, cafe.owner, template.id, card)

    assert (voucher.title, voucher.redeem_code) == ("A free coffee", "FREECOFFEE")
    assert (voucher.card_id, voucher.template_id) == (card.id, template.id)
    assert (voucher.status, voucher.source) == (VoucherStatus.ACTIVE, Source.API)
    # The end of the thirtieth day after today, in Jakarta.
    assert voucher.expires_at == datetime(2026, 4, 1, 17, tzinfo=UTC)
    events = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    assert [event.type for event in events] == ["card_issued", "voucher_issued"]
    ledger = await database.read(cafe.business.id, lambda tx: tx.many(LEDGER))
    assert [(line.kind, line.voucher_id) for line in ledger] == [
        (OperationKind.VOUCHER_ISSUE, voucher.id)
    ]


async def test_each_voucher_of_a_generating_template_has_a_code_of_its_own(
    database: Database, cafe: Cafe
) -> None:
    template = await a_voucher_template(database, cafe.owner, generates_code=True)

    codes = [(await a_voucher(database, cafe.owner, template.id)).redeem_code for _ in range(5)]

    assert len(set(codes)) == 5
    assert {len(code or "") for code in codes} == {12}


@pytest.mark.parametrize(
    ("told", "code", "field"),
    [
        ({}, Code.INVALID, ["input"]),
        (
            {"template_id": new_id("vt"), "custom": CustomVoucherInput(title="x")},
            Code.INVALID,
            ["input"],
        ),
        ({"template_id": new_id("vt")}, Code.NOT_FOUND, ["input", "templateId"]),
        (
            {"custom": CustomVoucherInput(title=" ")},
            Code.INVALID,
            ["input", "custom", "title"],
        ),
        (
            {"custom": CustomVoucherInput(title="x" * 201)},
            Code.TEXT_TOO_LONG,
            ["input", "custom", "title"],
        ),
        (
            {"custom": CustomVoucherInput(title="x", validity=ValidityInput(days=0))},
            Code.INVALID,
            ["input", "custom", "validity", "days"],
        ),
        (
            {"custom": CustomVoucherInput(title="x", validity=ValidityInput(unlimited=False))},
            Code.INVALID,
            ["input", "custom", "validity", "unlimited"],
        ),
        (
            {"custom": CustomVoucherInput(title="x"), "redeem_code": "x" * 65},
            Code.TEXT_TOO_LONG,
            ["input", "redeemCode"],
        ),
        (
            {"custom": CustomVoucherInput(title="x"), "card": CardRef(number="000000")},
            Code.NOT_FOUND,
            ["input", "card"],
        ),
    ],
)
async def test_a_voucher_that_cannot_be_is_refused(
    database: Database, cafe: Cafe, told: dict[str, Any], code: Code, field: list[str]
) -> None:
    with pytest.raises(Refused) as refused:
        await do(database, cafe.owner, issue_voucher, IssueVoucherInput(**told))

    assert (refused.value.code, refused.value.field) == (code, field)


async def test_an_archived_template_is_not_issued(database: Database, cafe: Cafe) -> None:
    template = await a_voucher_template(database, cafe.owner)
    archive = ArchiveVoucherTemplateInput(id=Id(template.id))
    await do(database, cafe.owner, archive_voucher_template, archive)

    told = IssueVoucherInput(template_id=Id(template.id))
    with pytest.raises(Refused) as refused:
        await do(database, cafe.owner, issue_voucher, told)

    assert refused.value.code is Code.TEMPLATE_ARCHIVED


# ---- redeeming -----------------------------------------------------------------------------------


async def test_a_voucher_is_redeemed_once_and_says_by_whom(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    scanner = await a_staff(database, cafe.owner, Role.SCANNER)
    voucher = await a_voucher(database, cafe.owner, card=card)
    later = NOW + timedelta(minutes=5)

    redeemed = await redeem(database, scanner, VoucherRef(token=voucher.token), later)
    with pytest.raises(VoucherAlreadyRedeemed) as refused:
        await redeem(database, cafe.owner, VoucherRef(id=Id(voucher.id)), later)

    assert redeemed == await as_stored(database, voucher)
    assert (redeemed.status, redeemed.redeemed_at) == (VoucherStatus.REDEEMED, later)
    assert (redeemed.redeemed_by_id, redeemed.redeemed_via) == (
        scanner.staff_id,
        RedeemedVia.STAFF_SCANNER,
    )
    assert refused.value.redeemed_at == later
    assert refused.value.redeemed_by_id == scanner.staff_id
    events = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    assert [event.type for event in events] == ["card_issued", "voucher_issued", "voucher_redeemed"]
    assert (events[-1].actor_id, events[-1].card_id) == (scanner.staff_id, card.id)
    customer = await database.read(cafe.business.id, lambda tx: tx.get(Customer, card.customer_id))
    assert customer
    assert customer.last_activity_at == later


async def test_a_voucher_won_at_a_goal_tells_its_goal(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    [reward] = (await stamps(database, cafe.owner, card, 3)).rewards

    redeemed = await redeem(database, cafe.owner, VoucherRef(id=Id(reward.voucher_id or "")))

    assert (redeemed.source, redeemed.goal_position, redeemed.cycle) == (Source.GOAL, 1, 1)
    events = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    assert f'"card":{{"id":"{card.id}","goal_index":1}}' in events[-1].body


MOMENTS = [
    (datetime(2026, 3, 2, 12, 0, tzinfo=UTC), True),
    (datetime(2026, 3, 9, 16, 59, 59, 999_999, tzinfo=UTC), True),
    (datetime(2026, 3, 9, 17, 0, tzinfo=UTC), False),
    (datetime(2027, 1, 1, tzinfo=UTC), False),
]


@pytest.mark.parametrize(("moment", "is_good"), MOMENTS)
async def test_a_voucher_is_good_until_its_end_and_not_at_it(
    database: Database, cafe: Cafe, moment: datetime, is_good: bool
) -> None:
    told = IssueVoucherInput(
        custom=CustomVoucherInput(title="Coffee", validity=ValidityInput(days=7))
    )
    voucher = (await do(database, cafe.owner, issue_voucher, told)).voucher
    ref = VoucherRef(id=Id(voucher.id))
    end = datetime(2026, 3, 9, 17, tzinfo=UTC)

    checked = await database.read(
        cafe.business.id, lambda tx: can_redeem(tx, cafe.owner, ref, moment)
    )

    assert voucher.expires_at == end
    if is_good:
        assert checked.user_errors == []
        assert (await redeem(database, cafe.owner, ref, moment)).redeemed_at == moment
    else:
        assert [error.code for error in checked.user_errors] == [Code.VOUCHER_EXPIRED]
        with pytest.raises(VoucherHasExpired) as refused:
            await redeem(database, cafe.owner, ref, moment)
        assert refused.value.expired_at == end
        assert (await as_stored(database, voucher)).status is VoucherStatus.ACTIVE


async def test_a_code_that_one_active_voucher_has_names_it(database: Database, cafe: Cafe) -> None:
    voucher = await a_coded_voucher(database, cafe.owner, "SORRY10")

    redeemed = await redeem(database, cafe.owner, by_code(" SORRY10 "))

    assert redeemed.id == voucher.id
    with pytest.raises(VoucherAlreadyRedeemed):
        await redeem(database, cafe.owner, by_code("SORRY10"))
    with pytest.raises(NotFound) as refused:
        await redeem(database, cafe.owner, by_code("SORRY11"))
    assert refused.value.field == ["input", "voucher"]


async def test_a_shared_code_needs_the_card_or_the_customer(database: Database, cafe: Cafe) -> None:
    first = await a_card(database, cafe.owner, email="ana@mail.example")
    second = await a_card(database, cafe.owner, email="budi@mail.example")
    vouchers = [
        await a_coded_voucher(database, cafe.owner, "FREECOFFEE", card) for card in (first, second)
    ]

    with pytest.raises(Refused) as refused:
        await redeem(database, cafe.owner, by_code("FREECOFFEE"))
    by_card = await redeem(
        database, cafe.owner, by_code("FREECOFFEE", card=CardRef(number=second.number))
    )
    ana = CustomerRef(email="Ana@mail.example")
    by_customer = await redeem(database, cafe.owner, by_code("FREECOFFEE", customer=ana))
    with pytest.raises(VoucherAlreadyRedeemed):
        await redeem(database, cafe.owner, by_code("FREECOFFEE", customer=ana))

    assert refused.value.code is Code.AMBIGUOUS_REDEEM_CODE
    assert refused.value.field == ["input", "voucher", "code"]
    assert [by_customer.id, by_card.id] == [voucher.id for voucher in vouchers]


async def test_a_customer_with_two_vouchers_of_a_code_spends_one_after_the_other(
    database: Database, cafe: Cafe
) -> None:
    card = await a_card(database, cafe.owner)
    told = [
        CustomVoucherInput(title="x", redeem_code="TWO", validity=ValidityInput(days=days))
        for days in (9, 2)
    ]
    late, soon = [
        (
            await do(
                database,
                cafe.owner,
                issue_voucher,
                IssueVoucherInput(custom=custom, card=CardRef(id=Id(card.id))),
            )
        ).voucher
        for custom in told
    ]
    ref = by_code("TWO", card=CardRef(id=Id(card.id)))

    spent = [(await redeem(database, cafe.owner, ref)).id for _ in range(2)]

    # The one that ends sooner goes first.
    assert spent == [soon.id, late.id]


async def test_one_active_voucher_of_a_shared_code_is_enough(
    database: Database, cafe: Cafe
) -> None:
    first = await a_coded_voucher(database, cafe.owner, "FREECOFFEE")
    second = await a_coded_voucher(database, cafe.owner, "FREECOFFEE")
    await redeem(database, cafe.owner, VoucherRef(id=Id(first.id)))

    redeemed = await redeem(database, cafe.owner, by_code("FREECOFFEE"))

    assert redeemed.id == second.id


async def test_an_active_voucher_goes_before_an_expired_one_of_the_same_code(
    database: Database, cafe: Cafe
) -> None:
    card = await a_card(database, cafe.owner)
    ref = CardRef(id=Id(card.id))
    made = []
    for validity in (ValidityInput(days=1), ValidityInput(days=30), None):
        custom = CustomVoucherInput(title="x", redeem_code="SAME", validity=validity)
        told = IssueVoucherInput(custom=custom, card=ref)
        made.append((await do(database, cafe.owner, issue_voucher, told)).voucher.id)
    later = NOW + timedelta(days=5)

    spent = [(await redeem(database, cafe.owner, by_code("SAME", card=ref), later)).id]
    spent.append((await redeem(database, cafe.owner, by_code("SAME", card=ref), later)).id)

    assert spent == made[1:]


# ---- voiding -------------------------------------------------------------------------------------


async def test_an_unspent_voucher_is_voided_for_good(database: Database, cafe: Cafe) -> None:
    voucher = await a_voucher(database, cafe.owner)
    told = VoidVoucherInput(id=Id(voucher.id), reason=" by mistake ")

    voided = (await do(database, cafe.owner, void_voucher, told)).voucher
    refusals = []
    for operation, input in (
        (void_voucher, told),
        (redeem_voucher, RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher.id)))),
    ):
        with pytest.raises(Refused) as refused:
            await do(database, cafe.owner, operation, input)
        refusals.append(refused.value.code)

    assert (voided.status, voided.voided_at) == (VoucherStatus.VOIDED, NOW)
    assert voided.voided_by_id == cafe.owner.staff_id
    assert refusals == [Code.VOUCHER_NOT_ACTIVE] * 2
    ledger = await database.read(cafe.business.id, lambda tx: tx.many(LEDGER))
    assert [(line.kind, line.reason) for line in ledger] == [
        (OperationKind.VOUCHER_ISSUE, None),
        (OperationKind.VOID, "by mistake"),
    ]


async def test_a_redeemed_voucher_is_not_voided(database: Database, cafe: Cafe) -> None:
    voucher = await a_voucher(database, cafe.owner)
    await redeem(database, cafe.owner, VoucherRef(id=Id(voucher.id)))

    with pytest.raises(Refused) as refused:
        await do(database, cafe.owner, void_voucher, VoidVoucherInput(id=Id(voucher.id)))

    assert refused.value.code is Code.VOUCHER_NOT_ACTIVE
    assert (await as_stored(database, voucher)).status is VoucherStatus.REDEEMED
