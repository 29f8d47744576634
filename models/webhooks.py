"""Webhook endpoints: cursors over the log, their secrets, exceptions and attempts."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words
from models.businesses import Vocabulary
from models.staff import Actor, Role


class Ordering(StrEnum):
    """In which order an endpoint is served.

    NONE: side by side; a late event does not hold up others.
    CARD: the events of one card in their order.
    STRICT: all events in the order of the log, one after the other.
    """

    NONE = "none"
    CARD = "card"
    STRICT = "strict"


class EndpointStatus(StrEnum):
    """Whether an endpoint is served.

    ACTIVE: it is sent what happens.
    PAUSED: somebody paused it; it catches up when it is resumed.
    DISABLED: it failed for too long, or refused for good.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """Why an event of an endpoint is not simply delivered: the exceptions to the cursor.

    RETRY: it failed and is tried again later.
    PARKED: it waits for an earlier event of its card.
    DEAD: all tries failed; only a redelivery sends it again.
    """

    RETRY = "retry"
    PARKED = "parked"
    DEAD = "dead"


class DeliveryStatus(StrEnum):
    """How far an event has come on its way to an endpoint.

    PENDING: it was not sent yet.
    SUCCEEDED: the receiver has it.
    RETRYING: it failed and is tried again.
    PARKED: it waits for an earlier event of its card.
    DEAD: it failed and is not tried again by itself; redeliver it.
    """

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    RETRYING = "retrying"
    PARKED = "parked"
    DEAD = "dead"


class ReplayStatus(StrEnum):
    """How far a replay has come.

    RUNNING: it is being sent, at its own pace, beside what is live.
    DONE: all of it was sent.
    STOPPED: its endpoint was deleted, or took no more.
    """

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class AttemptKind(StrEnum):
    """Why a request was made.

    DELIVERY: an event was due.
    TEST: somebody asked for a sample.
    REDELIVERY: somebody asked for this event again.
    REPLAY: somebody asked for a part of the log again.
    """

    DELIVERY = "delivery"
    TEST = "test"
    REDELIVERY = "redelivery"
    REPLAY = "replay"


class AttemptStatus(StrEnum):
    """How a request went.

    PENDING: under way.
    SUCCEEDED: the receiver answered 2xx.
    FAILED: any other answer, or none.
    """

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WebhookEndpoint(Row, table=True):
    """Where a partner receives events. All up to `cursor` is done, but for its delivery rows.

    An endpoint is leased as a whole: `lease_epoch` fences off whoever lost the lease.
    """

    __tablename__ = "webhook_endpoint"
    prefix: ClassVar[str] = "we"
    __table_args__ = (Index("endpoint_due", "status", "next_attempt_at", "lease_until"),)

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    name: str | None = None
    url: str
    types: list[str] | None = Field(default=None, sa_type=Json)
    vocabulary: Vocabulary = Field(sa_type=words(Vocabulary))
    ordering: Ordering = Field(default=Ordering.NONE, sa_type=words(Ordering))
    headers: str | None = None
    include_contact: bool = False
    document: str | None = None
    document_by_id: str | None = None
    """The staff login with whose rights the document is executed: who saved it."""
    is_rest_hook: bool = False
    max_in_flight: int | None = None
    max_per_second: float | None = None
    pace: float | None = None
    """Requests a second while it catches up or asked for less; None: as fast as it may."""
    recent: int = Field(default=1, sa_type=BigInteger)
    """Its last twenty answers as bits below a leading one: 1 where the event was refused."""
    missed_events: int = Field(default=0, sa_type=BigInteger)
    """Events it was due that retention threw away before it got them."""
    status: EndpointStatus = Field(default=EndpointStatus.ACTIVE, sa_type=words(EndpointStatus))
    disabled_reason: str | None = None
    cursor_sequence: int = Field(sa_type=BigInteger)
    last_due_id: str | None = None
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    next_attempt_at: datetime = Field(sa_type=UtcTimestamp)
    retry_due_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    failing_since: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    failures: int = 0
    last_success_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime = Field(sa_type=UtcTimestamp)

    def is_visible_to(self, actor: Actor) -> bool:
        """Whether an actor may see it: a scanner only those it created."""
        mine = actor.role is not Role.SCANNER or self.created_by_id == actor.staff_id
        return mine and self.deleted_at is None


class SigningSecret(Row, table=True):
    """A secret with which an endpoint's requests are signed, encrypted at rest."""

    __tablename__ = "signing_secret"
    prefix: ClassVar[str] = "sec"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    endpoint_id: str = Field(foreign_key="webhook_endpoint.id", index=True)
    ciphertext: str
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)


class Delivery(Row, table=True):
    """An exception: an event at or below the cursor that is not delivered (yet)."""

    __table_args__ = (Index("delivery_due", "endpoint_id", "state", "next_attempt_at"),)

    endpoint_id: str = Field(foreign_key="webhook_endpoint.id", primary_key=True)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)
    business_id: str = Field(foreign_key="business.id", index=True)
    card_id: str | None = None
    previous_id: str | None = None
    state: DeliveryState = Field(sa_type=words(DeliveryState))
    tries: int = 0
    next_attempt_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    last_error: str | None = None


class Attempt(Row, table=True):
    """One HTTP request to an endpoint, and what came of it."""

    prefix: ClassVar[str] = "att"
    __table_args__ = (
        Index("attempt_of_endpoint", "endpoint_id", "sequence", "number"),
        Index("attempt_by_time", "endpoint_id", "id"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    endpoint_id: str = Field(foreign_key="webhook_endpoint.id")
    event_id: str | None = None
    sequence: int = Field(sa_type=BigInteger)
    number: int = 1
    kind: AttemptKind = Field(default=AttemptKind.DELIVERY, sa_type=words(AttemptKind))
    status: AttemptStatus = Field(sa_type=words(AttemptStatus))
    started_at: datetime = Field(sa_type=UtcTimestamp)
    duration_ms: int | None = None
    response_status: int | None = None
    response_head: str | None = None
    error: str | None = None
    remote_address: str | None = None


class Rendering(Row, table=True):
    """What an endpoint's document came to for an event: kept until the event is done with.

    `body` is None where the document's filter leaves the event out.
    """

    endpoint_id: str = Field(foreign_key="webhook_endpoint.id", primary_key=True)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)
    business_id: str = Field(foreign_key="business.id", index=True)
    body: str | None = None


class Replay(Row, table=True):
    """A part of the log that an endpoint is sent once more, beside what is live.

    A cursor of its own, leased as an endpoint is. All up to it was sent, or is among `retries`.
    """

    __tablename__ = "webhook_replay"
    prefix: ClassVar[str] = "rpl"
    __table_args__ = (Index("replay_due", "status", "next_attempt_at", "lease_until"),)

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    endpoint_id: str = Field(foreign_key="webhook_endpoint.id", index=True)
    status: ReplayStatus = Field(default=ReplayStatus.RUNNING, sa_type=words(ReplayStatus))
    since: datetime = Field(sa_type=UtcTimestamp)
    until: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    types: list[str] = Field(sa_type=Json)
    cursor_sequence: int = Field(sa_type=BigInteger)
    last_sequence: int = Field(sa_type=BigInteger)
    total: int = 0
    sent: int = 0
    failed: int = 0
    failures: int = 0
    """Troubles of the endpoint in a row, while this was sent."""
    retries: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    """Events that failed and are tried again: `id`, `sequence`, `tries`, and `at` as ISO text."""
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    next_attempt_at: datetime = Field(sa_type=UtcTimestamp)
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime = Field(sa_type=UtcTimestamp)
