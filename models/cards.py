"""Cards: one customer's progress on one template, and the ledger that proves it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from core.clock import local_moment, next_local
from core.errors import Code, Refused
from models.base import Json, Row, UtcTimestamp, words
from models.card_templates import CardTemplateVersion, Goal, Overflow, RewardType
from models.staff import Actor, Role
from models.vouchers import Source

UNDO_WINDOW = timedelta(minutes=15)
"""How long a scanner may undo what it did itself."""


class CardStatus(StrEnum):
    """Whether a card is in use.

    ACTIVE: in use.
    DELETED: deleted; its ledger stays.
    """

    ACTIVE = "active"
    DELETED = "deleted"


class Platform(StrEnum):
    """A wallet in which a customer keeps a card.

    WEB: the card's page in a browser.
    APPLE: Apple Wallet.
    GOOGLE: Google Wallet.
    """

    WEB = "web"
    APPLE = "apple"
    GOOGLE = "google"


class StampChannel(StrEnum):
    """The route by which stamps came.

    SCANNER_MANUAL: staff scanned the card and confirmed.
    SELF_SERVICE_KIOSK: the customer scanned at a kiosk.
    AUTOPILOT: a scan that needed no confirmation.
    DELIVERY_INSERT: a code that came with a delivery.
    RECEIPT_QR: a code on a receipt.
    POS: a point of sale.
    API: a call of this API.
    IMPORT: a file of customers; the stamps were earned, and their goals paid, elsewhere.
    """

    SCANNER_MANUAL = "scanner_manual"
    SELF_SERVICE_KIOSK = "self_service_kiosk"
    AUTOPILOT = "autopilot"
    DELIVERY_INSERT = "delivery_insert"
    RECEIPT_QR = "receipt_qr"
    POS = "pos"
    API = "api"
    IMPORT = "import"


class OperationKind(StrEnum):
    """What a line of the ledger stands for.

    STAMPS: stamps were added.
    VOUCHER_ISSUE: a voucher was issued by hand or by a call.
    VOUCHER_REDEEM: a voucher was redeemed.
    VOID: an earlier line was undone, or a voucher voided.
    MERGE: another card of the customer was joined to this one, with the stamps of its open cycle.
    """

    STAMPS = "stamps"
    VOUCHER_ISSUE = "voucher_issue"
    VOUCHER_REDEEM = "voucher_redeem"
    VOID = "void"
    MERGE = "merge"


MOVES_STAMPS = (OperationKind.STAMPS, OperationKind.MERGE)
"""The lines that add stamps to a card."""

NOT_TOLD_OF_SILENCE = (
    "deleted_at IS NULL AND (quiet_told_at IS NULL OR quiet_told_at < last_activity_at)"
)
"""Cards of whose present silence nothing was told: `quiet_told_at` is the activity before it."""
QUIET_HOUR = 10
"""The local hour at which a card's silence is told."""


def silent_since(days: int, now: datetime, zone: ZoneInfo) -> datetime:
    """What did not stir after this moment is quiet now: the other side of `Card.quiet_at`."""
    today = now.astimezone(zone).date()
    told = local_moment(today, QUIET_HOUR, zone)
    if told > now:
        told = local_moment(today - timedelta(days=1), QUIET_HOUR, zone)
    return told - timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a version of a template promises: how many stamps, and which goals on the way."""

    version: CardTemplateVersion
    goals: Sequence[Goal]

    @property
    def required(self) -> int:
        """Stamps of a full card."""
        return self.version.stamps_required

    def reached(self, before: int, after: int) -> list[Goal]:
        """The goals passed on the way from one count to another, ascending."""
        return [goal for goal in self.goals if before < goal.stamps <= after]


@dataclass(frozen=True, slots=True)
class Stamping:
    """What adding stamps does to a card; nothing is stored yet."""

    count: int
    before: int
    after: int
    cycle_before: int
    cycle_after: int
    promise: Promise
    reached: list[tuple[int, Goal]]


class _Terms(dict[int, Promise]):
    """The promise of each cycle; one for all that are not listed."""

    def __init__(self, known: Mapping[int, Promise], following: Promise | None = None) -> None:
        super().__init__(known)
        self._following = following

    def __missing__(self, cycle: int) -> Promise:
        if self._following is None:
            raise KeyError(cycle)
        return self._following


def stamping(count: int, stamps: int, cycle: int, terms: Mapping[int, Promise]) -> Stamping:
    """What stamps do to a card that stands here; `terms` holds the promise of each cycle."""
    at, turn, promise, left = stamps, cycle, terms[cycle], count
    reached: list[tuple[int, Goal]] = []
    while left > 0:
        if at >= promise.required:
            at, turn = 0, turn + 1
            promise = terms[turn]
        step = min(left, promise.required - at)
        reached += [(turn, goal) for goal in promise.reached(at, at + step)]
        at, left = at + step, left - step
        if at >= promise.required and promise.version.overflow is Overflow.DISCARD:
            break
    return Stamping(count, stamps, at, cycle, turn, promise, reached)


class Card(Row, table=True):
    """One customer's progress; one per customer and template while it is not deleted.

    `location_id` is where it was issued.
    """

    prefix: ClassVar[str] = "card"
    __table_args__ = (
        UniqueConstraint("business_id", "number"),
        Index(
            "card_one_per_customer",
            "customer_id",
            "template_id",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("card_of_business", "business_id", "id"),
        Index(
            "card_by_activity",
            "business_id",
            "customer_id",
            "template_id",
            "last_activity_at",
            "location_id",
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "card_not_told",
            "template_id",
            "last_activity_at",
            sqlite_where=text(NOT_TOLD_OF_SILENCE),
            postgresql_where=text(NOT_TOLD_OF_SILENCE),
        ),
        Index(
            "card_in_use",
            "business_id",
            "template_id",
            "stamps",
            "location_id",
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        CheckConstraint("stamps >= 0 AND cycle >= 1"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    number: str
    customer_id: str = Field(foreign_key="customer.id")
    template_id: str = Field(foreign_key="card_template.id", index=True)
    version_id: str = Field(foreign_key="card_template_version.id")
    stamps: int = 0
    cycle: int = 1
    lines: int = 0
    token: str = Field(unique=True)
    wallet_pass_id: str = Field(unique=True)
    issued_by_id: str | None = None
    location_id: str | None = None
    created_at: datetime = Field(sa_type=UtcTimestamp)
    last_stamp_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    last_opened_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    last_activity_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    quiet_told_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    merged_into: str | None = Field(default=None, index=True)
    replaced_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    replaced_by_id: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    deleted_by_id: str | None = None

    @property
    def status(self) -> CardStatus:
        """ACTIVE until it is deleted."""
        return CardStatus.ACTIVE if self.deleted_at is None else CardStatus.DELETED

    def quiet_at(self, days: int, rule_since: datetime, zone: ZoneInfo) -> datetime | None:
        """When it has been silent for so many days: at the first 10:00 that ends them in full.

        Never before the rule was made. None where nothing ever happened on the card.
        """
        if self.last_activity_at is None:
            return None
        silent = self.last_activity_at + timedelta(days=days)
        return next_local(max(silent, rule_since), QUIET_HOUR, zone)

    def add_stamps(self, count: int, current: Promise, following: Promise) -> Stamping:
        """What these stamps do: the goals they reach, and where the card then stands.

        A full card rests full; the next stamp opens the next cycle, which goes by `following`,
        the version published now. Stamps beyond a full card carry over or are discarded, as the
        cycle's own version says.
        """
        terms = _Terms({self.cycle: current}, following)
        return stamping(count, self.stamps, self.cycle, terms)


class CardPlatform(Row, table=True):
    """A card was saved to a wallet: once per platform."""

    __tablename__ = "card_platform"
    __table_args__ = (Index("platform_of_card", "business_id", "card_id"),)

    business_id: str = Field(foreign_key="business.id")
    card_id: str = Field(foreign_key="card.id", primary_key=True)
    platform: Platform = Field(sa_type=words(Platform), primary_key=True)
    saved_at: datetime = Field(sa_type=UtcTimestamp)


class Operation(Row, table=True):
    """A line of the ledger, append-only: a card's stamps and cycle are always its lines replayed.

    At most one redemption of a voucher is in force, and one operation per connector and sale.
    `line` is its place among the lines that moved its card's stamps, from 1, without gaps: ids of
    two processes may not sort as they happened. Such a line also names the versions that the
    card's cycle went by before and after it. `connector_id` is the till that did it, or whose
    sale it was.
    """

    prefix: ClassVar[str] = "op"
    __table_args__ = (
        Index("operation_of_card", "card_id", "id"),
        Index("operation_of_business", "business_id", "created_at"),
        Index(
            "operation_one_redemption",
            "voucher_id",
            unique=True,
            sqlite_where=text("kind = 'voucher_redeem' AND voided_by_id IS NULL"),
            postgresql_where=text("kind = 'voucher_redeem' AND voided_by_id IS NULL"),
        ),
        UniqueConstraint("connector_id", "sale_id"),
        UniqueConstraint("card_id", "line"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    kind: OperationKind = Field(sa_type=words(OperationKind))
    card_id: str | None = Field(default=None, foreign_key="card.id")
    voucher_id: str | None = Field(default=None, foreign_key="voucher.id")
    line: int | None = None
    version_before_id: str | None = None
    version_id: str | None = None
    staff_id: str | None = None
    location_id: str | None = None
    count: int = 0
    amount: int | None = Field(default=None, sa_type=BigInteger)
    before: int | None = None
    after: int | None = None
    cycle_before: int | None = None
    cycle_after: int | None = None
    channel: StampChannel | None = Field(default=None, sa_type=words(StampChannel))
    external_ref: str | None = None
    connector_id: str | None = None
    sale_id: str | None = None
    voids_id: str | None = None
    voided_by_id: str | None = None
    reason: str | None = None
    occurred_at: datetime = Field(sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)

    @property
    def is_stamps(self) -> bool:
        """Whether it is stamps that are in force."""
        return self.kind in MOVES_STAMPS and self.voided_by_id is None

    def check_undoable(self, actor: Actor, now: datetime, *path: str) -> None:
        """Refuse unless this actor may undo it now: a scanner its own, for 15 minutes."""
        if self.voided_by_id is not None:
            raise Refused(Code.ALREADY_UNDONE, "This was undone before.", *path)
        check_undo(actor, self.staff_id, self.created_at, now, *path)


def check_undo(
    actor: Actor, done_by: str | None, done_at: datetime, now: datetime, *path: str
) -> None:
    """Refuse unless the actor may undo what this staff login did at this moment."""
    if actor.role is not Role.SCANNER:
        return
    if done_by != actor.staff_id or now - done_at > UNDO_WINDOW:
        minutes = UNDO_WINDOW // timedelta(minutes=1)
        raise Refused(
            Code.UNDO_NOT_ALLOWED,
            f"You can undo what you did yourself, for {minutes} minutes; a manager any time.",
            *path,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a ledger leads: what its card must hold, and the goals that were reached."""

    stamps: int
    cycle: int
    version_id: str | None
    last: Operation | None = None
    reached: list[tuple[int, Goal]] = field(default_factory=list)


def replay(lines: Sequence[Operation], promises: Mapping[str, Promise]) -> Standing:
    """A card's ledger from its first line: the lines in force, one after another.

    `lines` are all that moved the card's stamps, in the order of `line`, undone ones included: a
    cycle goes by the version with which it was begun last, and an undone line may be the only
    one to tell it. `promises` holds every version they name. `version_id` is None for a card
    that was never stamped.
    """
    terms = terms_of(lines, promises)
    stamps, cycle, last = 0, 1, None
    reached: list[tuple[int, Goal]] = []
    for line in lines:
        if line.is_stamps:
            done = stamping(line.count, stamps, cycle, terms)
            stamps, cycle = done.after, done.cycle_after
            if line.channel is not StampChannel.IMPORT:  # the goals of these were paid elsewhere
                reached += done.reached
            last = line if line.kind is OperationKind.STAMPS else last
    version_id = terms[cycle].version.id if terms else None
    return Standing(stamps, cycle, version_id, last, reached)


def terms_of(lines: Sequence[Operation], promises: Mapping[str, Promise]) -> dict[int, Promise]:
    """The promise that each cycle of a card goes by, as its ledger tells."""
    terms: dict[int, Promise] = {}
    for line in lines:
        if line.kind not in MOVES_STAMPS:
            continue
        begun, ended = line.cycle_before or 1, line.cycle_after or 1
        terms[begun] = promises[line.version_before_id or ""]
        for cycle in range(begun + 1, ended + 1):
            terms[cycle] = promises[line.version_id or ""]
    return terms


class Reward(Row, table=True):
    """A gift handed out; one per goal and cycle, unless it was voided."""

    prefix: ClassVar[str] = "rw"
    __table_args__ = (
        Index(
            "reward_one_per_goal",
            "card_id",
            "cycle",
            "goal_position",
            unique=True,
            sqlite_where=text("source = 'goal' AND voided_at IS NULL"),
            postgresql_where=text("source = 'goal' AND voided_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    card_id: str = Field(foreign_key="card.id", index=True)
    operation_id: str | None = None
    staff_id: str | None = None
    location_id: str | None = None
    voucher_id: str | None = Field(default=None, foreign_key="voucher.id")
    goal_id: str | None = Field(default=None, foreign_key="goal.id")
    goal_position: int | None = None
    cycle: int | None = None
    type: RewardType = Field(sa_type=words(RewardType))
    source: Source = Field(sa_type=words(Source))
    title: str
    snapshot: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    issued_at: datetime = Field(sa_type=UtcTimestamp)
    voided_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
