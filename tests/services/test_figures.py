"""Figures: a recount from the ledger gives the same, whatever happened."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Refused
from core.ids import Id
from db import BUSINESS, Database, Transaction, query
from factories import (
    NOW,
    a_business,
    a_card,
    a_card_template,
    a_location,
    a_lottery_goal,
    a_staff,
    a_voucher,
    a_voucher_goal,
    a_voucher_template,
    an_award_goal,
    stamps,
)
from models import (
    Actor,
    Card,
    DailyFigure,
    LotteryTicket,
    Operation,
    OperationKind,
    Reward,
    RewardType,
    Source,
    TicketStatus,
    VariantType,
    Voucher,
    VoucherStatus,
)
from models.figures import COUNTERS
from services.card_refs import CardRef
from services.card_templates import BirthdayRuleInput, LotteryVariantInput
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    IssueCardInput,
    add_stamps,
    delete_card,
    issue_card,
)
from services.customers import CustomerInput
from services.due import run_due
from services.lotteries import PlayLotteryInput, play_lottery
from services.undo import (
    ReverseRedemptionInput,
    VoidOperationInput,
    VoidVoucherInput,
    reverse_redemption,
    void_operation,
    void_voucher,
)
from services.vouchers import (
    IssueVoucherInput,
    RedeemVoucherInput,
    ValidityInput,
    VoucherRef,
    issue_voucher,
    redeem_voucher,
)

Key = tuple[date, str, str, str]
Figures = dict[Key, dict[str, int]]


async def all_of(database: Database, actor: Actor, row: Any) -> list[Any]:
    statement = query(select(row).where(col(row.business_id) == BUSINESS))
    return await database.read(actor.business_id, lambda tx: tx.many(statement))


async def kept(database: Database, actor: Actor) -> Figures:
    """The figures as they are kept; rows that came to nothing again are left out."""
    told = {
        (row.day, row.location_id, row.staff_id, row.template_id): {
            name: getattr(row, name) for name in COUNTERS if getattr(row, name)
        }
        for row in await all_of(database, actor, DailyFigure)
    }
    return {key: counts for key, counts in told.items() if counts}


async def recounted(database: Database, actor: Actor) -> Figures:
    """The same, counted anew from cards, ledger, rewards and vouchers."""
    rows = [
        row
        for kind in (Card, Operation, Reward, Voucher, LotteryTicket)
        for row in await all_of(database, actor, kind)
    ]
    cards = {row.id: row for row in rows if isinstance(row, Card)}
    vouchers = {row.id: row for row in rows if isinstance(row, Voucher)}
    sums = defaultdict[Key, Counter[str]](Counter)
    for row in rows:
        for at, by, name, number in COUNTS[type(row)](row, vouchers, actor):
            card = row if isinstance(row, Card) else cards.get(row.card_id)
            day = at.astimezone(actor.business.zone).date()
            staff = by.issued_by_id if isinstance(by, Card) else by.staff_id
            key = (day, by.location_id or "", staff or "", card.template_id if card else "")
            sums[key][name] += number
    return {key: dict(counts) for key, counts in sums.items()}


Counted = Iterator[tuple[datetime, Any, str, int]]
"""When it was, by whom and where, which figure, how many."""


def of_card(card: Card, *_: Any) -> Counted:
    yield card.created_at, card, "new_cards", 1
    if card.deleted_at:
        yield card.deleted_at, card, "deleted_cards", 1


def of_line(line: Operation, vouchers: dict[str, Voucher], _: Actor) -> Counted:
    if line.voided_by_id is not None:
        return
    if line.kind is OperationKind.STAMPS:
        yield line.occurred_at, line, "stamp_operations", 1
        yield line.occurred_at, line, "stamps", line.count
    if line.kind is OperationKind.VOUCHER_REDEEM:
        voucher = vouchers[line.voucher_id]
        yield line.occurred_at, line, "vouchers_redeemed", 1
        yield voucher.issued_at, voucher, "cohort_redeemed", 1


def of_reward(reward: Reward, *_: Any) -> Counted:
    if reward.voided_at is None and reward.type is RewardType.AWARD:
        yield reward.issued_at, reward, "awards_issued", 1
    if reward.voided_at is None and reward.source is Source.BIRTHDAY:
        yield reward.issued_at, reward, "birthday_gifts", 1


def of_voucher(voucher: Voucher, _: Any, actor: Actor) -> Counted:
    if voucher.status is not VoucherStatus.VOIDED:
        yield voucher.issued_at, voucher, "vouchers_issued", 1
    if voucher.status is VoucherStatus.EXPIRED:
        yield voucher.expires_at, Actor(actor.business), "vouchers_expired", 1


def of_ticket(ticket: LotteryTicket, _: Any, actor: Actor) -> Counted:
    if ticket.status is TicketStatus.PLAYED:  # in the walk it is always the owner who plays
        yield ticket.played_at, actor, "lottery_plays", 1


COUNTS: dict[type, Any] = {
    Card: of_card,
    Operation: of_line,
    Reward: of_reward,
    Voucher: of_voucher,
    LotteryTicket: of_ticket,
}


async def attempt(database: Database, actor: Actor, service: Any, input: Any, now: Any) -> Any:
    """The outcome of an operation; None where the rules refuse it."""
    try:
        return await database.write(actor.business_id, lambda tx: service(tx, actor, input, now))
    except Refused:
        return None


DEEDS = (
    *("issue", "stamp", "stamp", "stamp", "voucher", "redeem", "redeem", "play"),
    *("undo", "undo", "void", "reverse", "delete", "time"),
)


async def walk(database: Database, clock: ManualClock, seed: int, steps: int) -> Actor:
    """A café in which everything happens at random."""
    random = Random(seed)
    owner = (await a_business(database, timezone="America/New_York")).owner
    there = Id((await a_location(database, owner)).id)
    crew = [
        owner,
        await a_staff(database, owner),
        await a_staff(database, owner, location_id=there),
    ]
    gifts = [
        await a_voucher_template(database, owner, validity=ValidityInput(days=days))
        for days in (1, 3)
    ]
    lottery = a_lottery_goal(
        4,
        LotteryVariantInput(type=VariantType.AWARD, probability=6_000, name="Muffin"),
        LotteryVariantInput(type=VariantType.TRY_AGAIN, probability=4_000, name="Again"),
    )
    goals = [an_award_goal(2), lottery, await a_voucher_goal(database, owner, 6)]
    templates = [
        await a_card_template(
            database,
            owner,
            6,
            goals,
            birthday=BirthdayRuleInput(voucher_template_id=Id(gifts[0].id)),
        ),
        await a_card_template(database, owner, 3),
    ]
    for _ in range(steps):
        clock.advance(timedelta(minutes=random.randint(0, 400)))
        deed = random.choice(DEEDS)
        if deed == "time":
            await run_due(database, owner.business_id, clock)
            continue
        rows = {
            kind: await all_of(database, owner, kind)
            for kind in (Card, Operation, Voucher, LotteryTicket)
        }
        chosen = {kind: random.choice(found) if found else None for kind, found in rows.items()}
        told = an_input(random, deed, templates, gifts, chosen, clock.now())
        if told is not None:
            service, input = told
            # Scanners may do it all but delete; a ticket does not say who played it.
            who = owner if deed in ("play", "delete") else random.choice(crew)
            await attempt(database, who, service, input, clock.now())
    return owner


def an_input(
    random: Random,
    deed: str,
    templates: list[Any],
    gifts: list[Any],
    chosen: dict[type, Any],
    now: datetime,
) -> tuple[Any, Any] | None:
    """An operation, and what it is told; None where there is nothing to do it to."""
    card, line, voucher, ticket = (Id(row.id) if row else None for row in chosen.values())
    if deed == "issue":
        born = (now + timedelta(days=random.randint(0, 5))).strftime("1990-%m-%d")
        holder = CustomerInput(email=f"c{random.randint(0, 20)}@mail.example", birthday=born)
        template_id = Id(random.choice(templates).id)
        return issue_card, IssueCardInput(template_id=template_id, customer=holder)
    if deed == "voucher":
        ref = CardRef(id=card) if card and random.random() < 0.7 else None
        template_id = Id(random.choice(gifts).id)
        return issue_voucher, IssueVoucherInput(template_id=template_id, card=ref)
    count = random.randint(1, 7)
    told: dict[str, tuple[Id | None, Any, Callable[[Id], Any]]] = {
        "stamp": (card, add_stamps, lambda id: AddStampsInput(card=CardRef(id=id), count=count)),
        "delete": (card, delete_card, lambda id: DeleteCardInput(id=id)),
        "play": (ticket, play_lottery, lambda id: PlayLotteryInput(ticket_id=id)),
        "undo": (line, void_operation, lambda id: VoidOperationInput(id=id)),
        "redeem": (
            voucher,
            redeem_voucher,
            lambda id: RedeemVoucherInput(voucher=VoucherRef(id=id)),
        ),
        "reverse": (
            voucher,
            reverse_redemption,
            lambda id: ReverseRedemptionInput(voucher=VoucherRef(id=id)),
        ),
        "void": (voucher, void_voucher, lambda id: VoidVoucherInput(id=id)),
    }
    id, service, input_of = told[deed]
    return None if id is None else (service, input_of(id))


@pytest.mark.parametrize("seed", range(3))
async def test_figures_are_what_a_recount_gives(
    database: Database, clock: ManualClock, seed: int
) -> None:
    clock.moment = datetime(2026, 3, 4, 5, 0, tzinfo=UTC)  # the walk passes the night of 8 March

    owner = await walk(database, clock, seed, 200)

    figures = await kept(database, owner)
    assert figures == await recounted(database, owner)
    seen = Counter[str]()
    for counts in figures.values():
        seen.update(counts)
    assert {"new_cards", "stamps", "vouchers_redeemed", "cohort_redeemed"} <= set(seen)


async def test_one_transaction_stores_each_row_once(database: Database) -> None:
    owner = (await a_business(database)).owner
    card = await a_card(database, owner)
    before = (await all_of(database, owner, DailyFigure))[0]
    runs = []

    async def stamp(tx: Transaction) -> None:
        told = AddStampsInput(card=CardRef(id=Id(card.id)), count=3)
        await add_stamps(tx, owner, told, NOW)
        run = tx._run
        tx._run = lambda *given: runs.append(given[0].sql) or run(*given)

    await database.write(owner.business_id, stamp)

    assert len([sql for sql in runs if "daily_figure" in sql]) == 1
    assert "daily_figure" in runs[0]  # before the head of the log, whose lock all wait for
    [row] = await all_of(database, owner, DailyFigure)
    assert (before.new_cards, before.stamps) == (1, 0)
    assert (row.new_cards, row.stamp_operations, row.stamps, row.vouchers_issued) == (1, 1, 3, 1)
    assert row.last_at == NOW


async def test_what_is_refused_counts_for_nothing(database: Database) -> None:
    owner = (await a_business(database)).owner
    card = await a_card(database, owner)
    before = await all_of(database, owner, DailyFigure)

    told = AddStampsInput(card=CardRef(id=Id(card.id)), count=51)
    assert await attempt(database, owner, add_stamps, told, NOW) is None

    assert await all_of(database, owner, DailyFigure) == before


async def test_who_counts_at_one_moment_never_waits_in_a_ring(database: Database) -> None:
    owner = (await a_business(database)).owner
    template = await a_card_template(database, owner, 50, [an_award_goal(50)])
    old = [await a_voucher(database, owner, now=NOW - timedelta(days=n)) for n in (1, 2, 3, 4)]
    cards = [await a_card(database, owner, template.id) for _ in range(4)]

    async def busy(card: Card, voucher: Voucher) -> None:
        await stamps(database, owner, card, 2)
        told = RedeemVoucherInput(voucher=VoucherRef(id=Id(voucher.id)))
        await database.write(owner.business_id, lambda tx: redeem_voucher(tx, owner, told, NOW))
        await stamps(database, owner, card, 1)

    await asyncio.gather(*(busy(*pair) for pair in zip(cards, old, strict=True)))

    assert await kept(database, owner) == await recounted(database, owner)
