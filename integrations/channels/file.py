"""The file channel: messages as lines of JSON, for people who want to see what would be sent.

It stands in for push and e-mail until a provider is connected. The files hold personal data, as
any outbox does.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from integrations.channels import Accepted, Answer, ChannelSender, Letter, Parts
from models import Channel


def senders(parts: Parts) -> list[ChannelSender]:
    """One for each channel that can do without a provider."""
    return [
        FileSender(parts.settings.data_dir, channel) for channel in (Channel.PUSH, Channel.EMAIL)
    ]


class FileSender:
    """Appends to `outbox/<channel>.jsonl` in the data dir, which only its owner may read."""

    most_letters = 100
    most_text = 10_000
    is_stand_in = True

    def __init__(self, data_dir: Path, channel: Channel) -> None:
        self.channel = channel
        self.path = data_dir / "outbox" / f"{channel}.jsonl"

    async def send(self, letters: Sequence[Letter]) -> Sequence[Answer]:
        await asyncio.to_thread(self._append, letters)
        return [Accepted()] * len(letters)

    async def forget(self, customer_id: str) -> None:
        if self.path.exists():
            await asyncio.to_thread(self._strike, customer_id)

    def _append(self, letters: Sequence[Letter]) -> None:
        with self._locked() as file:
            file.seek(0, os.SEEK_END)
            for letter in letters:
                file.write(orjson.dumps(_line(letter), option=orjson.OPT_APPEND_NEWLINE))

    def _strike(self, customer_id: str) -> None:
        with self._locked() as file:
            kept = [line for line in file if not _is_to(line, customer_id)]
            file.seek(0)
            file.truncate()
            file.writelines(kept)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, for one process at a time."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()


def _line(letter: Letter) -> dict[str, Any]:
    """What would be sent: the way out of mails too, where there is one."""
    names = ["id", "business_id", "customer_id", "channel", "address", "subject", "text", "url"]
    if letter.unsubscribe_url is not None:
        names.append("unsubscribe_url")
    return {name: getattr(letter, name) for name in names}


def _is_to(line: bytes, customer_id: str) -> bool:
    try:
        return bool(orjson.loads(line)["customer_id"] == customer_id)
    except (orjson.JSONDecodeError, KeyError):  # the end of a line that a power cut ate
        return False
