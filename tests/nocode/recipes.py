"""Scenarios of Make and workflows of n8n, run as those tools would, as far as ours use them."""

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from nocode.tools import HERE
from npm import node

_CALL = re.compile(r"(\w+)\((.*)\)")
_FUNCTIONS = {"lower": str.lower, "md5": lambda text: hashlib.md5(text.encode()).hexdigest()}


# -- Make ------------------------------------------------------------------------------------------


@dataclass
class Scenario:
    """A blueprint."""

    blueprint: Any

    @classmethod
    def of(cls, file: Path) -> "Scenario":
        """The blueprint in a file."""
        return cls(json.loads(file.read_text()))

    async def run(self, body: Any, http: httpx2.AsyncClient, secret: str) -> bool:
        """Run its modules with what the webhook got; False where a filter ends it."""
        first, *rest = self.blueprint["flow"]
        assert first["module"] == "gateway:CustomWebHook"
        known = {str(first["id"]): body}
        for module in rest:
            assert module["module"] == "http:ActionSendData"
            if not self._passes(module, known):
                return False
            told = {name: self.filled(text, known) for name, text in module["mapper"].items()}
            assert told["bodyType"] == "raw"
            json.loads(told["data"])
            answer = await http.request(
                told["method"].upper(),
                told["url"],
                content=told["data"],
                headers={"content-type": told["contentType"]},
                auth=(told["authUser"], secret),
            )
            answer.raise_for_status()
            known[str(module["id"])] = {"statusCode": answer.status_code}
        return True

    def filled(self, value: Any, known: dict[str, Any]) -> Any:
        """A field with what its mappings mean."""
        if not isinstance(value, str):
            return value
        return re.sub(r"\{\{(.*?)\}\}", lambda match: self._told(match.group(1), known), value)

    def _told(self, text: str, known: dict[str, Any]) -> str:
        if call := _CALL.fullmatch(text):
            return str(_FUNCTIONS[call.group(1)](self._told(call.group(2), known)))
        number, *names = text.split(".")
        item = known[number]
        for name in names:
            item = item.get(name) if isinstance(item, dict) else None
        return "" if item is None else str(item)

    def _passes(self, module: Any, known: dict[str, Any]) -> bool:
        if "filter" not in module:
            return True
        [[condition]] = module["filter"]["conditions"]
        assert condition["o"] == "exist"
        return bool(self.filled(condition["a"], known))


# -- n8n -------------------------------------------------------------------------------------------


class Stopped(Exception):
    """A Stop And Error node was reached."""


@dataclass
class Workflow:
    """A workflow, and what it remembers between executions."""

    told: Any
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, file: Path) -> "Workflow":
        """The workflow in a file."""
        return cls(json.loads(file.read_text()))

    async def run(self, body: Any, http: httpx2.AsyncClient, secret: str) -> None:
        """Run it with what its webhook got."""
        nodes = {item["name"]: item for item in self.told["nodes"]}
        [name] = [key for key, item in nodes.items() if item["type"] == "n8n-nodes-base.webhook"]
        item: Any = {"headers": {}, "params": {}, "query": {}, "body": body}
        while links := self.told["connections"].get(name, {}).get("main"):
            [[link]] = links
            name = link["node"]
            step = getattr(self, "_" + nodes[name]["type"].rpartition(".")[2])
            item = await step(nodes[name]["parameters"], item, http, secret)
            if item is None:
                return

    async def _removeDuplicates(self, told: Any, item: Any, *_: Any) -> Any:  # noqa: N802 -- n8n's
        assert told["operation"] == "removeItemsSeenInPreviousExecutions"
        [value] = evaluated(item, told["dedupeValue"])
        if value in self.seen:
            return None
        self.seen.add(value)
        return item

    async def _httpRequest(  # noqa: N802 -- n8n's
        self, told: Any, item: Any, http: httpx2.AsyncClient, secret: str
    ) -> Any:
        url, body = evaluated(item, told["url"], told["jsonBody"])
        headers = {"content-type": "application/json", "authorization": secret}
        answer = await http.request(told["method"], url, content=body, headers=headers)
        return answer.raise_for_status().json()

    async def _if(self, told: Any, item: Any, *_: Any) -> Any:
        [condition] = told["conditions"]["conditions"]
        assert condition["operator"]["type"] == "boolean"
        [value] = evaluated(item, condition["leftValue"])
        wanted = condition["operator"]["operation"] == "true"
        return item if value is wanted else None

    async def _stopAndError(self, told: Any, item: Any, *_: Any) -> Any:  # noqa: N802 -- n8n's
        raise Stopped(*evaluated(item, told["errorMessage"]))


def evaluated(item: Any, *values: str) -> list[Any]:
    """What expressions mean for an item, by Node."""
    done = subprocess.run(
        [node(), str(HERE / "evaluate.cjs")],
        input=json.dumps({"values": values, "json": item}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said: list[Any] = json.loads(done.stdout)
    return said
