"""Offline tills, receipts and mishaps over HTTP: batches with a verdict per item, and races."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from db import BUSINESS, query
from factories import a_card, a_card_template, a_customer, an_award_goal, stamps
from models import Card, ClaimCode, Customer, EventRow, Operation, OperationKind, Reward
from services.card_templates import LimitsInput

BATCH = """mutation($items: [OfflineStampsInput!]!, $key: String) {
    addStampsBatch(input: {items: $items, idempotencyKey: $key}) {
        results { clientId applied operation { id occurredAt after } card { stamps }
            userErrors { code field message } }
        events { type occurredAt } userErrors { code field message } } }"""
CODES = """mutation($input: CreateClaimCodesInput!) { createClaimCodes(input: $input) {
    claimCodes { id code url stamps amount { amount } expiresAt template { id } }
    userErrors { code field } } }"""
CLAIM = """mutation($input: ClaimStampsInput!) { claimStamps(input: $input) {
    operation { id count channel } card { id stamps } events { type }
    userErrors { code ... on ClaimCodeUsed { claimedAt } } } }"""
MERGE = """mutation($input: MergeCustomersInput!) { mergeCustomers(input: $input) {
    customer { id name } cards { id stamps customer { id } } events { type }
    userErrors { code field } } }"""
REPLACE = """mutation($input: ReplaceCardInput!) { replaceCard(input: $input) {
    card { id joinUrl walletPassId } userErrors { code } } }"""
STAMP = """mutation($card: CardRef!) { addStamps(input: {card: $card, count: 1}) {
    card { id } userErrors { code } } }"""
ISSUE = """mutation($input: IssueCardInput!) { issueCard(input: $input) {
    card { id } userErrors { code } } }"""

LEDGER = query(
    select(Operation)
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.kind).in_([OperationKind.STAMPS, OperationKind.MERGE]),
    )
    .order_by(col(Operation.line))
)
LOG = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS).order_by(col(EventRow.sequence))
)
CARDS = query(select(Card).where(col(Card.business_id) == BUSINESS))
CLAIM_CODES = query(select(ClaimCode).where(col(ClaimCode.business_id) == BUSINESS))
CUSTOMERS = query(select(Customer).where(col(Customer.business_id) == BUSINESS))
REWARDS = query(select(Reward).where(col(Reward.business_id) == BUSINESS))


@pytest.fixture
async def card(house: Any) -> Card:
    """A card of ten stamps with a cookie at three."""
    goals = [an_award_goal(3, "A cookie"), an_award_goal(10)]
    template = await a_card_template(house.database, house.actor, 10, goals)
    return await a_card(house.database, house.actor, template.id)


def item(card: Card | None, at: datetime, client_id: str = "1", **values: Any) -> dict[str, Any]:
    """An item of a batch."""
    ref = {"id": card.id} if card else {"number": "000000"}
    return {"clientId": client_id, "occurredAt": at.isoformat(), "card": ref, "count": 1, **values}


async def _batch(client: Any, *items: dict[str, Any], key: str | None = None) -> Any:
    return (await client.do(BATCH, {"items": list(items), "key": key}))["addStampsBatch"]


async def test_a_batch_is_added_in_the_order_in_which_it_happened(
    house: Any, card: Card, clock: ManualClock
) -> None:
    now = clock.now()
    early, late = now - timedelta(hours=2), now - timedelta(hours=1)

    done = await _batch(
        house.owner,
        item(card, late, "late", count=2),
        item(None, late, "nobody's"),
        item(card, early, "early", channel="SCANNER_MANUAL", externalRef="receipt 7"),
    )

    assert done["userErrors"] == []
    assert [told["clientId"] for told in done["results"]] == ["late", "nobody's", "early"]
    assert [told["applied"] for told in done["results"]] == [True, False, True]
    second, refused, first = done["results"]
    assert (first["operation"]["after"], second["operation"]["after"]) == (1, 3)
    assert (first["operation"]["occurredAt"], second["operation"]["occurredAt"]) == (
        "2026-03-02T10:00:00Z",
        "2026-03-02T11:00:00Z",
    )
    assert refused["userErrors"] == [
        {
            "code": "NOT_FOUND",
            "field": ["input", "items", "1", "card"],
            "message": "There is no such card.",
        }
    ]
    # Stamps and goals happened then; the gift is handed out now.
    assert [(event["type"], event["occurredAt"][11:13]) for event in done["events"]] == [
        ("STAMP_ADDED", "10"),
        ("STAMP_ADDED", "11"),
        ("GOAL_REACHED", "11"),
        ("REWARD_ISSUED", "12"),
    ]
    ledger = await house.all(LEDGER)
    assert [(line.occurred_at, line.created_at) for line in ledger] == [(early, now), (late, now)]
    assert ledger[0].external_ref == "receipt 7"
    [stored] = await house.all(CARDS)
    assert (stored.stamps, stored.last_stamp_at) == (3, late)


async def test_a_late_stamp_does_not_turn_back_what_happened_since(
    house: Any, card: Card, clock: ManualClock
) -> None:
    await stamps(house.database, house.actor, card, 1, clock.now())

    await _batch(house.owner, item(card, clock.now() - timedelta(days=1)))

    [stored] = await house.all(CARDS)
    [customer] = await house.all(CUSTOMERS)
    assert stored.last_stamp_at == stored.last_activity_at == clock.now()
    assert customer.last_activity_at == clock.now()


async def test_a_repeated_batch_adds_nothing_twice(
    house: Any, card: Card, clock: ManualClock
) -> None:
    items = [item(card, clock.now(), str(number)) for number in range(5)]

    first = await _batch(house.owner, *items[:3])
    more = await _batch(house.owner, *items)
    again = await _batch(house.owner, *items)

    assert more["results"][:3] == [{**told, "card": {"stamps": 3}} for told in first["results"]]
    assert [told["operation"] for told in again["results"]] == [
        told["operation"] for told in more["results"]
    ]
    assert [line.after for line in await house.all(LEDGER)] == [1, 2, 3, 4, 5]


async def test_one_client_id_stands_for_one_item(
    house: Any, card: Card, clock: ManualClock
) -> None:
    done = await _batch(
        house.owner,
        item(card, clock.now(), "1"),
        item(card, clock.now(), "1"),
        item(card, clock.now(), "1", count=2),
    )

    first, same, other = done["results"]
    assert first == same
    assert (other["applied"], other["userErrors"][0]["code"]) == (False, "IDEMPOTENCY_KEY_REUSED")
    assert len(await house.all(LEDGER)) == 1


async def test_a_batch_sent_twice_at_once_is_added_once(
    house: Any, card: Card, clock: ManualClock
) -> None:
    items = [item(card, clock.now(), str(number)) for number in range(20)]

    answers = await asyncio.gather(*(_batch(house.owner, *items) for _ in range(3)))

    for answer in answers:
        assert [told["applied"] for told in answer["results"]] == [True] * 20
    assert len({str([t["operation"]["id"] for t in a["results"]]) for a in answers}) == 1
    [stored] = await house.all(CARDS)
    assert (stored.stamps, stored.cycle) == (10, 2)
    assert len(await house.all(LEDGER)) == 20


@pytest.mark.parametrize(
    ("shift", "is_taken"),
    [
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, seconds=1), False),
        (-timedelta(days=6, hours=23), True),
        (-timedelta(days=7), False),
    ],
)
async def test_a_tills_clock_is_trusted_within_bounds(
    house: Any, card: Card, clock: ManualClock, shift: timedelta, is_taken: bool
) -> None:
    done = await _batch(house.owner, item(card, clock.now() + shift))

    [told] = done["results"]
    assert told["applied"] is is_taken
    if not is_taken:
        assert [error["code"] for error in told["userErrors"]] == ["INVALID"]
        assert told["userErrors"][0]["field"] == ["input", "items", "0", "occurredAt"]
    # Nothing happens in the future: a clock that is ahead meant now.
    moments = [line.occurred_at for line in await house.all(LEDGER)]
    assert moments == ([min(clock.now() + shift, clock.now())] if is_taken else [])


async def test_limits_go_by_the_moment_at_which_stamps_were_given(
    house: Any, clock: ManualClock
) -> None:
    limits = LimitsInput(min_seconds_between=60, max_stamps_per_day=3)
    template = await a_card_template(
        house.database, house.actor, 10, [an_award_goal(10)], limits=limits
    )
    card = await a_card(house.database, house.actor, template.id)
    now = clock.now()
    await stamps(house.database, house.actor, card, 1, now)

    done = await _batch(
        house.owner,
        item(card, now - timedelta(days=1), "yesterday", count=3),
        item(card, now - timedelta(days=1, hours=1), "one too many"),
        item(card, now - timedelta(seconds=30), "too close"),
        item(card, now - timedelta(hours=1), "an hour ago"),
    )

    assert {told["clientId"]: told["applied"] for told in done["results"]} == {
        "yesterday": False,  # the one an hour before it came first
        "one too many": True,
        "too close": False,
        "an hour ago": True,
    }
    codes = [error["code"] for told in done["results"] for error in told["userErrors"]]
    assert codes == ["LIMIT_REACHED"] * 2


@pytest.mark.parametrize(("count", "field"), [(0, ["input", "items"]), (101, ["input", "items"])])
async def test_a_batch_has_1_to_100_items(
    house: Any, card: Card, clock: ManualClock, count: int, field: list[str]
) -> None:
    items = [item(card, clock.now(), str(number)) for number in range(count)]

    done = await _batch(house.owner, *items)

    assert [(error["code"], error["field"]) for error in done["userErrors"]] == [("INVALID", field)]
    assert done["results"] == []
    assert await house.all(LEDGER) == []


async def test_a_client_id_has_1_to_128_characters(
    house: Any, card: Card, clock: ManualClock
) -> None:
    done = await _batch(
        house.owner, item(card, clock.now(), "fine"), item(card, clock.now(), "x" * 129)
    )

    [refusal] = done["userErrors"]
    assert refusal["field"] == ["input", "items", "1", "clientId"]
    assert await house.all(LEDGER) == []


async def test_a_batch_may_have_a_key_of_its_own(
    house: Any, card: Card, clock: ManualClock
) -> None:
    first = await _batch(house.owner, item(card, clock.now()), key="once")
    again = await _batch(house.owner, item(card, clock.now()), key="once")
    other = await _batch(house.owner, item(card, clock.now(), "2"), key="once")

    assert again == first
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]
    assert len(await house.all(LEDGER)) == 1


async def test_an_item_of_another_business_is_not_there(
    house: Any, card: Card, open_house: Any, clock: ManualClock
) -> None:
    stranger = await open_house()
    theirs = await a_card(stranger.database, stranger.actor)

    done = await _batch(
        stranger.owner, item(card, clock.now(), "mine"), item(theirs, clock.now(), "theirs")
    )

    assert [told["applied"] for told in done["results"]] == [False, True]
    assert await house.all(LEDGER) == []


async def test_of_twenty_claims_of_one_code_one_wins(house: Any, card: Card) -> None:
    others = [await a_card(house.database, house.actor, card.template_id) for _ in range(4)]
    asked = {"templateId": card.template_id, "count": 1, "stamps": 1, "expiresAt": None}
    made = await house.owner.do(CODES, {"input": asked})
    [code] = made["createClaimCodes"]["claimCodes"]

    answers = await asyncio.gather(
        *(
            house.owner.do(CLAIM, {"input": {"code": code["code"], "card": {"id": one.id}}})
            for one in [card, *others] * 4
        )
    )

    told = [answer["claimStamps"] for answer in answers]
    [winner] = [item for item in told if item["operation"]]
    assert winner["operation"]["channel"] == "RECEIPT_QR"
    assert winner["card"]["stamps"] == 1
    assert winner["events"] == [{"type": "STAMP_ADDED"}]
    lost = [item["userErrors"] for item in told if not item["operation"]]
    assert lost == [[{"code": "CLAIM_CODE_USED", "claimedAt": "2026-03-02T12:00:00Z"}]] * 19
    [line] = await house.all(LEDGER)
    [stored] = await house.all(CLAIM_CODES)
    assert stored.operation_id == line.id
    assert stored.claimed_card_id == line.card_id == winner["card"]["id"]


async def test_a_claim_with_a_key_is_told_again(house: Any, card: Card) -> None:
    asked = {"templateId": card.template_id, "stamps": 3, "idempotencyKey": "receipt 7"}
    made = [await house.owner.do(CODES, {"input": asked}) for _ in range(2)]
    [code] = made[0]["createClaimCodes"]["claimCodes"]
    claim = {"code": code["url"], "card": {"id": card.id}}

    first = [await house.owner.do(CLAIM, {"input": {**claim, "idempotencyKey": "a"}})]
    first += [await house.owner.do(CLAIM, {"input": {**claim, "idempotencyKey": "b"}})]
    again = [
        await house.owner.do(CLAIM, {"input": {**claim, "idempotencyKey": key}}) for key in "ab"
    ]

    assert made[0] == made[1]
    assert code["url"] == f"{house.owner.server.url}/claim/{code['code']}"
    assert code["template"] == {"id": card.template_id}
    assert first == again
    assert first[1]["claimStamps"]["userErrors"][0]["claimedAt"] == "2026-03-02T12:00:00Z"


async def test_a_merge_while_both_cards_are_stamped_loses_nothing(
    house: Any, clock: ManualClock
) -> None:
    template = await a_card_template(
        house.database, house.actor, 10, [an_award_goal(3), an_award_goal(10)]
    )
    keep, other = [await a_card(house.database, house.actor, template.id) for _ in range(2)]
    merge = {"keepId": keep.customer_id, "mergeId": other.customer_id}

    answers = await asyncio.gather(
        *(house.owner.do(STAMP, {"card": {"number": card.number}}) for card in [keep, other] * 10),
        house.owner.do(MERGE, {"input": merge}),
        *(house.owner.do(STAMP, {"card": {"number": card.number}}) for card in [keep, other] * 10),
    )

    for answer in answers:
        [payload] = answer.values()
        assert payload["userErrors"] == []
    cards = {card.id: card for card in await house.all(CARDS)}
    given = sum(line.count for line in await house.all(LEDGER) if line.kind is OperationKind.STAMPS)
    [joined] = [line for line in await house.all(LEDGER) if line.kind is OperationKind.MERGE]
    assert given == 40
    # The other's full cycles stay its own: each was ten stamps.
    left_behind = (
        sum(
            line.count
            for line in await house.all(LEDGER)
            if line.card_id == other.id and line.kind is OperationKind.STAMPS
        )
        - joined.count
    )
    now = cards[keep.id]
    assert left_behind % 10 == 0
    assert now.stamps + 10 * (now.cycle - 1) == 40 - left_behind
    assert cards[other.id].merged_into == keep.id
    assert cards[other.id].customer_id == keep.customer_id
    # As on one card: each goal once for its ten stamps. Only where both had the first goal's gift
    # in their open cycles, and the join reached no such goal again, one was given beside it.
    had_both = min(joined.before, joined.count) >= 3 and joined.before + joined.count < 13
    gifts = Counter(reward.title for reward in await house.all(REWARDS))
    assert sum(gifts.values()) == 8 + had_both


async def test_two_mergers_of_the_same_customers_make_one(
    house: Any, card: Card, clock: ManualClock
) -> None:
    other = await a_card(house.database, house.actor, card.template_id)
    ways = [(card, other), (other, card)] * 4

    answers = await asyncio.gather(
        *(
            house.owner.do(
                MERGE, {"input": {"keepId": one.customer_id, "mergeId": two.customer_id}}
            )
            for one, two in ways
        )
    )

    told = [answer["mergeCustomers"] for answer in answers]
    assert len([item for item in told if item["customer"]]) == 1
    assert Counter(error["code"] for item in told for error in item["userErrors"]) == {"INVALID": 7}
    merged = [customer for customer in await house.all(CUSTOMERS) if customer.merged_into]
    assert len(merged) == 1


async def test_a_card_issued_during_a_merge_is_the_kept_customers(
    house: Any, card: Card, clock: ManualClock
) -> None:
    keep = await a_customer(house.database, house.actor)
    email = "other@mail.example"
    other = await a_customer(house.database, house.actor, email=email, phone="+6281234567890")
    issue = {"templateId": card.template_id, "customer": {"phone": "+6281234567890"}}

    await asyncio.gather(
        *(house.owner.do(ISSUE, {"input": issue}) for _ in range(5)),
        house.owner.do(MERGE, {"input": {"keepId": keep.id, "mergeId": other.id}}),
        *(house.owner.do(ISSUE, {"input": issue}) for _ in range(5)),
    )

    issued = [one for one in await house.all(CARDS) if one.id != card.id]
    assert [one.customer_id for one in issued] == [keep.id]
    assert len(await house.all(CUSTOMERS)) == 3


async def test_a_dry_run_of_a_merge_shows_what_comes_of_it(
    house: Any, card: Card, clock: ManualClock
) -> None:
    other = await a_card(house.database, house.actor, card.template_id)
    await stamps(house.database, house.actor, other, 2)
    asked = {"keepId": card.customer_id, "mergeId": other.customer_id}
    mine = {"id": card.customer_id, "name": "Siti"}

    shown = await house.owner.do(MERGE, {"input": {**asked, "dryRun": True}})
    before = await house.all(CARDS)
    done = await house.owner.do(MERGE, {"input": asked})
    again = await house.owner.do(MERGE, {"input": asked})
    node = await house.owner.do(
        "query($id: ID!, $card: ID!) { customer(id: $id) { id } node(id: $card) { id }"
        " customers(first: 9) { nodes { id } } }",
        {"id": other.customer_id, "card": other.id},
    )

    assert shown == done
    cards = [{"id": card.id, "stamps": 2, "customer": {"id": card.customer_id}}]
    assert done["mergeCustomers"] == {
        "customer": mine,
        "cards": cards,
        "events": [],
        "userErrors": [],
    }
    assert {one.id: one.deleted_at for one in before} == {card.id: None, other.id: None}
    assert again["mergeCustomers"]["userErrors"] == [
        {"code": "INVALID", "field": ["input", "mergeId"]}
    ]
    assert node == {
        "customer": {"id": card.customer_id},
        "node": {"id": card.id},
        "customers": {"nodes": [{"id": card.customer_id}]},
    }


async def test_the_page_of_a_replaced_card_is_gone(house: Any, card: Card) -> None:
    done = await house.owner.do(REPLACE, {"input": {"card": {"id": card.id}}})

    new = done["replaceCard"]["card"]
    async with house.owner.session.get(f"{house.owner.server.url}/c/{card.token}") as old:
        assert old.status == 404
    async with house.owner.session.get(new["joinUrl"]) as page:
        assert page.status == 200
    assert new["walletPassId"] != card.wallet_pass_id
