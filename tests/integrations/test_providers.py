"""The suite that every channel passes: what its provider may answer, and what it may tell us."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.settings import Settings
from fakes import seven_loc, telegram, whatsapp
from fakes.mailbox import a_mailbox
from fakes.providers import Provider, serving
from fakes.push_service import PushService
from integrations.channels import Channels, seam
from integrations.channels.email import EmailSender, mail_of
from integrations.channels.seam import (
    REFUSED_US,
    UNKNOWN,
    Accepted,
    Callback,
    Delivered,
    Forged,
    Letter,
    Line,
    Malformed,
    NotConnected,
    Rejected,
    RetryAfter,
    Started,
    Stopped,
    is_stop,
)
from integrations.http import Outgoing
from integrations.mail import Mailer
from models import Channel, ChannelKind, Messenger

SECRET = "what we told the provider to sign with"
KINDS = ("telegram", "whatsapp", "seven_loc", "web_push")
MESSENGERS = {
    "telegram": (ChannelKind.TELEGRAM, Messenger.TELEGRAM),
    "whatsapp": (ChannelKind.WHATSAPP, Messenger.WHATSAPP),
    "seven_loc": (ChannelKind.SEVEN_LOC, Messenger.VIBER),
}
HARMLESS = {"seven_loc", "web_push"}
"""Those to whom a request whose outcome is unknown may be repeated."""
pytestmark = pytest.mark.on("sqlite")


@dataclass
class Bench:
    """A channel on loopback, and the provider that stands at its other end."""

    kind: str
    sender: Any
    fake: Provider
    outgoing: Outgoing
    addresses: list[str]

    def letters(self, count: int = 3) -> list[Letter]:
        """Letters to people whom the provider knows."""
        return [self.letter(number) for number in range(count)]

    def letter(self, number: int) -> Letter:
        keys = None
        if isinstance(self.fake, PushService):
            told = self.fake.browsers[str(number)].keys
            keys = told["p256dh"], told["auth"]
        return Letter(
            id=f"msg_01jwsample000000000000000{number}",
            business_id="b_1",
            customer_id=f"c_{number}",
            channel=Channel.PUSH if keys else Channel.MESSENGERS,
            address=self.addresses[number],
            subject="2-for-1 today",
            text="Dear Ana,\n\ncome — 👨‍👩‍👧‍👦",
            url="https://cards.example/c/abc",
            business="Kopi",
            campaign_id="cmp_1",
            messenger=MESSENGERS[self.kind][1] if self.kind in MESSENGERS else None,
            keys=keys,
        )

    def refuse(self, number: int) -> None:
        """The provider knows this one no more."""
        address = self.addresses[number]
        self.fake.refused.add(
            str(number) if isinstance(self.fake, PushService) else address.removeprefix("+")
        )
        self.fake.refused.add(address)

    def hear(self, told: Any, **headers: str) -> Any:
        """What the provider's callback says, as it is signed."""
        if self.kind == "telegram":
            headers = {"x-telegram-bot-api-secret-token": SECRET, **headers}
            body = orjson.dumps(told)
        elif self.kind == "whatsapp":
            body, good = whatsapp.signed(told)
            headers = {**good, **headers}
        else:
            body, good = seven_loc.signed(SECRET, told)
            headers = {**good, **headers}
        return self.sender.hear(Callback(method="POST", headers=headers, query={}, body=body))


@pytest.fixture
async def bench(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Bench]:
    """A channel of the kind that is asked for."""
    kind = request.param
    fakes = {
        "telegram": telegram.Telegram,
        "whatsapp": whatsapp.WhatsApp,
        "seven_loc": seven_loc.SevenLoc,
        "web_push": PushService,
    }
    fake: Any = fakes[kind]()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(fake))
        urls = {"telegram_url": fake.url, "whatsapp_url": fake.url}
        outgoing = Outgoing(allow_insecure=True, deadline=10)
        stack.push_async_callback(outgoing.close)
        channels = Channels.of(settings.model_copy(update=urls), outgoing, a_push_key)
        if kind == "web_push":
            sender: Any = channels.sender(Channel.PUSH, "psub_1")
            addresses = [fake.subscribe(str(number))[0] for number in range(3)]
        else:
            told = {
                "telegram": telegram.SETTINGS,
                "whatsapp": whatsapp.SETTINGS,
                "seven_loc": getattr(fake, "settings", {}),
            }
            sender = channels.made(MESSENGERS[kind][0], {**told[kind], "callbackSecret": SECRET})
            chats = kind == "telegram"
            addresses = [
                f"{4000 + number}" if chats else f"+62811{number:06}" for number in range(3)
            ]
        yield Bench(kind, sender, fake, outgoing, addresses)


async def a_push_key() -> str:
    """A key pair's private half."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


every_channel = pytest.mark.parametrize("bench", KINDS, indirect=True)
every_messenger = pytest.mark.parametrize("bench", MESSENGERS, indirect=True)


@every_channel
async def test_what_it_takes_arrives_whole(bench: Bench) -> None:
    answers = await bench.sender.send(bench.letters())

    assert [type(answer) for answer in answers] == [Accepted] * 3
    assert len(bench.fake.got) == 3
    arrived = orjson.dumps(bench.fake.got).decode()
    assert "https://cards.example/c/abc" in arrived
    assert "👨‍👩‍👧‍👦" in arrived
    assert await bench.sender.send([]) == []


@every_channel
async def test_whoever_cannot_be_reached_does_not_stop_the_others(bench: Bench) -> None:
    bench.refuse(1)

    answers = await bench.sender.send(bench.letters())

    assert [type(answer) for answer in answers] == [Accepted, Rejected, Accepted]
    assert answers[1].is_permanent
    assert bench.addresses[1] not in answers[1].reason


@every_channel
async def test_a_provider_that_gets_too_much_is_left_alone(bench: Bench) -> None:
    bench.fake.mood = "too much"

    first = await bench.sender.send(bench.letters())
    bench.fake.mood = "good"
    second = await bench.sender.send(bench.letters())

    wait = 30.0 if bench.kind == "whatsapp" else 7.0
    assert first[0] == RetryAfter(wait, stops=True)
    assert bench.fake.asked == 1
    assert bench.fake.got == []
    assert all(isinstance(answer, RetryAfter) and not answer.is_tried for answer in second)
    assert all(0 < answer.seconds <= wait for answer in second)


@every_channel
async def test_a_provider_that_is_busy_is_asked_again(bench: Bench) -> None:
    bench.fake.mood = "busy"

    answers = await bench.sender.send(bench.letters(1))

    assert answers == [RetryAfter(30.0)]


@every_channel
async def test_what_broke_halfway_is_sent_again_only_where_that_is_harmless(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "REPEAT_AFTER", (0.01, 0.01))
    bench.fake.mood = "broken"

    answers = await bench.sender.send(bench.letters(1))

    assert answers == [UNKNOWN]
    assert bench.fake.asked == (3 if bench.kind in HARMLESS else 1)


@every_channel
async def test_what_broke_once_arrives_once_where_a_repeat_is_harmless(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke after the message was taken: the worst that can be."""
    monkeypatch.setattr(seam, "REPEAT_AFTER", (0.01, 0.01))
    bench.fake.mood = "broken after it was taken"

    [answer] = await bench.sender.send(bench.letters(1))

    known = {told["id"] if bench.kind == "web_push" else str(told) for told in bench.fake.got}
    assert len(known) == 1
    assert isinstance(answer, Accepted if bench.kind in HARMLESS else Rejected)


@every_channel
async def test_a_refusal_of_the_repeat_says_nothing_of_the_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "REPEAT_AFTER", (0.01, 0.01))
    bench.fake.mood = "broken, then closed to us"

    answers = await bench.sender.send(bench.letters(1))

    assert answers == [UNKNOWN]


@every_channel
async def test_a_provider_that_hangs_costs_one_message(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "_REPEAT_WITHIN", 0.1)
    bench.fake.mood = "silent"
    bench.outgoing._deadline = 0.3

    answers = await bench.sender.send(bench.letters())

    assert answers[0] == UNKNOWN
    assert bench.fake.asked == 1
    if bench.kind != "seven_loc":  # its letters go together
        assert all(not answer.is_tried for answer in answers[1:])


@every_channel
async def test_a_provider_that_is_down_is_asked_again(bench: Bench, unused_url: str) -> None:
    old = bench.fake.url
    for name, value in vars(bench.sender).items():
        if isinstance(value, str):
            setattr(bench.sender, name, value.replace(old, unused_url))
    bench.addresses = [address.replace(old, unused_url) for address in bench.addresses]

    answers = await bench.sender.send(bench.letters())

    assert all(isinstance(answer, RetryAfter) for answer in answers)
    assert bench.fake.asked == 0


@pytest.fixture
def unused_url(settings: Settings) -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{settings.port}"


@every_messenger
async def test_settings_that_are_refused_are_told(bench: Bench) -> None:
    bench.fake.mood = "closed to us"

    account = await bench.sender.check()
    answers = await bench.sender.send(bench.letters(1))

    assert account.name in ("@kopi_bot", "Kopi")
    assert answers == [Rejected(REFUSED_US)]


@every_messenger
async def test_connecting_tells_the_provider_where_to_call(bench: Bench) -> None:
    account = await bench.sender.connect("https://cards.example/channels/chn_1")

    assert all("{token}" in link for link in account.links.values())
    if bench.kind != "whatsapp":  # at Meta it is typed by hand
        told = orjson.dumps(bench.fake.told).decode()
        assert "https://cards.example/channels/chn_1" in told
        assert SECRET in told


async def test_a_provider_out_of_reach_is_told_in_words(
    settings: Settings, unused_url: str
) -> None:
    channels = Channels.of(
        settings.model_copy(update={"telegram_url": unused_url, "whatsapp_url": unused_url})
    )
    given = {**telegram.SETTINGS, **whatsapp.SETTINGS, "baseUrl": unused_url, "apiToken": "x"}
    for kind, _ in MESSENGERS.values():
        with pytest.raises(NotConnected, match="cannot be reached"):
            await channels.made(kind, {**given, "callbackSecret": SECRET}).check()
    await channels._parts.outgoing.close()


def _started(bench: Bench) -> tuple[Any, Started]:
    address = bench.addresses[0]
    told = {
        "telegram": telegram.start(4000, "tok"),
        "whatsapp": whatsapp.text(address.removeprefix("+"), "Start  tok"),
        "seven_loc": {"type": "started", "messenger": "viber", "phone": address, "token": "tok"},
    }
    messenger = MESSENGERS[bench.kind][1]
    return told[bench.kind], Started(messenger=messenger, address=address, token="tok")


def _stopped(bench: Bench) -> tuple[Any, Stopped]:
    address = bench.addresses[0]
    told = {
        "telegram": telegram.stop(4000),
        "whatsapp": whatsapp.text(address.removeprefix("+"), "stop."),
        "seven_loc": {"type": "stopped", "messenger": "viber", "phone": address},
    }
    return told[bench.kind], Stopped(messenger=MESSENGERS[bench.kind][1], address=address)


@every_messenger
async def test_callbacks_say_who_came_and_who_went(bench: Bench) -> None:
    for told, report in (_started(bench), _stopped(bench)):
        assert bench.hear(told).reports == [report]
        assert bench.hear(told).reports == [report], "a repeat says the same"


@every_messenger
async def test_a_forged_callback_says_nothing(bench: Bench) -> None:
    told, _ = _started(bench)
    for name in ("x-telegram-bot-api-secret-token", "x-hub-signature-256", "x-signature"):
        forged = {name: "sha256=00"}
        with pytest.raises(Forged):
            bench.sender.hear(
                Callback(method="POST", headers=forged, query={}, body=orjson.dumps(told))
            )
    with pytest.raises(Forged):
        bench.sender.hear(Callback(method="POST", headers={}, query={}, body=b"{}"))


@every_messenger
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"nonsense", b'{"message": 5, "entry": 5}'])
async def test_a_malformed_callback_is_refused(bench: Bench, body: bytes) -> None:
    def sign(key: str) -> str:
        return "sha256=" + hmac.new(key.encode(), body, sha256).hexdigest()

    headers = {
        "x-telegram-bot-api-secret-token": SECRET,
        "x-hub-signature-256": sign(whatsapp.APP_SECRET),
        "x-signature": sign(SECRET),
    }
    with pytest.raises(Malformed):
        bench.sender.hear(Callback(method="POST", headers=headers, query={}, body=body))


@pytest.mark.parametrize("bench", ["whatsapp"], indirect=True)
async def test_whatsapp_asks_a_question_first_and_tells_of_others(bench: Bench) -> None:
    asked = {"hub.mode": "subscribe", "hub.verify_token": "my own words", "hub.challenge": "1158"}

    def ask(query: dict[str, str]) -> Any:
        return bench.sender.hear(Callback(method="GET", headers={}, query=query, body=b""))

    assert ask(asked).challenge == "1158"
    with pytest.raises(Forged):
        ask({**asked, "hub.verify_token": "guessed"})
    assert bench.hear(whatsapp.notification(number="another", statuses=[{}])).reports == []
    assert bench.hear(whatsapp.status("wamid.1", "sent")).reports == []
    assert bench.hear(whatsapp.status("wamid.1", "read")).reports == [
        Delivered(reference="wamid.1")
    ]
    [failed] = bench.hear(whatsapp.status("wamid.1", "failed")).reports
    assert failed.problem == "failed with [131026]"


@pytest.mark.parametrize("bench", ["telegram"], indirect=True)
async def test_telegram_tells_of_blocks_and_groups_do_not_count(bench: Bench) -> None:
    address = bench.addresses[0]
    group = telegram.start(4000, "tok")
    group["message"]["chat"] = {"id": -100, "type": "group"}

    assert bench.hear(telegram.block(4000)).reports == [
        Stopped(messenger=Messenger.TELEGRAM, address=address, is_block=True)
    ]
    assert bench.hear(group).reports == []
    assert bench.hear({"update_id": 9, "edited_message": {}}).reports == []


@pytest.mark.parametrize("bench", ["seven_loc"], indirect=True)
async def test_7loc_sends_what_goes_together_once_under_one_key(bench: Bench) -> None:
    letters = bench.letters()

    await bench.sender.send(letters)
    await bench.sender.send(letters)

    assert bench.fake.asked == 2
    assert len(bench.fake.got) == 3
    assert bench.hear({"type": "failed", "ref": letters[0].id, "reason": "off"}).reports == [
        Delivered(reference=letters[0].id, problem="off")
    ]


def a_mail(**values: Any) -> Letter:
    told: dict[str, Any] = {
        "id": "msg_1",
        "business_id": "b_1",
        "customer_id": "c_1",
        "channel": Channel.EMAIL,
        "address": "ana@mail.example",
        "subject": "2-for-1 today",
        "text": "Dear Ana",
        "url": "https://cards.example/c/abc",
        "business": "Kopi, Kenangan",
        "campaign_id": "cmp_1",
        "unsubscribe_url": "https://cards.example/unsubscribe/" + "x" * 60,
    }
    return Letter(**{**told, **values})


async def test_a_mail_can_be_left_by_one_click() -> None:
    async with a_mailbox() as box:
        sender = EmailSender(Mailer(box.url, "news@cafe.example"))
        assert await sender.send([a_mail(), a_mail(unsubscribe_url=None)]) == [Accepted()] * 2
        first, second = box.got

    assert first["list-unsubscribe"] == f"<{a_mail().unsubscribe_url}>"
    assert first["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert first["from"].addresses[0].display_name == "Kopi, Kenangan"
    assert "asked Kopi, Kenangan for news" in first.get_content()
    assert "https://cards.example/c/abc" in second.get_content()
    assert second["list-unsubscribe"] is None
    assert b"List-Unsubscribe: <https" in Mailer(box.url, "news@cafe.example")._letter(
        mail_of(a_mail())
    )


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"refused": {"ana@mail.example": "550 no such mailbox"}}, Rejected),
        ({"refused": {"ana@mail.example": "451 greylisted"}}, RetryAfter),
        ({"text_answer": "554 refused"}, Rejected),
        ({"cuts": True}, type(UNKNOWN)),
    ],
)
async def test_what_a_mail_server_says_is_told_truly(values: Any, answer: type) -> None:
    async with a_mailbox(**values) as box:
        sender = EmailSender(Mailer(box.url, "news@cafe.example"))
        [told] = await sender.send([a_mail()])

    assert type(told) is answer
    assert "ana@mail.example" not in str(told)
    assert (told == UNKNOWN) is bool(values.get("cuts"))


async def test_a_mail_server_that_hangs_or_is_down_is_asked_again(unused_url: str) -> None:
    async with a_mailbox(delay=30) as box:
        slow = EmailSender(Mailer(box.url, "news@cafe.example", deadline=0.2))
        assert await slow.send([a_mail()]) == [RetryAfter(60.0)]
    down = EmailSender(Mailer(unused_url.replace("http", "smtp"), "news@cafe.example"))
    first, second = await down.send([a_mail(), a_mail()])
    assert first == RetryAfter(60.0, stops=True)
    assert not second.is_tried


async def test_a_line_keeps_its_pace_over_all_batches() -> None:
    line, times = Line(20.0), list[float]()

    async def send(letter: Letter) -> Accepted:
        times.append(asyncio.get_running_loop().time())
        return Accepted()

    await asyncio.gather(*(line.carry([a_mail()] * 3, send) for _ in range(2)))

    assert len(times) == 6
    assert times[-1] - times[0] >= 5 / 20.0 - 0.01


@pytest.mark.parametrize(
    ("text", "is_so"),
    [("STOP", True), (" stop! ", True), ("/stop", True), ("Berhenti", True), ("stop it", False)],
)
def test_words_that_end_it(text: str, is_so: bool) -> None:
    assert is_stop(text) is is_so
