"""Joining: who asked for a card on a join page and has not shown yet whose address it is."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import Index, text
from sqlmodel import Field

from models.base import Row, UtcTimestamp


class JoinRequest(Row, table=True):
    """What somebody told on a join page; the link that was mailed makes a card of it, once."""

    __tablename__ = "join_request"
    prefix: ClassVar[str] = "jr"
    __table_args__ = (
        Index(
            "join_request_to_mail",
            "mail_after",
            sqlite_where=text("mail_after IS NOT NULL"),
            postgresql_where=text("mail_after IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    digest: str = Field(unique=True)
    """Of the secret in the link."""
    business_id: str = Field(foreign_key="business.id", index=True)
    template_id: str = Field(foreign_key="card_template.id")
    email: str
    name: str | None = None
    birthday: str | None = None
    language: str
    takes_mail: bool
    """Whether news may be mailed."""
    takes_push: bool
    """Whether the card may notify."""
    created_at: datetime = Field(sa_type=UtcTimestamp)
    expires_at: datetime = Field(sa_type=UtcTimestamp)
    sealed_secret: str | None = None
    """The secret in the link, encrypted, until the link was mailed."""
    mail_tries: int = 0
    mail_after: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """When the link is to be mailed, or until when somebody is at it; None once that is done."""
    card_id: str | None = Field(default=None, foreign_key="card.id", index=True)
    """The card it became."""
