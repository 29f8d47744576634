"""Verdicts: what a round of requests means for its endpoint and events. Values in, values out."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models import Delivery, DeliveryState, EventRow, Ordering, WebhookEndpoint
from webhooks.pace import begun_again, halved, risen
from webhooks.schedule import (
    CONCERNS_ENDPOINT,
    DISABLED_AFTER,
    DISABLED_AFTER_BLOCKS,
    Outcome,
    is_exhausted,
    is_mostly_refused,
    judge,
    remember,
    step,
)
from webhooks.sender import Answer

UNKNOWN = "unknown type"
"""What stands in the row of an event that a newer release has to send."""
_UNKNOWN_WAIT = timedelta(minutes=1)


@dataclass(eq=False)
class Due:
    """An event that its endpoint is due, in a round: fresh from the log, or an exception."""

    event: EventRow
    number: int
    """Which try this is, from 1."""
    previous_id: str | None = None
    delivery: Delivery | None = None
    """Its row, if it is an exception already."""
    waits_for_card: bool = False
    """An earlier event of its card is not delivered, so it may not be sent yet."""
    is_unknown: bool = False
    """Its type is of a newer release: it is kept for a process of that one."""
    body: bytes | None = None
    """What is sent."""
    answer: Answer | None = None
    """What came of it; of one whose body could not be made, that."""

    @property
    def outcome(self) -> Outcome | None:
        """What its answer means; None if nothing was sent."""
        said = self.answer
        if said is None:
            return None
        return judge(said.status, said.error, said.retry_after, said.control)

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return self.answer is not None and self.answer.is_taken

    @property
    def concerns_endpoint(self) -> bool:
        """Whether the answer says that the endpoint shall be left alone for now."""
        return self.outcome in CONCERNS_ENDPOINT

    @property
    def is_held(self) -> bool:
        """Whether it was not its turn any more: it is as it was."""
        return self.answer is None and not self.waits_for_card and not self.is_unknown

    @property
    def was_refused(self) -> bool:
        """Whether the receiver answered that it does not want this event."""
        said = self.answer
        return said is not None and said.status is not None and self.outcome is Outcome.REFUSED

    @property
    def is_dead(self) -> bool:
        """Whether it will not be sent again by itself."""
        refused = self.outcome is Outcome.REFUSED
        return self.outcome is Outcome.ABORTED or (refused and is_exhausted(self.number))

    @property
    def became(self) -> str:
        """What became of it, in a word."""
        if self.is_taken:
            return "delivered"
        if self.is_dead:
            return "dead"
        if self.waits_for_card:
            return "parked"
        return "held" if self.is_held else "failed"

    @property
    def error(self) -> str | None:
        """Why it failed, in a word or a status."""
        if self.answer is None or self.answer.is_taken:
            return None
        return self.answer.error or str(self.answer.status)


@dataclass(frozen=True)
class Disabled:
    """Why an endpoint is not served any more, and when it is deleted with that."""

    reason: str
    deleted_at: datetime | None = None


@dataclass
class Verdict:
    """What is to be stored after a round."""

    endpoint: dict[str, Any]
    """New values of the endpoint."""
    disabled: Disabled | None = None
    exceptions: list[Delivery] = field(default_factory=list)
    """Rows to store, new or changed."""
    settled: list[int] = field(default_factory=list)
    """Sequences whose rows are done with."""
    freed_cards: list[str] = field(default_factory=list)
    """Cards whose next parked event may follow."""
    rests: bool = False
    """Whether the endpoint is left alone for now."""
    rendered: bool = False
    """Whether any of the events had a body of the endpoint's own document."""


def verdict(
    endpoint: WebhookEndpoint,
    round_: list[Due],
    upto: int,
    now: datetime,
    chance: float,
    *,
    speed: float = 1.0,
    blocks: int = 0,
) -> Verdict:
    """What a round means. `upto` is how far in the log it looked.

    `speed` is how many requests a second it was sent; `blocks` how many of its last tries before
    were kept from a forbidden address.
    """
    return _Case(endpoint, round_, now, chance, speed, blocks).decide(upto)


class _Case:
    """One round of one endpoint, on its way to a verdict."""

    def __init__(
        self,
        endpoint: WebhookEndpoint,
        round_: list[Due],
        now: datetime,
        chance: float,
        speed: float,
        blocks: int,
    ) -> None:
        self.endpoint = endpoint
        self.round = round_
        self.fresh = [due for due in round_ if due.delivery is None]
        self.strict = endpoint.ordering is Ordering.STRICT
        self.now = now
        self.chance = chance
        self.speed = speed
        self.blocks = blocks
        self.failures = endpoint.failures
        self.failing_since = endpoint.failing_since
        self.last_success_at = endpoint.last_success_at
        self.rest_until = endpoint.next_attempt_at
        self.pace = endpoint.pace
        self.recent = endpoint.recent
        self.made = Verdict({})

    def decide(self, upto: int) -> Verdict:
        """What is to be stored."""
        self._weigh_endpoint()
        self.made.disabled = self._disabled()
        for due in self.round:
            if due.delivery is not None:
                self._settle(due, due.delivery)
        cursor, last_due_id = self._advance(upto)
        self.made.endpoint = {
            "cursor": cursor,
            "last_due_id": last_due_id,
            "failures": self.failures,
            "failing_since": self.failing_since,
            "last_success_at": self.last_success_at,
            "next_attempt_at": self.rest_until,
            "pace": self.pace,
            "recent": self.recent,
        }
        self.made.rests = self.rest_until > self.now
        return self.made

    def _weigh_endpoint(self) -> None:
        """How the endpoint is, and until when it is left alone."""
        taken = sum(due.is_taken for due in self.round)
        if taken:
            self.failures, self.failing_since, self.last_success_at = 0, None, self.now
            self.pace = risen(self.endpoint, taken)
        if self.strict and any(self._is_dead(due) for due in self.fresh):
            self.failures = 0
        refusals = self._refusals()
        troubles = [due for due in self.round if due.concerns_endpoint] or refusals
        held_up = self.strict and any(
            due.outcome is Outcome.REFUSED and not due.is_dead for due in self.fresh
        )
        if not troubles and not held_up:
            return
        # An event that failed before and fails again delays the others by no more than the
        # first step: it may be the one that its receiver chokes on.
        counts = held_up or any(due.delivery is None for due in troubles)
        self.failures += counts
        asked = max((due.answer.retry_after or 0 for due in troubles if due.answer), default=0)
        wait = step(self.failures if counts else 1, self.chance)
        self.rest_until = self.now + max(wait, timedelta(seconds=asked))
        if not troubles:
            return
        self.failing_since = self.failing_since or self.now
        if any(due.outcome is Outcome.WANTS_LESS for due in troubles):
            self.pace = halved(self.endpoint, self.speed)
        elif counts:
            self.pace = begun_again(self.endpoint)

    def _refusals(self) -> list[Due]:
        """The refusals of this round, where the endpoint has come to refuse most it is sent."""
        answered = [due for due in self.round if due.is_taken or due.was_refused]
        self.recent = remember(self.recent, (due.was_refused for due in answered))
        refused = [due for due in answered if due.was_refused]
        return refused if is_mostly_refused(self.recent) else []

    def _disabled(self) -> Disabled | None:
        """Why the endpoint is disabled, if it is."""
        outcomes = {due.outcome for due in self.round}
        tries = max([self.failures, *(due.number for due in self.round)])
        if Outcome.OVER in outcomes:
            # A tool that subscribed by a REST hook says so when it is gone: so is its endpoint.
            reason = "The receiver asked for no more (410, or webhook-delivery: disable)."
            return Disabled(reason, self.now if self.endpoint.is_rest_hook else None)
        blocked = Outcome.BLOCKED in outcomes and self.blocks + 1 >= DISABLED_AFTER_BLOCKS
        if blocked and tries >= DISABLED_AFTER_BLOCKS:
            return Disabled("Webhooks may not be sent to this address.")
        if self.failing_since and self.now - self.failing_since >= DISABLED_AFTER:
            return Disabled("It failed for five days.")
        return None

    def _settle(self, due: Due, row: Delivery) -> None:
        """What the round means for an event that was an exception before."""
        if due.is_unknown:
            later = row.with_values(next_attempt_at=self.now + _UNKNOWN_WAIT)
            self.made.exceptions.append(later)
        if due.outcome is None:
            return
        if due.is_taken:
            self.made.settled.append(row.sequence)
        else:
            self.made.exceptions.append(row.with_values(**self._failed(due)))
        if row.card_id is not None and (due.is_taken or self._is_dead(due)):
            self.made.freed_cards.append(row.card_id)

    def _advance(self, upto: int) -> tuple[int, str | None]:
        """Move the cursor over all that is done or has become an exception."""
        last_due_id = self.endpoint.last_due_id
        last = max((place for place, due in enumerate(self.fresh) if due.answer), default=-1)
        for place, due in enumerate(self.fresh):
            if not due.is_taken:
                if (due.is_held and place > last) or (self.strict and not self._is_dead(due)):
                    if due.is_unknown:
                        self.rest_until = max(self.rest_until, self.now + _UNKNOWN_WAIT)
                    return due.event.sequence - 1, last_due_id
                self.made.exceptions.append(self._exception(due))
            if not due.is_unknown:
                last_due_id = due.event.id
        return upto, last_due_id

    def _exception(self, due: Due) -> Delivery:
        values: dict[str, Any]
        if due.outcome is not None:
            values = self._failed(due)
        elif due.is_unknown:
            later = self.now + _UNKNOWN_WAIT
            values = {"state": DeliveryState.RETRY, "last_error": UNKNOWN, "next_attempt_at": later}
        elif due.waits_for_card:
            values = {"state": DeliveryState.PARKED}
        else:
            soonest = max(self.now, self.rest_until)
            values = {"state": DeliveryState.RETRY, "next_attempt_at": soonest}
        return Delivery(
            endpoint_id=self.endpoint.id,
            sequence=due.event.sequence,
            business_id=self.endpoint.business_id,
            card_id=due.event.card_id,
            previous_id=due.previous_id,
            **values,
        )

    def _failed(self, due: Due) -> dict[str, Any]:
        values = {"tries": due.number, "last_error": due.error}
        if self._is_dead(due):
            return {**values, "state": DeliveryState.DEAD, "next_attempt_at": None}
        again_at = self.now + step(due.number, self.chance)
        if due.concerns_endpoint:
            again_at = max(again_at, self.rest_until)
        return {**values, "state": DeliveryState.RETRY, "next_attempt_at": again_at}

    def _is_dead(self, due: Due) -> bool:
        """Whether it is given up: refused too often, or its receiver chokes on it and on no other.

        While the endpoint itself is unwell, no event is given up.
        """
        chokes = due.outcome is Outcome.UNWELL and self.endpoint.failing_since is None
        return due.is_dead or (due.delivery is not None and chokes and is_exhausted(due.number))
