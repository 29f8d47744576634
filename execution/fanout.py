"""Fan-out: many subscribers cost one.

A process reads a business's new events once. Subscribers who ask the same (document, variables
but for the cursor, rights) form a group: an event is executed and encoded once for all of them,
and each of their sockets is only written to. Whoever keeps up is written to directly; whoever
does not, or comes from further back, reads the log from its own cursor at its own pace, until it
has caught up. So nobody's memory grows, nobody waits for a neighbour, and there is no seam:
wherever a subscriber is, its place in the log says what it still has to get.

Events are free as long as they are cheap, and few different ones are asked for. Beyond that a
group pays for each from the bucket of a member, and waits while it is empty: whoever asks for much
gets it later, and nobody else does.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from core.errors import Denied, Overloaded
from db import Transaction
from events import is_event_type
from events.log import check_cursor, head_of
from execution.protocols import Blocked
from execution.subscriptions import LogSubscription
from models import EventRow, decode_cursor, encode_cursor
from resolvers.charges import FREE_PER_EVENT, caller_key, pay_for_event
from resolvers.context import Context, Deployment
from services.listings import LOG, log_page
from services.pages import MOST, PageArgs

FALLEN_TOO_FAR = 10_000
"""Events a subscriber may fall behind after it had caught up."""
_TURN = 256
"""Sockets written to before others get a turn."""
_AT_ONCE = 10
"""Events answered before others get a turn."""
_KEPT = 256
"""Answers a group with several members keeps for those who are a little behind."""
FREE_GROUPS = 100
"""Different subscriptions of one key, session or token whose cheap events are free."""
_MOST_PAYERS = 8

log = structlog.get_logger("stampwire.fanout")
T = TypeVar("T")
Make = Callable[[Context, EventRow], Coroutine[Any, Any, T]]


class TooSlow(Exception):
    """The subscriber falls further and further behind."""


class NotNow(Exception):
    """An event cannot be answered at this moment; whoever waits for it makes nobody else wait."""


class Outlet(Protocol):
    """Where answers are written; `drained` raises when nobody takes them any more."""

    @property
    def is_writable(self) -> bool:
        """Whether the receiver keeps up."""
        ...

    def write(self, payloads: Sequence[bytes]) -> None:
        """Send answers at once."""
        ...

    async def drained(self) -> None:
        """Wait until the receiver keeps up."""
        ...


@dataclass(eq=False)
class Member:
    """A subscriber, and its place: all up to there it was sent, or does not want."""

    outlet: Outlet
    context: Context
    place: int
    head: int
    """How far the log reached when it came."""
    cost: int = 0
    """What an event may cost."""
    fell_behind: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cursor(self) -> str:
        """Where to go on from."""
        return encode_cursor(self.place)


class Fanout:
    """One per process: the feeds of the businesses that somebody follows here."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._feeds: dict[str, _Feed] = {}

    @property
    def subscribers(self) -> int:
        """How many follow something."""
        return sum(feed.size for feed in self._feeds.values())

    async def start(
        self, said: LogSubscription, context: Context, outlet: Outlet, cost: int = 0
    ) -> Member:
        """A subscriber at its first place, whom each event may cost so much.

        BadUserInput or CursorExpired for a bad cursor. Forbidden for an access token that does
        not reach it.
        """
        said.within(context.actor)
        place = None if said.after is None else decode_cursor(said.after)

        async def look(tx: Transaction) -> int:
            if place is not None:
                await check_cursor(tx, place)
            return (await head_of(tx)).sequence

        head = await context.read_within(look)
        return Member(outlet, context, head if place is None else place, head, cost)

    async def follow(self, said: LogSubscription, member: Member) -> None:
        """Send all beyond the member's place, until cancelled. TooSlow, or what the outlet raises.

        A cursor that leaves the log while it is followed is CursorExpired.
        """
        business, said = member.context.actor.business_id, said.within(member.context.actor)
        feed = self._feeds.get(business)
        if feed is None:
            feed = self._feeds[business] = _Feed(self._deployment, member)
        group = feed.join(said, member)
        conditions, has_caught_up = said.filter.conditions(), False
        try:
            while True:
                try:
                    await _catch_up(group, member, conditions, is_new=not has_caught_up)
                except (TooSlow, Blocked):
                    raise
                except Exception as error:
                    if isinstance(error, Denied) and not isinstance(error, Overloaded):
                        raise
                    # A database that is away comes back.
                    log.warning("subscriber waits", error=type(error).__name__)
                    await asyncio.sleep(1)
                    continue
                has_caught_up = True
                member.fell_behind.clear()
                group.live.add(member)  # at the group's place, and nothing awaited since
                await member.fell_behind.wait()
        finally:
            if feed.leave(group, member):
                del self._feeds[business]


class _Group:
    """Subscribers whose answers are the same."""

    def __init__(
        self, said: LogSubscription, key: Hashable, place: int, cost: int, whose: str | None
    ) -> None:
        self.said = said
        self.key = key
        self.whose = whose
        """Who began it."""
        self.cost = cost
        """What each event is paid for with; 0 if they are free."""
        self.place = place
        """All up to here was told to the live members."""
        self.members: set[Member] = set()
        self.live: set[Member] = set()
        self._answers: OrderedDict[tuple[int, str], asyncio.Future[Any]] = OrderedDict()
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """That of any member: for what is answered here they are the same."""
        member = next(iter(self.members), None)
        if member is not None:
            self._context = member.context
        assert self._context is not None  # noqa: S101 -- a group begins with a member
        return self._context

    async def answers(
        self, events: Sequence[EventRow], *, now: bool = False
    ) -> list[tuple[int, bytes]]:
        """The answers for events, with their places; others get their turn between them.

        With `now` none is tried again: NotNow.
        """
        made, answer = [], self._answer_now if now else self._answer
        for number, event in enumerate(events):
            if not is_event_type(event.type):
                continue  # a newer release's: its subscribers are told there
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            made.append((event.sequence, await answer(event)))
        return made

    async def _answer(self, event: EventRow) -> bytes:
        """The answer for an event; what fails through no fault of the document is tried again."""
        made = await self._once(event, self.said.answer_now)
        return made if made is not None else await self._once(event, self.said.answer)

    async def _answer_now(self, event: EventRow) -> bytes:
        made = await self._once(event, self.said.answer_now)
        if made is None:
            raise NotNow
        return made

    async def _once(self, event: EventRow, make: Make[T]) -> T:
        """What is made of an event, once for those who are near."""
        if len(self.members) == 1:
            return await self._paid(event, make)
        key = (event.sequence, make.__name__)
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = asyncio.ensure_future(self._paid(event, make))
            known.add_done_callback(partial(self._forget_failed, key))
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        # Whoever leaves takes it from nobody else.
        made: T = await asyncio.shield(known)
        return made

    async def _paid(self, event: EventRow, make: Make[T]) -> T:
        """What is made of an event, as soon as it is paid for."""
        while self.cost and (wait := await self._pay()):  # noqa: ASYNC110 -- it fills by itself
            await asyncio.sleep(wait)
        return await make(self.context, event)

    async def _pay(self) -> float:
        """Have a member pay who can; if none can, how long it takes until one may."""
        payers = {caller_key(member.context): member.context for member in self.members}
        waits = []
        for payer in [*payers.values()][:_MOST_PAYERS]:
            wait = await pay_for_event(payer, self.cost)
            if not wait:
                return 0.0
            waits.append(wait)
        return min(waits, default=0.0)

    def _forget_failed(self, key: tuple[int, str], made: asyncio.Future[Any]) -> None:
        has_failed = made.cancelled() or made.exception() is not None or made.result() is None
        if has_failed and self._answers.get(key) is made:
            del self._answers[key]

    async def tell(self, events: Sequence[EventRow], upto: int) -> None:
        """Write what is new to all who keep up."""
        if not self.live:
            self.place = upto
            return
        answers = None
        if not self.cost:  # what is to be paid for is waited for, and so read by each alone
            try:
                answers = await self._new_answers(events)
            except Exception as error:  # noqa: BLE001 -- each reads it again from its own place
                log.warning("events not answered", error=type(error).__name__)
        self.place = upto
        for turn, member in enumerate(tuple(self.live), 1):
            if turn % _TURN == 0:
                await asyncio.sleep(0)
            if member not in self.live:
                continue
            if answers is None or not _is_told(member, answers):
                self.live.discard(member)
                member.fell_behind.set()
                continue
            member.place = max(member.place, upto)  # who came last may be ahead of the others

    async def _new_answers(self, events: Sequence[EventRow]) -> list[tuple[int, bytes]]:
        wanted = [event for event in events if self.said.filter.matches(event)]
        if wanted and self.said.filter.search is not None:
            wanted = await self._searched(wanted)
        return await self.answers(wanted, now=True)

    async def _searched(self, events: Sequence[EventRow]) -> list[EventRow]:
        """Those of them that the database finds by the filter's search."""
        found: list[EventRow] = []
        conditions = self.said.filter.conditions()
        first, last = events[0].sequence, events[-1].sequence
        while first <= last:
            reach, rows = await _read_on(self.context, first - 1, conditions)
            found += [row for row in rows if row.sequence <= last]
            first = reach + 1
        return found


class _Feed:
    """One business's new events, read once."""

    def __init__(self, deployment: Deployment, first: Member) -> None:
        self._deployment = deployment
        self._business = first.context.actor.business_id
        self._groups: dict[Hashable, _Group] = {}
        self._payers: Counter[str | None] = Counter()
        """How many groups each key, session or token began."""
        # From the end of the log on: who comes from further back reads up to there alone, and
        # holds up nobody.
        self._place = first.head
        self._task: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """How many subscribers it has."""
        return sum(len(group.members) for group in self._groups.values())

    def join(self, said: LogSubscription, member: Member) -> _Group:
        """Make somebody a member of their group."""
        key = (said.shape, _rights(member.context))
        group = self._groups.get(key)
        if group is None:
            whose = caller_key(member.context)
            self._payers[whose] += 1
            is_free = member.cost <= FREE_PER_EVENT and self._payers[whose] <= FREE_GROUPS
            cost = 0 if is_free else member.cost
            group = self._groups[key] = _Group(said, key, self._place, cost, whose)
        group.members.add(member)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"fanout-{self._business}")
        return group

    def leave(self, group: _Group, member: Member) -> bool:
        """The other way; says whether nobody is left."""
        group.live.discard(member)
        group.members.discard(member)
        if not group.members and self._groups.pop(group.key, None) is not None:
            self._payers[group.whose] -= 1
        if self._groups or self._task is None:
            return False
        self._task.cancel()
        return True

    async def _run(self) -> None:
        with self._deployment.stream.follow(self._business) as follower:
            while True:
                try:
                    await self._tell_news()
                except Exception as error:  # noqa: BLE001 -- a database that is away comes back
                    log.warning("log not followed", error=type(error).__name__)
                    await asyncio.sleep(1)
                    continue
                await follower.news(self._place)

    async def _tell_news(self) -> None:
        """Read what is new, and tell all groups, until nothing is."""
        while self._groups:
            groups = [*self._groups.values()]
            if any(group.live for group in groups):
                reach, rows = await _read_on(groups[0].context, self._place, None)
                if reach <= self._place:
                    return
                self._place, groups = reach, [*self._groups.values()]
                await asyncio.gather(*(group.tell(rows, reach) for group in groups))
                continue
            # Nobody has caught up: each reads on alone, and meets the others at the head.
            head = (await groups[0].context.read_within(head_of)).sequence
            if any(group.live for group in self._groups.values()):
                continue
            self._place = max(head, self._place)
            for group in self._groups.values():
                group.place = self._place
            return


def _is_told(member: Member, answers: Sequence[tuple[int, bytes]]) -> bool:
    """Write what a live member has not got; one that cannot be written to is no harm to others."""
    if not member.outlet.is_writable:
        return False
    try:
        member.outlet.write([said for place, said in answers if place > member.place])
    except Exception as error:  # noqa: BLE001 -- it reads on from its own place
        log.warning("subscriber not written to", error=type(error).__name__)
        return False
    return True


async def _catch_up(
    group: _Group, member: Member, conditions: dict[str, Any], *, is_new: bool
) -> None:
    """Bring a member to where its group is, page by page from the log."""
    while True:
        await member.outlet.drained()
        if member.place >= group.place:
            return
        reach, rows = await _read_on(member.context, member.place, conditions)
        if not is_new and group.place - member.place > FALLEN_TOO_FAR:
            raise TooSlow
        if group.cost:
            for row in rows:  # each as soon as it is paid for
                await member.outlet.drained()
                member.outlet.write([said for _, said in await group.answers([row])])
                member.place = row.sequence
        else:
            member.outlet.write([said for _, said in await group.answers(rows)])
        member.place = reach


async def _read_on(
    context: Context, place: int, conditions: dict[str, Any] | None
) -> tuple[int, list[EventRow]]:
    """The next matching events beyond a place, and how far all have been looked at."""

    async def work(tx: Transaction) -> tuple[int, list[EventRow]]:
        # The head is read first: all up to it is visible to the read that follows, which may
        # see more.
        head = (await head_of(tx)).sequence
        if head <= place:
            return place, []
        args = PageArgs(first=MOST, after=encode_cursor(place))
        if conditions is None:  # a feed's own place may be a cursor that has left the log
            rows = (await LOG.page(tx, args)).rows
        else:
            rows = (await log_page(tx, args, newest_first=False, **conditions)).rows
        last = rows[-1].sequence if rows else place
        return last if len(rows) == MOST else max(head, last), rows

    return await context.read_within(work)


def _rights(context: Context) -> Hashable:
    """All that an answer depends on beside the document: nothing an event leads to asks who."""
    actor = context.actor
    scope = actor.token.authority if actor.token else None
    return actor.role, actor.location_id, scope
