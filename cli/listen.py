"""`stampwire listen`: what happens, as it happens, in a terminal; and on to a URL of one's own."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from cli.common import demo_of, fail, settings_of, until_stopped
from cli.events import types_of, vocabulary_of

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from websockets.asyncio.client import ClientConnection

_PROTOCOL = "graphql-transport-ws"
_NEWEST = "query { events(first: 1, order: NEWEST_FIRST) { nodes { cursor } } }"
_EVENTS = """
subscription Listen($after: String, $filter: EventFilter, $vocabulary: Vocabulary!) {
  events(after: $after, filter: $filter) {
    id type sequence cursor occurredAt payload(vocabulary: $vocabulary) facts: data(vocabulary: EN)
  }
}
"""
_REFUSED = (4400, 4401, 4403, 4406)
"""Closings after which another try would go the same way."""
_CLOSINGS = {
    1006: "the line is cut",
    1012: "the server goes away",
    4008: "too many events behind",
}
_LONGEST_PAUSE = 30.0
_FORWARD_SECONDS = 15
_TELLING = ("title", "name", "variant_type", "redeem_code", "status", "redeemed_via")
_SUBJECTS = ("stamp", "goal", "reward", "voucher", "lottery", "birthday", "inactivity", "campaign")


def listen(
    *,
    url: Annotated[
        str | None, typer.Option(help="The server; absent: the demo's, or the one of the settings.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="STAMPWIRE_KEY",
            show_envvar=True,
            help="The API key; absent: that of the demo's owner.",
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Begin beyond this cursor; absent: with what happens now.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Keep the place in this file; where it exists, go on from there, whatever --after "
            "says."
        ),
    ] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these types, comma-separated, in either vocabulary.")
    ] = None,
    vocabulary: Annotated[str, typer.Option(help="The words of the bodies: EN or ID.")] = "EN",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the bodies that webhooks carry, one a line.")
    ] = False,
    forward: Annotated[
        str | None, typer.Option(help="POST each event there, signed as a webhook is.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="The signing secret (whsec_…); absent: a fresh one.")
    ] = None,
) -> None:
    """Show events as they happen; a lost connection is made anew, and nothing is missed."""
    settings = settings_of()
    demo = demo_of(settings) or {}
    key = key or demo.get("owner", {}).get("apiKey")
    if key is None:
        fail("Give an API key with --key or STAMPWIRE_KEY.")
    word, names = vocabulary_of(vocabulary), types_of(types)
    place = Place(after, None, state)
    place.load()
    asked = {
        "filter": {"types": [name.upper() for name in names]} if names else None,
        "vocabulary": word.name if word else "EN",
    }
    target = _target_of(forward, secret) if forward else None
    if target is not None:
        _say(f"forwarding to {target.url}, signed with {target.secret}")
    door = _socket_url(url or demo.get("url") or settings.url)
    until_stopped(_listen(door, key, asked, place, target, as_json=as_json))


@dataclass
class Place:
    """How far the log was read: the last cursor and, for who wants to prove it, the last event."""

    cursor: str | None
    event_id: str | None
    file: Path | None

    def load(self) -> None:
        """Go on where the file says."""
        if self.file is None or not self.file.exists():
            return
        try:
            told = json.loads(self.file.read_text(encoding="utf-8"))
            self.cursor, self.event_id = told["cursor"], told["event_id"]
        except (OSError, ValueError, TypeError, KeyError):
            fail(f"{self.file} is not a place that stampwire listen has kept.")

    def move(self, cursor: str, event_id: str | None) -> None:
        """Remember how far it is; what stood in the file stands there until this does."""
        self.cursor, self.event_id = cursor, event_id
        if self.file is None:
            return
        text = json.dumps({"cursor": cursor, "event_id": event_id})
        beside = self.file.with_name(f"{self.file.name}.new")
        try:
            beside.write_text(f"{text}\n", encoding="utf-8")
            beside.replace(self.file)
        except OSError as error:
            fail(f"{self.file}: {error.strerror}")


@dataclass(frozen=True)
class Target:
    """Where events are forwarded to, and how they are signed."""

    url: str
    secret: str
    key: bytes


async def _listen(
    url: str,
    key: str,
    asked: dict[str, Any],
    place: Place,
    target: Target | None,
    *,
    as_json: bool,
) -> None:
    import aiohttp  # noqa: PLC0415

    timeout = aiohttp.ClientTimeout(total=_FORWARD_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async for event in _events(url, key, asked, place):
            typer.echo(event["payload"] if as_json else _line(event))
            if target is not None:
                _say(await _forward(session, target, event, place.event_id))
            place.move(event["cursor"], event["id"])


class _Expired(Exception):
    """Retention has thrown away what followed the cursor; `oldest` is the first that is good."""

    def __init__(self, oldest: str) -> None:
        super().__init__(oldest)
        self.oldest = oldest


async def _events(
    url: str, key: str, asked: dict[str, Any], place: Place
) -> AsyncIterator[dict[str, Any]]:
    """Every event beyond the place, over as many connections as it takes.

    Whoever is given one moves the place when it is done with it.
    """
    from websockets.exceptions import ConnectionClosed, InvalidHandshake  # noqa: PLC0415

    pause = 1.0
    while True:
        try:
            async with _connected(url, key) as socket:
                if place.cursor is None:
                    place.move(await _newest(socket), None)
                _say(f"listening to {url}")
                pause = 1.0
                async for event in _subscribed(socket, {**asked, "after": place.cursor}):
                    yield event
            reason = "the server ended it"
        except _Expired as expired:
            # No previous event is named then: a receiver is not to believe that it has them all.
            place.move(expired.oldest, None)
            _say("events were thrown away before they came here; the oldest there are follow")
            continue
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            if code in _REFUSED:
                fail(f"The server refused: {closed.rcvd.reason if closed.rcvd else ''} ({code}).")
            reason = _CLOSINGS.get(code, f"closed with {code}")
        except (OSError, TimeoutError, InvalidHandshake) as error:
            reason = str(error) or type(error).__name__
        _say(f"connection lost ({reason}); again in {pause:.0f} s, beyond the last event seen")
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 -- spreads callers
        pause = min(pause * 2, _LONGEST_PAUSE)


@asynccontextmanager
async def _connected(url: str, key: str) -> AsyncIterator["ClientConnection"]:
    """A connection on which the key was accepted."""
    from websockets import Subprotocol  # noqa: PLC0415
    from websockets.asyncio.client import connect  # noqa: PLC0415

    async with connect(url, subprotocols=[Subprotocol(_PROTOCOL)], proxy=None) as socket:
        credentials = {"Authorization": f"Bearer {key}"}
        await _send(socket, {"type": "connection_init", "payload": credentials})
        async with asyncio.timeout(10):
            while (await _receive(socket))["type"] != "connection_ack":
                pass
        yield socket


async def _newest(socket: "ClientConnection") -> str:
    """The cursor of the newest event: what happens while a connection is down is not missed."""
    from models import encode_cursor  # noqa: PLC0415

    async for data in _answers(socket, "newest", {"query": _NEWEST}):
        nodes = data["events"]["nodes"]
        return nodes[0]["cursor"] if nodes else encode_cursor(0)
    raise TimeoutError


async def _subscribed(
    socket: "ClientConnection", variables: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    asked = {"query": _EVENTS, "variables": variables}
    async for data in _answers(socket, "events", asked):
        yield data["events"]


async def _answers(
    socket: "ClientConnection", id: str, asked: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """The results of an operation, until it is complete."""
    await _send(socket, {"id": id, "type": "subscribe", "payload": asked})
    while True:
        message = await _receive(socket)
        if message.get("id") != id:
            continue
        if message["type"] == "complete":
            return
        result = message["payload"]
        errors = result if message["type"] == "error" else result.get("errors")
        if errors:
            told = errors[0].get("extensions", {})
            if told.get("code") == "CURSOR_EXPIRED":
                raise _Expired(told["oldestCursor"])
            fail(f"The server refused: {errors[0]['message']}")
        yield result["data"]


async def _send(socket: "ClientConnection", message: dict[str, Any]) -> None:
    await socket.send(json.dumps(message))


async def _receive(socket: "ClientConnection") -> dict[str, Any]:
    """The next message; a ping is answered at once."""
    message: dict[str, Any] = json.loads(await socket.recv())
    if message["type"] == "ping":
        await _send(socket, {"type": "pong"})
    return message


async def _forward(
    session: "ClientSession", target: Target, event: dict[str, Any], previous_id: str | None
) -> str:
    """Send an event on, as a webhook would be; what came of it."""
    from aiohttp import ClientError  # noqa: PLC0415

    from webhooks.signatures import signature_headers  # noqa: PLC0415

    body = event["payload"].encode()
    headers = {
        "content-type": "application/json",
        **signature_headers([target.key], event["id"], datetime.now(UTC), body),
    }
    if previous_id is not None:
        headers["webhook-previous-id"] = previous_id
    begun = time.monotonic()
    try:
        async with session.post(
            target.url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            await answer.read()
            came = str(answer.status)
    except (ClientError, OSError, TimeoutError) as error:
        came = f"failed: {error or type(error).__name__}"
    return f"  #{event['sequence']} → {came} ({(time.monotonic() - begun) * 1000:.0f} ms)"


def _line(event: dict[str, Any]) -> str:
    """An event as a line: when, its place in the log, what, and how much."""
    at = datetime.fromisoformat(event["occurredAt"]).astimezone()
    name = event["facts"]["event"]
    return f"{at:%H:%M:%S}  #{event['sequence']:<5} {name:<18} {_facts(event['facts'])}".rstrip()


def _facts(body: dict[str, Any]) -> str:
    """What a body tells of its subject, in a few words."""
    words = [word for name in _SUBJECTS if name in body for word in _words(name, body[name])]
    card = body.get("card") or {}
    if card.get("number"):
        words.append(f"number {card['number']}")
    if card.get("platform"):
        words.append(card["platform"])
    if card.get("id"):
        words.append(card["id"])
    return " · ".join(words)


def _words(name: str, part: dict[str, Any]) -> list[str]:
    if name == "stamp":
        return [f"+{part['count']}", f"{part['after']} of {part['required']}"]
    if name == "goal":
        return [f"goal {part['index']}", f"at {part['stamps']} stamps"]
    told = [part.get(key) for key in _TELLING]
    return [str(word) for word in told if isinstance(word, str)]


def _target_of(url: str, secret: str | None) -> Target:
    from core.secrets import new_signing_secret  # noqa: PLC0415
    from webhooks.signatures import key_of  # noqa: PLC0415

    secret = secret or new_signing_secret()
    try:
        return Target(url, secret, key_of(secret))
    except ValueError:
        fail("A signing secret is written whsec_ and base64.")


def _socket_url(url: str) -> str:
    """Where the server's sockets are: `ws(s)://…/graphql`."""
    scheme, host, path, *_ = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    path = path.rstrip("/").removesuffix("/graphql") + "/graphql"
    return urlunsplit((scheme, host, path, "", ""))


def _say(text: str) -> None:
    typer.echo(text, err=True)
