"""Lottery tickets, as GraphQL shows them."""

from datetime import datetime
from typing import Any

import strawberry

import models
from events.catalogue import LotteryResult as Result
from models.relations import CARD
from schema.base import Node, related, represents, shown
from schema.cards import Card
from schema.events import LotteryResult
from schema.inputs import register_enum

for _kind in (models.TicketStatus, models.VariantType):
    register_enum(_kind)


@strawberry.type(description="One outcome of a lottery, and its odds.")
class LotteryOdds:
    """Frozen when the ticket was handed out."""

    variant_id: strawberry.ID = strawberry.field(description="The outcome's id.")
    type: models.VariantType = strawberry.field(description="What it gives.")
    name: str = strawberry.field(description="What the customer reads.")
    limited: bool = strawberry.field(description="Whether there was a stock that could run out.")
    probability: int = strawberry.field(
        description="As promised with the ticket, in hundredths of a percent."
    )
    effective_probability: int | None = strawberry.field(
        description="As it was drawn by, once what was sold out or excluded had given its part to "
        "the others; null before the play."
    )
    left_out: bool | None = strawberry.field(
        description="Whether it was sold out, or excluded from the last draw of a chain; null "
        "before the play."
    )


@represents(models.LotteryTicket)
@strawberry.type(description="A promised draw.")
class LotteryTicket(Node):
    """The seed stays hidden until it is played."""

    status: models.TicketStatus = strawberry.field(description="Whether it was played.")
    commitment: str = strawberry.field(
        description="SHA-256 of the hidden seed's text, in hex: published before the draw."
    )
    chain: int = strawberry.field(
        description="0 for the ticket of a goal, 1 and 2 for those that TRY_AGAIN gave."
    )
    created_at: datetime = strawberry.field(description="When it was handed out.")
    played_at: datetime | None = strawberry.field(description="When it was played.")
    seed = shown(
        "revealed_seed", str | None, "What it was drawn by, revealed with the result; null before."
    )
    goal_index = shown("goal_position", int, "1-based position of its goal.")
    card = related(CARD, "card_id", Card, "The card.")

    @strawberry.field(description="How the draw came out; null before the play.")
    def result(self) -> LotteryResult | None:
        """What is told in the event too."""
        won = self.outcome  # type: ignore[attr-defined]
        return won and Result(type=won.type, name=won.name, greeting=won.greeting)

    @strawberry.field(
        description="The number that was drawn, 0–9999, held against the effective odds in the "
        "order of `odds`; null before the play."
    )
    def roll(self) -> int | None:
        """It follows from the seed alone."""
        return _drawn(self).get("roll")

    @strawberry.field(description="The outcomes with their odds, promised and effective.")
    def odds(self) -> list[LotteryOdds]:
        """Enough, with the seed, to repeat the draw."""
        drawn, outcomes = _drawn(self), self.outcomes  # type: ignore[attr-defined]
        effective = drawn.get("odds") or [None] * len(outcomes)
        left_out = drawn.get("left_out")
        return [
            LotteryOdds(
                variant_id=strawberry.ID(item.id),
                type=item.type,
                name=item.name,
                limited=item.limited,
                probability=item.probability,
                effective_probability=weight,
                left_out=None if left_out is None else item.id in left_out,
            )
            for item, weight in zip(outcomes, effective, strict=True)
        ]


def _drawn(ticket: Any) -> dict[str, Any]:
    """What was kept of the draw; empty before the play."""
    return ticket.__dict__["result"] or {}
