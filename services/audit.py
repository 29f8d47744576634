"""The audit: whether all that is promised of stored rows holds, in one business at one moment."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, TypeVar

import orjson
from sqlalchemy import func, or_, text, tuple_
from sqlmodel import col, select

from core.clock import wire_time
from core.ids import prefix_of
from db import BUSINESS, Database, Query, Transaction, among, param, query
from events import read_event
from events.log import head_of
from models import (
    ApiKey,
    Business,
    Campaign,
    Card,
    ClaimCode,
    Customer,
    DailyFigure,
    Delivery,
    EventRow,
    IdempotencyRecord,
    LogHead,
    LotteryTicket,
    LotteryVariant,
    Operation,
    OperationKind,
    Promise,
    Reward,
    RewardType,
    Row,
    Source,
    Staff,
    TicketStatus,
    Voucher,
    VoucherStatus,
    VoucherTemplate,
    WebhookEndpoint,
    commitment_of,
    draw,
    replay,
)
from models.figures import COUNTERS
from models.lotteries import CERTAIN
from services.cards import promise_of
from services.operator import businesses

R = TypeVar("R", bound=Row)
_PAGE = 250
_IN_FORCE = query(
    select(Operation).where(
        col(Operation.business_id) == BUSINESS,
        among(col(Operation.voucher_id), "keys"),
        # Spelled out, so that SQLite uses the index of those in force.
        text("kind = 'voucher_redeem' AND voided_by_id IS NULL"),
    )
)
_AT = query(
    select(EventRow).where(
        col(EventRow.business_id) == BUSINESS,
        col(EventRow.occurred_at) == param("at"),
        col(EventRow.type) == param("type"),
    )
)
_EVENTS = query(
    select(EventRow)
    .where(col(EventRow.business_id) == BUSINESS, col(EventRow.sequence) > param("after"))
    .order_by(col(EventRow.sequence))
    .limit(_PAGE)
)
_STRAY = query(
    select(Delivery)
    .join(WebhookEndpoint, col(WebhookEndpoint.id) == col(Delivery.endpoint_id))
    .where(
        col(Delivery.business_id) == BUSINESS,
        or_(
            col(Delivery.sequence) > col(WebhookEndpoint.cursor_sequence),
            col(Delivery.sequence) < 1,
        ),
    )
    .limit(_PAGE)
)
_AHEAD = query(
    select(WebhookEndpoint).where(
        col(WebhookEndpoint.business_id) == BUSINESS,
        or_(
            col(WebhookEndpoint.cursor_sequence) > param("head"),
            (col(WebhookEndpoint.cursor_sequence) < param("pruned"))
            & col(WebhookEndpoint.deleted_at).is_(None),
        ),
    )
)
_OVERSOLD = query(
    select(LotteryVariant).where(
        col(LotteryVariant.business_id) == BUSINESS, col(LotteryVariant.stock) < 0
    )
)
_SHARED_CODES = query(
    select(func.min(col(Voucher.id)), func.count())
    .join(VoucherTemplate, col(VoucherTemplate.id) == col(Voucher.template_id))
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.status) == VoucherStatus.ACTIVE,
        col(VoucherTemplate.generates_code).is_(True),
        col(Voucher.redeem_code).is_not(None),
    )
    .group_by(col(Voucher.redeem_code))
    .having(func.count() > 1)
)
_UNIQUE: tuple[tuple[Any, str], ...] = (
    (Card, "token"),
    (Card, "wallet_pass_id"),
    (Card, "number"),
    (Voucher, "token"),
    (ClaimCode, "code"),
    (ApiKey, "digest"),
    (ApiKey, "former_digest"),
    (LotteryTicket, "seed"),
    (EventRow, "id"),
)
"""What no two rows of a business share."""
_LASTING: dict[str, type[Row]] = {
    cls.prefix: cls
    for cls in (
        Campaign,
        Card,
        Customer,
        EventRow,
        LotteryTicket,
        Operation,
        Reward,
        Staff,
        Voucher,
        VoucherTemplate,
    )
}
"""What is never thrown away: whoever names one of them names a row that exists.

Of events that holds only where a business keeps all of them.
"""
_TOLD_BY = {
    "card_issued": ("card", "id"),
    "stamp_added": ("stamp", "operation_id"),
    "voucher_redeemed": ("voucher", "id"),
    "operation_voided": ("operation", "id"),
    "voucher_issued": ("voucher", "id"),
    "voucher_expired": ("voucher", "id"),
    "reward_issued": ("reward", "id"),
    "lottery_played": ("lottery", "ticket_id"),
}
"""The event types of which each tells of one row, and where its body names that row."""
_MIRRORS = {VoucherStatus.REDEEMED: "redeemed_at", VoucherStatus.VOIDED: "voided_at"}

_Key = tuple[date, str, str, str]
_Fact = tuple[str, str, datetime]
"""That an event of this type tells of this id, at this moment."""


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: which rule, of which row, and what is wrong."""

    business_id: str
    rule: str
    subject: str
    message: str


async def audited(database: Database, id: str | None = None) -> list[Business]:
    """The businesses to look at: this one, or all."""
    known = await database.read(None, businesses)  # in the name of the system
    return [business for business in known if id in (None, business.id)]


async def audit(database: Database, business: Business, tell: Callable[[Finding], None]) -> None:
    """Look at all of a business as it stands at one moment, and tell what does not hold.

    Nothing is written. It is read in pages; what is kept meanwhile is no longer than its figures.
    """
    await database.snapshot(business.id, lambda tx: _Audit(tx, business, tell).run())


class _Audit:
    """One look at one business.

    `told` and `happened` weigh, for each type of `_TOLD_BY`, the events of the log and the rows
    they tell of: sums of hashes, which differ where one is missing or is there twice. Where
    retention has thrown events away, what happened then is weighed neither way: `_since` is when
    the log becomes whole.
    """

    _head: LogHead
    _since: datetime | None

    def __init__(
        self, tx: Transaction, business: Business, tell: Callable[[Finding], None]
    ) -> None:
        self._tx = tx
        self._business = business
        self._tell = tell
        self._told = Counter[str]()
        self._happened = Counter[str]()
        self._recount = defaultdict[_Key, Counter[str]](Counter)

    async def run(self) -> None:
        """Look at everything."""
        self._head = await head_of(self._tx)
        self._since = self._head.pruned_until
        await self._cards()
        await self._ledger()
        await self._vouchers()
        await self._rewards()
        await self._tickets()
        await self._log()
        await self._match()
        await self._figures()
        await self._endpoints()
        await self._unique()
        await self._idempotency()

    # -- What is looked at, noun by noun. --------------------------------------------------------

    async def _cards(self) -> None:
        async for cards in self._pages(Card):
            ids = [card.id for card in cards]
            lines = _by(await self._related(Operation, "card_id", ids), "card_id")
            rewards = _by(await self._related(Reward, "card_id", ids), "card_id")
            tickets = _by(await self._related(LotteryTicket, "card_id", ids), "card_id")
            await self._exist({card.id: [card.merged_into or ""] for card in cards})
            for card in cards:
                moves = [line for line in lines[card.id] if line.line is not None]
                moves.sort(key=lambda line: line.line or 0)
                await self._card(card, moves, _gifts(rewards[card.id], tickets[card.id]))
                self._count(card.created_at, card, card, new_cards=1)
                if card.deleted_at is not None:
                    self._count(card.deleted_at, card, card, deleted_cards=1)

    async def _card(self, card: Card, lines: list[Operation], gifts: Counter[Any]) -> None:
        """A card stands where its ledger leads, and every goal reached was paid once."""
        if [line.line for line in lines] != list(range(1, card.lines + 1)):
            told = f"It says {card.lines} lines; its ledger has {[line.line for line in lines]}."
            self._find("ledger", card.id, told)
            return
        try:
            promises = await self._promises(card, lines)
            stands = replay(lines, promises)
        except LookupError as error:
            self._find("ledger", card.id, f"A version that it went by is gone: {error}.")
            return
        version = stands.version_id or card.version_id
        there = (stands.stamps, stands.cycle, version)
        if there != (card.stamps, card.cycle, card.version_id):
            self._find(
                "ledger",
                card.id,
                f"Stamps, cycle and version are {card.stamps}, {card.cycle}, {card.version_id}; "
                f"its ledger leads to {', '.join(map(str, there))}.",
            )
        if not 0 <= card.stamps <= promises[card.version_id].required:
            self._find("bounds", card.id, f"{card.stamps} stamps are not on this card.")
        at = (0, 1)
        for line in lines:
            if at != (line.before, line.cycle_before):
                self._find("ledger", line.id, f"It begins elsewhere than where {at} stood.")
            at = (line.after or 0, line.cycle_after or 0)
        self._goals(card, {(cycle, goal.position) for cycle, goal in stands.reached}, gifts)

    def _goals(self, card: Card, reached: set[tuple[int, int]], gifts: Counter[Any]) -> None:
        for (cycle, position), number in gifts.items():
            if number > 1:
                told = f"Goal {position} of cycle {cycle} was paid {number} times."
                self._find("goals", card.id, told)
            if (cycle, position) not in reached:
                told = f"Goal {position} of cycle {cycle} was paid and never reached."
                self._find("goals", card.id, told)
        if card.merged_into is not None:
            return  # what was paid went with its stamps to the other card
        for cycle, position in reached - set(gifts):
            told = f"Goal {position} of cycle {cycle} was reached and never paid."
            self._find("goals", card.id, told)

    async def _ledger(self) -> None:
        """Lines that undo and lines undone name each other; redemptions count once."""
        async for lines in self._pages(Operation):
            cards = await self._rows(Card, (line.card_id for line in lines))
            vouchers = await self._rows(Voucher, (line.voucher_id for line in lines))
            others = await self._rows(
                Operation, (id for line in lines for id in (line.voids_id, line.voided_by_id))
            )
            for line in lines:
                undone = others.get(line.voids_id or "")
                if line.voids_id and (undone is None or undone.voided_by_id != line.id):
                    self._find("ledger", line.id, f"It undid {line.voids_id}, which says no such.")
                void = others.get(line.voided_by_id or "")
                if line.voided_by_id and (void is None or void.voids_id != line.id):
                    told = f"It was undone by {line.voided_by_id}, which says no such."
                    self._find("ledger", line.id, told)
                if line.voided_by_id is None:
                    card = cards.get(line.card_id or "")
                    self._count_line(line, card, vouchers.get(line.voucher_id or ""))

    def _count_line(self, line: Operation, card: Card | None, voucher: Voucher | None) -> None:
        if line.kind is OperationKind.STAMPS:
            self._count(line.occurred_at, line, card, stamp_operations=1, stamps=line.count)
        if line.kind is OperationKind.VOUCHER_REDEEM and voucher is not None:
            self._count(line.occurred_at, line, card, vouchers_redeemed=1)
            self._count(voucher.issued_at, voucher, card, cohort_redeemed=1)

    async def _vouchers(self) -> None:
        async for vouchers in self._pages(Voucher):
            ids = [voucher.id for voucher in vouchers]
            redemptions = _by(await self._tx.many(_IN_FORCE, keys=ids), "voucher_id")
            cards = await self._rows(Card, (voucher.card_id for voucher in vouchers))
            await self._exist({row.id: [row.operation_id or ""] for row in vouchers})
            for voucher in vouchers:
                for wrong in _wrong_with(voucher, redemptions[voucher.id]):
                    self._find("vouchers", voucher.id, wrong)
                card = cards.get(voucher.card_id or "")
                if voucher.status is not VoucherStatus.VOIDED:
                    self._count(voucher.issued_at, voucher, card, vouchers_issued=1)
                if voucher.status is VoucherStatus.EXPIRED and voucher.expires_at is not None:
                    self._count(voucher.expires_at, None, card, vouchers_expired=1)

    async def _rewards(self) -> None:
        async for rewards in self._pages(Reward):
            cards = await self._rows(Card, (reward.card_id for reward in rewards))
            named = {row.id: [row.operation_id or "", row.voucher_id or ""] for row in rewards}
            await self._exist(named)
            for reward in rewards:
                if (reward.type is RewardType.VOUCHER) is not (reward.voucher_id is not None):
                    self._find("goals", reward.id, "Its voucher does not go with its type.")
                if reward.voided_at is None:
                    self._count(
                        reward.issued_at,
                        reward,
                        cards.get(reward.card_id),
                        awards_issued=int(reward.type is RewardType.AWARD),
                        birthday_gifts=int(reward.source is Source.BIRTHDAY),
                    )

    async def _tickets(self) -> None:
        for variant in await self._tx.many(_OVERSOLD):
            self._find("lottery", variant.id, f"{variant.stock} are left of it.")
        async for tickets in self._pages(LotteryTicket):
            await self._exist({row.id: [row.operation_id or ""] for row in tickets})
            for ticket in tickets:
                try:
                    for wrong in _wrong_draw(ticket):
                        self._find("lottery", ticket.id, wrong)
                except (LookupError, ValueError) as error:
                    self._find("lottery", ticket.id, f"Its draw does not read: {error}")

    async def _log(self) -> None:
        """The log has no gaps, ends at its head, and every event tells of what exists."""
        head, place = self._head.sequence, self._head.pruned_sequence
        while rows := await self._tx.many(_EVENTS, after=place):
            cards = await self._rows(Card, (row.card_id for row in rows))
            named: dict[str, list[str]] = {}
            for row in rows:
                if row.sequence != place + 1:
                    told = f"After {place} comes {row.sequence}."
                    self._find("log", row.id, told)
                place = row.sequence
                try:
                    body = orjson.loads(row.body)
                    self._event(row, body, cards.get(row.card_id or ""))
                    named[row.id] = [*_named_in(body), row.card_id or "", row.customer_id or ""]
                except (ValueError, LookupError) as error:
                    wrong = str(error).partition("\n")[0]
                    self._find("events", row.id, f"Its body does not read: {wrong}")
            await self._exist(named)
        if place != head:
            self._find("log", self._business.id, f"The log ends at {place}, its head says {head}.")

    def _event(self, row: EventRow, body: dict[str, Any], card: Card | None) -> None:
        read_event(row)
        known = (row.type, row.id, row.sequence, row.business_id, wire_time(row.occurred_at))
        said = tuple(body[name] for name in ("event", "id", "sequence", "business_id", "timestamp"))
        if known != said:
            self._find("events", row.id, "Its body tells another type, id, place, or time.")
        if row.type in _TOLD_BY and self._is_whole(row.occurred_at):
            self._told[row.type] += hash(_told(row, body))
        if row.type == "lottery_played":
            staff_id = None if prefix_of(row.actor_id or "") == "pos" else row.actor_id
            by = (row.location_id, staff_id)
            self._count_at(row.occurred_at, *by, card, lottery_plays=1)

    async def _match(self) -> None:
        """Each thing that happened is told by one event, and no event tells of what did not."""
        for type_ in _TOLD_BY:
            if self._told[type_] != self._happened[type_]:
                await self._name_untold(type_)

    async def _name_untold(self, type_: str) -> None:
        is_named = False
        for table, facts_of in _FACTS.items():
            async for rows in self._pages(table, weigh=False):
                for kind, id, at in (fact for row in rows for fact in facts_of(row)):
                    if kind != type_ or not self._is_whole(at):
                        continue
                    events = await self._tx.many(_AT, at=at, type=type_)
                    number = sum(_told(row, _body(row))[1] == id for row in events)
                    if number != 1:
                        self._find("events", id, f"{number} events {type_} tell of it.")
                        is_named = True
        if not is_named:
            told = f"Events {type_} tell of what did not happen so."
            self._find("events", self._business.id, told)

    async def _figures(self) -> None:
        """The figures are what a recount gives; messages are left out, for they are thrown away."""
        async for figures in self._keyed(DailyFigure):
            for figure in figures:
                key = (figure.day, figure.location_id, figure.staff_id, figure.template_id)
                self._figure(key, {name: getattr(figure, name) for name in COUNTERS})
        for key in list(self._recount):
            self._figure(key, {})

    def _figure(self, key: _Key, kept: dict[str, int]) -> None:
        counted = self._recount.pop(key, Counter[str]())
        for name in COUNTERS:
            if name == "lottery_plays" and not self._is_whole_day(key[0]):
                continue  # these alone are counted by their events
            if name != "notifications" and kept.get(name, 0) != counted[name]:
                told = f"{name} is {kept.get(name, 0)}; a recount gives {counted[name]}."
                self._find("figures", " ".join(map(str, key)), told)

    async def _endpoints(self) -> None:
        """No endpoint is ahead of the log, and what it still owes lies behind its cursor."""
        pruned, head = self._head.pruned_sequence, self._head.sequence
        for endpoint in await self._tx.many(_AHEAD, head=head, pruned=pruned):
            told = f"Its cursor is {endpoint.cursor_sequence}; the log has {pruned + 1} to {head}."
            self._find("endpoints", endpoint.id, told)
        for delivery in await self._tx.many(_STRAY):
            told = f"A delivery of {delivery.sequence} lies outside of what it has read."
            self._find("endpoints", delivery.endpoint_id, told)

    async def _unique(self) -> None:
        for table, name in _UNIQUE:
            for first, number in await self._tx.many(_shared(table, name)):
                self._find("unique", first, f"{number} rows have its {name}.")
        for first, number in await self._tx.many(_SHARED_CODES):
            self._find("unique", first, f"{number} active vouchers have its generated code.")

    async def _idempotency(self) -> None:
        """What is kept under a key names what exists."""
        async for records in self._keyed(IdempotencyRecord):
            await self._exist(
                {
                    f"{record.mutation} {record.key}": list(_named_by(record.outcome or {}))
                    for record in records
                },
                rule="idempotency",
            )

    # -- How it is looked at. --------------------------------------------------------------------

    def _find(self, rule: str, subject: str, message: str) -> None:
        self._tell(Finding(self._business.id, rule, subject, message))

    async def _pages(self, table: type[R], *, weigh: bool = True) -> AsyncIterator[list[R]]:
        """The rows of a table, page by page; what events tell of them is weighed on the way."""
        after, facts_of = "", _FACTS.get(table)
        while rows := await self._tx.many(_page(table), after=after):
            if weigh and facts_of is not None:
                for fact in (fact for row in rows for fact in facts_of(row)):
                    if self._is_whole(fact[2]):
                        self._happened[fact[0]] += hash(fact)
            yield rows
            after = rows[-1].__dict__["id"]

    async def _keyed(self, table: type[R]) -> AsyncIterator[list[R]]:
        """The rows of a table whose key has several columns, page by page."""
        key, values = _key(table), {}
        rows = await self._tx.many(_first_page(table))
        while rows:
            yield rows
            values = {name: rows[-1].__dict__[name] for name in key}
            rows = await self._tx.many(_next_page(table), **values)

    async def _related(self, table: type[R], name: str, keys: Iterable[str]) -> list[R]:
        return await self._tx.many(_where(table, name), keys=list(keys))

    async def _rows(self, table: type[R], ids: Iterable[str | None]) -> dict[str, R]:
        keys = sorted({id for id in ids if id})
        rows = await self._related(table, "id", keys) if keys else []
        return {row.__dict__["id"]: row for row in rows}

    async def _exist(self, named: dict[str, list[str]], rule: str = "names") -> None:
        """What these subjects name exists, as far as it is of a kind that is never thrown away."""
        asked = defaultdict[str, set[str]](set)
        for ids in named.values():
            for id in ids:
                asked[prefix_of(id)].add(id)
        known: set[str] = set()
        lasting = _LASTING.keys() - ({EventRow.prefix} if self._since else set())
        for prefix in asked.keys() & lasting:
            known |= set(await self._tx.many(_ids(_LASTING[prefix]), keys=sorted(asked[prefix])))
        for subject, ids in named.items():
            for id in dict.fromkeys(ids):
                if prefix_of(id) in lasting and id not in known:
                    self._find(rule, subject, f"It names {id}, which does not exist.")

    def _is_whole(self, at: datetime) -> bool:
        """Whether the log still has all that happened at this moment."""
        return self._since is None or at > self._since

    def _is_whole_day(self, day: date) -> bool:
        return self._since is None or day > self._since.astimezone(self._business.zone).date()

    async def _promises(self, card: Card, lines: Sequence[Operation]) -> dict[str, Promise]:
        named = {id for line in lines for id in (line.version_before_id, line.version_id) if id}
        return {id: await promise_of(self._tx, id) for id in sorted({*named, card.version_id})}

    def _count(self, at: datetime, by: Any, card: Card | None, **numbers: int) -> None:
        """Count for the figures, where and by whom it was done; by None, it was time."""
        staff_id = by.issued_by_id if isinstance(by, Card) else by and by.staff_id
        self._count_at(at, by and by.location_id, staff_id, card, **numbers)

    def _count_at(
        self,
        at: datetime,
        location_id: str | None,
        staff_id: str | None,
        card: Card | None,
        **numbers: int,
    ) -> None:
        day = at.astimezone(self._business.zone).date()
        template_id = card.template_id if card else ""
        self._recount[day, location_id or "", staff_id or "", template_id].update(numbers)


def _wrong_with(voucher: Voucher, redemptions: Sequence[Operation]) -> Iterator[str]:
    """What does not go together in a voucher and the redemptions of it that are in force."""
    status = voucher.status
    for mirrored, name in _MIRRORS.items():
        if (getattr(voucher, name) is not None) is not (status is mirrored):
            yield f"It is {status}, and {name} says otherwise."
    if len(redemptions) != int(status is VoucherStatus.REDEEMED):
        yield f"It is {status}, and {len(redemptions)} redemptions are in force."
    if status is not VoucherStatus.REDEEMED:
        if voucher.redeemed_via is not None:
            yield f"It is {status}, and was redeemed by a route."
    elif [line.occurred_at for line in redemptions] not in ([], [voucher.redeemed_at]):
        yield "Its redemption was at another moment."
    ends = voucher.expires_at
    if status is VoucherStatus.EXPIRED and ends is None:
        yield "It expired, and has no end."
    if ends is not None and voucher.redeemed_at is not None and voucher.redeemed_at >= ends:
        yield "It was redeemed after its end."


def _wrong_draw(ticket: LotteryTicket) -> Iterator[str]:
    """What does not follow from a ticket's promise."""
    if commitment_of(ticket.seed) != ticket.commitment:
        yield "Its commitment is not that of its seed."
    if sum(item.probability for item in ticket.outcomes) != CERTAIN:
        yield f"Its odds do not sum to {CERTAIN}."
    is_played, told = ticket.status is TicketStatus.PLAYED, ticket.result
    if is_played is not (told is not None) or is_played is not (ticket.played_at is not None):
        yield f"It is {ticket.status}, and its result says otherwise."
    elif told is not None:
        left_out = set(told["left_out"])
        limited = {item.id for item in ticket.outcomes if item.limited}
        if left_out - limited - set(ticket.never_again):
            yield "What could not run out was left out of the draw."
        drawn = draw(ticket.seed, ticket.outcomes, left_out)
        if (drawn.outcome.id, drawn.roll, drawn.odds) != (
            told["variant_id"],
            told["roll"],
            told["odds"],
        ):
            yield f"Its seed draws {drawn.outcome.id} by {drawn.roll}."


def _gifts(rewards: Iterable[Reward], tickets: Iterable[LotteryTicket]) -> Counter[Any]:
    """How often each goal, by cycle and position, was paid: rewards and tickets in force."""
    paid = Counter[Any](
        (row.cycle, row.goal_position)
        for row in rewards
        if row.source is Source.GOAL and row.voided_at is None
    )
    paid.update(
        (row.cycle, row.goal_position)
        for row in tickets
        if row.chain == 0 and row.status is not TicketStatus.VOIDED
    )
    return paid


# What events tell of a row: each fact by one event.


def _of_card(card: Card) -> Iterator[_Fact]:
    yield "card_issued", card.id, card.created_at


def _of_line(line: Operation) -> Iterator[_Fact]:
    if line.kind is OperationKind.STAMPS:
        yield "stamp_added", line.id, line.occurred_at
    if line.kind is OperationKind.VOUCHER_REDEEM:
        yield "voucher_redeemed", line.voucher_id or "", line.occurred_at
    if line.kind is OperationKind.VOID:
        yield "operation_voided", line.voids_id or line.id, line.occurred_at


def _of_voucher(voucher: Voucher) -> Iterator[_Fact]:
    yield "voucher_issued", voucher.id, voucher.issued_at
    if voucher.status is VoucherStatus.EXPIRED and voucher.expires_at is not None:
        yield "voucher_expired", voucher.id, voucher.expires_at


def _of_reward(reward: Reward) -> Iterator[_Fact]:
    yield "reward_issued", reward.id, reward.issued_at


def _of_ticket(ticket: LotteryTicket) -> Iterator[_Fact]:
    if ticket.status is TicketStatus.PLAYED and ticket.played_at is not None:
        yield "lottery_played", ticket.id, ticket.played_at


_FACTS: dict[type[Row], Callable[[Any], Iterator[_Fact]]] = {
    Card: _of_card,
    Operation: _of_line,
    Voucher: _of_voucher,
    Reward: _of_reward,
    LotteryTicket: _of_ticket,
}


def _told(row: EventRow, body: dict[str, Any]) -> _Fact:
    part, name = _TOLD_BY[row.type]
    return row.type, body.get(part, {}).get(name, ""), row.occurred_at


def _body(row: EventRow) -> dict[str, Any]:
    """What an event says; empty where it cannot be read, which is found by itself."""
    try:
        body: dict[str, Any] = orjson.loads(row.body)
    except ValueError:
        return {}
    return body


def _named_in(part: Any, name: str = "") -> Iterator[str]:
    """The ids that an event's body names; not what people wrote into it."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _named_in(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from _named_in(value, name)
    elif isinstance(part, str) and (name.endswith("id") or name.startswith("voided_")):
        yield part


def _named_by(outcome: dict[str, Any]) -> Iterator[str]:
    """The ids that a kept outcome names."""
    for name, item in outcome.items():
        if name == "events":
            yield from item
        elif isinstance(item, dict):
            yield from [item["row"]] if "row" in item else item.get("rows", [])


def _by(rows: Iterable[R], name: str) -> dict[str, list[R]]:
    found: dict[str, list[R]] = defaultdict(list)
    for row in rows:
        found[getattr(row, name)].append(row)
    return found


def _key(table: type[Row]) -> list[str]:
    key = table.__table__.primary_key  # type: ignore[attr-defined]
    return [column.name for column in key if column.name != "business_id"]


@cache
def _page(table: type[R]) -> Query[R]:
    row: Any = table
    where = [row.business_id == BUSINESS, row.id > param("after")]
    return query(select(table).where(*where).order_by(row.id).limit(_PAGE))


@cache
def _first_page(table: type[R]) -> Query[R]:
    row: Any = table
    order = [getattr(row, name) for name in _key(table)]
    return query(select(table).where(row.business_id == BUSINESS).order_by(*order).limit(_PAGE))


@cache
def _next_page(table: type[R]) -> Query[R]:
    row: Any = table
    order = [getattr(row, name) for name in _key(table)]
    beyond = tuple_(*order) > tuple_(*(param(item.key, item.type) for item in order))
    where = [row.business_id == BUSINESS, beyond]
    return query(select(table).where(*where).order_by(*order).limit(_PAGE))


@cache
def _where(table: type[R], name: str) -> Query[R]:
    row: Any = table
    return query(
        select(table).where(row.business_id == BUSINESS, among(getattr(row, name), "keys"))
    )


@cache
def _ids(table: type[Row]) -> Query[str]:
    row: Any = table
    return query(select(row.id).where(row.business_id == BUSINESS, among(row.id, "keys")))


@cache
def _shared(table: Any, name: str) -> Query[tuple[str, int]]:
    value = getattr(table, name)
    return query(
        select(func.min(table.id), func.count())
        .where(table.business_id == BUSINESS, value.is_not(None))
        .group_by(value)
        .having(func.count() > 1)
    )
