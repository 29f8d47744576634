"""Apple's push service: tells telephones, over one HTTP/2 connection, that a pass changed.

A push says nothing: the telephone asks us what changed. It is the one counterpart that speaks
HTTP/2 alone, so httpx2 asks it, and not the way out that all others share; its address is the
operator's setting. Facts: developer.apple.com/documentation/usernotifications.
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from integrations.wallets.seam import AskAgain, Device, Outcome, Refused, Told

if TYPE_CHECKING:
    import httpx2

AT_ONCE = 100
"""Pushes on their way; Apple admits more streams on a connection."""
DEADLINE_SECONDS = 10.0
_GONE = {"BadDeviceToken", "Unregistered", "DeviceTokenNotForTopic", "ExpiredToken"}
_SOON, _LATER, _MUCH_LATER = 5.0, 30.0, 600.0


class PushService:
    """One per process. Connects at the first push."""

    def __init__(self, url: str, topic: str, credentials: ssl.SSLContext) -> None:
        self._url = url.rstrip("/")
        self._headers = {"apns-topic": topic}
        self._credentials = credentials
        self._client: httpx2.AsyncClient | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def push(self, devices: Sequence[Device]) -> Outcome:
        """Have these telephones ask what changed. Told names those that are gone."""
        outcomes = await asyncio.gather(*(self._push(device) for device in devices))
        worst: Outcome = Told(gone=[])
        for outcome in outcomes:
            if isinstance(outcome, AskAgain):
                # Who was told is told again: to ask for what did not change costs nothing.
                return outcome
            if isinstance(outcome, Refused):
                worst = outcome
        if isinstance(worst, Refused):
            return worst
        return Told(gone=[one for told in outcomes if isinstance(told, Told) for one in told.gone])

    async def _push(self, device: Device) -> Outcome:
        import httpx2  # noqa: PLC0415 -- the first push loads it, not every start

        async with self._turns:
            try:
                answer = await self._opened().post(
                    f"{self._url}/3/device/{device.push_token}",
                    content=b"{}",
                    headers=self._headers,
                )
            except (httpx2.HTTPError, OSError) as error:
                return AskAgain(seconds=_SOON, reason=type(error).__name__)
        if answer.status_code == 200:
            return Told()
        reason = _reason(answer.content)
        words = f"{answer.status_code} {reason}".strip()
        if answer.status_code == 410 or reason in _GONE:
            return Told(gone=[device])
        if answer.status_code == 429 or answer.status_code >= 500:
            return AskAgain(seconds=_wait(answer.headers.get("retry-after")), reason=words)
        if answer.status_code == 403:  # the operator may mend it at Apple's
            return AskAgain(seconds=_MUCH_LATER, reason=words)
        return Refused(reason=words)

    def _opened(self) -> "httpx2.AsyncClient":
        if self._client is None:
            import httpx2  # noqa: PLC0415 -- see above

            self._client = httpx2.AsyncClient(
                http1=False,
                http2=True,
                verify=self._credentials,
                trust_env=False,
                timeout=DEADLINE_SECONDS,
                limits=httpx2.Limits(max_connections=1, keepalive_expiry=3_600.0),
            )
        return self._client


def _reason(body: bytes) -> str:
    """Apple's word for what is wrong; of anything else nothing is kept."""
    said: Any = None
    with suppress(orjson.JSONDecodeError):
        said = orjson.loads(body)
    reason = said.get("reason") if isinstance(said, dict) else None
    return reason[:50] if isinstance(reason, str) and reason.isalnum() else ""


def _wait(told: str | None) -> float:
    return float(told) if told and told.isascii() and told.isdecimal() and len(told) < 6 else _LATER
