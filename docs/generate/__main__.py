"""Writes the documents that follow from the code, and tells which of them lag behind it.

python -m docs.generate            writes them
python -m docs.generate --check    writes nothing; exits 1 and names those that lag
"""

import sys
import types
from collections.abc import Callable, Iterator, Mapping

from docs.generate.asyncapi import the_asyncapi
from docs.generate.bruno import the_requests
from docs.generate.errors import the_errors
from docs.generate.events import the_events
from docs.generate.json_schema import the_json_schemas
from docs.generate.make import the_files_for_make
from docs.generate.operations import the_operations
from docs.generate.protocol import the_protocol
from docs.generate.sbom import the_bills
from docs.generate.schema import the_schema
from docs.generate.settings import the_settings
from docs.generate.shared import FOLDER
from docs.generate.typescript import the_types
from docs.generate.zapier import the_events_for_zapier

DOCUMENTS: Mapping[str, Callable[[], str]] = types.MappingProxyType(
    {
        "schema.graphql": the_schema,
        "events.md": the_events,
        "settings.md": the_settings,
        "errors.md": the_errors,
        "operations.md": the_operations,
        "protocol.md": the_protocol,
        "specs/asyncapi.json": the_asyncapi,
        "../integrations/zapier/events.json": the_events_for_zapier,
    }
)
FOLDERS: Mapping[str, Callable[[], Mapping[str, str]]] = types.MappingProxyType(
    {
        "sbom": the_bills,
        "specs/json-schema": the_json_schemas,
        "specs/typescript": the_types,
        "specs/bruno": the_requests,
    }
)
"""Folders that hold nothing but what is made here."""
PARTS: Mapping[str, Callable[[], Mapping[str, str]]] = types.MappingProxyType(
    {"../integrations/make/app": the_files_for_make}
)
"""Folders that hold files written by hand as well."""


def main() -> int:
    """Write the documents, or with --check tell which lag; the exit code."""
    checks = "--check" in sys.argv[1:]
    lagging = []
    for name, text in _made():
        path = FOLDER / name
        there = path.read_text(encoding="utf-8") if path.exists() else None
        if there == text:
            continue
        lagging.append(name)
        if checks:
            continue
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in lagging:
        sys.stdout.write(f"docs/{name} {'lags behind the code' if checks else 'written'}\n")
    if checks and lagging:
        sys.stdout.write("Write them anew with: python -m docs.generate\n")
    return int(checks and bool(lagging))


def _made() -> Iterator[tuple[str, str | None]]:
    """Every document with its text; None for a file that is no longer made."""
    for name, make in DOCUMENTS.items():
        yield name, make()
    for folder, make_some in PARTS.items():
        for name, text in make_some().items():
            yield f"{folder}/{name}", text
    for folder, make_all in FOLDERS.items():
        texts = {f"{folder}/{name}": text for name, text in make_all().items()}
        yield from texts.items()
        for path in sorted((FOLDER / folder).rglob("*")):
            name = str(path.relative_to(FOLDER))
            if path.is_file() and name not in texts:
                yield name, None


if __name__ == "__main__":
    sys.exit(main())
