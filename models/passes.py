"""Passes in wallets: what each shows, the telephones that hold it, and what is to be told them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words
from models.cards import Platform


class WalletPass(Row, table=True):
    """A card's pass in one wallet; all its times are real ones.

    `serial` is the `wallet_pass_id` that the card had when the pass was made: once the card has
    another, or is deleted, the pass is void. `shown` is a digest of what it shows, `changed_at`
    when that last changed: a whole second, later than any before. `due_at` is when it is to be
    looked at, None when nothing has happened since; whoever has it in hand holds it until then.
    Every mark counts `marks` up, so that what happens meanwhile is not lost. `tries` are the looks
    since the wallet was last told all.
    `news` is the last message of a campaign, `news_id` its name until the wallet has it; `told` is
    when such messages made the telephone ring. `heard_until` is until when the last call of Google
    about it was good: an earlier call that comes later tells of the past.
    """

    __tablename__ = "wallet_pass"
    __table_args__ = (
        Index(
            "wallet_pass_due",
            "platform",
            "business_id",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index("wallet_pass_of_card", "business_id", "card_id"),
    )

    serial: str = Field(primary_key=True)
    platform: Platform = Field(primary_key=True, sa_type=words(Platform))
    business_id: str = Field(foreign_key="business.id")
    card_id: str = Field(foreign_key="card.id")
    shown: str = ""
    created_at: datetime = Field(sa_type=UtcTimestamp)
    changed_at: datetime = Field(sa_type=UtcTimestamp)
    due_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    marks: int = 0
    tries: int = 0
    news_title: str | None = None
    news: str | None = None
    news_id: str | None = None
    told: list[Any] = Field(default_factory=list, sa_type=Json)
    removed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    heard_until: datetime | None = Field(default=None, sa_type=UtcTimestamp)


class PassDevice(Row, table=True):
    """A telephone that holds a pass of Apple's kind: where it is told that the pass changed."""

    __tablename__ = "pass_device"
    __table_args__ = (Index("pass_device_of_pass", "business_id", "serial"),)

    device: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id")
    push_token: str
    created_at: datetime = Field(sa_type=UtcTimestamp)


class PassCursor(Row, table=True):
    """How far the events of a business that has passes were looked through for cards with one."""

    __tablename__ = "pass_cursor"

    business_id: str = Field(foreign_key="business.id", primary_key=True)
    sequence: int = Field(default=0, sa_type=BigInteger)
