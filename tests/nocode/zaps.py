"""Zaps as a page tells them: read from its tables, and run as Zapier would, field by field."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nocode.world import World

_BLOCK = re.compile(r"```graphql\n(.*?)```", re.DOTALL)
_PILL = re.compile(r"\{\{(\d+)\.(\w+)\}\}")


@dataclass
class Step:
    """A step: which app does what, and what its fields hold."""

    number: str
    name: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Zap:
    """A worked example of a page."""

    title: str
    mutation: str | None
    """What makes the endpoint, where no app does."""
    steps: list[Step]

    @property
    def trigger(self) -> Step:
        """Its first step."""
        return self.steps[0]

    async def run(self, body: Any, world: World) -> bool:
        """Do the steps after the trigger; False where a filter ends it."""
        known = {self.trigger.number: body}
        for step in self.steps[1:]:
            if step.name == "Filter by Zapier: Only continue if":
                [(told, wanted)] = step.fields.items()
                assert wanted == "Exists"
                if not filled(told, known):
                    return False
                continue
            fields = {name: filled(value, known) for name, value in step.fields.items()}
            known[step.number] = await world.actions[step.name](fields)
        return True


def zaps_of(page: Path) -> dict[str, Zap]:
    """The worked examples of a page, by their headings."""
    found = {}
    for section in re.split(r"^### ", page.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        text = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
        if steps := _steps(text):
            block = _BLOCK.search(text)
            found[title] = Zap(title, block.group(1) if block else None, steps)
    return found


def filled(value: str, known: dict[str, Any]) -> str:
    """A field's text with what earlier steps told for its pills, or nothing."""

    def told(match: re.Match[str]) -> str:
        item = known[match.group(1)]
        for name in match.group(2).split("__"):
            item = item.get(name) if isinstance(item, dict) else None
        return "" if item is None else str(item)

    return _PILL.sub(told, value)


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    is_table = False
    for line in text.splitlines():
        if line == "| Step | Field | Value |":
            is_table = True
        elif not line.startswith("|"):
            is_table = False
        elif is_table and not line.startswith("| --- |"):
            step, name, value = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
            if step:
                number, _, called = step.partition(". ")
                steps.append(Step(number, called))
            if name:
                steps[-1].fields[name] = value
    return steps
