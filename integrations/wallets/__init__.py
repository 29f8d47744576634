"""Wallets: where customers keep passes of their cards. There are two, each in a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.clock import Clock
from core.secrets import Secrets
from core.settings import Settings
from integrations.http import Outgoing
from integrations.wallets.seam import Wallet
from models import Platform

if TYPE_CHECKING:
    from integrations.wallets.apple import AppleWallet
    from integrations.wallets.google import GoogleWallet


@dataclass(frozen=True, kw_only=True)
class Wallets:
    """Those that the operator of this deployment has credentials for."""

    apple: "AppleWallet | None" = None
    google: "GoogleWallet | None" = None

    @classmethod
    def of(
        cls, settings: Settings, outgoing: Outgoing, secrets: Secrets, clock: Clock
    ) -> "Wallets":
        """Those of the settings; what is not configured is not even loaded.

        ValueError for settings that do not hold together.
        """
        apple = google = None
        if settings.apple_pass_certificate:
            from integrations.wallets import apple as apples  # noqa: PLC0415 -- see above

            try:
                apple = apples.AppleWallet.of(settings, secrets, clock)
            except ValueError as error:
                raise ValueError(f"Apple Wallet: {error}") from None
        if settings.google_wallet_issuer:
            from integrations.wallets import google as googles  # noqa: PLC0415 -- see above

            try:
                google = googles.GoogleWallet.of(settings, outgoing, clock)
            except ValueError as error:
                raise ValueError(f"Google Wallet: {error}") from None
        return cls(apple=apple, google=google)

    @property
    def all(self) -> Sequence[Wallet]:
        """Every one of them."""
        return [wallet for wallet in (self.apple, self.google) if wallet is not None]

    @property
    def platforms(self) -> Sequence[Platform]:
        """Their kinds."""
        return [wallet.platform for wallet in self.all]

    async def close(self) -> None:
        """Hang up."""
        for wallet in self.all:
            await wallet.close()
