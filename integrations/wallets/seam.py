"""What a wallet is: what a pass shows, the news it brings, and what became of telling it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from models import Platform


@dataclass(frozen=True, kw_only=True)
class PassFace:
    """What a pass shows its holder, in her language. Colours are `#rrggbb`, URLs are complete.

    `serial` names the pass to its wallet for ever. A void pass shows that it is no longer good: it
    has no `token`, `url`, `stamps` and `next_goal`, for these are of the pass that took its place.
    """

    serial: str
    business_id: str
    template_id: str
    business: str
    title: str
    language: str
    number: str
    token: str = field(repr=False)
    url: str = field(repr=False)
    stamps: int
    required: int
    next_goal: str | None
    left: int
    goals: Sequence[int] = ()
    vouchers: Sequence[str]
    background: str
    foreground: str
    logo_url: str | None = None
    news: str | None = field(default=None, repr=False)
    is_void: bool = False

    @property
    def count(self) -> str:
        """The stamps, and how many make it full."""
        return "–" if self.is_void else f"{self.stamps} / {self.required}"


@dataclass(frozen=True, kw_only=True)
class News:
    """A message of a campaign for the holder of a pass; `rings`: the telephone may say so."""

    id: str
    title: str = field(repr=False)
    text: str = field(repr=False)
    rings: bool


@dataclass(frozen=True, kw_only=True)
class Device:
    """A telephone that is told of changes by itself."""

    device: str
    push_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Told:
    """The wallet knows; `gone` are telephones that hold the pass no more.

    `rang`: the news made the telephone ring, as far as can be known.
    """

    gone: Sequence[Device] = ()
    rang: bool = False


@dataclass(frozen=True, kw_only=True)
class AskAgain:
    """The wallet could not be told now; to be tried again after so many seconds."""

    seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The wallet will never take it: such a pass is not there, or our credentials are not good."""

    reason: str


Outcome = Told | AskAgain | Refused


class Wallet(Protocol):
    """A kind of wallet, with the operator's credentials. One for each process."""

    platform: ClassVar[Platform]

    async def show(
        self, face: PassFace, devices: Sequence[Device], news: News | None = None
    ) -> Outcome:
        """Have the pass show this, silently; with news, bring those.

        It may be told the same twice: nothing appears twice then.
        """
        ...

    async def close(self) -> None:
        """Hang up."""
        ...
