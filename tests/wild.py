"""Random documents over the whole schema: valid, with aliases, fragments, directives, variables."""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from graphql import (
    GraphQLSchema,
    get_named_type,
    is_interface_type,
    is_leaf_type,
    is_required_argument,
)

from samples import arguments

_DEEPEST = 4
_PAGES = ("first: 1", "first: 2", "first: 5", "last: 2", "last: 1", "first: $size", "")
_OTHERS = {"vocabulary": "ID", "order": "OLDEST_FIRST"}
_NEVER_TWICE = {"eventSample"}
"""What is answered differently each time."""


class Writer:
    """Writes queries by chance; the same seed gives the same ones."""

    def __init__(self, schema: GraphQLSchema, things: Mapping[str, Any], seed: int) -> None:
        self._schema = schema
        self._things = things
        self._chance = Random(seed)
        self._fragments: list[str] = []
        self._words: dict[str, tuple[str, Any]] = {}

    def documents(self, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """So many, each with its variables."""
        for _ in range(count):
            yield self.document()

    def document(self) -> tuple[str, dict[str, Any]]:
        """One, with its variables."""
        self._fragments, chance = [], self._chance
        self._words = {
            "size": ("Int", chance.choice((None, 1, 3))),
            "yes": ("Boolean = true", chance.choice((True, False))),
            "no": ("Boolean!", chance.choice((True, False))),
        }
        selected = self._selection(self._schema.query_type, _DEEPEST, most=3)
        text = " ".join([selected, *self._fragments])
        used = {name: told for name, told in self._words.items() if f"${name}" in text}
        words = ", ".join(f"${name}: {kind}" for name, (kind, _) in used.items())
        given = {
            name: value
            for name, (kind, value) in used.items()
            if kind != "Boolean = true" or chance.random() < 0.5
        }
        return f"query{f'({words})' if words else ''} {text}", given

    def _selection(self, kind: Any, depth: int, most: int = 6) -> str:
        known = [
            name
            for name, told in kind.fields.items()
            if name not in _NEVER_TWICE and (depth or _is_leaf(told))
        ]
        chosen = self._chance.sample(known, min(len(known), self._chance.randint(1, most)))
        parts = [self._field(kind, name, depth) for name in chosen]
        if self._happens(0.2):
            parts.append("__typename")
        if is_interface_type(kind) and depth:
            some = self._chance.sample(self._schema.get_possible_types(kind), 2)
            parts += [f"... on {one.name} {self._apart(one, depth - 1)}" for one in some]
        if self._happens(0.1):
            parts.append(f"... @include(if: $yes) {self._apart(kind, depth - 1)}")
        if self._happens(0.1) and depth:
            name = f"f{len(self._fragments)}"
            self._fragments.append("")
            text = f"fragment {name} on {kind.name} {self._apart(kind, depth - 1)}"
            self._fragments[int(name[1:])] = text
            parts += [f"...{name}"] * 2
        return f"{{ {' '.join(parts)} }}"

    def _apart(self, kind: Any, depth: int) -> str:
        """A selection whose names collide with no others."""
        known = [name for name, told in kind.fields.items() if depth > 0 or _is_leaf(told)]
        name = self._chance.choice(known or ["__typename"])
        alias = f"x{self._chance.randint(0, 10**9)}"
        if name == "__typename":
            return f"{{ {alias}: __typename }}"
        return f"{{ {alias}: {self._field(kind, name, depth, alias='')} }}"

    def _field(self, kind: Any, name: str, depth: int, alias: str | None = None) -> str:
        told = kind.fields[name]
        given = self._arguments(kind, name, told)
        if alias is None:
            # What has arguments is asked for under a name of its own.
            alias = f"a{self._chance.randint(0, 10**9)}: " if given or self._happens(0.2) else ""
        directive = self._chance.choice(
            ("@skip(if: $no)", "@include(if: $yes)", "@skip(if: false)")
        )
        below = get_named_type(told.type)
        return " ".join(
            (
                f"{alias}{name}{given}",
                directive if self._happens(0.1) else "",
                "" if is_leaf_type(below) else self._selection(below, max(0, depth - 1)),
            )
        )

    def _arguments(self, kind: Any, name: str, told: Any) -> str:
        parts = []
        for one, value in arguments(told, self._things, f"{kind.name}.{name}").items():
            shown = f"{one}_{self._chance.randint(0, 10**9)}"
            self._words[shown] = (str(told.args[one].type), value)
            parts.append(f"{one}: ${shown}")
        page = self._chance.choice(_PAGES)
        if page.partition(":")[0] in told.args:
            parts.append(page)
        for one, value in _OTHERS.items():
            if one in told.args and not is_required_argument(told.args[one]) and self._happens(0.5):
                parts.append(f"{one}: {value}")
        text = ", ".join(part for part in parts if part)
        return f"({text})" if text else ""

    def _happens(self, share: float) -> bool:
        return self._chance.random() < share


def _is_leaf(told: Any) -> bool:
    return is_leaf_type(get_named_type(told.type))
