"""Idempotency: one key, one effect, for seven days."""

from datetime import datetime
from typing import Any

from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp


class IdempotencyRecord(Row, table=True):
    """What a mutation did under a key: ids and refusals, never a secret or personal data."""

    __tablename__ = "idempotency"

    business_id: str = Field(foreign_key="business.id", primary_key=True)
    actor_id: str = Field(primary_key=True)
    mutation: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    outcome: dict[str, Any] | None = Field(default=None, sa_type=Json)
    created_at: datetime = Field(sa_type=UtcTimestamp, index=True)
