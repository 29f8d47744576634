"""Who calls: from the secret in a header or a connection_init to the actor it stands for."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from models import Actor, ApiKey, Session
from resolvers.context import Deployment
from services.access import authenticate, is_stale, is_well_formed, note_use

_LONGEST = 200
_notes: dict[str, asyncio.Task[None]] = {}
"""What is being written down: of the many calls of a moment, one does it for its key."""


def secret_in(parameters: Mapping[str, Any] | None) -> str | None:
    """The secret of `Authorization: Bearer …`, None if there is none of that form."""
    for name, value in (parameters or {}).items():
        if name.lower() == "authorization" and isinstance(value, str):
            scheme, _, secret = value.partition(" ")
            if scheme.lower() == "bearer" and 0 < len(secret) <= _LONGEST and secret.isascii():
                return secret.strip()
    return None


def secret_of(told: Sequence[str]) -> str | None:
    """The secret of a request's Authorization headers, None unless there is one, of that form.

    Of two headers, whatever stands before us may have looked at the other one.
    """
    return secret_in({"Authorization": told[0]}) if len(told) == 1 else None


async def caller_of(deployment: Deployment, secret: str | None) -> Actor | None:
    """The actor whom a secret stands for, None if it opens no door."""
    if secret is None or not is_well_formed(secret):
        return None
    now = deployment.clock.now()
    actor = await deployment.database.read(
        None, lambda tx: authenticate(tx, secret, deployment.secrets, now)
    )
    key = (actor.api_key or actor.session) if actor is not None and actor.token is None else None
    if key is not None and is_stale(key, now):
        _note(deployment, key)
    return actor


def _note(deployment: Deployment, key: ApiKey | Session) -> None:
    """Write down that the key or session was used; nobody waits for it."""
    if key.id in _notes:
        return

    async def write() -> None:
        now = deployment.clock.now()
        await deployment.database.write(None, lambda tx: note_use(tx, key, now))

    def forget(task: asyncio.Task[None]) -> None:
        del _notes[key.id]
        if not task.cancelled():
            task.exception()

    task = _notes[key.id] = asyncio.create_task(write())
    task.add_done_callback(forget)
