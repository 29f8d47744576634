"""The invariants: whatever a café does, in whatever order, the audit then finds nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Denied, Refused
from core.ids import Id
from core.secrets import Secrets
from core.settings import Settings
from db import BUSINESS, Database, Query, Transaction, database_of, query
from factories import (
    a_business,
    a_card_template,
    a_location,
    a_lottery_goal,
    a_staff,
    a_voucher_goal,
    a_voucher_template,
    an_award_goal,
)
from models import (
    Actor,
    Card,
    ClaimCode,
    Customer,
    LotteryTicket,
    Operation,
    Overflow,
    Row,
    TicketStatus,
    VariantType,
    Voucher,
    VoucherStatus,
)
from services import idempotency
from services.audit import Finding, audit
from services.card_refs import CardRef
from services.card_templates import (
    AmountRuleInput,
    BirthdayRuleInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LotteryVariantInput,
    PublishCardTemplateInput,
    VoucherRewardInput,
    publish_card_template,
    update_card_template,
)
from services.cards import (
    AddStampsInput,
    DeleteCardInput,
    IssueCardInput,
    ReplaceCardInput,
    StampsAdded,
    add_stamps,
    delete_card,
    issue_card,
    replace_card,
)
from services.claim_codes import (
    ClaimStampsInput,
    CreateClaimCodesInput,
    claim_stamps,
    create_claim_codes,
)
from services.customers import CustomerInput
from services.due import run_due
from services.lotteries import PlayLotteryInput, play_lottery
from services.merging import MergeCustomersInput, merge_customers
from services.privacy import EraseCustomerInput, erase_customer
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

START = datetime(2026, 3, 4, 5, 0, tzinfo=UTC)
"""A few days before a night that has only 23 hours in New York."""
SECRETS = Secrets(b"the secret key of tests, which need none of their own")
which = st.integers(0, 30)
"""Which one of those there are, counted from the newest, and on from the start again."""
many = st.integers(1, 9)
KEPT = (Card, ClaimCode, Customer, LotteryTicket, Operation, Voucher)
ALL: dict[type[Row], Query[Any]] = {
    row: query(select(row).where(col(row.business_id) == BUSINESS).order_by(col(row.id).desc()))
    for row in KEPT
}


class Cafe(RuleBasedStateMachine):
    """A café in which everything happens, through the real services and the test's own clock."""

    database: Database
    do: Callable[[Awaitable[Any]], Any]

    @initialize()
    def open(self) -> None:
        self.clock = ManualClock(START)
        self.keys: dict[str, tuple[Any, str | None]] = {}
        self.do(self._open())
        for who in range(3):
            self.issue_a_card(who, who % 2)

    @rule(who=st.integers(0, 7), template=st.integers(0, 1))
    def issue_a_card(self, who: int, template: int) -> None:
        born = f"1990-03-{who + 2:02}"
        holder = CustomerInput(email=f"c{who}@mail.example", birthday=born)
        told = IssueCardInput(template_id=Id(self.templates[template].id), customer=holder)
        self.attempt(issue_card, told)

    @rule(card=which, count=many, by=which)
    def add_stamps(self, card: int, count: int, by: int) -> None:
        if ref := self.card(card):
            self.attempt(add_stamps, AddStampsInput(card=ref, count=count), by)

    @rule(card=st.integers(0, 1), count=many)
    def add_stamps_to_who_comes_often(self, card: int, count: int) -> None:
        self.add_stamps(card, count, 0)

    @rule(card=which, amount=st.sampled_from(["0.40", "3.00", "7.50"]))
    def add_stamps_for_an_amount(self, card: int, amount: str) -> None:
        if ref := self.card(card):
            self.attempt(add_stamps, AddStampsInput(card=ref, amount=Decimal(amount)))

    @rule(card=which, count=many, key=st.sampled_from("abc"))
    def add_stamps_under_a_key(self, card: int, count: int, key: str) -> None:
        """Once under a key; a repeat is answered with the first, and does nothing."""
        if key not in self.keys:
            if (ref := self.card(card)) is None:
                return
            told = AddStampsInput(card=ref, count=count, idempotency_key=key)
            done = self.do(self._under_a_key(told))
            if done is not None:
                self.keys[key] = told, done.operation.id
            return
        told, operation_id = self.keys[key]
        before = len(self.rows(Operation))
        repeated = self.do(self._under_a_key(told))
        assert repeated.operation.id == operation_id
        assert len(self.rows(Operation)) == before

    @rule(line=which, by=which)
    def undo(self, line: int, by: int) -> None:
        if id := self.id(Operation, line, voided_by_id=None):
            self.attempt(void_operation, VoidOperationInput(id=id), by)

    @rule(card=which, gift=st.integers(0, 1), is_bearers=st.booleans())
    def issue_a_voucher(self, card: int, gift: int, *, is_bearers: bool) -> None:
        ref = None if is_bearers else self.card(card)
        told = IssueVoucherInput(template_id=Id(self.gifts[gift].id), card=ref)
        self.attempt(issue_voucher, told)

    @rule(voucher=which, by=which)
    def redeem(self, voucher: int, by: int) -> None:
        if id := self.id(Voucher, voucher, status=VoucherStatus.ACTIVE):
            self.attempt(redeem_voucher, RedeemVoucherInput(voucher=VoucherRef(id=id)), by)

    @rule(voucher=which, by=which)
    def reverse(self, voucher: int, by: int) -> None:
        if id := self.id(Voucher, voucher, status=VoucherStatus.REDEEMED):
            told = ReverseRedemptionInput(voucher=VoucherRef(id=id))
            self.attempt(reverse_redemption, told, by)

    @rule(voucher=which)
    def void(self, voucher: int) -> None:
        if id := self.id(Voucher, voucher):
            self.attempt(void_voucher, VoidVoucherInput(id=id))

    @rule(ticket=which, by=which)
    def play(self, ticket: int, by: int) -> None:
        if id := self.id(LotteryTicket, ticket, status=TicketStatus.PENDING):
            self.attempt(play_lottery, PlayLotteryInput(ticket_id=id), by)

    @rule(stamps=many)
    def print_a_code(self, stamps: int) -> None:
        told = CreateClaimCodesInput(template_id=Id(self.templates[0].id), stamps=stamps)
        self.attempt(create_claim_codes, told)

    @rule(code=which, card=which)
    def claim_a_code(self, code: int, card: int) -> None:
        codes, ref = self.rows(ClaimCode), self.card(card)
        if codes and ref:
            told = ClaimStampsInput(code=codes[code % len(codes)].code, card=ref)
            self.attempt(claim_stamps, told)

    @rule(keep=which, other=which)
    def merge(self, keep: int, other: int) -> None:
        kept = self.id(Customer, keep, merged_into=None, erased_at=None)
        merged = self.id(Customer, other, merged_into=None, erased_at=None)
        if kept and merged:
            self.attempt(merge_customers, MergeCustomersInput(keep_id=kept, merge_id=merged))

    @rule(card=which)
    def replace(self, card: int) -> None:
        if ref := self.card(card):
            self.attempt(replace_card, ReplaceCardInput(card=ref))

    @rule(number=which, how=st.sampled_from(["delete", "delete", "erase", "nothing", "nothing"]))
    def lose(self, number: int, how: str) -> None:
        if how == "delete" and (card := self.id(Card, number, deleted_at=None)):
            self.attempt(delete_card, DeleteCardInput(id=card))
        if how == "erase" and (customer := self.id(Customer, number, erased_at=None)):
            self.attempt(erase_customer, EraseCustomerInput(id=customer))

    @rule(required=st.integers(4, 8))
    def publish_another_version(self, required: int) -> None:
        id = Id(self.templates[0].id)
        reward = VoucherRewardInput(voucher_template_id=Id(self.gifts[1].id))
        goals = [
            an_award_goal(1),
            a_lottery_goal(3, *self.prizes),
            GoalInput(stamps=required, reward=GoalRewardInput(voucher=reward)),
        ]
        told = {"id": id, "stamps_required": required, "goals": goals}
        if self.attempt(update_card_template, told) is not None:
            self.attempt(publish_card_template, PublishCardTemplateInput(id=id))

    @rule(hours=st.sampled_from([1, 20, 24 * 3, 24 * 33]))
    def let_time_pass(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))
        self.do(run_due(self.database, self.owner.business_id, self.clock))

    def teardown(self) -> None:
        if hasattr(self, "owner"):
            assert self.do(findings(self.database, self.owner)) == []

    def attempt(self, service: Any, input: Any, by: int = 0) -> Any:
        """The outcome of an operation; None where the rules refuse it."""
        self.clock.advance(timedelta(minutes=3))
        actor = self.crew[by % len(self.crew)]

        async def work(tx: Transaction) -> Any:
            return await service(tx, actor, input, self.clock.now())

        return self.do(allowed(self.database, actor, work))

    def rows(self, row: type[Row]) -> list[Any]:
        """All there are, newest first."""
        business_id = self.owner.business_id
        return self.do(self.database.read(business_id, lambda tx: tx.many(ALL[row])))

    def id(self, row: type[Row], number: int, **wanted: Any) -> Id | None:
        """One that is as wanted, or any where none is."""
        every = self.rows(row)
        fit = [
            item
            for item in every
            if all(getattr(item, name) is value for name, value in wanted.items())
        ]
        found = fit or every
        return Id(found[number % len(found)].id) if found else None

    def card(self, number: int) -> CardRef | None:
        id = self.id(Card, number, deleted_at=None)
        return CardRef(id=id) if id else None

    async def _under_a_key(self, told: AddStampsInput) -> Any:
        """As resolvers do it: the key is claimed, and what came of it is kept beside it."""
        print_ = idempotency.fingerprint(told, SECRETS)

        async def work(tx: Transaction) -> Any:
            now, key = self.clock.now(), str(told.idempotency_key)
            record, is_new = await idempotency.claim(tx, self.owner, "addStamps", key, print_, now)
            if not is_new:
                return await idempotency.replay(tx, record, StampsAdded)
            done = await add_stamps(tx, self.owner, told, now)
            await idempotency.keep(tx, record, done)
            return done

        return await allowed(self.database, self.owner, work)

    async def _open(self) -> None:
        there = {"timezone": "America/New_York", "currency": "EUR"}
        database = self.database
        owner = self.owner = (await a_business(database, now=START, **there)).owner
        place = Id((await a_location(database, owner, START)).id)
        self.crew = [owner, await a_staff(database, owner, now=START, location_id=place)]
        self.gifts = [
            await a_voucher_template(
                database, owner, START, validity=ValidityInput(days=days), generates_code=True
            )
            for days in (1, 20)
        ]
        prizes = self.prizes = [
            LotteryVariantInput(type=VariantType.AWARD, probability=3_000, name="Cake", stock=1),
            LotteryVariantInput(
                type=VariantType.VOUCHER,
                probability=3_000,
                name="Tea",
                voucher_template_id=Id(self.gifts[1].id),
            ),
            LotteryVariantInput(type=VariantType.TRY_AGAIN, probability=3_000, name="Again"),
            LotteryVariantInput(type=VariantType.NO_PRIZE, probability=1_000, name="Nothing"),
        ]
        birthday = BirthdayRuleInput(voucher_template_id=Id(self.gifts[0].id))
        goals = [
            an_award_goal(2),
            a_lottery_goal(4, *prizes),
            await a_voucher_goal(database, owner, 6, START),
        ]
        spent = EarningRuleInput(by_amount=AmountRuleInput(amount_per_stamp=Decimal(1)))
        self.templates = [
            await a_card_template(database, owner, 6, goals, START, birthday=birthday),
            await a_card_template(
                database,
                owner,
                3,
                [an_award_goal(1), a_lottery_goal(3, *prizes)],
                START,
                earning_rule=spent,
                overflow=Overflow.DISCARD,
                auto_play=True,
            ),
        ]


async def allowed(
    database: Database, actor: Actor, work: Callable[[Transaction], Any]
) -> Any | None:
    """What the work gave; None where the rules refuse it."""
    try:
        return await database.write(actor.business_id, work)
    except (Refused, Denied):
        return None


async def findings(database: Database, actor: Actor) -> list[Finding]:
    found: list[Finding] = []
    await audit(database, actor.business, found.append)
    return found


def walk(settings: Settings, **how: Any) -> None:
    """Let Hypothesis walk about in cafés on one database; one café for each walk."""
    with asyncio.Runner() as runner:

        async def opened() -> Database:
            database = database_of(settings)
            await database.open()
            return database

        async def doing(work: Awaitable[Any]) -> Any:
            return await work

        database = runner.run(opened())
        here = {"database": database, "do": staticmethod(lambda work: runner.run(doing(work)))}
        try:
            run_state_machine_as_test(
                type("Cafe", (Cafe,), here),
                settings=hypothesis.settings(
                    deadline=None,
                    database=None,
                    suppress_health_check=list(hypothesis.HealthCheck),
                    **how,
                ),
            )
        finally:
            runner.run(database.close())


@pytest.mark.slow
def test_whatever_a_cafe_does_every_promise_holds(settings: Settings) -> None:
    walk(settings, max_examples=12, stateful_step_count=60, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_whatever_many_cafes_do_every_promise_holds(settings: Settings) -> None:
    walk(settings, max_examples=300, stateful_step_count=120)
