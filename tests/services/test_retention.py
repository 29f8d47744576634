"""Retention: old events go, what awaits them holds them back, and nobody loses any silently.

Proves cases 4 (a place older than retention) and 5 (an erased person's events keep their places)
of the list of fault tests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from core.errors import BadUserInput, CursorExpired
from core.ids import Id, new_id
from db import BUSINESS, Database, Query, Transaction, query
from events import CardOpened, StampAdded, record
from events.base import CardPart, Event
from events.log import check_cursor, events_after, head_of
from factories import (
    NOW,
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_lottery_goal,
    a_voucher,
    a_voucher_goal,
    stamps,
)
from models import (
    Attempt,
    AttemptStatus,
    Business,
    Card,
    Delivery,
    DeliveryState,
    EndpointStatus,
    EventRow,
    LogHead,
    LotteryTicket,
    Notice,
    NoticeKind,
    Ordering,
    Rendering,
    Replay,
    ReplayStatus,
    VariantType,
    Vocabulary,
    WebhookEndpoint,
    decode_cursor,
    encode_cursor,
)
from services import retention
from services.audit import Finding, audit
from services.businesses import update_business
from services.card_refs import CardRef
from services.card_templates import LotteryVariantInput
from services.cards import AddStampsInput, add_stamps
from services.listings import log_page
from services.lotteries import PlayLotteryInput, play_lottery
from services.overview import Asked, Period, overview
from services.pages import PageArgs
from services.privacy import EraseCustomerInput, erase_customer, export_customer
from services.retention import AT_ONCE, MOST_BEHIND, prune

DAY = timedelta(days=1)


class Shop:
    """A café that keeps its events for 30 days, with a log of any age."""

    def __init__(self, database: Database, cafe: Cafe) -> None:
        self.database = database
        self.cafe = cafe

    @property
    def id(self) -> str:
        return self.cafe.business.id

    async def write(self, work: Callable[[Transaction], Any]) -> Any:
        return await self.database.write(self.id, work)

    async def keep(self, days: int | None) -> None:
        """Set how long events are kept, as the owner does it."""
        given = {"event_retention_days": days}
        await self.write(lambda tx: update_business(tx, self.cafe.owner, given, NOW))

    async def happens(
        self, count: int, days_ago: float, kind: type[Event] = StampAdded, card: str = ""
    ) -> list[EventRow]:
        """So many events, that long ago."""
        event = kind.sample()
        if card:
            event = event.model_copy(update={"card": CardPart(id=card)})

        async def work(tx: Transaction) -> list[EventRow]:
            for _ in range(count):
                record(tx, self.cafe.owner, event, NOW - DAY * days_ago)
            return tx.recorded

        rows: list[EventRow] = await self.write(work)
        return rows

    async def endpoint(self, cursor: int, **values: Any) -> WebhookEndpoint:
        """An endpoint that has all up to here."""
        made = WebhookEndpoint(
            **{
                "id": new_id("we"),
                "business_id": self.id,
                "name": "Till",
                "url": "https://till.example/secret",
                "vocabulary": Vocabulary.EN,
                "cursor_sequence": cursor,
                "created_at": NOW,
                "next_attempt_at": NOW,
                "lease_until": NOW,
            }
            | values
        )
        await self.write(lambda tx: tx.add(made))
        return made

    async def add(self, *rows: Any) -> None:
        await self.write(lambda tx: tx.add(*rows))

    def delivery(self, endpoint: WebhookEndpoint, sequence: int, **values: Any) -> Delivery:
        return Delivery(
            endpoint_id=endpoint.id, business_id=self.id, sequence=sequence,
            **{"state": DeliveryState.RETRY, "next_attempt_at": NOW} | values,
        )  # fmt: skip

    async def all(self, statement: Query[Any]) -> list[Any]:
        return await self.database.read(self.id, lambda tx: tx.many(statement))

    async def rows(self, kind: Any) -> list[Any]:
        return await self.all(query(select(kind).where(kind.business_id == BUSINESS)))

    async def places(self) -> list[int]:
        """The places in the log that are there."""
        return sorted(row.sequence for row in await self.rows(EventRow))

    async def now_of(self, row: Any) -> Any:
        return await self.database.read(self.id, lambda tx: tx.get(type(row), row.id))

    async def head(self) -> LogHead:
        return await self.database.read(self.id, head_of)

    async def prune(self, now: datetime = NOW) -> int:
        return await prune(self.database, now, rest=0)

    async def findings(self) -> list[Finding]:
        found: list[Finding] = []
        await audit(self.database, self.cafe.business, found.append)
        return found


@pytest.fixture
async def shop(database: Database) -> Shop:
    made = Shop(database, await a_business(database))
    await made.keep(30)
    return made


@pytest.fixture
def open_shop(database: Database) -> Callable[[], Awaitable[Shop]]:
    async def make() -> Shop:
        made = Shop(database, await a_business(database))
        await made.keep(30)
        return made

    return make


async def test_events_older_than_the_business_keeps_them_go(shop: Shop) -> None:
    await shop.happens(3, days_ago=31)
    await shop.happens(2, days_ago=29)

    assert await shop.prune() == 3
    assert await shop.prune() == 0

    head = await shop.head()
    assert await shop.places() == [4, 5]
    assert (head.sequence, head.pruned_sequence) == (5, 3)
    assert head.pruned_until == NOW - DAY * 31


async def test_where_nothing_is_set_everything_is_kept_for_ever(shop: Shop) -> None:
    await shop.keep(None)
    await shop.happens(3, days_ago=3_000)

    assert await shop.prune() == 0
    assert await shop.places() == [1, 2, 3]


async def test_an_old_event_behind_a_young_one_waits_for_it(shop: Shop) -> None:
    """A till that was offline tells late: the log is thrown away from its beginning only."""
    await shop.happens(1, days_ago=31)
    await shop.happens(1, days_ago=29)
    await shop.happens(1, days_ago=31)

    await shop.prune()

    assert await shop.places() == [2, 3]


async def test_a_test_clock_makes_no_event_old(shop: Shop) -> None:
    """Retention goes by real time; a moved clock keeps events longer, never shorter."""
    await shop.write(lambda tx: tx.change(shop.cafe.business, clock_offset=366 * 86_400))
    await shop.happens(2, days_ago=-1)

    assert await shop.prune() == 0


async def test_each_step_is_short(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 500 rows go in a transaction, however much there is."""
    await shop.happens(AT_ONCE + 100, days_ago=40)
    touched: list[int] = []
    run = type(await _transaction(shop)).run

    async def counted(self: Transaction, statement: Any, **values: Any) -> int:
        touched.append(await run(self, statement, **values))
        return touched[-1]

    monkeypatch.setattr(type(await _transaction(shop)), "run", counted)
    await shop.prune()

    assert await shop.places() == []
    assert max(touched) == AT_ONCE
    assert sum(touched) >= AT_ONCE + 100


async def _transaction(shop: Shop) -> Transaction:
    async def itself(tx: Transaction) -> Transaction:
        return tx

    transaction: Transaction = await shop.write(itself)
    return transaction


async def test_a_business_whose_log_cannot_be_thrown_away_holds_up_no_other(
    open_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await open_shop(), await open_shop()
    for shop in (bad, good):
        await shop.happens(2, days_ago=31)
    mark = retention._mark

    async def fail(tx: Transaction, now: datetime) -> int:
        if tx.business == bad.id:
            raise RuntimeError
        return await mark(tx, now)

    monkeypatch.setattr(retention, "_mark", fail)
    await good.prune()

    assert await good.places() == []
    assert await bad.places() == [1, 2]


async def test_whoever_breaks_off_leaves_the_rest_to_the_next_time(shop: Shop) -> None:
    """A crash between saying how far the log goes and deleting what lies behind loses nothing."""
    await shop.happens(4, days_ago=31)
    assert await shop.write(lambda tx: retention._mark(tx, NOW)) == 4
    assert await shop.places() == [1, 2, 3, 4]
    assert await shop.findings() == [], "what is marked is gone, though it is still there"
    await shop.keep(None)

    assert await shop.prune() == 0
    assert await shop.places() == []

    await shop.happens(2, days_ago=1)
    assert await prune(shop.database, NOW, is_enough=lambda: True) == 0


# -- Who awaits events holds them back, for a while. ----------------------------------------------


@pytest.mark.parametrize("status", list(EndpointStatus))
async def test_it_stops_where_an_endpoint_has_got_to(shop: Shop, status: EndpointStatus) -> None:
    await shop.happens(5, days_ago=30.5)
    endpoint = await shop.endpoint(2, status=status)
    await shop.endpoint(4)
    await shop.endpoint(0, deleted_at=NOW)

    await shop.prune()

    assert await shop.places() == [3, 4, 5]
    assert (await shop.now_of(endpoint)).missed_events == 0
    assert await shop.rows(Notice) == []


async def test_what_an_endpoint_is_still_to_be_sent_again_is_awaited_but_not_what_is_dead(
    shop: Shop,
) -> None:
    await shop.happens(5, days_ago=31)
    endpoint = await shop.endpoint(5)
    await shop.add(
        shop.delivery(endpoint, 2, state=DeliveryState.DEAD, next_attempt_at=None),
        shop.delivery(endpoint, 4),
    )

    await shop.prune()

    assert await shop.places() == [4, 5]
    assert [row.sequence for row in await shop.rows(Delivery)] == [4]


async def test_after_ninety_days_more_what_was_due_is_missed_counted_and_told(shop: Shop) -> None:
    behind = MOST_BEHIND.days + 31
    await shop.happens(2, days_ago=behind)
    await shop.happens(1, days_ago=behind, kind=CardOpened)
    [last] = await shop.happens(1, days_ago=behind)
    await shop.happens(2, days_ago=behind - 2)
    endpoint = await shop.endpoint(
        1, types=["stamp_added"], status=EndpointStatus.DISABLED, lease_epoch=3,
        lease_until=NOW + DAY, last_due_id="evt_before",
    )  # fmt: skip
    other = await shop.endpoint(4)

    await shop.prune()

    told = await shop.now_of(endpoint)
    assert await shop.places() == [5, 6]
    assert (told.cursor_sequence, told.missed_events) == (4, 2)
    assert told.last_due_id == last.id, "the next request names an event that never came"
    assert (told.lease_epoch, told.lease_until) == (4, NOW), "whoever serves it is fenced off"
    assert (await shop.now_of(other)).missed_events == 0
    [notice] = await shop.rows(Notice)
    assert (notice.kind, notice.subject_id) == (NoticeKind.EVENTS_MISSED, endpoint.id)
    assert "Till did not get 2 events" in notice.message


async def test_a_week_has_one_notice_and_it_counts_on(shop: Shop) -> None:
    await shop.happens(2, days_ago=150)
    await shop.happens(3, days_ago=119.9)
    endpoint = await shop.endpoint(0)
    counts = []

    for days in (0, 1, 8):
        await shop.prune(NOW + DAY * days)
        counts.append([row.message.partition(" did")[2][:13] for row in await shop.rows(Notice)])
        await shop.happens(1, days_ago=115)

    assert (await shop.now_of(endpoint)).missed_events == 7
    assert counts == [[" not get 2 ev"], [" not get 5 ev"], [" not get 5 ev", " not get 7 ev"]]


async def test_missed_exceptions_are_counted_and_what_was_parked_behind_them_may_follow(
    shop: Shop,
) -> None:
    card = "card_00000000000000000000000001"
    await shop.happens(2, days_ago=200, card=card)
    await shop.happens(1, days_ago=1, card=card)
    endpoint = await shop.endpoint(3, ordering=Ordering.CARD, retry_due_at=NOW - DAY)
    await shop.add(
        shop.delivery(endpoint, 1, card_id=card),
        shop.delivery(endpoint, 2, card_id=card, state=DeliveryState.PARKED, next_attempt_at=None),
        shop.delivery(endpoint, 3, card_id=card, state=DeliveryState.PARKED, next_attempt_at=None),
    )

    await shop.prune()

    told = await shop.now_of(endpoint)
    [left] = await shop.rows(Delivery)
    assert (told.missed_events, told.cursor_sequence, told.retry_due_at) == (2, 3, NOW)
    assert (left.sequence, left.state, left.next_attempt_at) == (3, DeliveryState.RETRY, NOW)


async def test_a_replay_holds_events_back_and_then_goes_on_behind_them(shop: Shop) -> None:
    await shop.happens(4, days_ago=31)
    await shop.happens(4, days_ago=30.5)
    endpoint = await shop.endpoint(8)
    replay = Replay(
        id=new_id("rpl"), business_id=shop.id, endpoint_id=endpoint.id, cursor_sequence=2,
        last_sequence=6,
        since=NOW - DAY * 40,
        types=["stamp_added"], total=5, sent=1,
        created_at=NOW, next_attempt_at=NOW, lease_until=NOW,
    )  # fmt: skip
    await shop.add(replay)

    await shop.prune()
    assert await shop.places() == [3, 4, 5, 6, 7, 8]

    await shop.prune(NOW + MOST_BEHIND - DAY * 0.75)
    half = await shop.now_of(replay)
    assert await shop.places() == [5, 6, 7, 8]
    assert (half.status, half.cursor_sequence, half.failed) == (ReplayStatus.RUNNING, 4, 2)

    await shop.prune(NOW + MOST_BEHIND + DAY)
    left = await shop.now_of(replay)
    assert await shop.places() == []
    assert (left.cursor_sequence, left.sent + left.failed) == (6, 5)
    assert left.lease_epoch == 2, "whoever sends it just now is fenced off"


async def test_what_endpoints_have_of_an_event_goes_with_it(shop: Shop) -> None:
    await shop.happens(2, days_ago=31)
    endpoint = await shop.endpoint(2)

    def attempt(sequence: int, **values: Any) -> Attempt:
        return Attempt(
            **{
                "id": new_id("att"), "business_id": shop.id, "endpoint_id": endpoint.id,
                "sequence": sequence, "status": AttemptStatus.SUCCEEDED, "started_at": NOW,
            } | values
        )  # fmt: skip

    under_way = attempt(2, status=AttemptStatus.PENDING)
    sample = attempt(0)
    await shop.add(
        attempt(1), attempt(2), under_way, sample,
        Rendering(endpoint_id=endpoint.id, sequence=1, business_id=shop.id, body="{}"),
    )  # fmt: skip

    await shop.prune()
    assert {row.id for row in await shop.rows(Attempt)} == {under_way.id, sample.id}
    assert await shop.rows(Rendering) == []

    await shop.prune(NOW + DAY)
    assert [row.id for row in await shop.rows(Attempt)] == [sample.id]


# -- Nobody who reads is led past what is gone. ---------------------------------------------------


async def test_a_cursor_older_than_the_log_is_told_the_oldest_there_is(shop: Shop) -> None:
    await shop.happens(6, days_ago=31)
    await shop.happens(3, days_ago=1)
    await shop.prune()

    for place in (0, 5):
        with pytest.raises(CursorExpired) as told:
            await _read(shop, place)
        assert told.value.extensions == {
            "code": "CURSOR_EXPIRED",
            "oldestCursor": encode_cursor(6),
        }
    oldest = decode_cursor(told.value.oldest_cursor)
    assert await _read(shop, oldest) == [7, 8, 9]
    assert await _read(shop, 9) == []


async def test_a_cursor_beyond_the_end_is_refused(shop: Shop) -> None:
    """It was made by another business's log, or by this one before a backup was restored."""
    await shop.happens(2, days_ago=1)

    with pytest.raises(BadUserInput, match="beyond the end"):
        await _read(shop, 3)


async def test_backwards_the_log_ends_where_it_begins(shop: Shop) -> None:
    await shop.happens(3, days_ago=31)
    await shop.happens(3, days_ago=1)
    await shop.prune()

    async def back(args: PageArgs) -> list[int]:
        page = await shop.database.read(shop.id, lambda tx: log_page(tx, args, newest_first=True))
        return [row.sequence for row in page.rows]

    assert await back(PageArgs(first=10)) == [6, 5, 4]
    assert await back(PageArgs(first=10, after=encode_cursor(2))) == []
    assert await back(PageArgs(last=2, before=encode_cursor(3))) == [5, 4]
    with pytest.raises(CursorExpired):
        await back(PageArgs(last=2, before=encode_cursor(2)))


async def test_whoever_reads_while_the_log_is_thrown_away_has_all_or_is_told(shop: Shop) -> None:
    """A page begins right behind its cursor, or is refused; and the books go on meanwhile."""
    await shop.happens(1_100, days_ago=31)
    await shop.happens(10, days_ago=1)
    answers: list[str] = []
    over = asyncio.Event()

    async def read(place: int) -> None:
        while not over.is_set():
            try:
                rows = await _read(shop, place)
            except CursorExpired:
                answers.append("told")
            else:
                answers.append("whole" if rows[0] == place + 1 else "a gap")
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read(place)) for place in (0, 250, 499, 700, 1_099)]
    try:
        await shop.prune()
    finally:
        over.set()
        await asyncio.gather(*readers)

    assert set(answers) == {"told", "whole"}
    assert await shop.places() == list(range(1_101, 1_111))


async def _read(shop: Shop, place: int) -> list[int]:
    args = PageArgs(first=100, after=encode_cursor(place))
    page = await shop.database.read(shop.id, lambda tx: log_page(tx, args, newest_first=False))
    return [row.sequence for row in page.rows]


async def test_who_keeps_a_place_in_the_log_and_who_throws_it_away_come_one_after_the_other(
    open_shop: Any,
) -> None:
    """However they meet, a new endpoint has its place, or is told that it is gone."""
    outcomes = set()
    for turn in range(6):
        shop = await open_shop()
        await shop.happens(3, days_ago=200)

        async def begin(shop: Shop = shop) -> str:
            async def work(tx: Transaction) -> None:
                await head_of(tx, hold=True)
                await check_cursor(tx, 1)
                await tx.add(
                    WebhookEndpoint(
                        id=new_id("we"), business_id=shop.id, url="https://till.example/",
                        vocabulary=Vocabulary.EN, cursor_sequence=1, created_at=NOW,
                        next_attempt_at=NOW, lease_until=NOW,
                    )
                )  # fmt: skip

            try:
                await shop.write(work)
            except CursorExpired:
                return "told"
            return "kept"

        order = (begin(), shop.prune()) if turn % 2 else (shop.prune(), begin())
        said = await asyncio.gather(*order)
        outcome = next(item for item in said if isinstance(item, str))
        endpoints = await shop.rows(WebhookEndpoint)
        assert [row.missed_events for row in endpoints] == ([2] if outcome == "kept" else [])
        outcomes.add(outcome)

    assert outcomes <= {"told", "kept"}


# -- Nothing else needs what is gone. -------------------------------------------------------------


async def test_ledger_figures_audit_and_export_need_no_event_that_is_gone(shop: Shop) -> None:
    then, actor, database = NOW - DAY * 100, shop.cafe.owner, shop.database
    win = LotteryVariantInput(
        name="Nothing", probability=10_000, type=VariantType.NO_PRIZE, greeting="Well"
    )
    goals = [await a_voucher_goal(database, actor, 2, then), a_lottery_goal(4, win)]
    template = await a_card_template(database, actor, 4, goals, then)
    card = await a_card(database, actor, template.id, then, name="Siti", email="s@mail.example")
    await stamps(database, actor, card, 4, then)
    [ticket] = await shop.rows(LotteryTicket)
    play = PlayLotteryInput(ticket_id=Id(ticket.id))
    await shop.write(lambda tx: play_lottery(tx, actor, play, then + DAY))
    await a_voucher(database, actor, card=card, now=then + DAY)
    await stamps(database, actor, card, 3, NOW - DAY)
    asked = Asked(period=Period.MONTH, date=(then + DAY).date())

    async def figures() -> Any:
        return await database.read(shop.id, lambda tx: overview(tx, actor, asked, NOW))

    before, events = await figures(), len(await shop.places())
    assert await shop.findings() == []

    gone = await shop.prune()

    assert 0 < gone < events
    assert await shop.findings() == []
    assert await figures() == before
    told = await database.read(
        shop.id, lambda tx: export_customer(tx, actor, card.customer_id, NOW)
    )
    assert len(told["held"]["event"]) == events - gone
    assert (await shop.now_of(card)).stamps == 3

    await stamps(database, actor, card, 1)
    assert max(await shop.places()) > events, "the numbers go on where they were"
    card = await shop.now_of(card)
    await shop.write(lambda tx: tx.change(card, stamps=1))
    assert {finding.rule for finding in await shop.findings()} == {"ledger"}


async def test_an_erased_persons_events_keep_their_places_and_say_nothing_of_her(
    shop: Shop,
) -> None:
    """Case 5: a tombstone with its sequence, over every reader of the log."""
    actor, database = shop.cafe.owner, shop.database
    card: Card = await a_card(database, actor, name="Siti", email="siti@mail.example")
    told = AddStampsInput(card=CardRef(id=Id(card.id)), count=2, external_ref="Siti's receipt")
    await shop.write(lambda tx: add_stamps(tx, actor, told, NOW))
    before = await shop.rows(EventRow)
    assert "Siti's receipt" in "".join(row.body for row in before)

    erase = EraseCustomerInput(id=Id(card.customer_id))
    await shop.write(lambda tx: erase_customer(tx, actor, erase, NOW))

    after = await database.read(shop.id, lambda tx: events_after(tx, 0, 100))
    assert [(row.sequence, row.id, row.type) for row in after] == [
        (row.sequence, row.id, row.type) for row in sorted(before, key=lambda row: row.sequence)
    ]
    assert "Siti" not in "".join(row.body for row in after)
    assert await _read(shop, 0) == [row.sequence for row in after]
    assert await shop.findings() == []


async def test_an_owner_sets_how_long_events_are_kept(shop: Shop) -> None:
    await shop.keep(45)
    kept: Business = await shop.database.read(
        shop.id, lambda tx: tx.one(query(select(Business).where(Business.id == BUSINESS)))
    )
    assert kept.event_retention_days == 45
