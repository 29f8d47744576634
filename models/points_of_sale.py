"""Points of sale: the tills a business connected, and the sales they told of."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from models.base import Row, UtcTimestamp, words


class PointOfSaleStatus(StrEnum):
    """Whether a till's sales come in.

    PENDING: it waits to be authorised, or to be set up at the till's side.
    ACTIVE: its sales come in.
    FAILING: the till refuses us; `problem` says why.
    """

    PENDING = "pending"
    ACTIVE = "active"
    FAILING = "failing"


class SaleStatus(StrEnum):
    """What became of a sale.

    WAITING: it is stored, and its receipt is still to be read.
    STAMPED: stamps were added for it.
    CLAIMABLE: it named nobody; its claim code waits for whoever has the receipt.
    REFUSED: it earned no stamp; `problem` says why.
    REFUNDED: the till took it back, and so did we.
    FAILED: the till did not give its receipt for two days; a repeat of the till tries again.
    """

    WAITING = "waiting"
    STAMPED = "stamped"
    CLAIMABLE = "claimable"
    REFUSED = "refused"
    REFUNDED = "refunded"
    FAILED = "failed"


class PointOfSale(Row, table=True):
    """A till that is connected. `kind` is the name of its file in integrations/tills.

    `account` is what its till calls whose sales they are: one live connection of a business for
    each. `settings` is encrypted, and None once it is disconnected. Its times are real ones.
    """

    __tablename__ = "point_of_sale"
    __table_args__ = (
        Index(
            "point_of_sale_one_per_account",
            "business_id",
            "kind",
            "account",
            unique=True,
            sqlite_where=text("disconnected_at IS NULL"),
            postgresql_where=text("disconnected_at IS NULL"),
        ),
        Index("point_of_sale_to_set_up", "next_set_up_at"),
    )
    prefix: ClassVar[str] = "pos"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    kind: str
    name: str
    location_id: str = Field(foreign_key="location.id")
    template_id: str = Field(foreign_key="card_template.id")
    account: str
    settings: str | None = None
    status: PointOfSaleStatus = Field(sa_type=words(PointOfSaleStatus))
    problem: str | None = None
    next_set_up_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """When to set it up at the till's side (again); None where there is nothing to do."""
    set_up_tries: int = 0
    last_sale_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    disconnected_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    disconnected_by_id: str | None = None


class Sale(Row, table=True):
    """A receipt of a till: one row, however often and by whatever way it is told.

    It is known by the till's own account, so that connecting anew repeats nothing. `guest` is the
    till's own name of its customer, kept until the customer is looked up. `attempts` is the fence:
    whoever counted it up last may settle it. Its times are real ones.
    """

    prefix: ClassVar[str] = "sale"
    __table_args__ = (
        UniqueConstraint("business_id", "kind", "account", "sale_id"),
        Index("sale_due", "status", "next_attempt_at"),
    )

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    point_of_sale_id: str = Field(foreign_key="point_of_sale.id", index=True)
    kind: str
    account: str
    sale_id: str
    status: SaleStatus = Field(sa_type=words(SaleStatus))
    problem: str | None = None
    amount: int | None = Field(default=None, sa_type=BigInteger)
    currency: str | None = None
    card_id: str | None = Field(default=None, foreign_key="card.id", index=True)
    guest: str | None = None
    to_fetch: bool = False
    closed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    refunded_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    received_at: datetime = Field(sa_type=UtcTimestamp)
    operation_id: str | None = Field(default=None, foreign_key="operation.id")
    claim_code_id: str | None = Field(default=None, foreign_key="claim_code.id")
    attempts: int = 0
    next_attempt_at: datetime = Field(sa_type=UtcTimestamp)
    lease_until: datetime = Field(sa_type=UtcTimestamp)
