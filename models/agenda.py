"""The agenda: when time next causes something in each business, and who sees to it."""

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from models.base import Json, Row, UtcTimestamp, words


class NoticeKind(StrEnum):
    """What a notice is about.

    ENDPOINT_FAILING: a webhook endpoint has failed for an hour, a day, three days.
    ENDPOINT_DISABLED: a webhook endpoint was disabled.
    EVENTS_MISSED: retention threw events away before a webhook endpoint got them.
    NEW_SIGN_IN: somebody signed in from a place that is new for this staff login.
    API_KEY_CHANGED: somebody generated, regenerated or deleted an API key.
    ENDPOINT_CHANGED: somebody made, changed or deleted a webhook endpoint, or its signing secret.
    API_KEY_LEAKED: an API key was found in public; its secret opens no door any more.
    POINT_OF_SALE_CHANGED: somebody connected, changed or disconnected a till.
    CHANNEL_CHANGED: somebody connected, changed or disconnected a provider of messages.
    """

    ENDPOINT_FAILING = "endpoint_failing"
    ENDPOINT_DISABLED = "endpoint_disabled"
    EVENTS_MISSED = "events_missed"
    NEW_SIGN_IN = "new_sign_in"
    API_KEY_CHANGED = "api_key_changed"
    ENDPOINT_CHANGED = "endpoint_changed"
    API_KEY_LEAKED = "api_key_leaked"
    POINT_OF_SALE_CHANGED = "point_of_sale_changed"
    CHANNEL_CHANGED = "channel_changed"


class Agenda(Row, table=True):
    """One row per business; whoever holds the lease does what is due.

    Its times are real ones; `birthdays_done` is the last local day of the programme's time whose
    birthdays were all kept.
    """

    __tablename__ = "agenda"

    business_id: str = Field(primary_key=True, foreign_key="business.id")
    next_at: datetime = Field(sa_type=UtcTimestamp, index=True)
    birthdays_done: date
    lease_owner: str | None = None
    lease_until: datetime = Field(sa_type=UtcTimestamp)


class BirthdayGift(Row, table=True):
    """A birthday was kept: once per customer, template and year."""

    __tablename__ = "birthday_gift"

    business_id: str = Field(foreign_key="business.id", index=True)
    customer_id: str = Field(primary_key=True, foreign_key="customer.id")
    template_id: str = Field(primary_key=True, foreign_key="card_template.id")
    year: int = Field(primary_key=True)
    at: datetime = Field(sa_type=UtcTimestamp)


class Notice(Row, table=True):
    """Something the owner should know that is no event of the programme; each step once."""

    __table_args__ = (UniqueConstraint("kind", "subject_id", "step"),)
    prefix: ClassVar[str] = "ntc"

    id: str = Field(primary_key=True)
    business_id: str = Field(foreign_key="business.id", index=True)
    kind: NoticeKind = Field(sa_type=words(NoticeKind))
    subject_id: str
    step: str
    message: str
    created_at: datetime = Field(sa_type=UtcTimestamp)
    mailed_at: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """When every owner with an e-mail address had it; None until then, or where mail is off."""
    mailed_to: list[str] | None = Field(default=None, sa_type=Json)
    """The staff logins that have it by mail."""
    mail_tries: int = 0
    mail_after: datetime | None = Field(default=None, sa_type=UtcTimestamp)
    """Before then nobody mails it: somebody is at it, or it failed."""
