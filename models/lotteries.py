"""Lottery tickets: a draw that was promised, how it came out, and the arithmetic of both.

The arithmetic needs the ticket alone, so that anyone can repeat it: docs/lottery.md tells how.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Index, text
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words
from models.card_templates import VariantType

CERTAIN = 10_000
"""All probabilities together, in hundredths of a percent."""
LAST_CHAIN = 2
"""The place of the last ticket of a chain: a first one, and two more after TRY_AGAIN."""


class TicketStatus(StrEnum):
    """Whether a ticket was played.

    PENDING: waits to be played.
    PLAYED: was played; the seed is revealed.
    VOIDED: the operation that gave it was undone.
    """

    PENDING = "pending"
    PLAYED = "played"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Variant:
    """One outcome as a ticket froze it; `limited` where there was a stock that could run out."""

    id: str
    type: VariantType
    probability: int
    name: str
    greeting: str | None = None
    limited: bool = False
    voucher_template_id: str | None = None

    @classmethod
    def of(cls, frozen: Mapping[str, Any]) -> "Variant":
        """The outcome from a ticket's own column."""
        return cls(**{**frozen, "type": VariantType(frozen["type"])})


@dataclass(frozen=True, slots=True)
class Draw:
    """A draw: the number that came, the odds it was held against, and the outcome it fell on."""

    roll: int
    odds: list[int]
    outcome: Variant


def draw(seed: str, variants: Sequence[Variant], left_out: Collection[str] = ()) -> Draw:
    """What the seed draws. The same seed and odds always draw the same; no luck is in here."""
    roll, odds, passed = roll_of(seed), effective_odds(variants, left_out), 0
    for variant, weight in zip(variants, odds, strict=True):
        passed += weight
        if roll < passed:
            return Draw(roll, odds, variant)
    raise AssertionError(odds)


def commitment_of(seed: str) -> str:
    """What is published before the draw: the SHA-256 of the seed's own text, in hex."""
    return hashlib.sha256(seed.encode()).hexdigest()


def roll_of(seed: str) -> int:
    """The number a seed stands for: 0–9999, every one as likely as any other.

    The first 8 bytes of SHA-256 of `seed:0`, as a big-endian number, modulo 10 000. Of the 2^64
    numbers the last 1 616 would favour small results: they are passed over for `seed:1`, and so on.
    """
    fair, count = 2**64 - 2**64 % CERTAIN, 0
    while True:
        digest = hashlib.sha256(f"{seed}:{count}".encode()).digest()
        number = int.from_bytes(digest[:8], "big")
        if number < fair:
            return number % CERTAIN
        count += 1


def effective_odds(variants: Sequence[Variant], left_out: Collection[str] = ()) -> list[int]:
    """The odds of each outcome once some are left out; they sum to 10 000 as before.

    What is left out gives its weight to NO_PRIZE, or to all that remain where there is none: in
    proportion to their own, and exact to the unit, the largest remainders first. ValueError
    where nothing remains.
    """
    remaining = [place for place, item in enumerate(variants) if item.id not in left_out]
    if not remaining:
        raise ValueError("Nothing is left to draw.")
    blanks = [place for place in remaining if variants[place].type is VariantType.NO_PRIZE]
    odds = [item.probability if item.id not in left_out else 0 for item in variants]
    freed = CERTAIN - sum(odds)
    heirs = blanks or remaining
    whole = sum(odds[place] for place in heirs)
    shares = {place: divmod(freed * odds[place], whole) for place in heirs}
    for place, (units, _) in shares.items():
        odds[place] += units
    spare = CERTAIN - sum(odds)
    for place in sorted(heirs, key=lambda place: -shares[place][1])[:spare]:
        odds[place] += 1
    return odds


class LotteryTicket(Row, table=True):
    """One promised draw. The odds are frozen; the commitment is the SHA-256 of the hidden seed.

    `result` keeps what was drawn: `variant_id`, `roll`, `odds` (the effective ones, in the order
    of `variants`) and `left_out` (the ids of outcomes that could not be drawn).
    """

    __tablename__ = "lottery_ticket"
    prefix: ClassVar[str] = "lt"
    __table_args__ = (
        Index(
            "ticket_one_per_goal",
            "card_id",
            "cycle",
            "goal_position",
            unique=True,
            sqlite_where=text("chain = 0 AND status <> 'voided'"),
            postgresql_where=text("chain = 0 AND status <> 'voided'"),
        ),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    card_id: str = Field(foreign_key="card.id", index=True)
    operation_id: str | None = None
    goal_id: str = Field(foreign_key="goal.id")
    goal_position: int
    cycle: int
    chain: int = 0
    status: TicketStatus = Field(default=TicketStatus.PENDING, sa_type=words(TicketStatus))
    variants: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    seed: str
    commitment: str
    result: dict[str, Any] | None = Field(default=None, sa_type=Json)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    played_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)

    @property
    def outcomes(self) -> list[Variant]:
        """What can be drawn, as it was frozen."""
        return [Variant.of(frozen) for frozen in self.variants]

    @property
    def outcome(self) -> Variant | None:
        """What was drawn; None before the play."""
        if self.result is None:
            return None
        return next(item for item in self.outcomes if item.id == self.result["variant_id"])

    @property
    def revealed_seed(self) -> str | None:
        """The seed, once it was played; nobody sees it before."""
        return self.seed if self.status is TicketStatus.PLAYED else None

    @property
    def never_again(self) -> list[str]:
        """The outcomes that the last ticket of a chain leaves out: TRY_AGAIN."""
        if self.chain < LAST_CHAIN:
            return []
        return [item.id for item in self.outcomes if item.type is VariantType.TRY_AGAIN]
