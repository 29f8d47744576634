"""Notices: what the owner should know of an endpoint, told once at each step of its failing."""

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import update
from sqlmodel import col, select

from core.clock import wire_time
from core.ids import new_id
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from models import EndpointStatus, Notice, NoticeKind, WebhookEndpoint

STEPS = (
    (timedelta(days=3), "for three days"),
    (timedelta(days=1), "for a day"),
    (timedelta(hours=1), "for an hour"),
)
"""How long an endpoint has failed when a notice is due, the longest first."""

# Whichever business they are of, these run in the name of the system.
_FAILING = query(
    select(WebhookEndpoint).where(
        col(WebhookEndpoint.status) == EndpointStatus.ACTIVE,
        col(WebhookEndpoint.deleted_at).is_(None),
        col(WebhookEndpoint.failing_since) <= param("since"),
    )
)
_TOLD: Query[tuple[str, str]] = query(
    select(Notice.subject_id, Notice.step).where(
        col(Notice.kind) == NoticeKind.ENDPOINT_FAILING, among(col(Notice.subject_id), "endpoints")
    )
)

_RETELL = command(
    update(Notice)
    .where(
        col(Notice.business_id) == BUSINESS,
        col(Notice.kind) == NoticeKind.EVENTS_MISSED,
        col(Notice.subject_id) == param("subject_id"),
        col(Notice.step) == param("step"),
    )
    .values(message=param("message"))
)


async def tell_of_failing(database: Database, now: datetime) -> None:
    """Write the notices that are due: each step once for each time an endpoint fails.

    Who looks late tells of the longest step alone. Times are real ones.
    """
    missing = await database.read(None, lambda tx: _missing(tx, now))

    async def work(tx: Transaction) -> None:
        for notice in missing:
            await tx.add_if_new(notice)

    if missing:
        await database.write(None, work)


def notice_of_failing(endpoint: WebhookEndpoint, now: datetime) -> Notice | None:
    """The notice for the step an endpoint's failing has reached, if it has reached one."""
    since = endpoint.failing_since
    if since is None:
        return None
    for length, words in STEPS:
        if now - since >= length:
            return Notice(
                id=new_id("ntc"),
                business_id=endpoint.business_id,
                kind=NoticeKind.ENDPOINT_FAILING,
                subject_id=endpoint.id,
                step=f"{wire_time(since)} {words}",
                message=f"The webhook endpoint {name_of(endpoint)} has failed {words}.",
                created_at=now,
            )
    return None


def notice_of_disabling(endpoint: WebhookEndpoint, reason: str, now: datetime) -> Notice:
    """The notice that an endpoint was disabled."""
    return Notice(
        id=new_id("ntc"),
        business_id=endpoint.business_id,
        kind=NoticeKind.ENDPOINT_DISABLED,
        subject_id=endpoint.id,
        step=wire_time(now),
        message=(
            f"The webhook endpoint {name_of(endpoint)} was disabled: {reason} "
            "Resume it, and it goes on where it stopped."
        ),
        created_at=now,
    )


async def tell_of_missed(
    tx: Transaction, endpoint: WebhookEndpoint, missed: int, now: datetime
) -> None:
    """Write that retention threw events away before an endpoint got them: a notice each week.

    `missed` counts all of them so far; a week's notice is brought up to date as it grows.
    """
    told = Notice(
        id=new_id("ntc"),
        business_id=endpoint.business_id,
        kind=NoticeKind.EVENTS_MISSED,
        subject_id=endpoint.id,
        step=f"{now:%G-W%V}",
        message=(
            f"The webhook endpoint {name_of(endpoint)} did not get {missed} events before the "
            "business's eventRetentionDays, and 90 days more, were over: they are thrown away."
        ),
        created_at=now,
    )
    if not await tx.add_if_new(told):
        await tx.run(_RETELL, subject_id=told.subject_id, step=told.step, message=told.message)


async def _missing(tx: Transaction, now: datetime) -> list[Notice]:
    failing = await tx.many(_FAILING, since=now - STEPS[-1][0])
    if not failing:
        return []
    told = set(await tx.many(_TOLD, endpoints=[endpoint.id for endpoint in failing]))
    notices = [notice_of_failing(endpoint, now) for endpoint in failing]
    return [notice for notice in notices if notice and (notice.subject_id, notice.step) not in told]


def name_of(endpoint: WebhookEndpoint) -> str:
    """What people know it by; never its whole address, whose path may be a secret."""
    return endpoint.name or urlsplit(endpoint.url).hostname or endpoint.id
