"""7loc: one account that writes in WhatsApp, Telegram and Viber.

7loc publishes no API, so this is a contract of our own (docs/integrations/seven-loc.md), untested
against the real service: any bridge that speaks it can stand at `baseUrl`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar

from integrations.channels import seam
from models import ChannelKind, Messenger


class Provider:
    """An account, by its token."""

    kind: ClassVar[ChannelKind] = ChannelKind.SEVEN_LOC
    wants: ClassVar[Mapping[str, str]] = {
        "baseUrl": "Where the contract is served, such as `https://bridge.example/v1`.",
        "apiToken": "The bearer token.",
        "template": "Optional: the name of a template, where a messenger wants one.",
    }
    most_letters: ClassVar[int] = 50
    most_text: ClassVar[int] = 3_500
    per_second: ClassVar[float] = 5.0  # requests, each with many recipients
    needs_template: ClassVar[bool] = False

    def __init__(self, settings: Mapping[str, str], parts: seam.Parts) -> None:
        self._url = settings["baseUrl"].rstrip("/")
        self._headers = {"authorization": f"Bearer {settings['apiToken']}"}
        self._secret = settings["callbackSecret"]
        self._template = settings.get("template")
        self._outgoing = parts.outgoing
        self._line = seam.Line(self.per_second)

    async def connect(self, callback_url: str) -> seam.Account:
        await self._ask("PUT", "callback", {"url": callback_url, "secret": self._secret})
        return await self.check()

    async def check(self) -> seam.Account:
        return _account(await self._ask("GET", "account"))

    async def leave(self) -> None:
        await self._ask("DELETE", "callback")

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        groups, found = defaultdict[Any, list[seam.Letter]](list), dict[str, seam.Answer]()
        for letter in letters:
            groups[letter.messenger, letter.campaign_id].append(letter)

        async def carry(group: list[seam.Letter]) -> None:
            async def broadcast(first: seam.Letter) -> seam.Answer:
                found.update(await self._broadcast(group))
                return found[first.id]

            # The line carries one letter in the name of all: what stops it, stops all of them.
            [answer] = await self._line.carry(group[:1], broadcast)
            found.update({letter.id: found.get(letter.id, answer) for letter in group})

        await asyncio.gather(*map(carry, groups.values()))
        return [found[letter.id] for letter in letters]

    def hear(self, callback: seam.Callback) -> seam.Heard:
        given = callback.headers.get("x-signature", "")
        if not seam.is_signed(self._secret, callback.body, given):
            raise seam.Forged
        return seam.read_reports(callback, _reports)

    def reply(self, address: str, text: str) -> None:
        """It takes no answer this way."""

    async def _broadcast(self, letters: Sequence[seam.Letter]) -> dict[str, seam.Answer]:
        told = {
            "campaign_id": letters[0].campaign_id,
            "messenger": letters[0].messenger,
            "template": self._template,
            "recipients": [
                {
                    "ref": letter.id,
                    "phone": letter.address,
                    "language": letter.language,
                    "vars": {"short": letter.subject, "text": letter.text, "link": letter.url},
                }
                for letter in letters
            ],
        }
        key = sha256(" ".join(letter.id for letter in letters).encode()).hexdigest()
        headers = {**self._headers, "idempotency-key": key}
        # The contract: the same key sends nothing twice.
        reply = await seam.repeated(
            lambda: self._outgoing.request(
                "POST", f"{self._url}/broadcasts", headers=headers, json=told
            )
        )
        rejected = seam.said(reply).get("rejected") if reply.is_good else None
        answers: dict[str, seam.Answer] = {
            letter.id: seam.Accepted(letter.id) if reply.is_good else seam.answer_of(reply)
            for letter in letters
        }
        for one in rejected if isinstance(rejected, list) else ():
            match one:
                case {"ref": str(ref)} if ref in answers:
                    reason = str(one.get("reason", "rejected"))[:100]
                    answers[ref] = seam.Rejected(reason, is_permanent=one.get("permanent") is True)
        return answers

    async def _ask(self, method: str, path: str, told: Any = None) -> dict[str, Any]:
        try:
            reply = await self._outgoing.request(
                method, f"{self._url}/{path}", headers=self._headers, json=told
            )
        except ValueError as error:
            raise seam.NotConnected(f"baseUrl: {error}") from None
        except OSError:
            raise seam.NotConnected("7loc cannot be reached.") from None
        if not reply.is_good:
            raise seam.NotConnected(f"7loc answers {reply.status}.")
        return seam.said(reply)


def _account(said: Mapping[str, Any]) -> seam.Account:
    told = said.get("links")
    told = told if isinstance(told, dict) else {}
    links = {kind: str(told.get(str(kind), "")) for kind in Messenger}
    return seam.Account(
        name=str(said.get("name", "7loc"))[:200],
        links={kind: url for kind, url in links.items() if _is_link(url)},
        phone_messenger=next((m for m in Messenger if m == said.get("phone_messenger")), None),
    )


def _is_link(url: str) -> bool:
    return url.startswith(("https://", "viber://")) and "{token}" in url and len(url) < 500


def _reports(said: Mapping[str, Any]) -> Iterator[seam.Report]:
    for one in said["reports"]:
        match one["type"]:
            case "delivered":
                yield seam.Delivered(reference=str(one["ref"]))
            case "failed":
                problem = str(one.get("reason", "failed"))[:100]
                yield seam.Delivered(reference=str(one["ref"]), problem=problem)
            case "started":
                at = Messenger(one["messenger"]), str(one["phone"])
                yield seam.Started(messenger=at[0], address=at[1], token=str(one["token"]))
            case "stopped" | "blocked" as kind:
                at, is_block = (Messenger(one["messenger"]), str(one["phone"])), kind == "blocked"
                yield seam.Stopped(messenger=at[0], address=at[1], is_block=is_block)
