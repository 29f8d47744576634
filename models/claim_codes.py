"""Claim codes: one-time codes on receipts, worth stamps or an amount."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger
from sqlmodel import Field

from models.base import Row, UtcTimestamp


class ClaimCode(Row, table=True):
    """Worth stamps, or the stamps that an amount earns; claimed once."""

    __tablename__ = "claim_code"
    prefix: ClassVar[str] = "cc"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    template_id: str = Field(foreign_key="card_template.id")
    code: str = Field(unique=True)
    stamps: int | None = None
    amount: int | None = Field(default=None, sa_type=BigInteger)
    external_ref: str | None = None
    expires_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    created_at: datetime = Field(sa_type=UtcTimestamp)
    created_by_id: str | None = None
    claimed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    claimed_by_id: str | None = None
    claimed_card_id: str | None = Field(default=None, foreign_key="card.id")
    operation_id: str | None = None
