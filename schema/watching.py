"""Refused calls, as GraphQL shows them."""

from datetime import datetime

import strawberry

import models
from models.relations import STAFF
from schema.base import Node, related, represents
from schema.staff import Staff


@represents(models.RefusedCall)
@strawberry.type(
    description="What a staff login tried within an hour and was refused for one reason, counted. "
    "Nothing of what the calls told is kept; it goes after 90 days."
)
class RefusedCall(Node):
    """Many of one kind are worth a question, as staffVelocity is."""

    staff = related(STAFF, "staff_id", Staff, "Who tried.")
    mutation: str = strawberry.field(description="The mutation's name, such as `addStamps`.")
    code: str = strawberry.field(
        description="Why: a UserErrorCode, or FORBIDDEN, or RATE_LIMITED for codes guessed at."
    )
    count: int = strawberry.field(description="How often.")
    first_at: datetime = strawberry.field(description="The first time within the hour.")
    last_at: datetime = strawberry.field(description="The last time.")
