"""Claim codes: made for receipts, claimed once, by the rules of every stamp."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from core.clock import ManualClock
from core.errors import ClaimCodeUsed, Code, Invalid, LimitReached, NotFound, Refused
from core.ids import Id
from db import Database
from events.log import events_after
from factories import Cafe, a_business, a_card, a_card_template, an_award_goal
from models import Card, ClaimCode, StampChannel
from services.card_refs import CardRef
from services.card_templates import AmountRuleInput, EarningRuleInput, LimitsInput
from services.cards import DeleteCardInput, delete_card
from services.claim_codes import (
    ClaimStampsInput,
    CreateClaimCodesInput,
    claim_stamps,
    create_claim_codes,
)


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    """A café."""
    return await a_business(database, now=clock.now())


@pytest.fixture
async def card(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    """A card of five stamps with a cookie at three."""
    goals = [an_award_goal(3, "A cookie"), an_award_goal(5, "A cake")]
    template = await a_card_template(database, cafe.owner, 5, goals, clock.now())
    return await a_card(database, cafe.owner, template.id, clock.now())


@pytest.fixture
async def by_amount(database: Database, cafe: Cafe, clock: ManualClock) -> Card:
    """A card that earns a stamp for every 20 000 rupiah."""
    template = await a_card_template(
        database,
        cafe.owner,
        5,
        [an_award_goal(5)],
        clock.now(),
        earning_rule=EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal(20_000))),
    )
    return await a_card(database, cafe.owner, template.id, clock.now())


async def _make(perform: Any, cafe: Cafe, card: Card, **values: Any) -> list[ClaimCode]:
    told = CreateClaimCodesInput(template_id=Id(card.template_id), **values)
    made = await perform(create_claim_codes, cafe.owner, told)
    return list(made.claim_codes)


async def _claim(perform: Any, cafe: Cafe, code: str, card: Card) -> Any:
    told = ClaimStampsInput(code=code, card=CardRef(id=Id(card.id)))
    return await perform(claim_stamps, cafe.owner, told)


async def test_codes_are_made_for_a_receipt(
    perform: Any, cafe: Cafe, card: Card, clock: ManualClock
) -> None:
    expires_at = clock.now() + timedelta(days=30)

    codes = await _make(
        perform, cafe, card, count=3, stamps=2, external_ref=" receipt 7 ", expires_at=expires_at
    )

    assert len({code.code for code in codes}) == 3
    assert all(len(code.code) == 12 for code in codes)
    assert {(code.stamps, code.amount, code.external_ref) for code in codes} == {
        (2, None, "receipt 7")
    }
    assert {code.expires_at for code in codes} == {expires_at}
    assert {code.created_by_id for code in codes} == {cafe.owner.staff_id}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"stamps": 1, "count": 0}, "count"),
        ({"stamps": 1, "count": 101}, "count"),
        ({"stamps": 0}, "stamps"),
        ({"stamps": 51}, "stamps"),
        ({}, None),
        ({"stamps": 1, "amount": Decimal(5)}, None),
        ({"amount": Decimal(5)}, "amount"),
        ({"stamps": 1, "expires_at": timedelta(0)}, "expiresAt"),
    ],
)
async def test_what_nobody_could_claim_is_not_made(
    perform: Any,
    cafe: Cafe,
    card: Card,
    clock: ManualClock,
    values: dict[str, Any],
    field: str | None,
) -> None:
    if "expires_at" in values:
        values = {**values, "expires_at": clock.now() + values["expires_at"]}

    with pytest.raises(Invalid) as refusal:
        await _make(perform, cafe, card, **values)

    assert refusal.value.field == ["input", field] if field else ["input"]


async def test_a_claim_stamps_the_card_as_any_stamp_does(
    perform: Any, database: Database, cafe: Cafe, card: Card, row: Any, clock: ManualClock
) -> None:
    [code] = await _make(perform, cafe, card, stamps=4, external_ref="receipt 7")

    done = await _claim(perform, cafe, code.code, card)

    assert (done.card.stamps, done.operation.count) == (4, 4)
    assert done.operation.channel is StampChannel.RECEIPT_QR
    assert done.operation.external_ref == "receipt 7"
    assert [reward.title for reward in done.rewards] == ["A cookie"]
    log = await database.read(cafe.business.id, lambda tx: events_after(tx, 1, 100))
    assert [event.type for event in log] == ["stamp_added", "goal_reached", "reward_issued"]
    claimed = await row(cafe.owner, ClaimCode, code.id)
    assert claimed == code.with_values(
        claimed_at=clock.now(),
        claimed_by_id=cafe.owner.staff_id,
        claimed_card_id=card.id,
        operation_id=done.operation.id,
    )


@pytest.mark.parametrize("shape", ["{}", "https://kopi.example/claim/{}", " {} "])
async def test_a_code_is_read_as_it_is_typed_or_scanned(
    perform: Any, cafe: Cafe, card: Card, shape: str
) -> None:
    [code] = await _make(perform, cafe, card, stamps=1)
    typed = "-".join((code.code[:4], code.code[4:])).lower().replace("0", "o").replace("1", "l")

    done = await _claim(perform, cafe, shape.format(typed), card)

    assert done.card.stamps == 1


async def test_a_code_is_claimed_once(
    perform: Any, cafe: Cafe, card: Card, clock: ManualClock, row: Any
) -> None:
    [code] = await _make(perform, cafe, card, stamps=1)
    await _claim(perform, cafe, code.code, card)
    first = clock.now()
    clock.advance(timedelta(hours=1))

    with pytest.raises(ClaimCodeUsed) as refusal:
        await _claim(perform, cafe, code.code, card)

    assert refusal.value.claimed_at == first
    assert (await row(cafe.owner, Card, card.id)).stamps == 1


@pytest.mark.parametrize(("late", "is_claimed"), [(-1, True), (0, False), (1, False)])
async def test_a_code_can_be_claimed_until_it_expires(
    perform: Any, cafe: Cafe, card: Card, clock: ManualClock, late: int, is_claimed: bool
) -> None:
    [code] = await _make(perform, cafe, card, stamps=1, expires_at=clock.now() + timedelta(hours=1))
    clock.advance(timedelta(hours=1, microseconds=late))

    if is_claimed:
        assert (await _claim(perform, cafe, code.code, card)).card.stamps == 1
        return
    with pytest.raises(Refused) as refusal:
        await _claim(perform, cafe, code.code, card)
    assert refusal.value.code is Code.CLAIM_CODE_EXPIRED


async def test_an_amount_earns_what_it_would_at_the_till(
    perform: Any, cafe: Cafe, by_amount: Card
) -> None:
    [code] = await _make(perform, cafe, by_amount, amount=Decimal(45_000))

    done = await _claim(perform, cafe, code.code, by_amount)

    assert (code.stamps, code.amount) == (None, 4_500_000)
    assert (done.operation.count, done.operation.amount) == (2, 4_500_000)


async def test_an_amount_that_earns_no_stamp_is_claimed_all_the_same(
    perform: Any, cafe: Cafe, by_amount: Card, row: Any, clock: ManualClock
) -> None:
    [code] = await _make(perform, cafe, by_amount, amount=Decimal(19_999))

    done = await _claim(perform, cafe, code.code, by_amount)

    assert (done.operation, done.card.stamps) == (None, 0)
    claimed = await row(cafe.owner, ClaimCode, code.id)
    assert (claimed.claimed_at, claimed.operation_id) == (clock.now(), None)


async def test_a_refused_claim_leaves_the_code(
    perform: Any, database: Database, cafe: Cafe, clock: ManualClock, row: Any
) -> None:
    template = await a_card_template(
        database,
        cafe.owner,
        5,
        [an_award_goal(5)],
        clock.now(),
        limits=LimitsInput(min_seconds_between=60),
    )
    card = await a_card(database, cafe.owner, template.id, clock.now())
    codes = await _make(perform, cafe, card, count=2, stamps=1)
    await _claim(perform, cafe, codes[0].code, card)

    with pytest.raises(LimitReached) as refusal:
        await _claim(perform, cafe, codes[1].code, card)

    assert refusal.value.retry_at == clock.now() + timedelta(seconds=60)
    assert (await row(cafe.owner, ClaimCode, codes[1].id)).claimed_at is None
    clock.advance(timedelta(seconds=60))
    assert (await _claim(perform, cafe, codes[1].code, card)).card.stamps == 2


async def test_a_code_is_for_its_own_cards(
    perform: Any, database: Database, cafe: Cafe, card: Card, by_amount: Card, row: Any
) -> None:
    [code] = await _make(perform, cafe, card, stamps=1)

    with pytest.raises(Invalid, match="another card"):
        await _claim(perform, cafe, code.code, by_amount)
    await perform(delete_card, cafe.owner, DeleteCardInput(id=Id(card.id)))
    with pytest.raises(Refused) as refusal:
        await _claim(perform, cafe, code.code, card)

    assert refusal.value.code is Code.CARD_DELETED
    assert (await row(cafe.owner, ClaimCode, code.id)).claimed_at is None


async def test_a_code_of_another_business_is_not_there(
    perform: Any, database: Database, cafe: Cafe, card: Card, clock: ManualClock
) -> None:
    [code] = await _make(perform, cafe, card, stamps=1)
    stranger = await a_business(database, now=clock.now())
    theirs = await a_card(database, stranger.owner, now=clock.now())

    with pytest.raises(NotFound) as refusal:
        await _claim(perform, stranger, code.code, theirs)
    with pytest.raises(NotFound):
        await _make(perform, stranger, card, stamps=1)

    assert refusal.value.field == ["input", "code"]
