"""What a channel is: letters and the answers to them, callbacks and what they report, the pace."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, ClassVar, Protocol

import orjson

from core.settings import Settings
from integrations.http import NoAnswer, NotReached, Outgoing, Reply
from models import Channel, ChannelKind, Messenger

CARRY_SECONDS = 10.0
"""So long a batch begins new letters; with the last one's answer, less than a hand-over takes."""
_SHORT, _LONG = 1.0, 30.0
REPEAT_AFTER = (0.5, 1.5)
"""How long to wait before each repeat of a request whose outcome is unknown, where that is safe."""
_REPEAT_WITHIN, _REPEATS_END = 3.0, 18.0
REFUSED_US = "the provider refused our credentials"
"""The reason of a rejection that has nothing to do with the message or whom it is for."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message on its way out.

    `id` is the same whenever the message is handed over. `subject` is one line, `url` is complete.
    `keys` are those of a browser (`p256dh`, `auth`), for which a push is encrypted.
    """

    id: str
    business_id: str
    customer_id: str
    channel: Channel
    address: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    url: str | None = field(repr=False)
    business: str = ""
    language: str = "en"
    campaign_id: str | None = None
    unsubscribe_url: str | None = field(default=None, repr=False)
    messenger: Messenger | None = None
    keys: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Accepted:
    """The channel took the message; `reference` is its own name for it, for reports to come."""

    reference: str | None = None


@dataclass(frozen=True)
class Rejected:
    """The channel will never take the message; the reason names no person.

    `is_permanent`: whoever is at the address is never to be written to again.
    """

    reason: str
    is_permanent: bool = False


@dataclass(frozen=True)
class RetryAfter:
    """The channel surely did not take the message, and wants to be asked again.

    `stops`: it wants no message at all until then. `is_tried`: it was really asked.
    """

    seconds: float
    stops: bool = False
    is_tried: bool = True


Answer = Accepted | Rejected | RetryAfter
UNKNOWN = Rejected("unknown outcome")
"""The line broke while the message was on its way: nobody knows, and it is not sent again."""
HELD_BACK = RetryAfter(_SHORT, is_tried=False)


@dataclass(frozen=True, kw_only=True)
class Callback:
    """What a provider tells us of its own accord. Names of headers are in small letters."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The body. Malformed where it is no JSON object."""
        try:
            said = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Malformed("not JSON") from None
        if not isinstance(said, dict):
            raise Malformed("not an object")
        return said


@dataclass(frozen=True, kw_only=True)
class Started:
    """Somebody used a one-time link: the chat is at `address` from now on."""

    messenger: Messenger
    address: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Somebody wants no more messages: they said STOP, or (`is_block`) blocked us."""

    messenger: Messenger
    address: str = field(repr=False)
    is_block: bool = False


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A message that was accepted reached its reader; with a `problem`, it did not."""

    reference: str
    problem: str | None = None


Report = Started | Stopped | Delivered


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a callback said. `challenge` is to be sent back as it is: the provider asked for it."""

    reports: Sequence[Report] = ()
    challenge: str | None = None


class Forged(Exception):
    """A callback that is not signed as it must be."""


class Malformed(ValueError):
    """A callback, or an answer, that is not what the provider says it sends."""


class NotConnected(Exception):
    """The provider does not accept the settings, or does not answer; told to whoever connects."""


class ChannelSender(Protocol):
    """Hands messages to a provider.

    It is given one message once, unless it answered RetryAfter. So an answer must be true: where a
    connection broke before anything was said, RetryAfter; where it broke later, UNKNOWN.
    """

    @property
    def channel(self) -> Channel:
        """The channel it serves."""

    @property
    def most_letters(self) -> int:
        """How many it takes at once."""

    @property
    def most_text(self) -> int:
        """How many characters of text it takes; a longer one is cut."""

    @property
    def is_stand_in(self) -> bool:
        """Whether it gives way to any other sender of its channel."""

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        """Hand the messages over; one answer for each, in their order."""
        ...

    async def forget(self, customer_id: str) -> None:
        """Drop whatever it keeps of a customer here."""
        ...


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a provider says of itself: `name`, links by messenger, and where it sends by phone.

    In a link, `{token}` stands for the one-time token.
    """

    name: str
    links: Mapping[Messenger, str]
    phone_messenger: Messenger | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept of it, and may be shown."""
        return {"name": self.name, "links": {str(kind): url for kind, url in self.links.items()}}


class ChannelProvider(Protocol):
    """A provider with the settings of one business: sends, and understands its callbacks."""

    kind: ClassVar[ChannelKind]
    wants: ClassVar[Mapping[str, str]]
    """Its settings: what each is; those that begin with `Optional` may be left out."""
    most_letters: ClassVar[int]
    most_text: ClassVar[int]
    per_second: ClassVar[float]
    needs_template: ClassVar[bool]

    def __init__(self, settings: Mapping[str, str], parts: "Parts") -> None: ...

    async def connect(self, callback_url: str) -> Account:
        """See whether the settings are good, and have reports sent. NotConnected if not."""
        ...

    async def check(self) -> Account:
        """See whether the settings are good. NotConnected if not."""
        ...

    async def leave(self) -> None:
        """Have no more reports sent. NotConnected if it cannot be told."""
        ...

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        """Hand the messages over; one answer for each, in their order."""
        ...

    def hear(self, callback: Callback) -> Heard:
        """What a callback says. Forged or Malformed where it is not the provider's."""
        ...

    def reply(self, address: str, text: str) -> Any:
        """What to answer a callback with so that its sender reads this; None if it cannot be."""
        ...


@dataclass(frozen=True)
class Parts:
    """What senders are made of: the settings, the way out, and the key of pushes to browsers.

    `bring` has the pass at a letter's address bring it; None without a wallet.
    """

    settings: Settings
    outgoing: Outgoing
    push_key: Callable[[], Awaitable[str]] | None = None
    bring: Callable[[Letter], Awaitable[Answer]] | None = None


class Line:
    """A paced way to a provider: a letter at a time, and none while it wants to be left alone.

    `host_of` tells apart who is asked, where that is not one alone.
    """

    def __init__(self, per_second: float, host_of: Callable[[Letter], str] | None = None) -> None:
        self._gap = 1 / per_second
        self._host_of = host_of or (lambda _: "")
        self._next = 0.0
        self._alone_until: dict[str, float] = {}

    async def carry(
        self, letters: Sequence[Letter], send: Callable[[Letter], Awaitable[Answer]]
    ) -> list[Answer]:
        """Send one after the other; whoever does not answer is left alone for a while."""
        loop, answers = asyncio.get_running_loop(), list[Answer]()
        end = loop.time() + CARRY_SECONDS
        for letter in letters:
            host = self._host_of(letter)
            at = max(loop.time(), self._next)
            if at <= end and self._wait(host) <= 0:
                self._next = at + self._gap
                await asyncio.sleep(at - loop.time())
            # Meanwhile another batch may have been told to wait.
            if at > end or self._wait(host) > 0:
                answers.append(RetryAfter(max(self._wait(host), _SHORT), is_tried=False))
                continue
            answer = await self._answer(letter, send)
            if isinstance(answer, RetryAfter) and answer.stops:
                self._alone_until[host] = loop.time() + answer.seconds
            elif answer is UNKNOWN:
                self._alone_until[host] = loop.time() + _LONG
            answers.append(answer)
        return answers

    def _wait(self, host: str) -> float:
        """How long nobody is to ask there."""
        return self._alone_until.get(host, 0.0) - asyncio.get_running_loop().time()

    @staticmethod
    async def _answer(letter: Letter, send: Callable[[Letter], Awaitable[Answer]]) -> Answer:
        try:
            return await send(letter)
        except NotReached:
            return RetryAfter(_LONG, stops=True)
        except NoAnswer:
            return UNKNOWN
        except ValueError:  # an address that may not be reached, or a text that cannot be sent
            return Rejected("not fit to be sent")


async def repeated(ask: Callable[[], Awaitable[Reply]]) -> Reply:
    """What a provider answers to whom a repeat of this request is harmless, by its own word.

    Where its outcome is unknown it is asked again, at once and a few times; one that is slow is
    not. From then on only success is believed: any other answer may be to the repeat alone.
    NoAnswer where the outcome stays unknown, NotReached where it was never reached.
    """
    loop = asyncio.get_running_loop()
    began, is_unknown = loop.time(), False
    try:
        async with asyncio.timeout(_REPEATS_END):
            for pause in (*REPEAT_AFTER, None):
                try:
                    reply = await ask()
                except (NotReached, NoAnswer) as error:
                    if isinstance(error, NotReached) and not is_unknown:
                        raise
                else:
                    if reply.is_good or not (is_unknown or _is_unknown(reply)):
                        return reply
                is_unknown = True
                if pause is None or loop.time() - began > _REPEAT_WITHIN:
                    break
                await asyncio.sleep(pause)
    except TimeoutError:
        pass
    raise NoAnswer("unknown outcome")


def said(reply: Reply) -> dict[str, Any]:
    """The JSON object that was answered; an empty one where it was none."""
    told = reply.json()
    return told if isinstance(told, dict) else {}


def answer_of(reply: Reply) -> Answer:
    """What the status of an answer means, where a provider has no words of its own for it."""
    if reply.status == 429:
        return asked_to_wait(reply.retry_after)
    if reply.status == 503:
        return RetryAfter(reply.retry_after or _LONG)
    if reply.is_good or _is_unknown(reply):
        return Accepted() if reply.is_good else UNKNOWN
    return Rejected(REFUSED_US if reply.status == 401 else f"refused with {reply.status}")


def _is_unknown(reply: Reply) -> bool:
    """Whether an answer leaves open what became of the message: it broke while it was handled."""
    return reply.status >= 500 and reply.status != 503


def is_signed(key: str, body: bytes, given: str) -> bool:
    """Whether a header holds `sha256=` and the HMAC of a body."""
    signed = f"sha256={hmac.new(key.encode(), body, sha256).hexdigest()}"
    return hmac.compare_digest(signed.encode(), given.encode())


def read_reports(
    callback: Callback, read: Callable[[Mapping[str, Any]], Iterable[Report]]
) -> Heard:
    """What a callback says, by how its JSON is read. Malformed where it cannot be."""
    try:
        return Heard(reports=list(read(callback.json())))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Malformed("not a report") from None


def asked_to_wait(seconds: float | None) -> RetryAfter:
    """The answer of a provider that gets too many messages."""
    return replace(RetryAfter(_LONG, stops=True), seconds=max(1.0, seconds or _LONG))


def is_stop(text: str) -> bool:
    """Whether somebody wrote that they want no more messages."""
    return text.strip().strip("/.!").upper() in _STOP_WORDS


_STOP_WORDS = {"STOP", "STOP ALL", "UNSUBSCRIBE", "BERHENTI"}
