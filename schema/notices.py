"""Notices, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from schema.base import Node, represents
from schema.inputs import register_enum

register_enum(models.NoticeKind)


@represents(models.Notice)
@strawberry.type(
    description="Something the owner should know that is no event of the programme; told once."
)
class Notice(Node):
    """Such as an endpoint that has failed for an hour."""

    kind: models.NoticeKind = strawberry.field(description="What it is about.")
    message: str = strawberry.field(description="What people read, in English.")
    subject_id: strawberry.ID = strawberry.field(description="The global id of what it concerns.")
    created_at: datetime = strawberry.field(description="When it was written.")
    mailed_at: datetime | None = strawberry.field(
        description="When the last owner whose login is an e-mail address had it by mail; null "
        "until then, and where no mail server is set."
    )
