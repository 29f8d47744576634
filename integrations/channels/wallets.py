"""Passes in wallets as a channel: a campaign's message comes with the pass, which rings for it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from integrations.channels import seam
from models import Channel, ChannelKind


def senders(parts: seam.Parts) -> list[seam.ChannelSender]:
    """One, where the deployment has a wallet."""
    return [] if parts.bring is None else [WalletSender(parts.bring)]


class WalletSender:
    """Serves every business. A message is stored with its pass, and told from there."""

    kind: ClassVar[ChannelKind] = ChannelKind.WALLET
    channel: ClassVar[Channel] = Channel.PUSH
    prefix: ClassVar[str] = "wp_"
    most_letters: ClassVar[int] = 20
    most_text: ClassVar[int] = 500
    is_stand_in: ClassVar[bool] = False

    def __init__(self, bring: Callable[[seam.Letter], Awaitable[seam.Answer]]) -> None:
        self._bring = bring

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        return [await self._bring(letter) for letter in letters]

    async def forget(self, customer_id: str) -> None:
        """It keeps nothing: what passes are to bring is in the database."""
