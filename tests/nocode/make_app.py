"""The app for Make, run as Make would, as far as ours uses its language."""

import json
import re
from dataclasses import dataclass
from typing import Any

from clients import Client
from processes import ROOT

APP = ROOT / "integrations" / "make" / "app"
_WHOLE = re.compile(r"\{\{([^{}]*)\}\}")
_GONE = object()
"""A mapping that was left empty: Make sends no key for it."""


class Invalid(Exception):
    """The answer was marked as invalid; with the message that users are shown."""


@dataclass
class MakeApp:
    """The app, with a connection to one server."""

    client: Client
    webhook: dict[str, Any]
    """What Make keeps of a webhook: its address, and what attaching it told."""

    async def run(self, path: str, **parameters: Any) -> Any:
        """Run a module, an RPC, or what attaches and detaches a webhook."""
        told = json.loads((APP / path).read_text())
        known = {"parameters": parameters, "webhook": self.webhook}
        base = json.loads((APP / "base.iml.json").read_text())
        assert base["headers"] == {"authorization": "Bearer {{connection.apiKey}}"}
        assert (told["url"], told["method"]) == ("/graphql", "POST")
        body = json.dumps(resolved(told["body"], known)).encode()
        known["body"] = (await self.client.post(body)).body
        response = {**base["response"], **told["response"]}
        if not resolved(response["valid"]["condition"], known):
            raise Invalid(resolved(response["valid"]["message"], known))
        self.webhook |= resolved(response.get("data", {}), known)
        if "iterate" not in response:
            return resolved(response.get("output"), known)
        iterate = response["iterate"]
        container = iterate if isinstance(iterate, str) else iterate["container"]
        return [
            resolved(response["output"], {**known, "item": item})
            for item in resolved(container, known)
            if isinstance(iterate, str) or resolved(iterate["condition"], {"item": item})
        ]


def resolved(value: Any, known: dict[str, Any]) -> Any:
    """What a template means; keys whose mapping is empty are left out."""
    if isinstance(value, dict):
        told = {name: resolved(item, known) for name, item in value.items()}
        return {name: item for name, item in told.items() if item is not _GONE}
    if not isinstance(value, str):
        return value
    if whole := _WHOLE.fullmatch(value):
        return _expression(whole.group(1), known)
    return _WHOLE.sub(lambda match: str(_expression(match.group(1), known)), value)


def _expression(text: str, known: dict[str, Any]) -> Any:
    text = text.strip()
    if text.startswith("!"):
        found = _expression(text[1:], known)
        return found is _GONE or not found
    if text.startswith("ifempty("):
        first, second = text[len("ifempty(") : -1].split(", ")
        found = _expression(first, known)
        return _expression(second, known) if found is _GONE or not found else found
    if " = " in text:
        left, right = text.split(" = ")
        return _expression(left, known) == right.strip("'")
    item: Any = known
    for name, place in re.findall(r"(\w+)(?:\[(\d+)\])?", text):
        item = item.get(name, _GONE) if isinstance(item, dict) else _GONE
        if place and item is not _GONE:  # their arrays begin at 1
            item = item[int(place) - 1] if item and len(item) >= int(place) else _GONE
    return item
