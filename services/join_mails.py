"""The join post: mails the link to whoever asked for a card on a join page.

What is to be mailed is stored with the request, so that no crash and no mail server that is away
loses it. Whoever dies with a mail in hand leaves one that may come twice: with the same link.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from core.clock import Clock
from core.secrets import Secrets
from core.sweeper import Sweeper
from db import BUSINESS, Database, Query, Transaction, param, query
from integrations.channels import Accepted, Answer, Channels, Letter, Rejected, RetryAfter
from integrations.channels.seam import UNKNOWN
from models import Business, Channel, JoinRequest, one_line
from models.base import UtcTimestamp
from services.joining import purpose_of_link

LEASE = timedelta(minutes=2)
"""How long a mail may be in somebody's hands; much longer than its 15 seconds."""
MOST_TRIES = 5
"""After so many mails of which nobody knows whether they arrived, there is no further one."""
STEPS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
)
"""How long to wait after so many tries; the last one repeats, for as long as the link is good."""
_WORDS = {
    "en": {
        "subject": "Your card at {business}: one more step",
        "text": "Hello{name},\n\nsomebody asked for a stamp card of {business} with this address."
        " If it was not you, do nothing: no card is made, and nobody writes again.\n\n"
        "If it was you, fetch it here; the link is good for a day:",
    },
    "id": {
        "subject": "Kartu Anda di {business}: satu langkah lagi",
        "text": "Halo{name},\n\nseseorang meminta kartu stempel {business} dengan alamat ini."
        " Jika bukan Anda, abaikan saja: tidak ada kartu yang dibuat, dan tidak ada yang menulis"
        " lagi.\n\nJika itu Anda, ambil di sini; tautannya berlaku satu hari:",
    },
}

log = structlog.get_logger("stampwire.joining")

# -- Across all businesses: these run in the name of the system. ----------------------------------

_NOW = param("now", UtcTimestamp())
_WAITING = select(JoinRequest.id).where(
    col(JoinRequest.mail_after) <= _NOW, col(JoinRequest.expires_at) > _NOW
)
_ANY_WAITING: Query[str] = query(_WAITING.limit(1))
_NEXT = (
    _WAITING.order_by(col(JoinRequest.mail_after), col(JoinRequest.id))
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[JoinRequest] = query(
    update(JoinRequest)
    .where(col(JoinRequest.id).in_(select(_NEXT.c.id)))
    .values(mail_tries=col(JoinRequest.mail_tries) + 1, mail_after=param("until", UtcTimestamp()))
    .returning(JoinRequest)
)

# -- Within one business. -------------------------------------------------------------------------

_PUT_OFF: Query[str] = query(
    update(JoinRequest)
    .where(
        col(JoinRequest.business_id) == BUSINESS,
        col(JoinRequest.id) == param("request"),
        col(JoinRequest.mail_tries) == param("number"),
    )
    .values(mail_after=param("new_mail_after", UtcTimestamp()))
    .returning(col(JoinRequest.id))
)
_DONE: Query[str] = query(
    update(JoinRequest)
    .where(col(JoinRequest.business_id) == BUSINESS, col(JoinRequest.id) == param("request"))
    .values(mail_after=None, sealed_secret=None)
    .returning(col(JoinRequest.id))
)


class JoinPost(Sweeper):
    """Hands each link to whoever sends e-mail here, until it is taken or good no more."""

    name = "join post"
    rest_seconds = 0.5
    """Somebody stands at the counter and waits for it."""

    def __init__(
        self, database: Database, channels: Channels, secrets: Secrets, clock: Clock, url: str
    ) -> None:
        super().__init__()
        self._database = database
        self._channels = channels
        self._secrets = secrets
        self._clock = clock
        self._url = url

    async def sweep(self) -> int:
        """Mail what waits, until a server wants no more or nothing is left; says how many went."""
        done = 0
        while not self._stop.is_set() and (request := await self._claim()) is not None:
            answer = await self._send(request)
            await self._record(request, answer)
            if isinstance(answer, RetryAfter):
                break
            done += 1
        return done

    async def _claim(self) -> JoinRequest | None:
        now = self._clock.now()
        if await self._database.read(None, lambda tx: tx.maybe(_ANY_WAITING, now=now)) is None:
            return None
        return await self._database.write(
            None, lambda tx: tx.maybe(_CLAIM, now=now, until=now + LEASE)
        )

    async def _send(self, request: JoinRequest) -> Answer:
        sender = self._channels.sender(Channel.EMAIL, request.email)
        business = await self._database.read(
            request.business_id, lambda tx: tx.get(Business, request.business_id)
        )
        if sender is None or business is None or request.sealed_secret is None:
            return Rejected("no mail is sent here")
        try:
            secret = self._secrets.decrypt(request.sealed_secret, purpose_of_link(request.id))
        except ValueError:
            return Rejected("sealed with a key that is gone")
        try:
            [answer] = await sender.send([self._letter(business, request, secret)])
        except OSError as error:  # of the stand-in: a disk that is full
            log.warning("join link not written", request=request.id, error=type(error).__name__)
            return RetryAfter(STEPS[0].total_seconds())
        return answer

    def _letter(self, business: Business, request: JoinRequest, secret: str) -> Letter:
        language = "id" if request.language.startswith("id") else "en"
        words, name = _WORDS[language], one_line(request.name or "")
        values = {"business": one_line(business.name), "name": f" {name}" if name else ""}
        return Letter(
            id=request.id,
            business_id=business.id,
            customer_id=stranger(business.id, request.email),
            channel=Channel.EMAIL,
            address=request.email,
            subject=words["subject"].format_map(values),
            text=words["text"].format_map(values),
            url=f"{self._url}/join/confirm/{secret}",
            business=values["business"],
            language=language,
        )

    async def _record(self, request: JoinRequest, answer: Answer) -> None:
        """Store what became of a mail; nothing where the request is gone meanwhile."""
        after = _next_try(request, answer, self._clock.now())
        if not isinstance(answer, Accepted):
            reason = answer.reason if isinstance(answer, Rejected) else "asked to wait"
            log.warning(
                "join link not mailed", request=request.id, reason=reason, again=after is not None
            )

        async def work(tx: Transaction) -> None:
            if after is None:
                await tx.maybe(_DONE, request=request.id)
            else:
                number = request.mail_tries
                await tx.maybe(_PUT_OFF, request=request.id, number=number, new_mail_after=after)

        await self._database.write(request.business_id, work)


def stranger(business_id: str, address: str) -> str:
    """What stands for the customer's id on a letter to somebody who is none yet."""
    return f"{business_id} {address}"


def _next_try(request: JoinRequest, answer: Answer, now: datetime) -> datetime | None:
    """When the link is mailed again; None where it is not."""
    step = STEPS[min(request.mail_tries, len(STEPS)) - 1]
    if isinstance(answer, RetryAfter):
        return now + max(step, timedelta(seconds=answer.seconds))
    # A link that comes twice does no harm, and one that never comes keeps somebody waiting.
    return now + step if answer == UNKNOWN and request.mail_tries < MOST_TRIES else None
