"""Refusals as GraphQL shows them."""

from datetime import datetime
from typing import Any

import strawberry

from core import errors
from models.relations import LOTTERY_TICKET, STAFF
from schema.base import Actor, Info, lazy, related, resolved
from schema.inputs import register_enum

register_enum(errors.Code)


class Told:
    """A refusal as a value: graphql-core would take the exception itself for a failure."""

    def __init__(self, refusal: errors.Refused) -> None:
        self.refusal = refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self.refusal, name)


def _is_a(value: object, kind: type[errors.Refused] | tuple[type[errors.Refused], ...]) -> bool:
    return isinstance(value, Told) and isinstance(value.refusal, kind)


@strawberry.interface(description="Why an operation was refused; nothing was changed.")
class UserError:
    """Every refusal."""

    code: errors.Code = strawberry.field(description="The reason, for programs.")
    field: list[str] | None = strawberry.field(
        description="The path of the input it concerns; null where it concerns no field."
    )
    message: str = strawberry.field(description="The reason, for people.")


@strawberry.type(description="A refusal that says no more than its code.")
class Refusal(UserError):
    """Most refusals."""

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003 -- graphql-core passes it
        """Whatever has no type of its own."""
        return _is_a(value, errors.Refused) and not _is_a(value, _TYPED)


@strawberry.type(description="A limit of the programme was reached.")
class LimitReached(UserError):
    """Told apart because it ends."""

    retry_at: datetime | None = strawberry.field(
        description="When the limit ends; null for one that does not."
    )

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003
        """By the refusal's class."""
        return _is_a(value, errors.LimitReached)


@strawberry.type(description="The voucher was redeemed before.")
class VoucherAlreadyRedeemed(UserError):
    """The loser of a race learns who won."""

    redeemed_at: datetime = strawberry.field(description="When it was redeemed.")

    @strawberry.field(description="Who redeemed it.")
    async def redeemed_by(self, info: Info) -> Actor | None:
        """The staff login."""
        return await info.context.one(STAFF, self.redeemed_by_id)  # type: ignore[attr-defined,return-value]

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003
        """By the refusal's class."""
        return _is_a(value, errors.VoucherAlreadyRedeemed)


@strawberry.type(description="The voucher's time has passed.")
class VoucherHasExpired(UserError):
    """Says since when."""

    expired_at: datetime = strawberry.field(description="When it expired.")

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003
        """By the refusal's class."""
        return _is_a(value, errors.VoucherHasExpired)


@strawberry.type(description="The lottery ticket was played before.")
class TicketAlreadyPlayed(UserError):
    """Its result stands."""

    played_at: datetime = strawberry.field(description="When it was played.")
    ticket = related(
        LOTTERY_TICKET,
        "ticket_id",
        lazy("LotteryTicket", "lotteries"),
        "The ticket, with its result.",
    )

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003
        """By the refusal's class."""
        return _is_a(value, errors.TicketAlreadyPlayed)


@strawberry.type(description="The claim code was used before.")
class ClaimCodeUsed(UserError):
    """The loser of a race learns when it was won."""

    claimed_at: datetime = strawberry.field(description="When it was used.")

    @classmethod
    def is_type_of(cls, value: object, info: Info) -> bool:  # noqa: ARG003
        """By the refusal's class."""
        return _is_a(value, errors.ClaimCodeUsed)


user_error_types = [
    Refusal,
    LimitReached,
    VoucherAlreadyRedeemed,
    VoucherHasExpired,
    TicketAlreadyPlayed,
    ClaimCodeUsed,
]
_TYPED = (
    errors.LimitReached,
    errors.VoucherAlreadyRedeemed,
    errors.VoucherHasExpired,
    errors.TicketAlreadyPlayed,
    errors.ClaimCodeUsed,
)


def user_errors(description: str) -> Any:
    """The field that tells an outcome's refusals."""
    return resolved(
        lambda root, info: [Told(refusal) for refusal in root.user_errors],  # noqa: ARG005
        list[UserError],
        description,
    )
