"""What the ledger refuses, with which code, in which words, and at which part of the input."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from core.errors import Code, Refused
from core.ids import Id, new_id
from db import Database
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_customer,
    a_staff,
    a_voucher,
    a_voucher_template,
    stamps,
)
from models import Card, Role, StampChannel
from services.card_refs import CardRef, HolderRef
from services.card_templates import (
    AmountRuleInput,
    ArchiveCardTemplateInput,
    EarningRuleInput,
    LimitsInput,
    archive_card_template,
)
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    IssueCardInput,
    PreviewStampsInput,
    ReportCardOpenedInput,
    add_stamps,
    delete_card,
    issue_card,
    preview_stamps,
    report_card_opened,
)
from services.customers import CustomerInput, CustomerRef
from services.undo import (
    ReverseRedemptionInput,
    VoidOperationInput,
    VoidVoucherInput,
    reverse_redemption,
    void_operation,
    void_voucher,
)
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

Refusal = Callable[..., Awaitable[tuple[Any, ...]]]
CARD, VOUCHER, ID = ["input", "card"], ["input", "voucher"], ["input", "id"]
UNKNOWN_CARD = (Code.NOT_FOUND, "There is no such card.", CARD)
DELETED_CARD = (Code.CARD_DELETED, "This card was deleted.", CARD)
UNKNOWN_VOUCHER = (Code.NOT_FOUND, "There is no such voucher.", VOUCHER)


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café."""
    return await a_business(database)


@pytest.fixture
def refusal(database: Database, cafe: Cafe) -> Refusal:
    """How an operation is refused: code, message and path."""

    async def do(operation: Any, input: Any, now: Any = NOW, *, by: Any = None) -> Any:
        actor = by or cafe.owner
        with pytest.raises(Refused) as refused:
            await database.write(actor.business_id, lambda tx: operation(tx, actor, input, now))
        return refused.value.code, refused.value.message, refused.value.field

    return do


@pytest.fixture
def do(database: Database, cafe: Cafe) -> Callable[..., Awaitable[Any]]:
    """Perform an operation that is not refused."""

    async def perform(operation: Any, input: Any, now: Any = NOW) -> Any:
        return await database.write(
            cafe.business.id, lambda tx: operation(tx, cafe.owner, input, now)
        )

    return perform


def by_id(row: Any) -> CardRef:
    """A card by its id."""
    return CardRef(id=Id(row.id))


@pytest.fixture
async def deleted(database: Database, cafe: Cafe, do: Any) -> Card:
    """A card that was deleted."""
    card = await a_card(database, cafe.owner)
    await do(delete_card, DeleteCardInput(id=Id(card.id)))
    return card


async def test_what_is_no_card_is_not_stamped_opened_or_deleted(
    refusal: Refusal, deleted: Card
) -> None:
    unknown = CardRef(id=Id(new_id("card")))
    for operation, kind in (
        (add_stamps, AddStampsInput),
        (preview_stamps, PreviewStampsInput),
    ):
        assert await refusal(operation, kind(card=unknown, count=1)) == UNKNOWN_CARD
        assert await refusal(operation, kind(card=by_id(deleted), count=1)) == DELETED_CARD
    for ref, told in ((unknown, UNKNOWN_CARD), (by_id(deleted), DELETED_CARD)):
        assert await refusal(report_card_opened, ReportCardOpenedInput(card=ref)) == told
    for id in (Id(new_id("card")), Id(deleted.id)):
        said = await refusal(delete_card, DeleteCardInput(id=id))
        assert said == (Code.NOT_FOUND, "There is no such card.", ID)


@pytest.mark.parametrize(
    ("values", "message", "path"),
    [
        ({}, "Give either count or amount.", []),
        ({"count": 1, "amount": Decimal(1)}, "Give either count or amount.", []),
        ({"count": 0}, "At least 1 stamp.", ["count"]),
        ({"count": -1}, "At least 1 stamp.", ["count"]),
        ({"amount": Decimal(1)}, "This card counts orders, not amounts.", ["amount"]),
        ({"count": 1, "channel": StampChannel.IMPORT},
         "Only an import of customers adds stamps by IMPORT.", ["channel"]),
    ],
)  # fmt: skip
async def test_what_is_no_number_of_stamps(
    refusal: Refusal, database: Database, cafe: Cafe, values: Any, message: str, path: list[str]
) -> None:
    card = await a_card(database, cafe.owner)

    said = await refusal(add_stamps, AddStampsInput(card=by_id(card), **values))

    assert said == (Code.INVALID, message, ["input", *path])


async def test_what_is_no_amount(refusal: Refusal, database: Database, do: Any) -> None:
    cafe = await a_business(database, currency="EUR")
    rule = EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal("2.50")))
    template = await a_card_template(database, cafe.owner, earning_rule=rule)
    card = await a_card(database, cafe.owner, template.id)
    path = ["input", "amount"]

    for amount, message in (
        ("2.505", "This is not an amount of the business's currency."),
        ("-0.01", "An amount is not negative."),
    ):
        told = AddStampsInput(card=by_id(card), amount=Decimal(amount))
        said = await refusal(add_stamps, told, by=cafe.owner)
        assert said == (Code.INVALID, message, path)

    async def after(amount: str) -> Any:
        told = AddStampsInput(card=by_id(card), amount=Decimal(amount))
        done = await database.write(
            cafe.business.id, lambda tx: add_stamps(tx, cafe.owner, told, NOW)
        )
        return done.card.stamps, done.operation and (done.operation.count, done.operation.amount)

    assert [await after(amount) for amount in ("0", "2.49", "5.00")] == [
        (0, None), (0, None), (2, (2, 500)),
    ]  # fmt: skip


async def test_the_limits_of_a_template(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    template = await a_card_template(
        database, cafe.owner, 40, limits=LimitsInput(
            max_stamps_per_operation=5, max_stamps_per_day=7, min_seconds_between=60
        ),
    )  # fmt: skip
    card = await a_card(database, cafe.owner, template.id)

    async def told(count: int, now: Any) -> Any:
        return await refusal(add_stamps, AddStampsInput(card=by_id(card), count=count), now)

    count = ["input", "count"]
    assert await told(6, NOW) == (Code.LIMIT_REACHED, "At most 5 stamps at once.", count)
    await do(add_stamps, AddStampsInput(card=by_id(card), count=5))
    soon = "Too soon after the last stamp."
    assert await told(1, NOW + timedelta(seconds=59)) == (Code.LIMIT_REACHED, soon, CARD)
    later = NOW + timedelta(seconds=60)
    assert await told(3, later) == (Code.LIMIT_REACHED, "At most 7 stamps a day.", CARD)
    done = await do(add_stamps, AddStampsInput(card=by_id(card), count=2), later)
    assert done.card.stamps == 7


async def test_more_in_a_day_than_a_day_may_hold_is_never_allowed(
    refusal: Refusal, database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(
        database, cafe.owner, 40, limits=LimitsInput(max_stamps_per_day=3)
    )
    card = await a_card(database, cafe.owner, template.id)

    said = await refusal(add_stamps, AddStampsInput(card=by_id(card), count=4))

    path = ["input", "count"]
    assert said == (Code.LIMIT_REACHED, "At most 3 stamps a day.", path)


async def test_a_template_by_which_no_card_is_issued(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    customer = await a_customer(database, cafe.owner)
    archived = await a_card_template(database, cafe.owner)
    await do(archive_card_template, ArchiveCardTemplateInput(id=Id(archived.id)))
    unknown = new_id("ct")
    for id, code, message in (
        (unknown, Code.NOT_FOUND, "There is no such card template."),
        (archived.id, Code.TEMPLATE_ARCHIVED, "This card template is archived."),
    ):
        told = IssueCardInput(template_id=Id(id), customer=CustomerInput(email="a@b.example"))
        assert await refusal(issue_card, told) == (code, message, ["input", "templateId"])
        holder = HolderRef(template_id=Id(id), customer=CustomerRef(id=Id(customer.id)))
        stamp = AddStampsInput(card=CardRef(holder=holder), count=1, issue_if_missing=True)
        assert await refusal(add_stamps, stamp) == (code, message, [*CARD, "holder"])


async def test_a_holder_who_is_unknown_gets_no_card(
    refusal: Refusal, database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(database, cafe.owner)
    holder = HolderRef(template_id=Id(template.id), customer=CustomerRef(id=Id(new_id("c"))))
    told = AddStampsInput(card=CardRef(holder=holder), count=1, issue_if_missing=True)

    said = await refusal(add_stamps, told)

    path = [*CARD, "holder", "customer"]
    assert said == (Code.NOT_FOUND, "There is no such customer.", path)


# -- Vouchers -------------------------------------------------------------------------------------


async def test_what_is_no_voucher_to_issue(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any, deleted: Card
) -> None:
    archived = await a_voucher_template(database, cafe.owner)
    await do(archive_voucher_template, ArchiveVoucherTemplateInput(id=Id(archived.id)))
    custom = CustomVoucherInput(title="Coffee")
    either = "Give either templateId or custom."
    template = ["input", "templateId"]
    unknown = CardRef(id=Id(new_id("card")))
    for told, expected in (
        ({}, (Code.INVALID, either, ["input"])),
        ({"template_id": Id(archived.id), "custom": custom}, (Code.INVALID, either, ["input"])),
        ({"template_id": Id(new_id("vt"))},
         (Code.NOT_FOUND, "There is no such voucher template.", template)),
        ({"template_id": Id(archived.id)},
         (Code.TEMPLATE_ARCHIVED, "This voucher template is archived.", template)),
        ({"custom": custom, "card": by_id(deleted)}, DELETED_CARD),
        ({"custom": custom, "card": unknown}, UNKNOWN_CARD),
    ):  # fmt: skip
        assert await refusal(issue_voucher, IssueVoucherInput(**told)) == expected


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"title": " "}, ["title"]),
        ({"title": "x" * 201}, ["title"]),
        ({"description": "x" * 10_001}, ["description"]),
        ({"image_url": "ftp://x"}, ["imageUrl"]),
        ({"redeem_code": "x" * 65}, ["redeemCode"]),
        ({"validity": ValidityInput(unlimited=False)}, ["validity", "unlimited"]),
        ({"validity": ValidityInput(days=0)}, ["validity", "days"]),
        ({"validity": ValidityInput(days=3651)}, ["validity", "days"]),
        ({"validity": ValidityInput(months=0)}, ["validity", "months"]),
        ({"validity": ValidityInput(months=121)}, ["validity", "months"]),
    ],
    ids=lambda told: f"{told}"[:24],
)
async def test_what_is_no_custom_voucher(refusal: Refusal, values: Any, path: list[str]) -> None:
    told = IssueVoucherInput(custom=CustomVoucherInput(**{"title": "Coffee", **values}))

    code, message, field = await refusal(issue_voucher, told)

    assert code is (Code.TEXT_TOO_LONG if "x" * 65 in f"{values}" else Code.INVALID)
    assert field == ["input", "custom", *path]
    words = {"unlimited": "`unlimited` can only be true.", "days": "Between 1 and 3650 days.",
             "months": "Between 1 and 120 months."}  # fmt: skip
    assert message == words.get(path[-1], message)


@pytest.mark.parametrize(
    ("code", "why"), [(" ", Code.INVALID), ("x" * 65, Code.TEXT_TOO_LONG)], ids=["empty", "long"]
)
async def test_what_is_no_redeem_code(refusal: Refusal, code: str, why: Code) -> None:
    told = IssueVoucherInput(custom=CustomVoucherInput(title="Coffee"), redeem_code=code)

    said = await refusal(issue_voucher, told)

    assert (said[0], said[2]) == (why, ["input", "redeemCode"])


async def test_the_longest_and_shortest_validities(do: Any) -> None:
    ends = []
    for told in (
        ValidityInput(days=1), ValidityInput(days=3650), ValidityInput(months=1),
        ValidityInput(months=120), ValidityInput(unlimited=True), None,
    ):  # fmt: skip
        custom = CustomVoucherInput(title="Coffee", validity=told)
        made = await do(issue_voucher, IssueVoucherInput(custom=custom))
        ends.append(made.voucher.expires_at and (made.voucher.expires_at - NOW).days)

    assert ends == [1, 3650, 31, 3653, None, None]


async def test_what_names_no_voucher(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any, deleted: Card
) -> None:
    for _ in range(2):
        custom = CustomVoucherInput(title="Coffee", redeem_code="JUNE")
        await do(issue_voucher, IssueVoucherInput(custom=custom))
    several = "Several active vouchers share this code: name the card or the customer."
    code = [*VOUCHER, "code"]
    nobody, unknown = CustomerRef(id=Id(new_id("c"))), CardRef(id=Id(new_id("card")))
    for ref, expected in (
        (VoucherRef(), (Code.INVALID, "Name a voucher by id, token or code.", VOUCHER)),
        (VoucherRef(id=Id(new_id("v"))), UNKNOWN_VOUCHER),
        (VoucherRef(token="none"), UNKNOWN_VOUCHER),
        (VoucherRef(code=VoucherCodeRef(redeem_code="MAY")), UNKNOWN_VOUCHER),
        (VoucherRef(code=VoucherCodeRef(redeem_code="JUNE")),
         (Code.AMBIGUOUS_REDEEM_CODE, several, code)),
        (VoucherRef(code=VoucherCodeRef(redeem_code="JUNE", card=by_id(deleted))),
         UNKNOWN_VOUCHER),
        (VoucherRef(code=VoucherCodeRef(redeem_code="JUNE", card=unknown)),
         (Code.NOT_FOUND, "There is no such card.", [*code, "card"])),
        (VoucherRef(code=VoucherCodeRef(redeem_code="JUNE", customer=nobody)),
         (Code.NOT_FOUND, "There is no such customer.", [*code, "customer"])),
    ):  # fmt: skip
        assert await refusal(redeem_voucher, RedeemVoucherInput(voucher=ref)) == expected
        short = [part for part in expected[2] if part != "input"]
        assert await refusal(can_redeem, ref) == (*expected[:2], short)
        assert await refusal(reverse_redemption, ReverseRedemptionInput(voucher=ref)) == expected


async def test_a_voucher_that_cannot_be_redeemed(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    async def changed(**values: Any) -> VoucherRef:
        voucher = await a_voucher(database, cafe.owner)
        await database.write(cafe.business.id, lambda tx: tx.change(voucher, **values))
        return VoucherRef(id=Id(voucher.id))

    soon = NOW + timedelta(hours=1)
    early = await changed(valid_from=soon)
    voided = await a_voucher(database, cafe.owner)
    await do(void_voucher, VoidVoucherInput(id=Id(voided.id)))
    ended = await changed(expires_at=NOW)
    for ref, expected in (
        (early, (Code.VOUCHER_NOT_ACTIVE, "This voucher is not valid yet.", VOUCHER)),
        (VoucherRef(id=Id(voided.id)),
         (Code.VOUCHER_NOT_ACTIVE, "This voucher was voided.", VOUCHER)),
        (ended, (Code.VOUCHER_EXPIRED, "This voucher has expired.", VOUCHER)),
    ):  # fmt: skip
        assert await refusal(redeem_voucher, RedeemVoucherInput(voucher=ref)) == expected
        found = await do(can_redeem, ref)
        told = [(error.code, error.message, error.field) for error in found.user_errors]
        assert (found.voucher.id, told) == (ref.id, [expected])

    done = await do(redeem_voucher, RedeemVoucherInput(voucher=early), soon)
    assert done.voucher.redeemed_at == soon
    again = (Code.VOUCHER_ALREADY_REDEEMED, "This voucher is already redeemed.", VOUCHER)
    assert await refusal(redeem_voucher, RedeemVoucherInput(voucher=early), soon) == again


# -- Undoing --------------------------------------------------------------------------------------


async def test_what_cannot_be_undone(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    card = await a_card(database, cafe.owner)
    line: Any = (await stamps(database, cafe.owner, card)).operation
    scanner = await a_staff(database, cafe.owner, Role.SCANNER)

    async def told(id: str, **how: Any) -> Any:
        return await refusal(void_operation, VoidOperationInput(id=Id(id)), **how)

    own = "You can undo what you did yourself, for 15 minutes; a manager any time."
    assert await told(new_id("op")) == (Code.NOT_FOUND, "There is no such operation.", ID)
    assert await told(line.id, by=scanner) == (Code.UNDO_NOT_ALLOWED, own, ID)
    long = VoidOperationInput(id=Id(line.id), reason="x" * 501)
    said = await refusal(void_operation, long)
    assert (said[0], said[2]) == (Code.TEXT_TOO_LONG, ["input", "reason"])
    undone = await do(void_operation, VoidOperationInput(id=Id(line.id), reason="x" * 500))
    again = (Code.ALREADY_UNDONE, "This was undone before.", ID)
    assert await told(line.id) == again
    inverse = (Code.INVALID, "What undid something cannot be undone.", ID)
    assert await told(undone.operation.voided_by_id) == inverse


async def test_the_stamps_of_a_deleted_card_stay(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    card = await a_card(database, cafe.owner)
    line: Any = (await stamps(database, cafe.owner, card)).operation
    await do(delete_card, DeleteCardInput(id=Id(card.id)))

    said = await refusal(void_operation, VoidOperationInput(id=Id(line.id)))

    assert said == (Code.CARD_DELETED, "This card is no longer in use.", ID)


async def test_stamps_whose_reward_was_spent_stay(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    card = await a_card(database, cafe.owner)
    done: Any = await stamps(database, cafe.owner, card, 3)
    ref = VoucherRef(id=Id(done.rewards[0].voucher_id))
    await do(redeem_voucher, RedeemVoucherInput(voucher=ref))

    said = await refusal(void_operation, VoidOperationInput(id=Id(done.operation.id)))

    told = "A voucher of it was redeemed; reverse that first."
    assert said == (Code.REWARD_SPENT, told, ID)


async def test_what_is_no_redemption_is_not_reversed_and_what_is_spent_not_voided(
    refusal: Refusal, database: Database, cafe: Cafe, do: Any
) -> None:
    voucher = await a_voucher(database, cafe.owner)
    ref = VoucherRef(id=Id(voucher.id))
    scanner = await a_staff(database, cafe.owner, Role.SCANNER)
    own = "You can undo what you did yourself, for 15 minutes; a manager any time."

    said = await refusal(reverse_redemption, ReverseRedemptionInput(voucher=ref))
    assert said == (Code.VOUCHER_NOT_REDEEMED, "This voucher is not redeemed.", VOUCHER)
    said = await refusal(void_voucher, VoidVoucherInput(id=Id(voucher.id)), by=scanner)
    assert said == (Code.UNDO_NOT_ALLOWED, own, ID)
    await do(redeem_voucher, RedeemVoucherInput(voucher=ref))
    said = await refusal(reverse_redemption, ReverseRedemptionInput(voucher=ref), by=scanner)
    assert said == (Code.UNDO_NOT_ALLOWED, own, VOUCHER)
    for id, expected in (
        (voucher.id, (Code.VOUCHER_NOT_ACTIVE, "Only an unspent voucher can be voided.", ID)),
        (new_id("v"), (Code.NOT_FOUND, "There is no such voucher.", ID)),
    ):
        assert await refusal(void_voucher, VoidVoucherInput(id=Id(id))) == expected
