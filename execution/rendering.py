"""Rendering: an endpoint's own document, checked when it is saved and executed per event."""

from typing import Any

from graphql import GraphQLError
from strawberry.schema.base import BaseSchema

from core.limits import DocumentLimits
from core.memory import Memory
from db import Transaction
from execution.cost import price_in
from execution.documents import ROOM, check_document, size_of
from execution.subscriptions import LogSubscription, log_subscription
from models import Actor, EventRow
from resolvers.context import Context, Deployment
from services.listings import LOG
from services.pages import PageArgs

LONGEST = 20_000
MOST_PER_EVENT = 500
"""What a document may cost for each event: whoever pushes to others waits meanwhile."""


class Renderer:
    """The documents of endpoints (webhooks.documents.Documents), executed by our schema."""

    def __init__(self, schema: BaseSchema) -> None:
        self._schema = schema
        self._understood: Memory[str, LogSubscription] = Memory(ROOM)
        self.deployment: Deployment | None = None

    def check(self, text: str) -> None:
        """Whether a text may be an endpoint's document: ValueError says why not."""
        if len(text) > LONGEST:
            raise ValueError(f"A document has at most {LONGEST} characters.")
        core: Any = self._schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        checked = check_document(core, text, self._limits)
        if checked.errors:
            raise ValueError(_first_of(checked.errors))
        said = self._understand(text)
        if said is None or said.operation.variable_definitions:
            raise ValueError("A document is one subscription of events, without variables.")
        if said.after is not None:
            raise ValueError("An endpoint has a cursor of its own: leave `after` out.")
        assert self.deployment is not None  # noqa: S101 -- set where the process is composed
        most = min(self.deployment.settings.cost_per_operation, MOST_PER_EVENT)
        if (cost := price_in(core, checked, said.operation).requested(None)) > most:
            raise ValueError(f"It may cost {cost} for each event; at most {most}.")

    async def render(self, actor: Actor, text: str, event: EventRow) -> str | None:
        """The body for an event; None where the document's filter leaves it out."""
        said = self._understand(text)
        if said is None:
            raise ValueError("This document does not fit the schema any more.")
        assert self.deployment is not None  # noqa: S101 -- set where the process is composed
        context = Context(self.deployment, caller=actor)
        if not await is_wanted(context, said, event):
            return None
        return (await said.answer(context, event)).decode()

    def _understand(self, text: str) -> LogSubscription | None:
        said = self._understood.get(text)
        if said is None:
            said = log_subscription(self._schema, text, None, None, self._limits)
            if said is not None:
                self._understood.keep(text, said, size_of(text, said.document))
        return said

    @property
    def _limits(self) -> DocumentLimits:
        assert self.deployment is not None  # noqa: S101 -- set where the process is composed
        return self.deployment.settings.document_limits


async def is_wanted(context: Context, said: LogSubscription, event: EventRow) -> bool:
    """Whether a subscription's filter lets an event through."""
    if said.filter.search is None:
        return said.filter.matches(event)

    async def work(tx: Transaction) -> bool:
        args = PageArgs(first=1, after=_before(event))
        [*found] = (await LOG.page(tx, args, **said.filter.conditions())).rows
        return bool(found) and found[0].sequence == event.sequence

    return await context.read(work)


def _before(event: EventRow) -> str:
    return event.with_values(sequence=event.sequence - 1).cursor


def _first_of(errors: tuple[GraphQLError, ...]) -> str:
    return errors[0].message
