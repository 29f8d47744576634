"""What all output types share: how rows become objects, fields follow relations, lists page."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, TypeVar, cast

import strawberry

from db import Transaction
from db.relations import Columns
from events import is_event_type
from models import EventRow, Row
from models.relations import ToMany, ToOne
from resolvers.context import Context
from services.pages import Listing, Page, PageArgs

Info = strawberry.Info[Context, None]
T = TypeVar("T", bound=type)

object_types: dict[type, type] = {}
"""The GraphQL type that shows each kind of row."""


def represents(row: type) -> Callable[[T], T]:
    """Declare that a GraphQL type shows a kind of row (or refusal)."""

    def declare(cls: T) -> T:
        definition = cls.__strawberry_definition__  # type: ignore[attr-defined]
        definition.is_type_of = lambda value, _: isinstance(value, row)
        object_types[row] = cls
        return cls

    return declare


def lazy(name: str, module: str) -> Any:
    """A type of another file of this floor, named before that file is loaded."""
    return Annotated[name, strawberry.lazy(f"schema.{module}")]


def resolved(resolve: Callable[..., Any], returns: Any, description: str, **arguments: Any) -> Any:
    """A field by a resolver whose types are given here, not read from its annotations.

    What plans (execution/plans) may know of a resolver stands on it: `for_all`, a function of many
    roots, whose `info.only` are the columns wanted of the rows (or pages) it gives; `needs`, the
    attributes of its root that it reads; and `is_once` where it leaves traces, and so is in no
    plan, for a plan may be dropped and its operation executed again.
    """
    known = {"info": strawberry.Info} if "info" in signature(resolve).parameters else {}
    resolve.__annotations__ = {**known, **arguments, "return": returns}
    return strawberry.field(resolver=resolve, description=description)


def related(relation: ToOne[Any], key: str, type_: Any, description: str) -> Any:
    """A field that follows a relation to one row."""

    async def resolve(root: Any, info: Info) -> Any:
        return await info.context.one(relation, getattr(root, key))

    async def for_all(roots: Sequence[Any], info: Any) -> list[Any]:
        keys = [getattr(root, key) for root in roots]
        found: list[Any] = await info.context.ones(relation, keys, info.only)
        return found

    resolve.for_all = for_all  # type: ignore[attr-defined]
    resolve.needs = {key}  # type: ignore[attr-defined]
    return resolved(resolve, type_ | None, description)


def shown(key: str, type_: Any, description: str) -> Any:
    """A field that shows an attribute of another name."""

    def resolve(root: Any, info: Info) -> Any:  # noqa: ARG001 -- Strawberry passes it
        return getattr(root, key)

    resolve.needs = {key}  # type: ignore[attr-defined]
    return resolved(resolve, type_, description)


@strawberry.interface(description="Anything with a global id.")
class Node:
    """Whatever `node(id:)` finds."""

    id: strawberry.ID = strawberry.field(description="The global id; its prefix names the type.")


@strawberry.interface(description="Who performs a call or caused an event.")
class Actor:
    """A staff login, a point of sale, or the system."""

    id: strawberry.ID | None = strawberry.field(description="The actor's id; null for the system.")
    name: str = strawberry.field(description="What people call it.")


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """As Relay wants it."""

    has_next_page: bool = strawberry.field(description="Whether more follows.")
    has_previous_page: bool = strawberry.field(description="Whether more lies before.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first item.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last item.")


def _is_known(row: Any) -> bool:
    """Whether there is a type for an event: a newer release writes some that have none here."""
    event = row if isinstance(row, EventRow) else getattr(row, "event", None)
    return not isinstance(event, EventRow) or is_event_type(event.type)


def _known(page: Page[Row]) -> Sequence[int]:
    """Which rows of a page have a type: all but unknown events, and what belongs to those."""
    rows = page.rows
    if rows and isinstance(rows[0], Row) and not isinstance(rows[0], EventRow):
        return range(len(rows))
    return [place for place, row in enumerate(rows) if _is_known(row)]


def _nodes(page: Page[Row]) -> list[Row]:
    return [page.rows[place] for place in _known(page)]


def _edges(page: Page[Row]) -> list[dict[str, Any]]:
    cursors = page.cursors()
    return [
        _Edge(cursors[place], page.rows[place])  # type: ignore[misc]
        for place in _known(page)
    ]


class _Edge:
    def __init__(self, cursor: str, node: Row) -> None:
        self.cursor = cursor
        self.node = node


def _page_info(page: Page[Row]) -> PageInfo:
    cursors = page.cursors()
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


def _of(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """A resolver that needs its row alone."""

    def resolve(root: Any) -> Any:
        return read(root)

    return resolve


_connections: dict[Any, Any] = {}


def connection(node: Any, name: str) -> Any:
    """The connection type over a node type."""
    if name in _connections:
        return _connections[name]
    edge = type(
        f"{name}Edge",
        (),
        {
            "__annotations__": {"cursor": str, "node": node},
            "cursor": strawberry.field(description="The place of the item in its list."),
            "node": strawberry.field(description="The item."),
        },
    )
    edge = strawberry.type(edge, description=f"An item of a {name}Connection.")

    async def total(root: Page[Any], info: Info) -> int:
        async def count(tx: Transaction) -> int:
            return cast("int", await root.count(tx))

        # Whoever holds a page was let read it.
        return await info.context.read_within(count)

    made = type(
        f"{name}Connection",
        (),
        {
            "edges": resolved(
                _of(_edges),
                list[edge],  # type: ignore[valid-type]
                "The items, each with its cursor.",
            ),
            "nodes": resolved(
                _of(_nodes),
                list[node],
                "The items.",
            ),
            "page_info": resolved(
                _of(_page_info),
                PageInfo,
                "Where the page lies.",
            ),
            "total_count": resolved(total, int, "How many items the whole list has."),
        },
    )
    _connections[name] = strawberry.type(made, description=f"A page of a list of {name}.")
    return _connections[name]


_PAGING: dict[str, Any] = {
    "first": Annotated[
        int | None, strawberry.argument(description="How many items, 1–100; 20 if absent.")
    ],
    "after": Annotated[
        str | None, strawberry.argument(description="Only items beyond this cursor.")
    ],
    "last": Annotated[
        int | None, strawberry.argument(description="How many items, counted from the end.")
    ],
    "before": Annotated[
        str | None, strawberry.argument(description="Only items before this cursor.")
    ],
}


@dataclass(frozen=True)
class _Pages:
    """How a field reads its pages; see `listed`."""

    listing: Listing[Any]
    filter: type | None
    always: Callable[[Any, Context], dict[str, Any]] | None
    batch: tuple[ToMany[Any], str] | None
    within: bool

    def conditions(self, root: Any, context: Context, told: Any) -> dict[str, Any] | None:
        """The conditions that hold; None where nothing can fulfil them."""
        asked = (told or self.filter()).conditions() if self.filter else {}
        held = self.always(root, context) if self.always else {}
        if any(asked.get(name) not in (None, value) for name, value in held.items()):
            return None  # another card's vouchers, asked of this card: there are none
        return {**asked, **held}

    async def page(
        self, root: Any, info: Any, args: PageArgs, told: Any, only: Columns = None
    ) -> Page[Any]:
        """The page of one root."""
        context: Context = info.context
        conditions = self.conditions(root, context, told)
        if conditions is None:
            args.size()
            return Page([], has_next=False, has_previous=False, count=_none)
        if self.batch is not None and _is_first(args, told):
            relation, key = self.batch
            rows = await context.many(relation, getattr(root, key), args.size() + 1)
            return self._first(root, context, rows, args.size())
        read = context.read_within if self.within else context.read
        return await read(lambda tx: self.listing.page(tx, args, only=only, **conditions))

    async def for_all(
        self, roots: Sequence[Any], info: Any, filter: Any = None, **asked: Any
    ) -> list[Page[Any]]:
        """The pages of many roots."""
        args, told = _args(**asked), plain(filter)
        only = None if info.only is None else info.only | {self.listing.key}
        if self.batch is None or not _is_first(args, told):
            pages = [self.page(root, info, args, told, only) for root in roots]
            return [await pages[0]] if len(pages) == 1 else await asyncio.gather(*pages)
        (relation, key), size = self.batch, args.size()
        keys = [getattr(root, key) for root in roots]
        found = await info.context.manys(relation, keys, size + 1, only)
        return [
            self._first(root, info.context, rows, size)
            for root, rows in zip(roots, found, strict=True)
        ]

    def _first(self, root: Any, context: Context, rows: list[Any], size: int) -> Page[Any]:
        async def count(tx: Transaction) -> int:
            return await self.listing.count(tx, **(self.conditions(root, context, None) or {}))

        return Page(rows[:size], has_next=len(rows) > size, has_previous=False, count=count)


def listed(
    listing: Listing[Any],
    node: Any,
    name: str,
    description: str,
    *,
    filter: type | None = None,
    always: Callable[[Any, Context], dict[str, Any]] | None = None,
    batch: tuple[ToMany[Any], str] | None = None,
    within: bool = False,
) -> Any:
    """A field that pages through a list.

    `always` gives conditions that hold whatever the filter says; with `within` they keep to the
    scope of whoever reached the parent, so that access tokens may read on. With `batch`, a plain
    first page under many parents is read for all of them at once.
    """
    pages, unset = _Pages(listing, filter, always, batch, within), strawberry.UNSET

    async def resolve(
        root: Any,
        info: Info,
        first: Any = unset,
        after: Any = unset,
        last: Any = unset,
        before: Any = unset,
    ) -> Page[Any]:
        return await pages.page(root, info, _args(first, after, last, before), None)

    async def resolve_filtered(
        root: Any,
        info: Info,
        filter: Any = unset,
        first: Any = unset,
        after: Any = unset,
        last: Any = unset,
        before: Any = unset,
    ) -> Page[Any]:
        args = _args(first, after, last, before)
        return await pages.page(root, info, args, plain(filter))

    async def for_all(roots: Sequence[Any], info: Any, **asked: Any) -> list[Page[Any]]:
        return await pages.for_all(roots, info, **asked)

    for_all.gives_pages = True  # type: ignore[attr-defined]
    resolve.for_all = resolve_filtered.for_all = for_all  # type: ignore[attr-defined]
    resolve.needs = resolve_filtered.needs = {"id"}  # type: ignore[attr-defined]
    if filter is None:
        return resolved(resolve, connection(node, name), description, **_PAGING)
    asked: Any = filter | None
    told = Annotated[asked, strawberry.argument(description="Only items that match.")]
    return resolved(resolve_filtered, connection(node, name), description, filter=told, **_PAGING)


def _args(first: Any = None, after: Any = None, last: Any = None, before: Any = None) -> PageArgs:
    return PageArgs(*map(plain, (first, after, last, before)))


def _is_first(args: PageArgs, told: Any) -> bool:
    """Whether a plain first page is asked for."""
    return told is None and args == PageArgs(first=args.first)


async def _none(tx: Transaction) -> int:  # noqa: ARG001 -- as all counts are
    return 0


def plain(value: Any) -> Any:
    """An argument, None where it was left out."""
    return None if value is strawberry.UNSET else value
