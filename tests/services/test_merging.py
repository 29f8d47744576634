"""Merging: two records of one person become one, and nothing is lost or given twice."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, Forbidden, Invalid, NotFound, Refused
from core.ids import Id
from db import BUSINESS, Database, Transaction, query
from events.log import events_after
from factories import (
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_customer,
    a_staff,
    a_voucher,
    a_voucher_goal,
    an_award_goal,
    stamps,
)
from models import (
    Actor,
    BirthdayGift,
    Card,
    CardPlatform,
    CardTemplate,
    Channel,
    Consent,
    Customer,
    LotteryTicket,
    Operation,
    OperationKind,
    Overflow,
    Platform,
    Reward,
    Role,
    TicketStatus,
    VariantType,
    Voucher,
    replay,
)
from services.card_refs import CardRef, HolderRef, find_card
from services.card_templates import GoalInput, GoalRewardInput, LotteryInput, LotteryVariantInput
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    IssueCardInput,
    ReplaceCardInput,
    ReportCardSavedInput,
    add_stamps,
    delete_card,
    issue_card,
    promise_of,
    replace_card,
    report_card_saved,
)
from services.customers import (
    CustomerInput,
    CustomerRef,
    SetConsentInput,
    find_customer,
    set_consent,
    update_customer,
)
from services.lotteries import PlayLotteryInput, play_lottery
from services.merging import CustomersMerged, MergeCustomersInput, merge_customers
from services.tokens import card_by_token
from services.undo import VoidOperationInput, void_operation
from services.vouchers import RedeemVoucherInput, VoucherRef, redeem_voucher

LINES = query(
    select(Operation)
    .where(col(Operation.business_id) == BUSINESS, col(Operation.line).is_not(None))
    .order_by(col(Operation.line))
)
REWARDS = query(select(Reward).where(col(Reward.business_id) == BUSINESS).order_by(col(Reward.id)))
CONSENTS = query(select(Consent).where(col(Consent.business_id) == BUSINESS))
PLATFORMS = query(select(CardPlatform).where(col(CardPlatform.business_id) == BUSINESS))
GIFTS = query(select(BirthdayGift).where(col(BirthdayGift.business_id) == BUSINESS))
CARDS = query(select(Card).where(col(Card.business_id) == BUSINESS))


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    """A café."""
    return await a_business(database, now=clock.now())


@pytest.fixture
async def template(database: Database, cafe: Cafe, clock: ManualClock) -> CardTemplate:
    """A card of ten stamps: gifts at three, six and ten."""
    goals = [an_award_goal(count, f"At {count}") for count in (3, 6, 10)]
    return await a_card_template(database, cafe.owner, 10, goals, clock.now())


@pytest.fixture
def merge(perform: Any, cafe: Cafe) -> Any:
    """Merge the second customer (or the holder of the second card) into the first."""

    async def do(keep: Any, merged: Any, **values: Any) -> CustomersMerged:
        ids = [getattr(item, "customer_id", None) or item.id for item in (keep, merged)]
        told = MergeCustomersInput(keep_id=Id(ids[0]), merge_id=Id(ids[1]), **values)
        done: CustomersMerged = await perform(merge_customers, cafe.owner, told)
        return done

    return do


@pytest.fixture
def all_of(database: Database, cafe: Cafe) -> Any:
    """Rows of the café."""

    async def read(statement: Any) -> Any:
        return await database.read(cafe.business.id, lambda tx: tx.many(statement))

    return read


async def books_are_right(database: Database, actor: Actor) -> None:
    """Every card is its ledger replayed, and every goal it reached has one gift."""

    async def look(tx: Transaction) -> None:
        lines, rewards = await tx.many(LINES), await tx.many(REWARDS)
        for card in await tx.many(CARDS):
            own = [line for line in lines if line.card_id == card.id]
            assert [line.line for line in own] == list(range(1, len(own) + 1))
            named = {id for line in own for id in (line.version_before_id, line.version_id) if id}
            stands = replay(own, {id: await promise_of(tx, id) for id in named})
            assert (stands.stamps, stands.cycle) == (card.stamps, card.cycle)
            paid = Counter(
                (reward.cycle, reward.goal_position)
                for reward in rewards
                if reward.card_id == card.id and reward.voided_at is None
            )
            reached = Counter((cycle, goal.position) for cycle, goal in stands.reached)
            # What answers a goal of the joined card moved there; the rest is where it was.
            assert paid == reached or (card.merged_into and paid <= reached)

    await database.read(actor.business_id, look)


@pytest.mark.parametrize(
    ("mine", "theirs", "after", "cycle", "paid"),
    [
        (0, 0, 0, 1, []),
        (1, 1, 2, 1, []),
        (2, 2, 4, 1, ["At 3"]),  # neither had paid the goal at 3
        (4, 5, 9, 1, ["At 6"]),  # 3 was paid on both: of nine stamps it is due once in a cycle
        (1, 5, 6, 1, ["At 6"]),  # 3 was paid on the other
        (5, 1, 6, 1, ["At 6"]),
        (8, 5, 3, 2, ["At 10"]),  # 3 of the new cycle is answered by the other's 3
        (8, 7, 5, 2, ["At 10"]),
        (9, 9, 8, 2, ["At 10"]),  # 3 and 6 of the new cycle are answered by the other's
        (10, 2, 2, 2, []),
        (10, 5, 5, 2, []),
        (4, 10, 4, 1, []),  # a full card's cycle is over: it adds nothing
        (10, 10, 10, 1, []),
        (13, 14, 7, 2, ["At 6"]),  # 3 and 4 of second cycles
        (4, 27, 1, 2, ["At 10"]),
    ],
)
async def test_two_cards_give_what_one_would_have_given(
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    all_of: Any,
    row: Any,
    clock: ManualClock,
    mine: int,
    theirs: int,
    after: int,
    cycle: int,
    paid: list[str],
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    for card, count in ((keep, mine), (other, theirs)):
        if count:
            await stamps(database, cafe.owner, card, count, clock.now())
    before = len(await all_of(REWARDS))
    clock.advance(timedelta(minutes=1))

    done = await merge(keep, other)

    [card] = done.cards
    assert (card.id, card.stamps, card.cycle) == (keep.id, after, cycle)
    assert [reward.title for reward in done.rewards] == paid
    assert len(await all_of(REWARDS)) == before + len(paid)
    [line] = [line for line in await all_of(LINES) if line.kind is OperationKind.MERGE]
    assert (line.card_id, line.external_ref) == (keep.id, other.id)
    assert (line.after, line.cycle_after) == (after, cycle)
    gone = await row(cafe.owner, Card, other.id)
    assert (gone.merged_into, gone.deleted_at) == (keep.id, clock.now())
    assert gone.customer_id == keep.customer_id
    await books_are_right(database, cafe.owner)


async def test_stamps_beyond_a_full_card_are_lost_where_the_template_says_so(
    database: Database, cafe: Cafe, merge: Any, clock: ManualClock
) -> None:
    goals = [an_award_goal(3), an_award_goal(5, "A cake")]
    template = await a_card_template(
        database, cafe.owner, 5, goals, clock.now(), overflow=Overflow.DISCARD
    )
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    await stamps(database, cafe.owner, keep, 4, clock.now())
    await stamps(database, cafe.owner, other, 4, clock.now())

    done = await merge(keep, other)

    assert [(card.stamps, card.cycle) for card in done.cards] == [(5, 1)]
    assert [reward.title for reward in done.rewards] == ["A cake"]
    await books_are_right(database, cafe.owner)


async def test_the_events_of_a_join_are_those_of_the_goals_it_reaches(
    database: Database, cafe: Cafe, merge: Any, clock: ManualClock
) -> None:
    goals = [await a_voucher_goal(database, cafe.owner, 3, clock.now())]
    template = await a_card_template(database, cafe.owner, 3, goals, clock.now())
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    for card in (keep, other):
        await stamps(database, cafe.owner, card, 2, clock.now())
    written = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))

    await merge(keep, other)

    log = await database.read(cafe.business.id, lambda tx: events_after(tx, len(written), 100))
    assert [event.type for event in log] == ["goal_reached", "reward_issued", "voucher_issued"]
    assert {event.card_id for event in log} == {keep.id}
    assert {event.customer_id for event in log} == {keep.customer_id}


async def test_a_dry_run_shows_it_and_writes_nothing(
    database: Database, cafe: Cafe, template: CardTemplate, all_of: Any, clock: ManualClock
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    await stamps(database, cafe.owner, other, 4, clock.now())
    before = [await all_of(statement) for statement in (CARDS, LINES, REWARDS)]
    told = MergeCustomersInput(
        keep_id=Id(keep.customer_id), merge_id=Id(other.customer_id), dry_run=True
    )

    done = await database.rehearse(
        cafe.business.id, lambda tx: merge_customers(tx, cafe.owner, told, clock.now())
    )

    assert [(card.id, card.stamps) for card in done.cards] == [(keep.id, 4)]
    assert [await all_of(statement) for statement in (CARDS, LINES, REWARDS)] == before


async def test_empty_fields_are_filled_and_the_old_record_holds_nothing_personal(
    database: Database, cafe: Cafe, merge: Any, row: Any, clock: ManualClock
) -> None:
    keep = await a_customer(database, cafe.owner, clock.now(), email="a@mail.example", name=None)
    clock.advance(timedelta(days=1))
    other = await a_customer(
        database,
        cafe.owner,
        clock.now(),
        email="b@mail.example",
        phone="+6281234567890",
        name="Siti",
        birthday="1990-02-28",
    )

    done = await merge(keep, other)

    kept, old = done.customer, await row(cafe.owner, Customer, other.id)
    assert kept == await row(cafe.owner, Customer, keep.id)
    assert (kept.name, kept.email, kept.phone) == ("Siti", "a@mail.example", "+6281234567890")
    assert (kept.birthday, kept.created_at) == ("1990-02-28", keep.created_at)
    assert (old.name, old.email, old.phone, old.birthday) == (None, None, None, None)
    assert (old.merged_into, old.merged_at) == (keep.id, clock.now())
    assert old.merged_by_id == cafe.owner.staff_id


async def test_the_old_id_number_and_token_lead_to_the_kept_one(
    perform: Any,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    clock: ManualClock,
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    await merge(keep, other)
    refs = [
        CardRef(id=Id(other.id)),
        CardRef(number=other.number),
        CardRef(token=other.token),
        CardRef(
            holder=HolderRef(
                template_id=Id(template.id), customer=CustomerRef(id=Id(other.customer_id))
            )
        ),
    ]

    for ref in refs:
        card, customer = await database.read(
            cafe.business.id, lambda tx, ref=ref: find_card(tx, ref, "ref")
        )
        assert (card.id, customer.id) == (keep.id, keep.customer_id)
    done = await perform(add_stamps, cafe.owner, AddStampsInput(card=refs[1], count=1))
    shown = await database.read(None, lambda tx: card_by_token(tx, other.token))
    found = await database.read(
        cafe.business.id, lambda tx: find_customer(tx, CustomerRef(id=Id(other.customer_id)))
    )
    renamed = await perform(update_customer, cafe.owner, {"id": other.customer_id, "name": "Sri"})

    assert (done.card.id, done.card.stamps) == (keep.id, 1)
    assert shown
    assert shown[0].id == keep.id
    assert found
    assert found.id == renamed.customer.id == keep.customer_id


async def test_ids_lead_on_through_several_mergers(
    database: Database, cafe: Cafe, template: CardTemplate, merge: Any, clock: ManualClock
) -> None:
    cards = [await a_card(database, cafe.owner, template.id, clock.now()) for _ in range(3)]
    for card, count in zip(cards, (1, 2, 4), strict=True):
        await stamps(database, cafe.owner, card, count, clock.now())
    await merge(cards[1], cards[0])

    done = await merge(cards[2], cards[0])

    assert [(card.id, card.stamps) for card in done.cards] == [(cards[2].id, 7)]
    for card in cards:
        found, customer = await database.read(
            cafe.business.id,
            lambda tx, card=card: find_card(tx, CardRef(number=card.number), "ref"),
        )
        assert (found.id, customer.id) == (cards[2].id, cards[2].customer_id)
    with pytest.raises(Invalid, match="one customer already"):
        await merge(cards[0], cards[1])
    await books_are_right(database, cafe.owner)


async def test_a_card_of_another_template_moves_as_it_is(
    database: Database, cafe: Cafe, template: CardTemplate, merge: Any, row: Any, clock: ManualClock
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, now=clock.now())
    await stamps(database, cafe.owner, other, 2, clock.now())

    done = await merge(keep, other)

    assert [card.id for card in done.cards] == [other.id, keep.id]
    moved = await row(cafe.owner, Card, other.id)
    assert (moved.customer_id, moved.stamps, moved.merged_into) == (keep.customer_id, 2, None)
    assert moved.token == other.token


async def test_a_deleted_card_belongs_to_the_kept_customer_and_stays_deleted(
    perform: Any,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    row: Any,
    clock: ManualClock,
) -> None:
    keep = await a_customer(database, cafe.owner, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    await perform(delete_card, cafe.owner, DeleteCardInput(id=Id(other.id)))

    done = await merge(keep, other)

    moved = await row(cafe.owner, Card, other.id)
    assert done.cards == []
    assert (moved.customer_id, moved.merged_into) == (keep.id, None)
    assert moved.deleted_at == clock.now()


async def test_vouchers_and_wallets_go_to_the_kept_card(
    perform: Any,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    all_of: Any,
    row: Any,
    clock: ManualClock,
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    voucher = await a_voucher(database, cafe.owner, card=other, now=clock.now())
    for card, wallet in (
        (keep, Platform.WEB),
        (other, Platform.WEB),
        (other, Platform.APPLE),
    ):
        told = ReportCardSavedInput(card=CardRef(id=Id(card.id)), platform=wallet)
        await perform(report_card_saved, cafe.owner, told)

    await merge(keep, other)

    assert (await row(cafe.owner, Voucher, voucher.id)).card_id == keep.id
    saved = {(item.card_id, item.platform) for item in await all_of(PLATFORMS)}
    assert saved == {(keep.id, Platform.WEB), (keep.id, Platform.APPLE)}
    redeem = RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher.id)))
    await perform(redeem_voucher, cafe.owner, redeem)
    log = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    assert (log[-1].type, log[-1].customer_id) == ("voucher_redeemed", keep.customer_id)


async def test_the_newest_consent_counts(
    perform: Any, database: Database, cafe: Cafe, merge: Any, all_of: Any, clock: ManualClock
) -> None:
    keep = await a_customer(database, cafe.owner, clock.now())
    other = await a_customer(database, cafe.owner, clock.now())
    for customer, channel, granted, hours in (
        (keep, Channel.EMAIL, True, 0),
        (other, Channel.EMAIL, False, 1),
        (other, Channel.PUSH, True, 0),
        (keep, Channel.PUSH, False, 1),
        (keep, Channel.MESSENGERS, True, 0),
        (other, Channel.MESSENGERS, False, 0),
    ):
        clock.advance(timedelta(hours=hours))
        told = SetConsentInput(customer_id=Id(customer.id), channel=channel, granted=granted)
        await perform(set_consent, cafe.owner, told)

    await merge(keep, other)

    said = {(item.customer_id, item.channel, item.granted) for item in await all_of(CONSENTS)}
    assert said == {(keep.id, channel, False) for channel in Channel}


async def test_a_birthday_that_was_kept_is_not_kept_again(
    database: Database, cafe: Cafe, template: CardTemplate, merge: Any, all_of: Any, clock: Any
) -> None:
    keep = await a_customer(database, cafe.owner, clock.now())
    other = await a_customer(database, cafe.owner, clock.now())
    gift = BirthdayGift(
        business_id=cafe.business.id,
        customer_id=other.id,
        template_id=template.id,
        year=2026,
        at=clock.now(),
    )
    await database.write(cafe.business.id, lambda tx: tx.add(gift))

    await merge(keep, other)

    kept = {(item.customer_id, item.year) for item in await all_of(GIFTS)}
    assert kept == {(keep.id, 2026), (other.id, 2026)}


async def test_a_ticket_of_the_joined_card_can_still_be_played(
    perform: Any, database: Database, cafe: Cafe, merge: Any, row: Any, clock: ManualClock
) -> None:
    prize = LotteryVariantInput(type=VariantType.AWARD, probability=10_000, name="A muffin")
    lottery = GoalRewardInput(lottery=LotteryInput(variants=[prize]))
    goals = [GoalInput(stamps=2, reward=lottery), an_award_goal(4)]
    template = await a_card_template(database, cafe.owner, 4, goals, clock.now())
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    # A ticket of the other's first cycle, which nothing answers, and one of its second, which
    # answers the kept card's.
    tickets = (await stamps(database, cafe.owner, other, 6, clock.now())).lottery_tickets
    done = await merge(keep, other)

    played = [
        await perform(play_lottery, cafe.owner, PlayLotteryInput(ticket_id=Id(ticket.id)))
        for ticket in tickets
    ]

    assert done.lottery_tickets == []
    assert [card.stamps for card in done.cards] == [2]
    assert [item.ticket.status for item in played] == [TicketStatus.PLAYED] * 2
    now = [await row(cafe.owner, LotteryTicket, ticket.id) for ticket in tickets]
    assert [(ticket.card_id, ticket.cycle) for ticket in now] == [(other.id, 1), (keep.id, 1)]
    log = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 100))
    plays = [event for event in log if event.type == "lottery_played"]
    assert [(event.card_id, event.customer_id) for event in plays] == [
        (keep.id, keep.customer_id)
    ] * 2


async def test_what_was_done_before_a_join_is_undone_on_the_kept_card_alone(
    perform: Any,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    all_of: Any,
    clock: ManualClock,
) -> None:
    keep = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    mine = await stamps(database, cafe.owner, keep, 4, clock.now())
    theirs = await stamps(database, cafe.owner, other, 5, clock.now())
    await merge(keep, other)
    [joined] = [line for line in await all_of(LINES) if line.kind is OperationKind.MERGE]

    with pytest.raises(Refused) as refusal:
        await perform(void_operation, cafe.owner, VoidOperationInput(id=Id(theirs.operation.id)))
    with pytest.raises(Invalid):
        await perform(void_operation, cafe.owner, VoidOperationInput(id=Id(joined.id)))
    undone = await perform(void_operation, cafe.owner, VoidOperationInput(id=Id(mine.operation.id)))

    assert refusal.value.code is Code.CARD_DELETED
    assert (undone.card.id, undone.card.stamps) == (keep.id, 5)
    assert [reward.title for reward in undone.rewards] == ["At 6"]
    await books_are_right(database, cafe.owner)


async def test_a_card_issued_after_it_goes_to_the_kept_customer(
    perform: Any, database: Database, cafe: Cafe, template: CardTemplate, merge: Any, clock: Any
) -> None:
    keep = await a_customer(database, cafe.owner, clock.now(), email="a@mail.example")
    other = await a_customer(
        database, cafe.owner, clock.now(), email="b@mail.example", phone="+6281234567890"
    )
    await merge(keep, other)
    told = IssueCardInput(
        template_id=Id(template.id), customer=CustomerInput(phone="+6281234567890")
    )

    issued = await perform(issue_card, cafe.owner, told)

    assert issued.card.customer_id == keep.id
    assert issued.customer_created is False


async def test_only_owners_and_managers_merge(
    database: Database, cafe: Cafe, perform: Any, row: Any, clock: ManualClock
) -> None:
    scanner = await a_staff(database, cafe.owner, Role.SCANNER, clock.now())
    keep = await a_customer(database, cafe.owner, clock.now())
    other = await a_customer(database, cafe.owner, clock.now())
    told = MergeCustomersInput(keep_id=Id(keep.id), merge_id=Id(other.id))

    with pytest.raises(Forbidden):
        await perform(merge_customers, scanner, told)

    assert await row(cafe.owner, Customer, other.id) == other


async def test_customers_of_another_business_are_not_there(
    database: Database, cafe: Cafe, perform: Any, row: Any, clock: ManualClock
) -> None:
    stranger = await a_business(database, now=clock.now())
    mine = await a_customer(database, stranger.owner, clock.now())
    theirs = await a_customer(database, cafe.owner, clock.now())

    for keep, merged, field in ((mine, theirs, "mergeId"), (theirs, mine, "keepId")):
        told = MergeCustomersInput(keep_id=Id(keep.id), merge_id=Id(merged.id))
        with pytest.raises(NotFound) as refusal:
            await perform(merge_customers, stranger.owner, told)
        assert refusal.value.field == ["input", field]

    assert await row(cafe.owner, Customer, theirs.id) == theirs
    assert await row(stranger.owner, Customer, mine.id) == mine


async def test_a_replaced_card_has_a_new_token_and_pass_and_the_old_ones_are_dead(
    perform: Any,
    database: Database,
    cafe: Cafe,
    template: CardTemplate,
    merge: Any,
    clock: ManualClock,
) -> None:
    scanner = await a_staff(database, cafe.owner, Role.SCANNER, clock.now())
    card = await a_card(database, cafe.owner, template.id, clock.now())
    other = await a_card(database, cafe.owner, template.id, clock.now())
    await stamps(database, cafe.owner, card, 2, clock.now())
    await merge(card, other)

    done = await perform(replace_card, scanner, ReplaceCardInput(card=CardRef(number=card.number)))

    assert (done.card.id, done.card.number, done.card.stamps) == (card.id, card.number, 2)
    assert done.card.token not in (card.token, other.token)
    assert done.card.wallet_pass_id != card.wallet_pass_id
    assert (done.card.replaced_at, done.card.replaced_by_id) == (clock.now(), scanner.staff_id)
    for token in (card.token, other.token):
        with pytest.raises(NotFound):
            await database.read(
                cafe.business.id,
                lambda tx, token=token: find_card(tx, CardRef(token=token), "ref"),
            )
        assert await database.read(None, lambda tx, token=token: card_by_token(tx, token)) is None
    shown = await database.read(None, lambda tx: card_by_token(tx, done.card.token))
    assert shown
    assert shown[0].id == card.id
