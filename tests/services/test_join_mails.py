"""The join post: a link that was asked for is mailed, whatever the mail server does meanwhile."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.ids import Id
from core.secrets import Secrets
from db import BUSINESS, Database, query
from factories import Cafe, a_business, a_card_template
from fakes.mailbox import a_mailbox
from integrations.channels import Accepted, Answer, Channels, Letter, Rejected, RetryAfter
from integrations.channels.email import EmailSender
from integrations.channels.seam import UNKNOWN
from integrations.mail import Mailer
from models import CardTemplate, Channel, JoinRequest
from services.join_mails import LEASE, MOST_TRIES, STEPS, JoinPost
from services.joining import (
    REQUEST_LASTS,
    JoinForm,
    SetJoinPageInput,
    ask_to_join,
    request_of,
    set_join_page,
)
from services.places import Place
from services.secret_keys import seal_anew

URL = "https://stamps.example"
OLD, NEW = b"the key of the house that is given up", b"the key of the house from now on, only"
_REQUESTS = query(select(JoinRequest).where(col(JoinRequest.business_id) == BUSINESS))


class Sender:
    """A way for e-mail that answers what it was told to, else that it took the letter."""

    channel = Channel.EMAIL
    most_letters = 1
    most_text = 10_000
    is_stand_in = False

    def __init__(self, *answers: Answer | OSError) -> None:
        self.answers = list(answers)
        self.letters: list[Letter] = []

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        self.letters += letters
        answer = self.answers.pop(0) if self.answers else Accepted()
        if isinstance(answer, OSError):
            raise answer
        return [answer]

    async def forget(self, customer_id: str) -> None:
        """It keeps nothing."""


class Counter:
    """A café, the page of its card, and the post that mails what is asked for there."""

    def __init__(
        self, database: Database, clock: ManualClock, cafe: Cafe, template: CardTemplate
    ) -> None:
        self.database, self.clock, self.cafe, self.template = database, clock, cafe, template
        self.secrets = Secrets(OLD)

    def post(self, sender: Sender, secrets: Secrets | None = None) -> JoinPost:
        """A post with this way for e-mail."""
        known = secrets or self.secrets
        return JoinPost(self.database, Channels([sender]), known, self.clock, URL)

    async def ask(self) -> None:
        """Budi asks for a card."""
        form = JoinForm(
            email="budi@mail.example", language="id", name="Budi", takes_mail=False, takes_push=True
        )
        await ask_to_join(
            self.database,
            self.secrets,
            self.template,
            self.cafe.business,
            form,
            self.clock.now(),
            Place("192.0.2.1", "a browser"),
        )

    async def request(self) -> JoinRequest:
        """The only request there is."""
        [row] = await self.database.read(self.cafe.business.id, lambda tx: tx.many(_REQUESTS))
        return row

    async def leads_on(self, letter: Letter) -> bool:
        """Whether the link in a letter is that of a request."""
        secret = str(letter.url).removeprefix(f"{URL}/join/confirm/")
        found = await self.database.read(None, lambda tx: request_of(tx, self.secrets, secret))
        return found is not None


@pytest.fixture
async def counter(database: Database, clock: ManualClock) -> Counter:
    cafe = await a_business(database)
    template = await a_card_template(database, cafe.owner, now=clock.now())
    said = SetJoinPageInput(template_id=Id(template.id), is_open=True)

    async def work(tx: Any) -> Any:
        return await set_join_page(tx, cafe.owner, said, clock.now())

    done = await database.write(cafe.business.id, work)
    return Counter(database, clock, cafe, done.card_template)


async def test_a_link_is_mailed_once_and_its_secret_kept_no_longer(counter: Counter) -> None:
    await counter.ask()
    sender = Sender()
    post = counter.post(sender)

    assert await post.sweep() == 1
    counter.clock.advance(LEASE)
    assert await post.sweep() == 0

    [letter] = sender.letters
    assert (letter.address, letter.language) == ("budi@mail.example", "id")
    assert letter.text.startswith("Halo Budi,")
    assert await counter.leads_on(letter)
    row = await counter.request()
    assert (row.sealed_secret, row.mail_after) == (None, None)


@pytest.mark.on("sqlite")
async def test_it_goes_by_the_mail_server_like_every_mail(counter: Counter) -> None:
    await counter.ask()
    async with a_mailbox() as box:
        sender = EmailSender(Mailer(box.url, "stampwire@kopi.example"))
        post = JoinPost(counter.database, Channels([sender]), counter.secrets, counter.clock, URL)
        assert await post.sweep() == 1

    [mail] = box.got
    [line] = [line for line in mail.get_content().splitlines() if URL in line]
    assert box.receivers == ["budi@mail.example"]
    assert line.startswith(f"{URL}/join/confirm/")
    # It was asked for, and is no news: there is nothing to unsubscribe from.
    assert mail["List-Unsubscribe"] is None


async def test_a_server_that_does_not_take_it_is_asked_until_it_does(counter: Counter) -> None:
    await counter.ask()
    sender = Sender(RetryAfter(1), OSError("the disk is full"), RetryAfter(7_200))
    post = counter.post(sender)

    for wait in (STEPS[0], STEPS[1], timedelta(hours=2)):
        assert await post.sweep() == 0
        counter.clock.advance(wait - timedelta(seconds=1))
        known = len(sender.letters)
        assert await post.sweep() == 0
        assert len(sender.letters) == known
        counter.clock.advance(timedelta(seconds=1))
    assert await post.sweep() == 1

    assert len(sender.letters) == 4
    assert len({letter.url for letter in sender.letters}) == 1
    assert (await counter.request()).mail_after is None


@pytest.mark.on("sqlite")
async def test_a_link_that_is_good_no_more_is_not_mailed(counter: Counter) -> None:
    await counter.ask()
    sender = Sender()
    counter.clock.advance(REQUEST_LASTS)

    assert await counter.post(sender).sweep() == 0
    assert sender.letters == []


async def test_who_dies_with_a_mail_in_hand_leaves_it_to_the_next(counter: Counter) -> None:
    await counter.ask()

    class Dead(Sender):
        async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
            await super().send(letters)
            raise KeyboardInterrupt

    dead, sender = Dead(), Sender()
    with pytest.raises(KeyboardInterrupt):
        await counter.post(dead).sweep()
    post = counter.post(sender)
    assert await post.sweep() == 0
    counter.clock.advance(LEASE)
    assert await post.sweep() == 1

    assert sender.letters == dead.letters
    assert await counter.leads_on(sender.letters[0])


@pytest.mark.on("sqlite")
async def test_an_unknown_outcome_is_mailed_again_and_a_refusal_is_not(counter: Counter) -> None:
    await counter.ask()
    unknown = Sender(*[UNKNOWN] * (MOST_TRIES + 1))
    post = counter.post(unknown)
    for step in (*STEPS, *STEPS):
        await post.sweep()
        counter.clock.advance(step)
    assert len(unknown.letters) == MOST_TRIES

    await counter.ask()
    refused = Sender(Rejected("refused with 550"))
    post = counter.post(refused)
    await post.sweep()
    counter.clock.advance(timedelta(hours=1))
    await post.sweep()
    assert len(refused.letters) == 1


async def test_a_change_of_the_secret_key_loses_no_link(counter: Counter) -> None:
    await counter.ask()
    found = await seal_anew(counter.database, Secrets(NEW, OLD))
    sender = Sender()

    assert await counter.post(sender, Secrets(NEW)).sweep() == 1
    assert found.closed == 0
    assert len(sender.letters) == 1
