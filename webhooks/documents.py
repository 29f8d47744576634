"""Documents: what an endpoint's own GraphQL subscription makes of an event.

Execution lies above this floor, so what executes is handed in where a process is composed.
"""

from typing import Protocol

from models import Actor, EventRow


class Documents(Protocol):
    """Checks and executes the documents of endpoints."""

    def check(self, text: str) -> None:
        """Whether a text may be an endpoint's document: ValueError says why not.

        It is one subscription of `events` without variables or `after`.
        """
        ...

    async def render(self, actor: Actor, text: str, event: EventRow) -> str | None:
        """The body for an event, as a socket would carry it; None where the filter leaves it out.

        The same text as the payload of the `next` message that a subscriber with this document
        and these rights gets.
        """
        ...
