"""Cards: issued once, stamped by count or amount, paid once per goal and cycle, never untrue."""

import hashlib
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Code, LimitReached, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Database, query
from events.log import events_after
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_customer,
    a_voucher_goal,
    an_award_goal,
    stamps,
)
from models import (
    Actor,
    Card,
    Customer,
    EventRow,
    LotteryTicket,
    Operation,
    OperationKind,
    Overflow,
    Platform,
    Reward,
    StampChannel,
    TicketStatus,
    VariantType,
)
from services.card_refs import CardRef, HolderRef
from services.card_templates import (
    AmountRuleInput,
    ArchiveCardTemplateInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LotteryInput,
    LotteryVariantInput,
    PublishCardTemplateInput,
    archive_card_template,
    publish_card_template,
    update_card_template,
)
from services.cards import (
    AddStampsInput,
    CardIssuedOutcome,
    DeleteCardInput,
    IssueCardInput,
    PreviewStampsInput,
    ReportCardOpenedInput,
    ReportCardSavedInput,
    StampsAdded,
    add_stamps,
    delete_card,
    issue_card,
    preview_stamps,
    report_card_opened,
    report_card_saved,
)
from services.customers import CustomerInput, CustomerRef

LEDGER = query(
    select(Operation)
    .where(col(Operation.business_id) == BUSINESS, col(Operation.kind) == OperationKind.STAMPS)
    .order_by(col(Operation.id))
)
REWARDS = query(select(Reward).where(col(Reward.business_id) == BUSINESS))
TICKETS = query(select(LotteryTicket).where(col(LotteryTicket.business_id) == BUSINESS))


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café."""
    return await a_business(database)


async def do(
    database: Database, actor: Actor, operation: Any, input: Any, now: datetime = NOW
) -> Any:
    """Perform an operation."""
    return await database.write(actor.business_id, lambda tx: operation(tx, actor, input, now))


async def issue(
    database: Database, actor: Actor, template_id: str, now: datetime = NOW, **customer: Any
) -> CardIssuedOutcome:
    """Issue a card to a customer."""
    told = IssueCardInput(template_id=Id(template_id), customer=CustomerInput(**customer))
    made: CardIssuedOutcome = await do(database, actor, issue_card, told, now)
    return made


async def log(database: Database, actor: Actor) -> list[EventRow]:
    """What happened so far."""
    return await database.read(actor.business_id, lambda tx: events_after(tx, 0, 1_000))


async def kinds(database: Database, actor: Actor) -> list[str]:
    """The types of what happened so far."""
    return [event.type for event in await log(database, actor)]


async def refusal_of(work: Any) -> tuple[Code, list[str] | None]:
    """With which code, and for which field, it is refused."""
    with pytest.raises(Refused) as refused:
        await work
    return refused.value.code, refused.value.field


# ---- issuing -------------------------------------------------------------------------------------


async def test_a_card_is_issued_with_its_customer_and_told_once(
    database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(database, cafe.owner)

    made = await issue(database, cafe.owner, template.id, email="Ana@Mail.example", name=" Ana  B ")
    again = await issue(database, cafe.owner, template.id, email="ana@mail.example")

    assert made.card
    assert (made.created, made.customer_created) == (True, True)
    assert (made.card.stamps, made.card.cycle, made.card.created_at) == (0, 1, NOW)
    assert made.card.issued_by_id == cafe.owner.staff_id
    assert len(made.card.number) == 6
    assert made.card.number.isdecimal()
    assert (again.card, again.created, again.customer_created) == (made.card, False, False)
    customer = await database.read(
        cafe.business.id, lambda tx: tx.get(Customer, made.card and made.card.customer_id)
    )
    assert customer
    assert (customer.email, customer.name, customer.language) == ("ana@mail.example", "Ana B", "en")
    assert customer.last_activity_at == NOW
    assert await kinds(database, cafe.owner) == ["card_issued"]


UPSERTS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # known, then told, and what is known after it
    ({"email": "a@b.example"}, {"phone": "+6281234567890"}, {"phone": "+6281234567890"}),
    ({"email": "a@b.example"}, {"name": "Ana"}, {"name": "Ana"}),
    ({"email": "a@b.example", "name": "Ana"}, {"name": "Other"}, {"name": "Ana"}),
    ({"email": "a@b.example", "language": "id"}, {"language": "en"}, {"language": "id"}),
    ({"email": "a@b.example"}, {"birthday": "1990-02-28"}, {"birthday": "1990-02-28"}),
    ({"email": "a@b.example"}, {"birthday": "--02-29"}, {"birthday": "--02-29"}),
    (
        {"email": "a@b.example", "birthday": "--02-28"},
        {"birthday": "1990-02-28"},
        {"birthday": "--02-28"},
    ),
    (
        {"email": "a@b.example", "birthday": "1990-02-28"},
        {"birthday": "1980-01-01"},
        {"birthday": "1990-02-28"},
    ),
    (
        {"email": "a@b.example", "phone": "+6281234567890"},
        {"phone": "+6289999999999"},
        {"phone": "+6281234567890"},
    ),
]


async def test_what_is_empty_is_filled_and_nothing_is_overwritten(
    database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(database, cafe.owner)
    for number, (known, told, after) in enumerate(UPSERTS):
        email = {"email": f"{number}@b.example"}
        phones = {name: value for name, value in known.items() if name == "phone"}
        await a_customer(database, cafe.owner, **{"name": None, **known, **email})

        made = await issue(database, cafe.owner, template.id, **told, **email)

        assert made.customer_created is False
        customer = await database.read(
            cafe.business.id, lambda tx, made=made: tx.get(Customer, made.card.customer_id)
        )
        assert customer
        found = {name: getattr(customer, name) for name in after}
        assert found == after, (known, told)
        # Its phone is needed by the next row.
        if phones or "phone" in told:
            await _forget_phone(database, cafe.owner, customer)


async def _forget_phone(database: Database, actor: Actor, customer: Customer) -> None:
    await database.write(actor.business_id, lambda tx: tx.change(customer, phone=None))


async def test_an_email_and_a_phone_of_two_people_are_refused(
    database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(database, cafe.owner)
    await a_customer(database, cafe.owner, email="ana@b.example")
    await a_customer(database, cafe.owner, email=None, phone="+6281234567890")

    told = {"email": "ana@b.example", "phone": "+6281234567890"}
    refusal = await refusal_of(issue(database, cafe.owner, template.id, **told))

    assert refusal == (Code.CUSTOMER_CONFLICT, ["input", "customer"])
    assert await kinds(database, cafe.owner) == []


@pytest.mark.parametrize(
    ("customer", "field"),
    [
        ({}, ["input", "customer"]),
        ({"name": "Ana"}, ["input", "customer"]),
        ({"email": " "}, ["input", "customer"]),
        ({"email": "ana"}, ["input", "customer", "email"]),
        ({"email": "ana@"}, ["input", "customer", "email"]),
        ({"phone": "0812345678"}, ["input", "customer", "phone"]),
        ({"phone": "+62"}, ["input", "customer", "phone"]),
        ({"email": "a@b.example", "birthday": "28.2.1990"}, ["input", "customer", "birthday"]),
        ({"email": "a@b.example", "birthday": "1990-02-30"}, ["input", "customer", "birthday"]),
        ({"email": "a@b.example", "language": "Bahasa"}, ["input", "customer", "language"]),
    ],
)
async def test_a_customer_who_cannot_be_is_refused(
    database: Database, cafe: Cafe, customer: dict[str, Any], field: list[str]
) -> None:
    template = await a_card_template(database, cafe.owner)

    refusal = await refusal_of(issue(database, cafe.owner, template.id, **customer))

    assert refusal == (Code.INVALID, field)


async def test_only_a_published_template_is_issued(database: Database, cafe: Cafe) -> None:
    template = await a_card_template(database, cafe.owner)
    customer = {"email": "ana@b.example"}

    unknown = await refusal_of(issue(database, cafe.owner, new_id("tpl"), **customer))
    await do(
        database, cafe.owner, archive_card_template, ArchiveCardTemplateInput(id=Id(template.id))
    )
    archived = await refusal_of(issue(database, cafe.owner, template.id, **customer))

    assert unknown == (Code.NOT_FOUND, ["input", "templateId"])
    assert archived == (Code.TEMPLATE_ARCHIVED, ["input", "templateId"])


# ---- stamping ------------------------------------------------------------------------------------


async def test_reaching_goals_pays_each_in_its_order(database: Database, cafe: Cafe) -> None:
    goals = [an_award_goal(2), await a_voucher_goal(database, cafe.owner, 3)]
    template = await a_card_template(database, cafe.owner, 3, goals)
    card = await a_card(database, cafe.owner, template.id)

    done = await stamps(database, cafe.owner, card, 3)

    assert done.operation
    assert (done.operation.before, done.operation.after) == (0, 3)
    assert done.operation.channel is StampChannel.API
    assert [(reward.goal_position, reward.title) for reward in done.rewards] == [
        (1, "A cookie"),
        (2, "A free coffee"),
    ]
    assert await kinds(database, cafe.owner) == [
        "card_issued",
        "stamp_added",
        "goal_reached",
        "reward_issued",
        "goal_reached",
        "reward_issued",
        "voucher_issued",
    ]


async def test_a_full_card_rests_until_the_next_stamp(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)

    rests = await stamps(database, cafe.owner, card, 3)
    opens = await stamps(database, cafe.owner, card, 1)

    assert rests.card
    assert opens.card
    assert opens.operation
    assert (rests.card.stamps, rests.card.cycle) == (3, 1)
    assert (opens.card.stamps, opens.card.cycle) == (1, 2)
    assert (opens.operation.cycle_before, opens.operation.cycle_after) == (1, 2)


@pytest.mark.parametrize(
    ("overflow", "after", "cycle", "paid"),
    [
        (Overflow.CARRY_OVER, 1, 3, [(1, 1), (2, 1)]),
        (Overflow.DISCARD, 3, 1, [(1, 1)]),
    ],
)
async def test_surplus_carries_over_or_is_discarded(
    database: Database,
    cafe: Cafe,
    overflow: Overflow,
    after: int,
    cycle: int,
    paid: list[tuple[int, int]],
) -> None:
    template = await a_card_template(database, cafe.owner, 3, [an_award_goal(3)], overflow=overflow)
    card = await a_card(database, cafe.owner, template.id)

    done = await stamps(database, cafe.owner, card, 7)

    assert done.card
    assert (done.card.stamps, done.card.cycle) == (after, cycle)
    assert [(reward.cycle, reward.goal_position) for reward in done.rewards] == paid


async def test_an_open_cycle_keeps_the_goals_it_began_with(database: Database, cafe: Cafe) -> None:
    template = await a_card_template(database, cafe.owner, 3, [an_award_goal(3, "Old")])
    card = await a_card(database, cafe.owner, template.id)
    await stamps(database, cafe.owner, card, 1)

    given = {"id": template.id, "stamps_required": 2, "goals": [an_award_goal(2, "New")]}
    await do(database, cafe.owner, update_card_template, given)
    publish = PublishCardTemplateInput(id=Id(template.id))
    await do(database, cafe.owner, publish_card_template, publish)
    old = await stamps(database, cafe.owner, card, 2)
    new = await stamps(database, cafe.owner, card, 2)

    assert old.card
    assert [reward.title for reward in old.rewards] == ["Old"]
    assert [reward.title for reward in new.rewards] == ["New"]
    assert new.card
    assert (new.card.stamps, new.card.cycle) == (2, 2)


AMOUNTS: list[tuple[str, str, int | None, int | None]] = [
    # currency, amount, stamps, minor units; one stamp for every 10 000 (IDR) or 4.50 (EUR)
    ("IDR", "0", 0, None),
    ("IDR", "9999", 0, None),
    ("IDR", "10000", 1, 1_000_000),
    ("IDR", "25000.50", 2, 2_500_050),
    ("IDR", "500000", 50, 50_000_000),
    ("EUR", "4.49", 0, None),
    ("EUR", "4.5", 1, 450),
    ("EUR", "13.49", 2, 1_349),
    ("EUR", "13.50", 3, 1_350),
]


@pytest.mark.parametrize(("currency", "amount", "count", "units"), AMOUNTS)
async def test_an_amount_earns_a_stamp_for_every_whole_part(
    database: Database, currency: str, amount: str, count: int, units: int | None
) -> None:
    owner, card = await _by_amount(database, currency)
    told = AddStampsInput(card=CardRef(id=Id(card.id)), amount=Decimal(amount))

    done: StampsAdded = await do(database, owner, add_stamps, told)

    if count == 0:
        assert (done.operation, done.rewards) == (None, [])
        assert done.card == card
        assert await kinds(database, owner) == ["card_issued"]
    else:
        assert done.operation
        assert (done.operation.count, done.operation.amount) == (count, units)
        assert (await kinds(database, owner))[1] == "stamp_added"


async def _by_amount(database: Database, currency: str) -> tuple[Actor, Card]:
    cafe = await a_business(database, currency=currency)
    part = Decimal(10_000) if currency == "IDR" else Decimal("4.50")
    rule = EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=part))
    template = await a_card_template(
        database, cafe.owner, 50, [an_award_goal(50)], earning_rule=rule
    )
    return cafe.owner, await a_card(database, cafe.owner, template.id)


@pytest.mark.parametrize(
    ("amount", "code", "field"),
    [
        ("510000", Code.LIMIT_REACHED, ["input", "count"]),
        ("99999999999", Code.LIMIT_REACHED, ["input", "count"]),
        ("10000.555", Code.INVALID, ["input", "amount"]),
        ("-10000", Code.INVALID, ["input", "amount"]),
        ("1e20", Code.INVALID, ["input", "amount"]),
    ],
)
async def test_an_amount_that_no_card_can_take_is_refused(
    database: Database, amount: str, code: Code, field: list[str]
) -> None:
    owner, card = await _by_amount(database, "IDR")
    told = AddStampsInput(card=CardRef(id=Id(card.id)), amount=Decimal(amount))

    with pytest.raises(Refused) as refused:
        await do(database, owner, add_stamps, told)

    assert refused.value.code is code
    if code is Code.INVALID:
        assert refused.value.field == field
    else:
        assert isinstance(refused.value, LimitReached)
        assert refused.value.retry_at is None
    assert await kinds(database, owner) == ["card_issued"]


async def test_a_card_is_found_by_each_of_its_names(database: Database, cafe: Cafe) -> None:
    card = await a_card(
        database, cafe.owner, email="ana@b.example", phone="+6281234567890", name="Ana"
    )
    people = [
        CustomerRef(id=Id(card.customer_id)),
        CustomerRef(email=" Ana@B.example "),
        CustomerRef(phone="+62 812-3456-7890"),
    ]
    holders = [HolderRef(template_id=Id(card.template_id), customer=one) for one in people]
    refs = [
        CardRef(id=Id(card.id)),
        CardRef(number=card.number),
        CardRef(token=card.token),
        *(CardRef(holder=holder) for holder in holders),
    ]

    for ref in refs:
        done = await do(database, cafe.owner, add_stamps, AddStampsInput(card=ref, count=1))
        assert done.card.id == card.id


@pytest.mark.parametrize(
    "ref",
    [
        CardRef(id=Id("card_nothing")),
        CardRef(number="000000"),
        CardRef(token=""),
        CardRef(
            holder=HolderRef(
                template_id=Id("tpl_nothing"), customer=CustomerRef(email="nobody@b.example")
            )
        ),
        CardRef(
            holder=HolderRef(template_id=Id("tpl_nothing"), customer=CustomerRef(phone="garbage"))
        ),
    ],
)
async def test_a_card_that_is_not_there_is_not_found(
    database: Database, cafe: Cafe, ref: CardRef
) -> None:
    with pytest.raises(NotFound) as refused:
        await do(database, cafe.owner, add_stamps, AddStampsInput(card=ref, count=1))

    assert refused.value.field == ["input", "card"]


async def test_a_missing_card_is_issued_first_where_that_is_asked(
    database: Database, cafe: Cafe
) -> None:
    template = await a_card_template(database, cafe.owner)
    holder = HolderRef(template_id=Id(template.id), customer=CustomerRef(email="new@mail.example"))
    told = AddStampsInput(
        card=CardRef(holder=holder), count=2, channel=StampChannel.POS, issue_if_missing=True
    )

    first = await do(database, cafe.owner, add_stamps, told)
    second = await do(database, cafe.owner, add_stamps, told)

    assert first.card.id == second.card.id
    assert (first.card.stamps, second.card.stamps, second.card.cycle) == (2, 1, 2)
    events = await log(database, cafe.owner)
    assert [event.type for event in events][:3] == ["card_issued", "stamp_added", "stamp_added"]
    assert '"issued_via":"pos"' in events[0].body


async def test_a_lottery_goal_gives_a_ticket_with_its_odds_frozen(
    database: Database, cafe: Cafe
) -> None:
    variants = [
        LotteryVariantInput(type=VariantType.AWARD, probability=2_500, name="Muffin"),
        LotteryVariantInput(type=VariantType.NO_PRIZE, probability=7_500, name="Next time"),
    ]
    goal = GoalInput(stamps=2, reward=GoalRewardInput(lottery=LotteryInput(variants=variants)))
    template = await a_card_template(database, cafe.owner, 2, [goal])
    card = await a_card(database, cafe.owner, template.id)

    done = await stamps(database, cafe.owner, card, 2)

    [ticket] = done.lottery_tickets
    assert done.rewards == []
    assert ticket.status is TicketStatus.PENDING
    assert (ticket.cycle, ticket.goal_position, ticket.card_id) == (1, 1, card.id)
    told = [(item["type"], item["probability"], item["name"]) for item in ticket.variants]
    assert told == [("award", 2_500, "Muffin"), ("no_prize", 7_500, "Next time")]
    assert ticket.commitment == hashlib.sha256(ticket.seed.encode()).hexdigest()
    assert await kinds(database, cafe.owner) == ["card_issued", "stamp_added", "goal_reached"]


async def test_a_deleted_card_takes_nothing_and_makes_room_for_another(
    database: Database, cafe: Cafe
) -> None:
    card = await a_card(database, cafe.owner, email="ana@mail.example")
    ref = CardRef(id=Id(card.id))
    await stamps(database, cafe.owner, card, 2)
    await do(database, cafe.owner, delete_card, DeleteCardInput(id=Id(card.id)))

    asked: list[tuple[Any, Any]] = [
        (add_stamps, AddStampsInput(card=ref, count=1)),
        (report_card_saved, ReportCardSavedInput(card=ref, platform=Platform.APPLE)),
        (report_card_opened, ReportCardOpenedInput(card=ref)),
    ]
    refusals = [
        await refusal_of(do(database, cafe.owner, operation, input)) for operation, input in asked
    ]
    twice = await refusal_of(do(database, cafe.owner, delete_card, DeleteCardInput(id=Id(card.id))))
    new = await issue(database, cafe.owner, card.template_id, email="ana@mail.example")

    assert refusals == [(Code.CARD_DELETED, ["input", "card"])] * 3
    assert twice == (Code.NOT_FOUND, ["input", "id"])
    assert new.card
    assert (new.created, new.customer_created) == (True, False)
    assert new.card.number != card.number
    assert new.card.stamps == 0


async def test_a_preview_tells_what_would_be_and_writes_nothing(
    database: Database, cafe: Cafe
) -> None:
    goals = [an_award_goal(2), await a_voucher_goal(database, cafe.owner, 3)]
    template = await a_card_template(database, cafe.owner, 3, goals)
    card = await a_card(database, cafe.owner, template.id)
    told = PreviewStampsInput(card=CardRef(id=Id(card.id)), count=4)

    seen = await database.rehearse(
        cafe.business.id, lambda tx: preview_stamps(tx, cafe.owner, told, NOW)
    )
    done = await stamps(database, cafe.owner, card, 4)

    assert done.card
    assert (seen.after, seen.cycle_after) == (done.card.stamps, done.card.cycle) == (1, 2)
    assert [reward.title for reward in seen.expected_rewards] == ["A cookie", "A free coffee"]
    events = await log(database, cafe.owner)
    assert [event.type for event in seen.expected_events] == [event.type for event in events[1:]]
    assert [event.sequence for event in events] == list(range(1, 8))


async def test_a_label_is_kept_and_cleaned(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    ref = CardRef(id=Id(card.id))

    done = await do(
        database, cafe.owner, add_stamps, AddStampsInput(card=ref, count=1, external_ref=" r  7 ")
    )
    refusal = await refusal_of(
        do(
            database,
            cafe.owner,
            add_stamps,
            AddStampsInput(card=ref, count=1, external_ref="x" * 201),
        )
    )

    assert done.operation.external_ref == "r 7"
    assert refusal == (Code.TEXT_TOO_LONG, ["input", "externalRef"])


# ---- saved and opened ----------------------------------------------------------------------------


async def test_a_card_is_saved_once_per_wallet(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    for platform in (Platform.APPLE, Platform.GOOGLE, Platform.APPLE):
        told = ReportCardSavedInput(card=CardRef(id=Id(card.id)), platform=platform)
        await do(database, cafe.owner, report_card_saved, told)

    assert Counter(await kinds(database, cafe.owner)) == {"card_issued": 1, "card_saved": 2}


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (timedelta(0), 1),
        (timedelta(minutes=59, seconds=59), 1),
        (timedelta(hours=1), 2),
    ],
)
async def test_an_opening_is_told_once_an_hour(
    database: Database, cafe: Cafe, after: timedelta, told: int
) -> None:
    card = await a_card(database, cafe.owner)
    opened = ReportCardOpenedInput(card=CardRef(id=Id(card.id)))

    await do(database, cafe.owner, report_card_opened, opened)
    await do(database, cafe.owner, report_card_opened, opened, NOW + after)

    assert (await kinds(database, cafe.owner)).count("card_opened") == told


# ---- completeness --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_the_ledger_replayed_equals_the_cards(
    database: Database, cafe: Cafe, seed: int
) -> None:
    """A random walk of three cards of two templates; one discards, one is republished midway."""
    chance = random.Random(seed)
    carrying = await a_card_template(
        database, cafe.owner, 5, [an_award_goal(2), an_award_goal(5)], name="Carries"
    )
    discarding = await a_card_template(
        database, cafe.owner, 4, [an_award_goal(4)], overflow=Overflow.DISCARD, name="Discards"
    )
    cards = [
        await a_card(database, cafe.owner, template.id)
        for template in (carrying, carrying, discarding)
    ]
    for step in range(40):
        if step == 20:
            given = {"id": carrying.id, "stamps_required": 3, "goals": [an_award_goal(3)]}
            await do(database, cafe.owner, update_card_template, given)
            publish = PublishCardTemplateInput(id=Id(carrying.id))
            await do(database, cafe.owner, publish_card_template, publish)
        await stamps(database, cafe.owner, chance.choice(cards), chance.randint(1, 9))

    ledger = await database.read(cafe.business.id, lambda tx: tx.many(LEDGER))
    rewards = await database.read(cafe.business.id, lambda tx: tx.many(REWARDS))
    for card in cards:
        now = await database.read(cafe.business.id, lambda tx, id=card.id: tx.get(Card, id))
        assert now
        stands = (0, 1)
        for line in [line for line in ledger if line.card_id == card.id]:
            assert (line.before, line.cycle_before) == stands
            stands = (line.after or 0, line.cycle_after or 0)
        assert (now.stamps, now.cycle) == stands
    assert len(ledger) == 40
    paid = Counter((reward.card_id, reward.cycle, reward.goal_position) for reward in rewards)
    assert set(paid.values()) == {1}
    events = await log(database, cafe.owner)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    told = Counter(event.type for event in events)
    assert told["stamp_added"] == 40
    assert told["goal_reached"] == told["reward_issued"] == len(rewards)


async def test_a_day_later_everything_is_dated_a_day_later(database: Database, cafe: Cafe) -> None:
    card = await a_card(database, cafe.owner)
    later = datetime.combine(date(2026, 3, 3), NOW.time(), UTC)

    done = await stamps(database, cafe.owner, card, 1, later)

    assert done.card
    assert done.operation
    assert (done.card.last_stamp_at, done.operation.occurred_at) == (later, later)
    assert (await log(database, cafe.owner))[-1].occurred_at == later
