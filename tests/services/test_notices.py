"""Notices by mail: each owner with an e-mail address has each notice once, whatever the server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select
from structlog.testing import capture_logs

from backends import free_port
from conftest import serving
from core.clock import ManualClock
from core.ids import new_id
from core.settings import Settings
from db import BUSINESS, Database, command, database_of, query
from factories import Cafe, a_business, a_staff
from fakes.mailbox import Mailbox, a_mailbox
from integrations.mail import Mailer
from models import Notice, NoticeKind, Role, Staff
from services.notices import GIVEN_UP_AFTER, LEASE, STEPS, SUBJECTS, NoticePost

SENDER = "stampwire@kopi.example"
_NOTICES = query(select(Notice).where(col(Notice.business_id) == BUSINESS).order_by(col(Notice.id)))
_LEAVES = command(
    update(Staff)
    .where(col(Staff.business_id) == BUSINESS, col(Staff.login) == "gone@cafe.example")
    .values(disabled_at=Staff.created_at)
)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with a_mailbox() as box:
        yield box


@pytest.fixture
async def cafe(database: Database) -> Cafe:
    return await a_business(database)


@pytest.fixture
def post_to(database: Database, clock: ManualClock) -> Callable[..., NoticePost]:
    """A notice post whose server is this mailbox."""

    def make(box: Mailbox, deadline: float = 5) -> NoticePost:
        mailer = Mailer(box.url, SENDER, deadline=deadline)
        return NoticePost(database, mailer, clock, "https://stamps.example")

    return make


@pytest.fixture
def write(database: Database, clock: ManualClock, cafe: Cafe) -> Callable[..., Any]:
    """Write a notice to the café's owners."""

    async def do(message: str = "The webhook endpoint Till has failed for an hour.") -> Notice:
        notice = Notice(
            id=new_id("ntc"),
            business_id=cafe.business.id,
            kind=NoticeKind.ENDPOINT_FAILING,
            subject_id="we_1",
            step=message,
            message=message,
            created_at=clock.now(),
        )
        await database.write(cafe.business.id, lambda tx: tx.add(notice))
        return notice

    return do


@pytest.fixture
def notices(database: Database, cafe: Cafe) -> Callable[[], Any]:
    """The notices as they are stored."""

    async def read() -> list[Notice]:
        return await database.read(cafe.business.id, lambda tx: tx.many(_NOTICES))

    return read


async def test_every_owner_with_an_address_is_written_to_once(
    database: Database, cafe: Cafe, mailbox: Mailbox, post_to: Any, write: Any, notices: Any,
    clock: ManualClock,
) -> None:  # fmt: skip
    for role, login in (
        (Role.OWNER, "second@cafe.example"),
        (Role.OWNER, "gone@cafe.example"),
        (Role.OWNER, "ownerwithoutmail"),
        (Role.MANAGER, "manager@cafe.example"),
    ):
        await a_staff(database, cafe.owner, role, login=login)
    await database.write(cafe.business.id, lambda tx: tx.run(_LEAVES))
    written = await write()
    post = post_to(mailbox)

    assert await post.sweep() == 1
    clock.advance(timedelta(days=1))
    assert await post.sweep() == 0

    [notice] = await notices()
    assert sorted(mailbox.receivers) == [cafe.login, "second@cafe.example"]
    assert notice.mailed_at == clock.now() - timedelta(days=1)
    [mail, _] = mailbox.got
    assert mail["Subject"] == "Kopi Kenangan: a webhook endpoint fails"
    assert written.message in mail.get_content()
    assert "https://stamps.example/graphql" in mail.get_content()
    assert set(SUBJECTS) == set(NoticeKind)


async def test_a_server_that_is_down_is_asked_less_and_less_often_until_it_is_up(
    cafe: Cafe, post_to: Any, write: Any, notices: Any, clock: ManualClock
) -> None:
    port = free_port()
    await write()
    post = post_to(Mailbox(port=port))
    waits = []
    for _ in range(len(STEPS) + 1):
        assert await post.sweep() == 0
        [notice] = await notices()
        waits.append(notice.mail_after - clock.now())
        assert await post.sweep() == 0
        assert (await notices())[0].mail_tries == notice.mail_tries, "it waits until its time"
        clock.moment = notice.mail_after

    assert waits == [*STEPS, STEPS[-1]]
    async with a_mailbox(port=port) as box:
        assert await post.sweep() == 1
        assert box.receivers == [cafe.login]


async def test_after_three_days_nobody_tries_any_more(
    mailbox: Mailbox, post_to: Any, write: Any, notices: Any, clock: ManualClock, cafe: Cafe
) -> None:
    mailbox.refused[cafe.login] = "550 unknown"
    await write()
    post = post_to(mailbox)
    begun = clock.now()
    while clock.now() - begun < GIVEN_UP_AFTER:
        await post.sweep()
        clock.moment = (await notices())[0].mail_after
    tries = (await notices())[0].mail_tries

    mailbox.refused.clear()
    assert await post.sweep() == 0

    [notice] = await notices()
    assert 10 < tries == notice.mail_tries < 20
    assert (notice.mailed_at, mailbox.got) == (None, [])


async def test_a_refused_owner_holds_up_no_other_and_no_other_is_written_to_again(
    database: Database, cafe: Cafe, mailbox: Mailbox, post_to: Any, write: Any, notices: Any,
    clock: ManualClock,
) -> None:  # fmt: skip
    await a_staff(database, cafe.owner, Role.OWNER, login="second@cafe.example")
    mailbox.refused[cafe.login] = f"550 {cafe.login} is unknown here"
    await write()
    post = post_to(mailbox)

    with capture_logs() as lines:
        assert await post.sweep() == 0
    assert mailbox.receivers == ["second@cafe.example"]
    assert "cafe.example" not in str(lines)

    mailbox.refused.clear()
    clock.advance(STEPS[0])
    assert await post.sweep() == 1
    assert mailbox.receivers == ["second@cafe.example", cafe.login]


async def test_a_slow_server_is_given_up_on_and_one_failure_ends_the_look(
    mailbox: Mailbox, post_to: Any, write: Any, notices: Any
) -> None:
    """However many notices wait, a server that does not answer is asked once a look."""
    mailbox.delay = 5
    for number in range(3):
        await write(f"{number}")

    assert await post_to(mailbox, deadline=0.1).sweep() == 0

    assert [notice.mail_tries for notice in await notices()] == [1, 0, 0]


async def test_many_workers_write_once(
    mailbox: Mailbox, post_to: Any, write: Any, cafe: Cafe
) -> None:
    mailbox.delay = 0.01
    for number in range(5):
        await write(f"{number}")

    done = await asyncio.gather(*(post_to(mailbox).sweep() for _ in range(4)))

    assert sum(done) == 5
    assert mailbox.receivers == [cafe.login] * 5


async def test_whoever_dies_with_a_mail_in_hand_leaves_it_to_the_next(
    mailbox: Mailbox, post_to: Any, write: Any, clock: ManualClock, notices: Any
) -> None:
    """It may come twice, with the same message id."""
    mailbox.delay = 30
    await write()
    dying = asyncio.create_task(post_to(mailbox).sweep())
    await mailbox.called.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    mailbox.delay = 0
    post = post_to(mailbox)

    assert await post.sweep() == 0, "for all one knows the other is still at it"
    clock.advance(LEASE)
    assert await post.sweep() == 1
    assert len(mailbox.got) == 1


async def test_a_business_without_an_address_is_looked_at_seldom_and_never_marked(
    database: Database, mailbox: Mailbox, post_to: Any, write: Any, notices: Any, cafe: Cafe
) -> None:
    rename = command(
        update(Staff).where(col(Staff.business_id) == BUSINESS).values(login="ayu.nomail")
    )
    await database.write(cafe.business.id, lambda tx: tx.run(rename))
    await write()
    post = post_to(mailbox)

    await post.sweep()
    await post.sweep()

    [notice] = await notices()
    assert (notice.mail_tries, notice.mailed_at, mailbox.connections) == (1, None, 0)


async def test_the_worker_mails_where_a_server_is_set(
    settings: Settings, mailbox: Mailbox, clock: ManualClock
) -> None:
    database = database_of(settings)
    await database.open()
    cafe = await a_business(database)
    notice = Notice(
        id=new_id("ntc"), business_id=cafe.business.id, kind=NoticeKind.ENDPOINT_DISABLED,
        subject_id="we_1", step="1", message="m", created_at=clock.now(),
    )  # fmt: skip
    await database.write(cafe.business.id, lambda tx: tx.add(notice))
    await database.close()

    told = {"smtp_url": mailbox.url, "mail_from": SENDER}
    async with serving(Settings(**{**settings.model_dump(), **told}), clock):
        async with asyncio.timeout(10):
            await mailbox.came.wait()

    assert mailbox.receivers == [cafe.login]


async def test_every_kind_of_notice_has_a_subject() -> None:
    assert set(SUBJECTS) == set(NoticeKind)
