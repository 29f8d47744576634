"""The schedule: what an answer means, and when to ask again. Values in, values out."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

STEPS = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER = 0.2
MOST_PATIENCE = timedelta(hours=24)
"""The longest wait that a receiver may ask for."""
DISABLED_AFTER = timedelta(days=5)
DISABLED_AFTER_BLOCKS = 3
BLOCKS = ("address", "url")
"""The errors that say that webhooks may not go there."""
FAULTS = ("body", "document")
"""The errors that are ours: there was nothing to send, because making the body failed."""
REMEMBERED = 20
"""How many of its last answers an endpoint is judged by."""
TAKEN = range(200, 300)
"""The statuses that say the receiver has the event."""
_UNWELL = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, *range(500, 1000))
_BUSY = HTTPStatus.SERVICE_UNAVAILABLE


class Outcome(StrEnum):
    """What an answer means.

    TAKEN: the receiver has the event.
    UNWELL: the endpoint does not work now, whatever it is sent.
    WANTS_LESS: the endpoint works, and asks for a pause.
    REFUSED: this event is not accepted; others may be.
    ABORTED: this event shall not be sent again.
    OVER: nothing shall be sent any more.
    BLOCKED: the address is one where webhooks may not go.
    """

    TAKEN = "taken"
    UNWELL = "unwell"
    WANTS_LESS = "wants_less"
    REFUSED = "refused"
    ABORTED = "aborted"
    OVER = "over"
    BLOCKED = "blocked"


CONCERNS_ENDPOINT = (Outcome.UNWELL, Outcome.WANTS_LESS, Outcome.BLOCKED, Outcome.OVER)
"""The outcomes that say something of the endpoint, not of the event."""


def judge(
    status: int | None, error: str | None, retry_after: float | None, control: str | None
) -> Outcome:
    """What an answer means; `control` is the receiver's own word in `webhook-delivery`."""
    if error is not None or status is None:
        ours = dict.fromkeys(FAULTS, Outcome.REFUSED) | dict.fromkeys(BLOCKS, Outcome.BLOCKED)
        return ours.get(error or "", Outcome.UNWELL)
    if status == HTTPStatus.GONE or control == "disable":
        return Outcome.OVER
    if status in TAKEN:
        return Outcome.TAKEN
    if control == "abort-message":
        return Outcome.ABORTED
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == _BUSY and retry_after is not None):
        return Outcome.WANTS_LESS
    return Outcome.UNWELL if status in _UNWELL else Outcome.REFUSED


def step(tries: int, chance: float) -> timedelta:
    """How long to wait after so many tries (from 1); `chance` in [0, 1) spreads it by ±20 %."""
    wait = STEPS[min(tries, len(STEPS)) - 1]
    return wait * (1 - JITTER + 2 * JITTER * chance)


def is_exhausted(tries: int) -> bool:
    """Whether an event that is refused has had its try after the last step."""
    return tries > len(STEPS)


def remember(recent: int, refused: Iterable[bool]) -> int:
    """The last answers as bits below a leading one, with these behind them: 1 where refused."""
    for is_refused in refused:
        recent = recent << 1 | is_refused
        if recent.bit_length() > REMEMBERED + 1:
            recent = recent & (1 << REMEMBERED) - 1 | 1 << REMEMBERED
    return recent


def is_mostly_refused(recent: int) -> bool:
    """Whether more than half of its last twenty answers were refusals."""
    return recent.bit_length() > REMEMBERED and recent.bit_count() - 1 > REMEMBERED // 2


def seconds_to_wait(retry_after: str | None, now: datetime) -> float | None:
    """What a Retry-After header asks for, at most a day; None where it asks nothing sensible.

    Seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    if seconds <= 0:
        return None
    return min(seconds, MOST_PATIENCE.total_seconds())
