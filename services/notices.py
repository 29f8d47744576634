"""The notice post: what owners should know goes to them by mail, where a mail server is set.

That somebody is at a notice is stored before anything is sent, and after each mail to whom it
went. Whoever dies in between leaves a mail that may come twice: with the same message id.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import or_, update
from sqlmodel import col, select

from core.addresses import mail_address
from core.clock import Clock, wire_time
from core.sweeper import Sweeper
from db import BUSINESS, Database, Query, Transaction, param, query
from integrations.mail import Mail, Mailer, MaybeSent, NotSent
from models import Business, Notice, NoticeKind, Role, Staff
from models.base import Json, UtcTimestamp

LEASE = timedelta(minutes=2)
"""How long a mail may be in somebody's hands; much longer than its 15 seconds."""
GIVEN_UP_AFTER = timedelta(days=3)
STEPS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
)
"""How long to wait after so many tries; the last one repeats."""
LOOK_SECONDS = 3.0
"""A key that leaked is told of by mail within five seconds."""
SUBJECTS = {
    NoticeKind.ENDPOINT_FAILING: "a webhook endpoint fails",
    NoticeKind.ENDPOINT_DISABLED: "a webhook endpoint was disabled",
    NoticeKind.EVENTS_MISSED: "a webhook endpoint missed events",
    NoticeKind.NEW_SIGN_IN: "a sign-in from a new place",
    NoticeKind.API_KEY_CHANGED: "an API key was changed",
    NoticeKind.ENDPOINT_CHANGED: "a webhook endpoint was changed",
    NoticeKind.API_KEY_LEAKED: "an API key was found in public",
    NoticeKind.POINT_OF_SALE_CHANGED: "a point of sale was changed",
    NoticeKind.CHANNEL_CHANGED: "a channel was changed",
}

log = structlog.get_logger("stampwire.notices")

# -- Across all businesses: these run in the name of the system. ----------------------------------

_WAITING = select(Notice.id).where(
    col(Notice.mailed_at).is_(None),
    col(Notice.created_at) > param("since", UtcTimestamp()),
    or_(
        col(Notice.mail_after).is_(None),
        col(Notice.mail_after) <= param("now", UtcTimestamp()),
    ),
)
_ANY_WAITING: Query[str] = query(_WAITING.limit(1))
_NEXT = (
    _WAITING.order_by(col(Notice.created_at), col(Notice.id))
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("next")
)
_CLAIM: Query[Notice] = query(
    update(Notice)
    .where(col(Notice.id).in_(select(_NEXT.c.id)))
    .values(mail_tries=col(Notice.mail_tries) + 1, mail_after=param("until", UtcTimestamp()))
    .returning(Notice)
)

# -- Within one business. -------------------------------------------------------------------------

_OWNERS = query(
    select(Staff)
    .where(
        col(Staff.business_id) == BUSINESS,
        col(Staff.role) == Role.OWNER,
        col(Staff.disabled_at).is_(None),
    )
    .order_by(col(Staff.id))
)
_RECORD: Query[str] = query(
    update(Notice)
    .where(
        col(Notice.business_id) == BUSINESS,
        col(Notice.id) == param("notice"),
        col(Notice.mail_tries) == param("number"),
    )
    .values(
        mailed_to=param("new_mailed_to", Json()),
        mailed_at=param("new_mailed_at", UtcTimestamp()),
        mail_after=param("new_mail_after", UtcTimestamp()),
    )
    .returning(col(Notice.id))
)


class NoticePost(Sweeper):
    """Mails each notice to every owner whose login is an e-mail address, until all have it."""

    name = "notice post"
    rest_seconds = LOOK_SECONDS

    def __init__(self, database: Database, mailer: Mailer, clock: Clock, url: str) -> None:
        super().__init__()
        self._database = database
        self._mailer = mailer
        self._clock = clock
        self._url = url

    async def sweep(self) -> int:
        """Mail what waits, until a mail fails or nothing is left; says how many notices are done.

        A server that is down is asked once at each look, however much waits for it.
        """
        done = 0
        while not self._stop.is_set() and (notice := await self._claim()) is not None:
            if not await self._post(notice):
                break
            done += 1
        return done

    async def _claim(self) -> Notice | None:
        now = self._clock.now()
        values = {"now": now, "since": now - GIVEN_UP_AFTER}
        if await self._database.read(None, lambda tx: tx.maybe(_ANY_WAITING, **values)) is None:
            return None
        return await self._database.write(
            None, lambda tx: tx.maybe(_CLAIM, until=now + LEASE, **values)
        )

    async def _post(self, notice: Notice) -> bool:
        """Mail a notice to those who do not have it; whether all have it, or there are none."""

        async def look(tx: Transaction) -> tuple[Business | None, list[Staff]]:
            return await tx.get(Business, notice.business_id), await tx.many(_OWNERS)

        business, owners = await self._database.read(notice.business_id, look)
        addresses = {owner.id: mail_address(owner.login) for owner in owners}
        mailed, failed = list(notice.mailed_to or ()), False
        for id, address in addresses.items():
            if business is None or address is None or id in mailed:
                continue
            try:
                await self._mailer.send(self._mail(business, notice, address))
            except (NotSent, MaybeSent, ValueError) as error:
                log.warning("notice not mailed", notice=notice.id, staff=id, reason=str(error))
                failed = True
            else:
                mailed.append(id)
            if not await self._record(notice, mailed, None, self._clock.now() + LEASE):
                return True  # it took so long that somebody else is at it
        now = self._clock.now()
        done_at = now if mailed and not failed else None
        await self._record(notice, mailed, done_at, now + _step(notice.mail_tries))
        return not failed

    async def _record(
        self, notice: Notice, mailed: list[str], done_at: datetime | None, after: datetime
    ) -> bool:
        """Store who has it; False if somebody else is at it now."""

        async def work(tx: Transaction) -> str | None:
            return await tx.maybe(
                _RECORD,
                notice=notice.id,
                number=notice.mail_tries,
                new_mailed_to=mailed,
                new_mailed_at=done_at,
                new_mail_after=after,
            )

        return await self._database.write(notice.business_id, work) is not None

    def _mail(self, business: Business, notice: Notice, address: str) -> Mail:
        return Mail(
            id=notice.id,
            to=address,
            subject=f"{business.name}: {SUBJECTS[notice.kind]}",
            text=(
                f"{notice.message}\n\n"
                f"Business: {business.name} ({business.id})\n"
                f"It concerns: {notice.subject_id}\n"
                f"Written: {wire_time(notice.created_at)} (UTC)\n\n"
                f"The query notices(first: 20) at {self._url}/graphql lists all notices.\n"
            ),
        )


def _step(tries: int) -> timedelta:
    return STEPS[min(tries, len(STEPS)) - 1]
