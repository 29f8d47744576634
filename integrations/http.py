"""The way out by HTTP: one bounded request to a counterpart, never to an inner address.

Webhooks have a sender of their own, which keeps endpoints apart; this is for tills, messengers,
push services and wallets, which answer with something that we read.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver
from yarl import URL

from core.guard import GuardedResolver, SocketFactory, check_url, socket_factory

DEADLINE_SECONDS = 15.0
_MOST_ANSWER = 1_000_000
_MOST_WAIT = 86_400.0


class NotReached(OSError):
    """The counterpart surely did not get the request: it is harmless to ask again."""


class NoAnswer(OSError):
    """The request may have arrived, but no whole answer came within the deadline."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a counterpart answered. The body is not shown in logs: it may hold personal data."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in small letters."""
    body: bytes = field(repr=False)

    @property
    def is_good(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait by the header `Retry-After`, None without one; at most a day."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal() and text.isascii():
            return min(float(text[:9]), _MOST_WAIT)
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), _MOST_WAIT)


class Outgoing:
    """One per process. Keeps connections alive, follows no redirect, sends no cookies.

    `allow_insecure` admits http and loopback, as for webhooks.
    """

    def __init__(
        self,
        *,
        allow_insecure: bool = False,
        deadline: float = DEADLINE_SECONDS,
        make_socket: SocketFactory | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.allow_insecure = allow_insecure
        self._deadline = deadline
        self._make_socket = make_socket or socket_factory(allow_insecure=allow_insecure)
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        multipart: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Ask, and read the answer, at most a million bytes of it.

        ValueError for a URL that webhooks may not have either; NotReached or NoAnswer where there
        is no answer within the deadline. No error names the URL: some carry a secret.
        """
        address = URL(check_url(url, allow_insecure=self.allow_insecure), encoded=True)
        if params:
            address = address.update_query(params)
        named = dict(headers or {})
        if json is not None:
            body = orjson.dumps(json)
            named.setdefault("content-type", "application/json")
        given: Any = aiohttp.FormData(form) if form is not None else body
        if multipart is not None:
            given = aiohttp.FormData(multipart, default_to_multipart=True)
        try:
            async with asyncio.timeout(self._deadline):
                async with self._opened().request(
                    method, address, headers=named, data=given, allow_redirects=False
                ) as answer:
                    content = bytearray()
                    while len(content) <= _MOST_ANSWER and (
                        piece := await answer.content.readany()
                    ):
                        content += piece
                    said = {name.lower(): text for name, text in answer.headers.items()}
        except aiohttp.ClientConnectorError as error:
            raise NotReached(type(error).__name__) from None
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError, too
            raise NoAnswer(type(error).__name__) from None
        if len(content) > _MOST_ANSWER:
            raise NoAnswer("the answer was too long")
        return Reply(status=answer.status, headers=said, body=bytes(content))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=20,
                socket_factory=self._make_socket,
                resolver=GuardedResolver(allow_insecure=self.allow_insecure, inner=self._resolver),
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
                headers={"user-agent": "Stampwire/1"},
            )
        return self._session
