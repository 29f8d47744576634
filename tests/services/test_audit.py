"""The audit: what was spoiled behind the services' back is found and named."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col, select
from typer.testing import CliRunner

import cli
from core.ids import Id, new_id
from core.settings import Settings
from db import BUSINESS, Database, Query, Transaction, command, database_of, query
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_lottery_goal,
    a_voucher,
    an_award_goal,
    stamps,
)
from models import (
    Card,
    DailyFigure,
    Delivery,
    DeliveryState,
    EventRow,
    IdempotencyRecord,
    LogHead,
    LotteryTicket,
    LotteryVariant,
    Operation,
    OperationKind,
    Reward,
    Row,
    VariantType,
    Vocabulary,
    Voucher,
    VoucherStatus,
    WebhookEndpoint,
)
from processes import Process
from services.audit import Finding, audit, audited
from services.card_templates import LotteryVariantInput
from services.lotteries import PlayLotteryInput, play_lottery
from services.undo import VoidOperationInput, void_operation
from services.vouchers import RedeemVoucherInput, VoucherRef, redeem_voucher

Spoil = Callable[[Database, Cafe], Awaitable[tuple[str, str | None, str]]]
"""It spoils something; the rule, the subject and some words of what is to be found then."""


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    """A café in which a bit of everything happened."""
    made = await a_business(database)
    owner = made.owner
    prizes = [
        LotteryVariantInput(type=VariantType.AWARD, probability=9_000, name="Cake", stock=5),
        LotteryVariantInput(type=VariantType.NO_PRIZE, probability=1_000, name="Nothing"),
    ]
    goals = [an_award_goal(1), a_lottery_goal(3, *prizes)]
    template = await a_card_template(database, owner, 3, goals)
    card = await a_card(database, owner, template.id)
    done = await stamps(database, owner, card, 4)
    [ticket] = done.lottery_tickets
    await do(database, made, play_lottery, PlayLotteryInput(ticket_id=Id(ticket.id)))
    last = await stamps(database, owner, card, 2)
    await do(database, made, void_operation, VoidOperationInput(id=Id(last.operation.id)))
    voucher = await a_voucher(database, owner, card=card)
    ref = VoucherRef(id=Id(voucher.id))
    await do(database, made, redeem_voucher, RedeemVoucherInput(voucher=ref))
    await a_voucher(database, owner)
    return made


async def do(database: Database, cafe: Cafe, service: Any, input: Any, **more: Any) -> Any:
    async def work(tx: Transaction) -> Any:
        return await service(tx, cafe.owner, input, NOW, **more)

    return await database.write(cafe.business.id, work)


async def found(database: Database, cafe: Cafe) -> list[Finding]:
    told: list[Finding] = []
    await audit(database, cafe.business, told.append)
    return told


async def first(database: Database, cafe: Cafe, table: type[Row], *where: Any) -> Any:
    business: Any = table
    statement: Query[Any] = query(select(table).where(business.business_id == BUSINESS, *where))
    return await database.read(cafe.business.id, lambda tx: tx.one(statement))


async def change(database: Database, cafe: Cafe, row: Row, **values: Any) -> None:
    await database.write(cafe.business.id, lambda tx: tx.change(row, **values))


async def add(database: Database, cafe: Cafe, *rows: Row) -> None:
    await database.write(cafe.business.id, lambda tx: tx.add(*rows))


async def drop(database: Database, cafe: Cafe, table: type[Row], *where: Any) -> None:
    business: Any = table
    statement = command(delete(table).where(business.business_id == BUSINESS, *where))
    await database.write(cafe.business.id, lambda tx: tx.run(statement))


async def test_nothing_is_found_where_all_is_well(database: Database, cafe: Cafe) -> None:
    assert await found(database, cafe) == []


async def spoil_stamps(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    card = await first(database, cafe, Card)
    await change(database, cafe, card, stamps=card.stamps + 1)
    return "ledger", card.id, "leads to"


async def spoil_bounds(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    card = await first(database, cafe, Card)
    await change(database, cafe, card, stamps=99)
    return "bounds", card.id, "99 stamps"


async def spoil_a_line(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    line = await first(database, cafe, Operation, col(Operation.line) == 1)
    await change(database, cafe, line, count=3)
    return "ledger", line.card_id, "leads to"


async def drop_a_line(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    line = await first(database, cafe, Operation, col(Operation.line) == 1)
    await drop(database, cafe, Operation, col(Operation.id) == line.id)
    return "ledger", line.card_id, "its ledger has [2, 3]"


async def unmark_what_was_undone(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    void = await first(database, cafe, Operation, col(Operation.kind) == OperationKind.VOID)
    line = await first(database, cafe, Operation, col(Operation.id) == void.voids_id)
    await change(database, cafe, line, voided_by_id=None)
    return "ledger", void.id, "which says no such"


async def void_a_reward(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    reward = await first(database, cafe, Reward, col(Reward.cycle) == 1)
    await change(database, cafe, reward, voided_at=NOW)
    return "goals", reward.card_id, "never paid"


async def pay_a_goal_twice(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    ticket = await first(database, cafe, LotteryTicket)
    reward = await first(database, cafe, Reward, col(Reward.cycle) == 1)
    other = reward.with_values(id=new_id("rw"), goal_position=ticket.goal_position)
    await add(database, cafe, other)
    return "goals", reward.card_id, "was paid 2 times"


async def forget_a_redemption(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    is_redemption = col(Operation.kind) == OperationKind.VOUCHER_REDEEM
    line = await first(database, cafe, Operation, is_redemption)
    await drop(database, cafe, Operation, is_redemption)
    return "vouchers", line.voucher_id, "0 redemptions are in force"


async def redeem_another_time(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    line = await first(
        database, cafe, Operation, col(Operation.kind) == OperationKind.VOUCHER_REDEEM
    )
    other = await first(database, cafe, Voucher, col(Voucher.status) == VoucherStatus.ACTIVE)
    await add(database, cafe, line.with_values(id=new_id("op"), voucher_id=other.id))
    return "vouchers", other.id, "1 redemptions are in force"


async def revive_a_voucher(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    voucher = await first(database, cafe, Voucher, col(Voucher.status) == VoucherStatus.REDEEMED)
    await change(database, cafe, voucher, status=VoucherStatus.ACTIVE)
    return "vouchers", voucher.id, "redeemed_at says otherwise"


async def drop_an_event(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    line = await first(database, cafe, Operation, col(Operation.line) == 1)
    event = await first(database, cafe, EventRow, col(EventRow.type) == "card_issued")
    await drop(database, cafe, EventRow, col(EventRow.sequence) == event.sequence + 1)
    return "events", line.id, "0 events stamp_added"


async def leave_a_gap(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    await drop(database, cafe, EventRow, col(EventRow.sequence) == 2)
    third = await first(database, cafe, EventRow, col(EventRow.sequence) == 3)
    return "log", third.id, "After 1 comes 3"


async def push_the_head(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    head = await first(database, cafe, LogHead)
    await change(database, cafe, head, sequence=head.sequence + 1)
    return "log", cafe.business.id, "its head says"


async def tell_of_a_stranger(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    event = await first(database, cafe, EventRow, col(EventRow.type) == "stamp_added")
    body = json.loads(event.body)
    body["customer"]["id"] = new_id("c")
    await change(database, cafe, event, body=json.dumps(body))
    return "names", event.id, "which does not exist"


async def garble_a_body(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    event = await first(database, cafe, EventRow, col(EventRow.sequence) == 2)
    body = json.loads(event.body)
    del body["stamp"]
    await change(database, cafe, event, body=json.dumps(body))
    return "events", event.id, "does not read"


async def misplace_a_body(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    event = await first(database, cafe, EventRow, col(EventRow.sequence) == 2)
    body = json.loads(event.body)
    await change(database, cafe, event, body=json.dumps(body | {"sequence": 77}))
    return "events", event.id, "tells another"


async def change_the_seed(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    ticket = await first(database, cafe, LotteryTicket)
    await change(database, cafe, ticket, seed="0" * 64)
    return "lottery", ticket.id, "commitment"


async def oversell(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    variant = await first(database, cafe, LotteryVariant, col(LotteryVariant.stock).is_not(None))
    await change(database, cafe, variant, stock=-1)
    return "lottery", variant.id, "-1 are left"


async def embellish_the_figures(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    raised = {DailyFigure.stamps: col(DailyFigure.stamps) + 1}
    statement = command(
        update(DailyFigure)
        .where(col(DailyFigure.business_id) == BUSINESS, col(DailyFigure.stamps) > 0)
        .values(raised)
    )
    await database.write(cafe.business.id, lambda tx: tx.run(statement))
    return "figures", None, "stamps is 5; a recount gives 4"


async def forget_the_figures(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    await drop(database, cafe, DailyFigure)
    return "figures", None, "stamps is 0; a recount gives 4"


async def push_a_cursor(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    endpoint = an_endpoint(cafe, 1_000)
    await add(database, cafe, endpoint)
    return "endpoints", endpoint.id, "Its cursor is 1000"


async def owe_what_was_not_read(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    endpoint = an_endpoint(cafe, 2)
    owed = Delivery(
        endpoint_id=endpoint.id,
        sequence=3,
        business_id=cafe.business.id,
        state=DeliveryState.DEAD,
    )
    await add(database, cafe, endpoint, owed)
    return "endpoints", endpoint.id, "A delivery of 3"


def an_endpoint(cafe: Cafe, cursor: int) -> WebhookEndpoint:
    return WebhookEndpoint(
        id=new_id("we"),
        business_id=cafe.business.id,
        url="https://till.example/hook",
        vocabulary=Vocabulary.EN,
        cursor_sequence=cursor,
        created_at=NOW,
        next_attempt_at=NOW,
        lease_until=NOW,
    )


async def keep_what_never_was(database: Database, cafe: Cafe) -> tuple[str, str | None, str]:
    record = IdempotencyRecord(
        business_id=cafe.business.id,
        actor_id="st",
        mutation="addStamps",
        key="k",
        fingerprint="",
        outcome={"operation": {"row": new_id("op")}},
        created_at=NOW,
    )
    await add(database, cafe, record)
    return "idempotency", "addStamps k", "which does not exist"


SPOILS: list[Spoil] = [
    spoil_stamps,
    spoil_bounds,
    spoil_a_line,
    drop_a_line,
    unmark_what_was_undone,
    void_a_reward,
    pay_a_goal_twice,
    forget_a_redemption,
    redeem_another_time,
    revive_a_voucher,
    drop_an_event,
    leave_a_gap,
    push_the_head,
    tell_of_a_stranger,
    garble_a_body,
    misplace_a_body,
    change_the_seed,
    oversell,
    embellish_the_figures,
    forget_the_figures,
    push_a_cursor,
    owe_what_was_not_read,
    keep_what_never_was,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
async def test_what_was_spoiled_is_found_and_named(
    database: Database, cafe: Cafe, spoil: Spoil
) -> None:
    rule, subject, words = await spoil(database, cafe)

    told = await found(database, cafe)

    assert any(
        finding.rule == rule and subject in (None, finding.subject) and words in finding.message
        for finding in told
    ), told
    assert {finding.business_id for finding in told} == {cafe.business.id}


async def test_a_neighbours_trouble_is_not_ours(database: Database, cafe: Cafe) -> None:
    other = await a_business(database)
    await spoil_stamps(database, cafe)

    assert await found(database, other) == []
    assert {business.id for business in await audited(database)} == {
        cafe.business.id,
        other.business.id,
    }


def test_the_command_prints_each_finding_and_exits_with_1(settings: Settings) -> None:
    async def spoiled() -> tuple[str, str]:
        database = database_of(settings)
        await database.open()
        try:
            cafe = await a_business(database)
            template = await a_card_template(database, cafe.owner, 3)
            card = await a_card(database, cafe.owner, template.id)
            await change(database, cafe, card, stamps=1)
            other = await a_business(database)
            return card.id, other.business.id
        finally:
            await database.close()

    card_id, other = asyncio.run(spoiled())
    environment = Process(settings).environment

    told = CliRunner().invoke(cli.app, ["audit"], env=environment)
    as_json = CliRunner().invoke(cli.app, ["audit", "--json"], env=environment)
    sound = CliRunner().invoke(cli.app, ["audit", "--business", other], env=environment)
    nobody = CliRunner().invoke(cli.app, ["audit", "--business", "b_x"], env=environment)

    assert told.exit_code == 1
    assert f"ledger       {card_id}" in told.stdout
    [finding] = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert (finding["rule"], finding["subject"]) == ("ledger", card_id)
    assert as_json.exit_code == 1
    assert sound.exit_code == 0
    assert "all is well" in sound.stdout
    assert nobody.exit_code == 1
