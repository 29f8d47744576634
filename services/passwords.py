"""Passwords: digested and checked by few hands at once, so that guessing starves nobody."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from core.errors import Code, Overloaded, Refused
from core.secrets import password_digest, password_matches

T = TypeVar("T")
_LENGTH = (8, 200)


class Hands:
    """The few threads that do the slow work (argon2), and the short queue before them.

    Whoever finds the queue full is told so at once. Strangers may fill a part of it only.
    """

    def __init__(self, hands: int, *, strangers: int = 8, staff: int = 40) -> None:
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="passwords")
        self._most = {True: hands + strangers, False: hands + strangers + staff}
        self._asked = 0

    def check_room(self, *, stranger: bool) -> None:
        """Overloaded where the queue is full."""
        if self._asked >= self._most[stranger]:
            raise Overloaded("Too many passwords are being checked; try again shortly.")

    async def do(self, work: Callable[[], T], *, stranger: bool = False) -> T:
        """Have the work done in a thread, after those who came before."""
        self.check_room(stranger=stranger)
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._asked -= 1


HANDS = Hands(max(1, (os.cpu_count() or 2) // 2))


async def digest_password(password: str) -> str:
    """What is stored of a password, made in a thread: it is slow on purpose.

    A password that breaks the rule gets no digest: the operation will refuse it.
    """
    if not keeps_rule(password):
        return ""
    return await HANDS.do(lambda: password_digest(password))


async def matches(stored: str | None, password: str, *, stranger: bool) -> bool:
    """Whether this is the password; as slow for a login that does not exist."""
    return await HANDS.do(lambda: _matches(stored, password), stranger=stranger)


def check_password(password: str, *path: str) -> None:
    """Refuse a password that is too short or too long."""
    if not keeps_rule(password):
        least, most = _LENGTH
        raise Refused(Code.PASSWORD_REFUSED, f"A password has {least} to {most} characters.", *path)


def keeps_rule(password: str) -> bool:
    """Whether it is a text of 8 to 200 characters."""
    least, most = _LENGTH
    is_text = not any("\ud800" <= char <= "\udfff" for char in password)
    return least <= len(password) <= most and is_text


def _matches(stored: str | None, password: str) -> bool:
    told = password if keeps_rule(password) else ""
    return password_matches(stored or _nobodys_digest(), told)


@cache
def _nobodys_digest() -> str:
    return password_digest("the password of nobody")
