"""Texts: what a round's events are sent with, the same bytes at every try."""

import asyncio

import structlog

from core.clock import Clock
from events import payload
from models import Rendering, WebhookEndpoint
from webhooks.documents import Documents
from webhooks.parcels import with_contact
from webhooks.rounds import Round, is_ready
from webhooks.sender import Answer
from webhooks.verdicts import Due

RENDER_SECONDS = 2.0
"""The longest that an endpoint's document may take for one event."""

log = structlog.get_logger("stampwire.webhooks")


class Texts:
    """Makes them: the text of the log, or what the endpoint's own document makes of the event."""

    def __init__(self, documents: Documents | None, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def write(self, endpoint: WebhookEndpoint, round_: Round) -> list[Rendering]:
        """Give each event of a round its body; says what was rendered now, for the first time.

        An event that a document leaves out leaves the round. One whose body cannot be made is
        an exception like one that is refused: nothing is sent, and the others go on.
        """
        made: list[Rendering] = []
        for due in list(round_.due):
            if due.is_unknown:
                continue
            try:
                text = await self._text(endpoint, round_, due, made)
                due.body = None if text is None else text.encode()
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is this event's alone
                name = type(error).__name__
                log.warning("webhook body not made", id=due.event.id, error=name)
                fault = "body" if endpoint.document is None else "document"
                due.answer = Answer(self._clock.now(), 0, error=fault)
                continue
            if due.body is None:
                round_.due.remove(due)
                if due.delivery is not None:
                    round_.passed_over.append(due.delivery)
            elif endpoint.failures and due.delivery is None and is_ready(due):
                break  # the probe: what comes after it is for a later round
        return made

    async def _text(
        self, endpoint: WebhookEndpoint, round_: Round, due: Due, made: list[Rendering]
    ) -> str | None:
        event = due.event
        stored = round_.renderings.get(event.sequence)
        if stored is not None:
            return stored.body
        if endpoint.document is None:
            body = payload(event.body, endpoint.vocabulary)
            customer = round_.customers.get(event.customer_id or "")
            if customer is None:
                return body
            return with_contact(body, customer, round_.consents.get(customer.id, []))
        if self._documents is None or round_.author is None:
            raise RuntimeError("Nobody here executes documents.")
        async with asyncio.timeout(RENDER_SECONDS):
            text = await self._documents.render(round_.author, endpoint.document, event)
        rendering = Rendering(
            endpoint_id=endpoint.id,
            sequence=event.sequence,
            business_id=endpoint.business_id,
            body=text,
        )
        made.append(rendering)
        round_.renderings[event.sequence] = rendering
        return text
