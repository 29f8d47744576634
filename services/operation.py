"""What every operation shares: who may call it, which events it fires, what it hands back."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from annotated_doc import Doc

from core.errors import Forbidden, Refused
from db import Transaction
from events import Event
from models import Actor, EventRow, Role

EVERYBODY = (Role.OWNER, Role.MANAGER, Role.SCANNER)
MANAGERS = (Role.OWNER, Role.MANAGER)
OWNER = (Role.OWNER,)
NOT_BY_TOKEN = "An access token does not reach this."  # noqa: S105 -- a message
OPERATOR: tuple[Role, ...] = ()
"""No staff login at all: only the system itself, at the operator's word."""


@dataclass(kw_only=True)
class Input:
    """What every mutation takes."""

    idempotency_key: Annotated[
        str | None,
        Doc(
            "Makes a repeat harmless: the same key with the same input is answered as the first "
            "call was, for 7 days. 1–128 characters."
        ),
    ] = None


@dataclass(kw_only=True)
class Outcome:
    """What every mutation hands back. On a refusal all but `user_errors` is empty."""

    events: list[EventRow] = field(default_factory=list)
    user_errors: list[Refused] = field(default_factory=list)


class Shown(str):
    """A secret, shown once: it is never stored with an outcome."""

    __slots__ = ()


P = ParamSpec("P")
O_co = TypeVar("O_co", bound=Outcome, covariant=True)


class Operation(Protocol, Generic[P, O_co]):
    """A service that was declared with `@operation`."""

    roles: tuple[Role, ...]
    fires: tuple[type[Event], ...]
    outcome: type[Outcome]
    __name__: str
    __doc__: str | None

    def __call__(
        self, tx: Transaction, actor: Actor, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[O_co]: ...


Service = Callable[Concatenate[Transaction, Actor, P], Awaitable[O_co]]


def operation(
    *roles: Role, fires: tuple[type[Event], ...] = ()
) -> Callable[[Service[P, O_co]], Operation[P, O_co]]:
    """Declare who may call a service and which events it can fire.

    The service refuses everybody else; the API's documentation says the same, from here.
    """

    def declare(service: Service[P, O_co]) -> Operation[P, O_co]:
        @functools.wraps(service)
        async def guarded(tx: Transaction, actor: Actor, *args: P.args, **kwargs: P.kwargs) -> O_co:
            allow(actor, roles)
            return await service(tx, actor, *args, **kwargs)

        declared = cast("Any", guarded)
        declared.roles = roles
        declared.fires = fires
        declared.outcome = service.__annotations__["return"]
        return cast("Operation[P, O_co]", declared)

    return declare


def allow(actor: Actor, roles: tuple[Role, ...]) -> None:
    """Forbidden, unless the actor has one of these roles (the system itself has them all).

    An access token has none: it only reads, where that says so.
    """
    if actor.token is not None:
        raise Forbidden(NOT_BY_TOKEN)
    if actor.role is not None and actor.role not in roles:
        raise Forbidden
