"""Channels: the ways a message leaves the house. A new one is a file of this folder.

Such a file has `senders(parts)`, which gives the senders that every business of this deployment
has, or a class `Provider`, of which each business connects its own.
"""

import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import orjson

from core.secrets import Secrets
from core.settings import Settings
from integrations.channels.seam import (
    Accepted,
    Answer,
    ChannelProvider,
    ChannelSender,
    Letter,
    Parts,
    Rejected,
    RetryAfter,
)
from integrations.http import Outgoing
from models import Channel, ChannelConnection, ChannelKind

__all__ = [
    "Accepted",
    "Answer",
    "ChannelProvider",
    "ChannelSender",
    "Channels",
    "Letter",
    "Parts",
    "Rejected",
    "RetryAfter",
    "purpose_of_connection",
    "seal_settings",
    "wanted_settings",
]

MOST_TOGETHER = 50
"""Messages for a provider of a business that are taken from the outbox together."""
_MOST_PROVIDERS = 1_000


class Channels:
    """The senders of this deployment, and the providers that businesses connected."""

    def __init__(self, senders: Iterable[ChannelSender], parts: Parts | None = None) -> None:
        self._all = sorted(senders, key=lambda sender: sender.is_stand_in)
        self._parts = parts
        self._opened: dict[str, tuple[str, ChannelProvider]] = {}

    @classmethod
    def of(
        cls,
        settings: Settings,
        outgoing: Outgoing | None = None,
        push_key: Callable[[], Awaitable[str]] | None = None,
        bring: Callable[[Letter], Awaitable[Answer]] | None = None,
    ) -> "Channels":
        """All that the files of this folder make of the settings."""
        way = outgoing or Outgoing(allow_insecure=settings.allow_insecure_webhooks)
        parts = Parts(settings, way, push_key, bring)
        made = [
            sender
            for file in _files()
            if hasattr(file, "senders")
            for sender in file.senders(parts)
        ]
        return cls(made, parts)

    @property
    def connected(self) -> frozenset[Channel]:
        """The channels by which customers of every business can be reached."""
        return frozenset(sender.channel for sender in self._all)

    @property
    def serving(self) -> list[ChannelSender]:
        """Who serves every business; a stand-in only where nobody else takes any address."""
        return [
            sender
            for sender in self._all
            if not sender.is_stand_in or self.sender(sender.channel) is sender
        ]

    @cached_property
    def secrets(self) -> Secrets | None:
        """What the settings of connections are encrypted with; None where there can be none."""
        if self._parts is None:
            return None
        settings = self._parts.settings
        return Secrets.from_setting(settings.secret_key, settings.data_dir)

    def made(self, kind: ChannelKind, settings: Mapping[str, str]) -> ChannelProvider:
        """A provider of these settings. KeyError for a kind that is not connected."""
        if self._parts is None:
            raise KeyError(kind)
        made: ChannelProvider = _providers()[kind](settings, self._parts)
        return made

    def sender(self, channel: Channel, address: str = "") -> ChannelSender | None:
        """Who serves an address of a channel, None where nobody does.

        One that says how its addresses begin (`prefix`) goes before those that take any; a
        stand-in gives way to all.
        """
        takes = [
            sender
            for sender in self._all
            if sender.channel is channel and address.startswith(_prefix(sender))
        ]
        return min(
            takes, key=lambda sender: (sender.is_stand_in, not _prefix(sender)), default=None
        )

    def most_letters(self, channel: Channel) -> int:
        """How many messages of a channel go out together."""
        own = [sender.most_letters for sender in self._all if sender.channel is channel]
        return min(own, default=MOST_TOGETHER)

    def provider(self, connection: ChannelConnection) -> ChannelProvider:
        """The provider that a business connected, the same as long as its settings are."""
        known = self._opened.get(connection.id)
        if known is None or known[0] != connection.settings:
            sealed = connection.settings
            known = sealed, self.made(connection.kind, self.settings_of(connection))
            if len(self._opened) >= _MOST_PROVIDERS:
                self._opened.clear()
            self._opened[connection.id] = known
        return known[1]

    def settings_of(self, connection: ChannelConnection) -> dict[str, str]:
        """The settings of a connection. ValueError where no key of the deployment opens them."""
        if self.secrets is None:
            raise ValueError("there is no key")
        opened = self.secrets.decrypt(connection.settings, purpose_of_connection(connection.id))
        settings: dict[str, str] = orjson.loads(opened)
        return settings

    async def forget(self, customer_id: str) -> None:
        """Have every sender drop whatever it keeps of a customer here."""
        for sender in self._all:
            await sender.forget(customer_id)


def wanted_settings(kind: ChannelKind) -> Mapping[str, str] | None:
    """The settings that a kind of provider wants; None where it is not one that is connected."""
    known = _providers().get(kind)
    return None if known is None else known.wants


def purpose_of_connection(id: str) -> str:
    """What the settings of a connection are encrypted for."""
    return f"channel connection {id}"


def seal_settings(secrets: Secrets, id: str, settings: Mapping[str, str]) -> str:
    """The settings of a connection as they are stored."""
    return secrets.encrypt(orjson.dumps(dict(settings)).decode(), purpose_of_connection(id))


def _prefix(sender: ChannelSender) -> str:
    prefix: str = getattr(sender, "prefix", "")
    return prefix


@cache
def _files() -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [import_module(f"{__name__}.{name}") for name in names]


@cache
def _providers() -> dict[ChannelKind, Any]:
    found = [file.Provider for file in _files() if hasattr(file, "Provider")]
    return {provider.kind: provider for provider in found}
