"""Races: many clients at one moment, over HTTP, and still one winner and a true ledger."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlmodel import col, select

from db import BUSINESS, Transaction, query
from factories import a_card, a_card_template, a_voucher, an_award_goal
from models import (
    Card,
    Customer,
    DailyFigure,
    EventRow,
    Operation,
    OperationKind,
    Reward,
    Role,
    StampChannel,
)
from resolvers import callers

REDEEM = """mutation($voucher: VoucherRef!) { redeemVoucher(input: {voucher: $voucher}) {
    voucher { id redeemedBy { id name } } events { type }
    userErrors { code message ... on VoucherAlreadyRedeemed { redeemedAt redeemedBy { id name } } }
} }"""
STAMP = """mutation($card: CardRef!, $count: Int, $issue: Boolean) {
    addStamps(input: {card: $card, count: $count, issueIfMissing: $issue}) {
        operation { id } card { id } events { sequence } userErrors { code message } } }"""
ISSUE = """mutation($input: IssueCardInput!) { issueCard(input: $input) {
    card { id } created customerCreated events { type } userErrors { code message } } }"""
CREATE = """mutation($input: CreateCustomerInput!) { createCustomer(input: $input) {
    customer { id } created userErrors { code message } } }"""
UPDATE = """mutation($input: UpdateCustomerInput!) { updateCustomer(input: $input) {
    customer { id } userErrors { code message } } }"""
SAVED = """mutation($card: CardRef!) { reportCardSaved(input: {card: $card, platform: APPLE}) {
    events { type } userErrors { code } } }"""
OPENED = """mutation($card: CardRef!) { reportCardOpened(input: {card: $card}) {
    events { type } userErrors { code } } }"""
CONSENT = """mutation($input: SetConsentInput!) { setConsent(input: $input) {
    customer { consents { granted } } userErrors { code } } }"""
STAFF = """mutation($input: CreateStaffInput!) { createStaff(input: $input) {
    staff { id } userErrors { code } } }"""
KEY = """mutation($id: ID!) { generateApiKey(input: {staffId: $id}) {
    apiKey { id } userErrors { code } } }"""
DELETE = """mutation($id: ID!) { deleteCard(input: {id: $id}) {
    deletedId userErrors { code } } }"""
PUBLISH = """mutation($id: ID!) { publishCardTemplate(input: {id: $id}) {
    cardTemplate { version } userErrors { code } } }"""

CARDS = query(select(Card).where(col(Card.business_id) == BUSINESS))
CUSTOMERS = query(select(Customer).where(col(Customer.business_id) == BUSINESS))
LEDGER = query(
    select(Operation).where(col(Operation.business_id) == BUSINESS).order_by(col(Operation.id))
)
REWARDS = query(select(Reward).where(col(Reward.business_id) == BUSINESS))
FIGURES = query(select(DailyFigure).where(col(DailyFigure.business_id) == BUSINESS))
LOG = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS).order_by(col(EventRow.sequence))
)


async def test_of_twenty_redemptions_of_a_voucher_one_wins(house: Any) -> None:
    voucher = await a_voucher(house.database, house.actor)
    staff, scanner = await house.hire(Role.SCANNER)
    clients = [house.owner, scanner] * 10
    names = {house.actor.staff_id: "Ayu", staff.staff_id: "Budi"}

    answers = await asyncio.gather(
        *(client.do(REDEEM, {"voucher": {"id": voucher.id}}) for client in clients)
    )

    won = [answer["redeemVoucher"] for answer in answers if answer["redeemVoucher"]["voucher"]]
    lost = [answer["redeemVoucher"] for answer in answers if not answer["redeemVoucher"]["voucher"]]
    [winner] = won
    by = winner["voucher"]["redeemedBy"]
    assert by["name"] == names[by["id"]]
    assert winner["events"] == [{"type": "VOUCHER_REDEEMED"}]
    assert len(lost) == 19
    for loser in lost:
        assert loser == {
            "voucher": None,
            "events": [],
            "userErrors": [
                {
                    "code": "VOUCHER_ALREADY_REDEEMED",
                    "message": "This voucher is already redeemed.",
                    "redeemedAt": "2026-03-02T12:00:00Z",
                    "redeemedBy": by,
                }
            ],
        }
    events = [event for event in await house.all(LOG) if event.type == "voucher_redeemed"]
    lines = [line for line in await house.all(LEDGER) if line.kind is OperationKind.VOUCHER_REDEEM]
    assert [event.actor_id for event in events] == [by["id"]]
    assert [(line.voucher_id, line.staff_id) for line in lines] == [(voucher.id, by["id"])]


async def test_two_hundred_stamps_at_once_leave_a_true_ledger(house: Any) -> None:
    template = await a_card_template(
        house.database, house.actor, 7, [an_award_goal(3), an_award_goal(7)]
    )
    card = await a_card(house.database, house.actor, template.id)
    ref = {"id": card.id}

    answers = await asyncio.gather(
        *(house.owner.do(STAMP, {"card": ref, "count": 1}) for _ in range(200))
    )

    assert [answer["addStamps"]["userErrors"] for answer in answers] == [[]] * 200
    [now] = await house.all(CARDS)
    ledger = await house.all(LEDGER)
    log = await house.all(LOG)
    # 200 = 28 full cards of 7, and 4 stamps on the 29th.
    assert (now.stamps, now.cycle) == (4, 29)
    steps = sorted((line.cycle_after, line.after) for line in ledger)
    assert steps == [(number // 7 + 1, number % 7 + 1) for number in range(200)]
    assert [line.channel for line in ledger] == [StampChannel.API] * 200
    rewards = Counter((reward.cycle, reward.goal_position) for reward in await house.all(REWARDS))
    reached = [
        (cycle, goal) for cycle in range(1, 30) for goal in (1, 2) if (cycle, goal) < (29, 2)
    ]
    assert rewards == Counter(reached)
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    kinds = Counter(event.type for event in log)
    assert kinds == {"card_issued": 1, "stamp_added": 200, "goal_reached": 57, "reward_issued": 57}


async def test_a_card_asked_for_twenty_times_at_once_is_issued_once(house: Any) -> None:
    template = await a_card_template(house.database, house.actor)
    asked = {"templateId": template.id, "customer": {"email": "ana@mail.example", "name": "Ana"}}

    answers = await asyncio.gather(*(house.owner.do(ISSUE, {"input": asked}) for _ in range(20)))

    told = [answer["issueCard"] for answer in answers]
    assert [item["userErrors"] for item in told] == [[]] * 20
    assert len({item["card"]["id"] for item in told}) == 1
    assert Counter(item["created"] for item in told) == {True: 1, False: 19}
    assert Counter(item["customerCreated"] for item in told) == {True: 1, False: 19}
    assert Counter(len(item["events"]) for item in told) == {1: 1, 0: 19}
    assert len(await house.all(CARDS)) == len(await house.all(CUSTOMERS)) == 1
    assert [event.type for event in await house.all(LOG)] == ["card_issued"]


async def test_the_first_stamps_of_a_holder_issue_one_card(house: Any) -> None:
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    holder = {"templateId": template.id, "customer": {"phone": "+6281234567890"}}
    asked = {"card": {"holder": holder}, "count": 1, "issue": True}

    answers = await asyncio.gather(*(house.owner.do(STAMP, asked) for _ in range(20)))

    assert [answer["addStamps"]["userErrors"] for answer in answers] == [[]] * 20
    [card] = await house.all(CARDS)
    assert card.stamps == 20


async def test_customers_made_at_once_from_both_sides_become_one(house: Any) -> None:
    email, phone = {"email": "ana@mail.example"}, {"phone": "+6281234567890"}

    answers = await asyncio.gather(
        *(house.owner.do(CREATE, {"input": email | phone}) for _ in range(10)),
        *(house.owner.do(CREATE, {"input": email}) for _ in range(10)),
    )

    told = [answer["createCustomer"] for answer in answers]
    assert [item["userErrors"] for item in told] == [[]] * 20
    assert Counter(item["created"] for item in told) == {True: 1, False: 19}
    [customer] = await house.all(CUSTOMERS)
    assert (customer.email, customer.phone) == ("ana@mail.example", "+6281234567890")


async def test_an_address_wanted_by_ten_customers_at_once_goes_to_one(house: Any) -> None:
    made = [
        await house.owner.do(CREATE, {"input": {"phone": f"+62812345678{number:02}"}})
        for number in range(10)
    ]

    answers = await asyncio.gather(
        *(
            house.owner.do(
                UPDATE,
                {"input": {"id": one["createCustomer"]["customer"]["id"], "email": "a@b.example"}},
            )
            for one in made
        )
    )

    codes = Counter(
        error["code"] for answer in answers for error in answer["updateCustomer"]["userErrors"]
    )
    assert codes == {"CUSTOMER_CONFLICT": 9}


async def test_what_counts_once_counts_once_of_many_reports(house: Any) -> None:
    card = await a_card(house.database, house.actor)
    ref = {"card": {"id": card.id}}
    consent = {"customerId": card.customer_id, "channel": "EMAIL", "granted": True}

    answers = await asyncio.gather(
        *(house.owner.do(SAVED, ref) for _ in range(10)),
        *(house.owner.do(OPENED, ref) for _ in range(10)),
        *(house.owner.do(CONSENT, {"input": consent}) for _ in range(10)),
    )

    refused = [
        payload for answer in answers for payload in answer.values() if payload["userErrors"]
    ]
    assert refused == []
    kinds = Counter(event.type for event in await house.all(LOG))
    assert kinds == {"card_issued": 1, "card_saved": 1, "card_opened": 1}
    assert answers[-1]["setConsent"]["customer"]["consents"] == [{"granted": True}]


async def test_a_login_and_a_key_wanted_at_once_are_given_once(house: Any) -> None:
    asked = {
        "name": "Bar",
        "login": "bar@kopi.example",
        "password": "longenough",
        "role": "SCANNER",
    }

    staff = await asyncio.gather(*(house.owner.do(STAFF, {"input": asked}) for _ in range(4)))
    [made] = [item["createStaff"]["staff"] for item in staff if item["createStaff"]["staff"]]
    keys = await asyncio.gather(*(house.owner.do(KEY, {"id": made["id"]}) for _ in range(10)))

    logins = Counter(error["code"] for item in staff for error in item["createStaff"]["userErrors"])
    refused = Counter(
        error["code"] for item in keys for error in item["generateApiKey"]["userErrors"]
    )
    assert logins == {"LOGIN_TAKEN": 3}
    assert refused == {"STAFF_HAS_KEY": 9}


async def test_ten_publications_at_once_publish_one_version(house: Any) -> None:
    template = await a_card_template(house.database, house.actor)

    answers = await asyncio.gather(
        *(house.owner.do(PUBLISH, {"id": template.id}) for _ in range(10))
    )

    versions = {answer["publishCardTemplate"]["cardTemplate"]["version"] for answer in answers}
    assert versions == {1}


async def test_of_twenty_who_delete_a_card_one_does(house: Any) -> None:
    card = await a_card(house.database, house.actor)

    answers = await asyncio.gather(
        *(house.owner.do(DELETE, {"id": card.id}) for _ in range(20)),
    )

    told = Counter(bool(answer["deleteCard"]["deletedId"]) for answer in answers)
    counted = await house.all(FIGURES)
    assert told == {True: 1, False: 19}
    assert sum(figure.deleted_cards for figure in counted) == 1


async def test_of_many_calls_of_a_moment_one_notes_that_the_key_was_used(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = await house.hire(Role.MANAGER)
    notes: list[str] = []
    note = callers.note_use

    async def counted(tx: Transaction, used: Any, *more: Any) -> None:
        notes.append(used.id)
        await note(tx, used, *more)

    monkeypatch.setattr(callers, "note_use", counted)
    reads = asyncio.gather(*(client.do("{ viewer { apiKey { id } } }") for _ in range(30)))

    [key_id] = {answer["viewer"]["apiKey"]["id"] for answer in await reads}
    await asyncio.gather(*callers._notes.values())
    assert set(notes) == {key_id}
    assert len(notes) <= 3
