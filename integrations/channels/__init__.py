"""Channels: the ways a message leaves the house. A new one is a file of this folder.

Such a file has `senders(settings)`, which gives the senders that these settings make of it.
"""

import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Protocol

from core.settings import Settings
from models import Channel


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message on its way out.

    `id` is the same whenever the message is handed over. `subject` is one line, `url` is complete.
    """

    id: str
    business_id: str
    customer_id: str
    channel: Channel
    address: str
    subject: str
    text: str
    url: str | None


@dataclass(frozen=True)
class Accepted:
    """The channel took the message; what becomes of it is its own business."""


@dataclass(frozen=True)
class Rejected:
    """The channel will never take the message; the reason names no person."""

    reason: str


@dataclass(frozen=True)
class RetryAfter:
    """The channel surely did not take the message, and wants to be asked again."""

    seconds: float


Answer = Accepted | Rejected | RetryAfter


class ChannelSender(Protocol):
    """Hands messages to a provider.

    It is given one message once, unless it answered RetryAfter. So an answer must be true: where a
    connection broke before anything was said, RetryAfter; where it broke later, an exception.
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


class Channels:
    """The senders of this deployment, one for each channel that is connected."""

    def __init__(self, senders: Iterable[ChannelSender]) -> None:
        self._all = sorted(senders, key=lambda sender: sender.is_stand_in, reverse=True)

    @classmethod
    def of(cls, settings: Settings) -> "Channels":
        """All that the files of this folder make of the settings."""
        names = [module.name for module in pkgutil.iter_modules(__path__)]
        files = [import_module(f"{__name__}.{name}") for name in names]
        return cls(sender for file in files for sender in file.senders(settings))

    @property
    def connected(self) -> frozenset[Channel]:
        """The channels by which customers can be reached."""
        return frozenset(self._by_channel)

    def sender(self, channel: Channel) -> ChannelSender | None:
        """Who serves a channel, None where nobody does."""
        return self._by_channel.get(channel)

    async def forget(self, customer_id: str) -> None:
        """Have every sender drop whatever it keeps of a customer here."""
        for sender in self._all:
            await sender.forget(customer_id)

    @cached_property
    def _by_channel(self) -> dict[Channel, ChannelSender]:
        return {sender.channel: sender for sender in self._all}
