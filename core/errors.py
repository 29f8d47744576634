"""How Stampwire says no. The codes are part of the public API.

Refused                     an expected no, told in `userErrors`; nothing was changed
├── NotFound                the thing named does not exist in this business
├── Invalid                 the input breaks a rule of its field
├── LimitReached            a limit of the programme; `retry_at` says when it ends
├── VoucherAlreadyRedeemed  `redeemed_at` and `redeemed_by` say when and by whom
├── VoucherHasExpired       `expired_at`
├── TicketAlreadyPlayed     `played_at` and `ticket_id`: the result is on the ticket
└── ClaimCodeUsed           `claimed_at`
Denied                      told at top level with `extensions.code`
├── Unauthenticated
├── Forbidden
├── BadUserInput
├── TooComplex              an operation that may cost more than one may
├── CursorExpired           `oldest_cursor`: retention has thrown away what lies beyond the cursor
├── RateLimited             `retry_after_ms`
└── Overloaded              a bounded queue is full
    ├── Locked              another call holds what this one needs for too long
    └── Unavailable         the database does not answer, or takes nothing at present
"""

from datetime import datetime
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """Why an operation was refused.

    NOT_FOUND: what the input names does not exist in this business.
    INVALID: the input breaks a rule of its field.
    TEXT_TOO_LONG: a text is longer than its field allows.
    CAMPAIGN_SENT: the campaign was sent; nothing is left to cancel.
    CHANNEL_NOT_CONNECTED: nobody serves this channel yet.
    CARD_DELETED: the card was deleted.
    CUSTOMER_CONFLICT: the e-mail and phone belong to another customer, or to two.
    TEMPLATE_NOT_PUBLISHED: the template is still a draft.
    TEMPLATE_ARCHIVED: the template is no longer issued.
    LIMIT_REACHED: a limit of the programme; `retryAt` says when it ends.
    VOUCHER_NOT_ACTIVE: the voucher was voided, or is not valid yet.
    VOUCHER_ALREADY_REDEEMED: the voucher was redeemed before.
    VOUCHER_EXPIRED: the voucher's time has passed.
    VOUCHER_NOT_REDEEMED: there is no redemption to reverse.
    REWARD_SPENT: a reward of it was redeemed or played; it can no longer be undone.
    ALREADY_UNDONE: it was undone before.
    UNDO_NOT_ALLOWED: a scanner undoes its own work only, for 15 minutes.
    TICKET_ALREADY_PLAYED: the ticket was played before; `ticket` has the result.
    TICKET_VOIDED: the operation that gave the ticket was undone.
    CLAIM_CODE_USED: the claim code was used before.
    CLAIM_CODE_EXPIRED: the claim code's time has passed.
    AMBIGUOUS_REDEEM_CODE: several active vouchers share the code; name the card or customer.
    LOGIN_TAKEN: the login is in use, here or in another business.
    LOGIN_REFUSED: the login and password open no door.
    PASSWORD_REFUSED: the password is too short or long, or the present one is wrong.
    STAFF_HAS_KEY: the staff login has an API key already; regenerate it.
    STAFF_DISABLED: the staff login is disabled.
    LAST_OWNER: the business would be left without an active owner.
    LOCATION_IN_USE: staff work there, or it is the last location.
    ADDRESS_NOT_ALLOWED: webhooks may not be sent to this address.
    ENDPOINT_DELETED: the webhook endpoint was deleted.
    IDEMPOTENCY_KEY_REUSED: the key was used for another input.
    IDEMPOTENCY_KEY_IN_PROGRESS: the first call with this key has not ended yet.
    SECRET_ALREADY_SHOWN: a repeat: the secret was shown the first time, and is not kept.
    """

    NOT_FOUND = "not_found"
    INVALID = "invalid"
    TEXT_TOO_LONG = "text_too_long"
    CAMPAIGN_SENT = "campaign_sent"
    CHANNEL_NOT_CONNECTED = "channel_not_connected"
    CARD_DELETED = "card_deleted"
    CUSTOMER_CONFLICT = "customer_conflict"
    TEMPLATE_NOT_PUBLISHED = "template_not_published"
    TEMPLATE_ARCHIVED = "template_archived"
    LIMIT_REACHED = "limit_reached"
    VOUCHER_NOT_ACTIVE = "voucher_not_active"
    VOUCHER_ALREADY_REDEEMED = "voucher_already_redeemed"
    VOUCHER_EXPIRED = "voucher_expired"
    VOUCHER_NOT_REDEEMED = "voucher_not_redeemed"
    REWARD_SPENT = "reward_spent"
    ALREADY_UNDONE = "already_undone"
    UNDO_NOT_ALLOWED = "undo_not_allowed"
    TICKET_ALREADY_PLAYED = "ticket_already_played"
    TICKET_VOIDED = "ticket_voided"
    CLAIM_CODE_USED = "claim_code_used"
    CLAIM_CODE_EXPIRED = "claim_code_expired"
    AMBIGUOUS_REDEEM_CODE = "ambiguous_redeem_code"
    LOGIN_TAKEN = "login_taken"
    LOGIN_REFUSED = "login_refused"
    PASSWORD_REFUSED = "password_refused"  # noqa: S105 -- a code, not a password
    STAFF_HAS_KEY = "staff_has_key"
    STAFF_DISABLED = "staff_disabled"
    LAST_OWNER = "last_owner"
    LOCATION_IN_USE = "location_in_use"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    ENDPOINT_DELETED = "endpoint_deleted"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_KEY_IN_PROGRESS = "idempotency_key_in_progress"
    SECRET_ALREADY_SHOWN = "secret_already_shown"  # noqa: S105 -- a code, not a secret


class Refused(Exception):
    """An operation the rules do not allow."""

    def __init__(self, code: Code, message: str, *field: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = list(field) or None

    def facts(self) -> dict[str, Any]:
        """What the refusal carries beside code, field and message, in JSON's own types."""
        return {}


class NotFound(Refused):
    """The thing named does not exist in this business."""

    def __init__(self, what: str, *field: str) -> None:
        super().__init__(Code.NOT_FOUND, f"There is no such {what}.", *field)


class Invalid(Refused):
    """The input breaks a rule of its field."""

    def __init__(self, message: str, *field: str) -> None:
        super().__init__(Code.INVALID, message, *field)


class LimitReached(Refused):
    """A limit of the programme; `retry_at` is when it ends, None for a limit that does not."""

    def __init__(self, message: str, *field: str, retry_at: datetime | None) -> None:
        super().__init__(Code.LIMIT_REACHED, message, *field)
        self.retry_at = retry_at

    def facts(self) -> dict[str, Any]:
        return {"retry_at": self.retry_at.isoformat() if self.retry_at else None}


class VoucherAlreadyRedeemed(Refused):
    """The voucher was redeemed before; says when and by whom (a staff id, or None)."""

    def __init__(self, redeemed_at: datetime, redeemed_by_id: str | None) -> None:
        super().__init__(
            Code.VOUCHER_ALREADY_REDEEMED, "This voucher is already redeemed.", "input", "voucher"
        )
        self.redeemed_at = redeemed_at
        self.redeemed_by_id = redeemed_by_id

    def facts(self) -> dict[str, Any]:
        return {
            "redeemed_at": self.redeemed_at.isoformat(),
            "redeemed_by_id": self.redeemed_by_id,
        }


class VoucherHasExpired(Refused):
    """The voucher's time has passed."""

    def __init__(self, expired_at: datetime) -> None:
        super().__init__(Code.VOUCHER_EXPIRED, "This voucher has expired.", "input", "voucher")
        self.expired_at = expired_at

    def facts(self) -> dict[str, Any]:
        return {"expired_at": self.expired_at.isoformat()}


class TicketAlreadyPlayed(Refused):
    """The ticket was played before; its result stands."""

    def __init__(self, ticket_id: str, played_at: datetime) -> None:
        super().__init__(
            Code.TICKET_ALREADY_PLAYED, "This ticket is already played.", "input", "ticketId"
        )
        self.ticket_id = ticket_id
        self.played_at = played_at

    def facts(self) -> dict[str, Any]:
        return {"ticket_id": self.ticket_id, "played_at": self.played_at.isoformat()}


class ClaimCodeUsed(Refused):
    """The claim code was used before; says when."""

    def __init__(self, claimed_at: datetime) -> None:
        super().__init__(Code.CLAIM_CODE_USED, "This code was used before.", "input", "code")
        self.claimed_at = claimed_at

    def facts(self) -> dict[str, Any]:
        return {"claimed_at": self.claimed_at.isoformat()}


class Denied(Exception):
    """An answer told at top level; `extensions` is what GraphQL clients see beside the message."""

    code = "FORBIDDEN"

    @property
    def extensions(self) -> dict[str, Any]:
        """The GraphQL error's extensions."""
        return {"code": self.code}


class Unauthenticated(Denied):
    """No key, or one that is not (or no longer) good."""

    code = "UNAUTHENTICATED"

    def __init__(self, message: str = "This needs a valid API key or session.") -> None:
        super().__init__(message)


class Forbidden(Denied):
    """The caller's role does not allow this."""

    code = "FORBIDDEN"

    def __init__(self, message: str = "Your role does not allow this.") -> None:
        super().__init__(message)


class BadUserInput(Denied):
    """An argument that no rule could accept, such as a page of minus one."""

    code = "BAD_USER_INPUT"


class TooComplex(Denied):
    """The document is over a limit: too long, too deep, too wide, or too dear."""

    code = "QUERY_TOO_COMPLEX"


class CursorExpired(Denied):
    """What lies beyond the cursor was thrown away; `oldestCursor` is where the log begins now."""

    code = "CURSOR_EXPIRED"

    def __init__(self, oldest_cursor: str) -> None:
        super().__init__("The log begins after this cursor; older events were thrown away.")
        self.oldest_cursor = oldest_cursor

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "oldestCursor": self.oldest_cursor}


class RateLimited(Denied):
    """Too much, too quickly."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms

    @property
    def extensions(self) -> dict[str, Any]:
        return {"code": self.code, "retryAfterMs": self.retry_after_ms}


class Overloaded(RateLimited):
    """A bounded queue is full: the server says so quickly instead of slowing everybody."""

    def __init__(self, message: str = "The server is busy; try again shortly.") -> None:
        super().__init__(message, retry_after_ms=1_000)


class Locked(Overloaded):
    """Another call holds what this one needs, and did not let go in time."""


class Unavailable(Overloaded):
    """The database does not answer, or stores nothing at present."""

    def __init__(self, message: str = "The database does not answer; try again shortly.") -> None:
        super().__init__(message)
