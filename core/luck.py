"""Luck: where numbers that decide something come from."""

import secrets
from typing import Protocol


class Luck(Protocol):
    """Decides what is left to chance: the number of a card, how a lottery comes out."""

    def below(self, bound: int) -> int:
        """A number from 0 to just below the bound, each as likely as any other."""
        ...

    def seed(self) -> str:
        """The seed of a draw: 32 bytes in hex."""
        ...


class _Unguessable:
    """The operating system's own: nobody can tell what comes next."""

    def below(self, bound: int) -> int:
        return secrets.randbelow(bound)

    def seed(self) -> str:
        return secrets.token_hex(32)


UNGUESSABLE: Luck = _Unguessable()
"""What every service goes by, unless whoever calls it brings luck of another kind."""
