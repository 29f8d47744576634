"""Subscription: what is told as it happens."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import strawberry

import resolvers.overview
import resolvers.stream
from schema.base import Info, plain
from schema.cards import Card
from schema.events import Event
from schema.overview import Pulse
from services.card_refs import CardRef
from services.listings import EventFilter


def _live(resolve: Any, returns: Any, description: str, **arguments: Any) -> Any:
    resolve.__annotations__ = {
        "info": strawberry.Info,
        **arguments,
        "return": AsyncGenerator[returns, None],
    }
    return strawberry.subscription(resolver=resolve, description=description)


async def _events(
    root: Any,  # noqa: ARG001
    info: Info,
    after: Any = strawberry.UNSET,
    filter: Any = strawberry.UNSET,
) -> AsyncIterator[Any]:
    async for event in resolvers.stream.events(info.context, plain(after), plain(filter)):
        yield event


async def _card(root: Any, info: Info, ref: Any) -> AsyncIterator[Any]:  # noqa: ARG001
    async for card in resolvers.stream.card(info.context, ref):
        yield card


async def _pulse(root: Any, info: Info) -> AsyncIterator[Any]:  # noqa: ARG001
    async for pulse in resolvers.overview.pulse(info.context):
        yield pulse


def _argument(kind: Any, description: str) -> Any:
    return Annotated[kind, strawberry.argument(description=description)]


@strawberry.type(description="What is told as it happens.")
class Subscription:
    """Over graphql-transport-ws, or server-sent events where websockets are blocked."""

    events = _live(
        _events,
        Event,
        "Every event beyond a cursor, then each as it happens: nothing missed, nothing twice.",
        after=_argument(
            str | None,
            "Beyond this cursor; absent: only what happens from now on. The same cursor serves "
            "queries and webhook endpoints.",
        ),
        filter=_argument(EventFilter | None, "Only events that match."),
    )
    card = _live(
        _card,
        Card | None,
        "A card now, and after each change; null once if there is no such card.",
        ref=_argument(CardRef, "Which card."),
    )
    pulse = _live(
        _pulse,
        Pulse,
        "Today's figures now, and as they change, at most a few times a second; a scanner sees "
        "its own location.",
    )
