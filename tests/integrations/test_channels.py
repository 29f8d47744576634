"""Channels: what every sender keeps to, and the file that stands in for providers."""

import asyncio
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.settings import Settings
from integrations.channels import Accepted, Answer, Channels, ChannelSender, Letter
from integrations.channels.file import FileSender
from models import Channel


def a_letter(number: int = 1, channel: Channel = Channel.EMAIL, customer: str = "c_1") -> Letter:
    return Letter(
        id=f"msg_{number}",
        business_id="b_1",
        customer_id=customer,
        channel=channel,
        address="ana@mail.example",
        subject="2-for-1 today",
        text='Dear Ana,\r\n"come" — 👨‍👩‍👧‍👦',
        url="https://cards.example/c/abc",
    )


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture(params=[Channel.PUSH, Channel.EMAIL])
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> ChannelSender:
    """Each sender in turn."""
    return FileSender(tmp_path, request.param)


async def test_there_is_one_answer_for_each_letter(sender: ChannelSender) -> None:
    letters = [a_letter(number, sender.channel) for number in range(sender.most_letters)]

    answers = await sender.send(letters)

    assert list(answers) == [Accepted()] * len(letters)
    assert list(await sender.send([])) == []


async def test_a_sender_can_forget_whom_it_never_knew(sender: ChannelSender) -> None:
    await sender.forget("c_unknown")


async def test_a_letter_is_a_line_of_json_that_people_can_read(tmp_path: Path) -> None:
    sender = FileSender(tmp_path, Channel.EMAIL)

    await sender.send([a_letter()])

    [line] = lines(tmp_path / "outbox/email.jsonl")
    assert line == {
        "id": "msg_1",
        "business_id": "b_1",
        "customer_id": "c_1",
        "channel": "email",
        "address": "ana@mail.example",
        "subject": "2-for-1 today",
        "text": 'Dear Ana,\r\n"come" — 👨‍👩‍👧‍👦',
        "url": "https://cards.example/c/abc",
    }


async def test_only_the_owner_may_read_the_outbox(tmp_path: Path, outbox: Path) -> None:
    await FileSender(tmp_path, Channel.PUSH).send([a_letter(channel=Channel.PUSH)])

    assert (mode(outbox), mode(outbox / "push.jsonl")) == (0o700, 0o600)


async def test_nothing_is_torn_where_many_write_and_forget_at_once(
    tmp_path: Path, outbox: Path
) -> None:
    senders = [FileSender(tmp_path, Channel.EMAIL) for _ in range(4)]

    await asyncio.gather(
        *(
            sender.send([a_letter(10 * place + number, customer=f"c_{number % 2}")])
            for place, sender in enumerate(senders)
            for number in range(10)
        ),
        *(sender.forget("c_unknown") for sender in senders),
    )
    await senders[0].forget("c_1")

    left = lines(outbox / "email.jsonl")
    assert len(left) == 20
    assert {line["customer_id"] for line in left} == {"c_0"}


async def test_half_a_line_stays_as_it_is(tmp_path: Path, outbox: Path) -> None:
    sender = FileSender(tmp_path, Channel.EMAIL)
    await sender.send([a_letter()])
    with (outbox / "email.jsonl").open("a") as file:
        file.write('{"id": "msg_2", "cust')

    await sender.forget("c_1")

    assert (outbox / "email.jsonl").read_text() == '{"id": "msg_2", "cust'


class Provider:
    """A sender that is none of ours."""

    channel = Channel.EMAIL
    most_letters = 1
    most_text = 100
    is_stand_in = False

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        return [Accepted() for _ in letters]

    async def forget(self, customer_id: str) -> None:
        """It keeps nothing."""


def test_files_of_the_folder_are_found_and_serve_push_and_email(settings: Settings) -> None:
    channels = Channels.of(settings)

    assert channels.connected == {Channel.PUSH, Channel.EMAIL}
    assert isinstance(channels.sender(Channel.PUSH), FileSender)
    assert channels.sender(Channel.MESSENGERS) is None


@pytest.mark.parametrize("first", [0, 1])
def test_a_provider_goes_before_whatever_stands_in_for_it(tmp_path: Path, first: int) -> None:
    provider, stand_in = Provider(), FileSender(tmp_path, Channel.EMAIL)
    senders: list[ChannelSender] = [provider, stand_in]

    channels = Channels(senders[first:] + senders[:first])

    assert channels.sender(Channel.EMAIL) is provider


async def test_forgetting_reaches_every_sender(tmp_path: Path, outbox: Path) -> None:
    stand_in = FileSender(tmp_path, Channel.EMAIL)
    await stand_in.send([a_letter()])

    await Channels([stand_in, Provider()]).forget("c_1")

    assert lines(outbox / "email.jsonl") == []
